//go:build linux && cgo

#define _GNU_SOURCE
#include <pthread.h>
#include <sys/prctl.h>

/* Go's first thread of its own is its monitor, which sleeps for 20 µs at a time as
 * long as the program works: more wake-ups than the program's own, in processes
 * that live for milliseconds. A timer slack lets the kernel wake it less often. It
 * delays what the monitor is for, other goroutines' turn while one is in a long
 * system call. Every other thread, and so every program that is run, gets the
 * slack that this process was started with. */
#define MONITOR_SLACK_NS 2000000UL

extern int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
	static unsigned long own; /* 0 until the monitor is made, before any other thread */
	unsigned long now = (unsigned long)prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
	unsigned long wanted = own;
	if (own == 0) {
		own = now;
		wanted = MONITOR_SLACK_NS;
	}
	if (wanted != now)
		prctl(PR_SET_TIMERSLACK, wanted, 0, 0, 0);
	int error = __real_pthread_create(thread, attr, run, arg);
	if (wanted != now)
		prctl(PR_SET_TIMERSLACK, now, 0, 0, 0);
	return error;
}
