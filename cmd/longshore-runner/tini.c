//go:build linux && cgo

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int exit_code(int status) {
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* run starts the command, forwards every signal to it and reaps every child,
 * until the command has ended. */
static int run(char **argv) {
	sigset_t all, old;
	sigfillset(&all);
	/* A fault of this process itself must not wait in a queue. */
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGFPE);
	sigprocmask(SIG_SETMASK, &all, &old);

	pid_t child = fork();
	if (child < 0) {
		perror("init: fork");
		return 125;
	}
	if (child == 0) {
		setpgid(0, 0);
		/* On a terminal the command must be the foreground group. */
		tcsetpgrp(STDIN_FILENO, getpgrp());
		sigprocmask(SIG_SETMASK, &old, NULL);
		execvp(argv[0], argv);
		int error = errno;
		fprintf(stderr, "init: %s: %s\n", argv[0], strerror(error));
		_exit(error == ENOENT ? 127 : 126);
	}
	for (;;) {
		int sig = 0;
		if (sigwait(&all, &sig) != 0)
			continue;
		if (sig != SIGCHLD) {
			kill(child, sig);
			continue;
		}
		int status;
		pid_t pid;
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (pid == child)
				return exit_code(status);
	}
}

__attribute__((constructor)) static void tini(int argc, char **argv) {
	if (argc >= 4 && strcmp(argv[1], "tini") == 0 && strcmp(argv[2], "--") == 0)
		_exit(run(argv + 3));
}
