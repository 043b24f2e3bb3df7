package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"longshore.dev/longshore/internal/control"
	"longshore.dev/longshore/internal/service/iam"
)

// version is set by the build.
var version = "dev"

// cli is the command line.
type cli struct {
	Config kong.ConfigFlag `help:"JSON file with values for the flags below." env:"LONGSHORE_CONFIG" placeholder:"FILE"`

	Up      upCommand      `cmd:"" help:"Run a server and one node on this machine, in the foreground."`
	Server  serverCommand  `cmd:"" help:"Run the server only."`
	Agent   agentCommand   `cmd:"" help:"Run a node that joins a server."`
	Edge    edgeCommand    `cmd:"" hidden:"" help:"Serve a node's load balancers; nodes start it."`
	Env     envCommand     `cmd:"" help:"Print the shell lines that point AWS's tools at this machine's server."`
	Token   tokenCommand   `cmd:"" help:"Make, list and revoke the registration tokens with which nodes join."`
	Access  accessCommand  `cmd:"" help:"Make users, and print their profiles for AWS's tools."`
	Node    nodeCommand    `cmd:"" help:"List and revoke nodes."`
	Explain explainCommand `cmd:"" help:"Say why a task, a service or a deployment is as it is."`
	Events  eventsCommand  `cmd:"" help:"Print what happens to tasks, instances and services from now on, a JSON line each."`
	Key     keyCommand     `cmd:"" help:"Show and rotate the root key that secrets are sealed by."`
	Backup  backupCommand  `cmd:"" help:"Write the running server's state to a file, sealed by its root key."`
	Restore restoreCommand `cmd:"" help:"Make a data directory from a backup."`
	Image   imageCommand   `cmd:"" help:"Import and list this node's images."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// dataFlag names the data directory, for every command.
type dataFlag struct {
	Data string `help:"Directory that holds all state." env:"LONGSHORE_DATA" default:"${data}" placeholder:"DIR" type:"path"`
}

// rootKeyFlags say where the root key is, for a server and for who speaks to it as its owner.
type rootKeyFlags struct {
	RootKeyFile        string `name:"root-key" help:"File of the root key that secrets are sealed by (root.key in the data directory). LONGSHORE_ROOT_KEY holds the key itself." env:"LONGSHORE_ROOT_KEY_FILE" type:"path" placeholder:"FILE"`
	RootPassphraseFile string `help:"File whose first line is the passphrase that protects the root key. LONGSHORE_ROOT_PASSPHRASE holds it itself." env:"LONGSHORE_ROOT_PASSPHRASE_FILE" type:"path" placeholder:"FILE"`
}

// rootKey says where the root key is.
func (f *rootKeyFlags) rootKey() control.RootKey {
	return control.RootKey{
		File: f.RootKeyFile, PassphraseFile: f.RootPassphraseFile,
		Passphrase: secretVariable("LONGSHORE_ROOT_PASSPHRASE"), Value: secretVariable("LONGSHORE_ROOT_KEY"),
	}
}

// secretVariable reads a secret from the environment, and takes it out: what the process
// starts has no use for it.
func secretVariable(name string) string {
	value := os.Getenv(name)
	_ = os.Unsetenv(name) // fails for names that can't be
	return value
}

// ownerFlags lead to the server of a data directory, as its owner.
type ownerFlags struct {
	dataFlag
	rootKeyFlags
}

// baseFlags are common to the long-running commands.
type baseFlags struct {
	dataFlag
	logFlag
	Region string `help:"Region to stand for." env:"LONGSHORE_REGION" default:"us-east-1"`
}

// logFlag says how much is logged.
type logFlag struct {
	LogLevel string `help:"debug, info, warn or error." env:"LONGSHORE_LOG_LEVEL" default:"warn" enum:"debug,info,warn,error"`
}

// serverFlags configure a server.
type serverFlags struct {
	rootKeyFlags
	Listen        string   `help:"Address of the API." env:"LONGSHORE_LISTEN" default:"127.0.0.1:4566" placeholder:"ADDR"`
	Account       string   `help:"Account id to stand for." env:"LONGSHORE_ACCOUNT" default:"000000000000"`
	EtcdEndpoints []string `help:"Existing etcd cluster to keep state in, instead of an embedded member." env:"LONGSHORE_ETCD_ENDPOINTS" placeholder:"URL"`
	EtcdCA        string   `name:"etcd-ca" help:"PEM file of the etcd cluster's CA." env:"LONGSHORE_ETCD_CA" type:"path" placeholder:"FILE"`
	EtcdCert      string   `help:"PEM file of the client certificate for etcd." env:"LONGSHORE_ETCD_CERT" type:"path" placeholder:"FILE"`
	EtcdKey       string   `help:"PEM file of the client key for etcd." env:"LONGSHORE_ETCD_KEY" type:"path" placeholder:"FILE"`
	EtcdUsername  string   `help:"User name for etcd." env:"LONGSHORE_ETCD_USERNAME" placeholder:"NAME"`
	EtcdPrefix    string   `help:"Prefix of all keys in etcd, so that installations can share a cluster." env:"LONGSHORE_ETCD_PREFIX" placeholder:"PREFIX"`

	TLS          string        `name:"tls" help:"auto (on when the API listens off loopback), on, or off: plain http, for a trusted network only." env:"LONGSHORE_TLS" default:"auto" enum:"auto,on,off"`
	TLSCert      string        `name:"tls-cert" help:"PEM file of a certificate for the API, instead of one by the server's own authority." env:"LONGSHORE_TLS_CERT" type:"path" placeholder:"FILE"`
	TLSKey       string        `name:"tls-key" help:"PEM file of its key." env:"LONGSHORE_TLS_KEY" type:"path" placeholder:"FILE"`
	TLSCA        string        `name:"tls-ca" help:"PEM file of the authority behind it, if it is none that every machine trusts." env:"LONGSHORE_TLS_CA" type:"path" placeholder:"FILE"`
	TLSName      []string      `name:"tls-name" help:"Further host names or addresses by which clients reach the API." env:"LONGSHORE_TLS_NAME" placeholder:"NAME"`
	RequestRates float64       `help:"What to multiply the request rates by that AWS documents: 1 takes AWS's own, 0 throttles nobody." env:"LONGSHORE_REQUEST_RATES" default:"20"`
	LostAfter    time.Duration `help:"How long a node's agent may be away before the node counts as lost and its tasks are stopped." env:"LONGSHORE_LOST_AFTER" default:"5m"`
}

func (f *serverFlags) config(base *baseFlags, log *slog.Logger) control.Config {
	return control.Config{
		DataDir: base.Data, RootKey: f.rootKey(), Listen: f.Listen, Region: base.Region, Account: f.Account, Log: log,
		Etcd: control.Etcd{
			Endpoints: f.EtcdEndpoints, CAFile: f.EtcdCA, CertFile: f.EtcdCert, KeyFile: f.EtcdKey,
			Username: f.EtcdUsername, Password: secretVariable("LONGSHORE_ETCD_PASSWORD"), Prefix: f.EtcdPrefix,
		},
		TLS:       control.TLS{Mode: f.TLS, CertFile: f.TLSCert, KeyFile: f.TLSKey, CAFile: f.TLSCA, Names: f.TLSName},
		LostAfter: f.LostAfter, RequestRates: &f.RequestRates,
		Root: iam.AccessKey{ID: os.Getenv("LONGSHORE_ROOT_ACCESS_KEY_ID"), Secret: secretVariable("LONGSHORE_ROOT_SECRET_ACCESS_KEY")},
	}
}

// console is where a command speaks to its user.
type console struct {
	out, err io.Writer
}

func (c *console) say(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }

// logger writes to the error stream at the given level.
func (c *console) logger(level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelWarn
	}
	return slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: l}))
}

// defaultData is where state lives when nobody says otherwise.
func defaultData() string {
	if os.Geteuid() == 0 {
		return "/var/lib/longshore"
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "share", "longshore")
	}
	return "longshore-data"
}

type versionCommand struct{}

func (versionCommand) Run(c *console) error {
	c.say("longshore %s", version)
	return nil
}

type serverCommand struct {
	baseFlags
	serverFlags
}

// Run serves until the process is told to end.
func (s *serverCommand) Run(ctx context.Context, c *console) error {
	log := c.logger(s.LogLevel)
	outlast(log)
	server, err := control.Open(ctx, s.config(&s.baseFlags, log))
	if err != nil {
		return err
	}
	c.say("API endpoint  %s (account %s, region %s)%s", server.Endpoint(), s.Account, s.Region, also443(server))
	settle()
	return server.Run(ctx)
}

// also443 says so when the API is served on port 443 as well.
func also443(server *control.Server) string {
	if server.On443() {
		return ", and port 443"
	}
	return ""
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var app cli
	parser := kong.Must(&app,
		kong.Name("longshore"), kong.Description("Amazon ECS and the services around it, self-hosted."),
		kong.Configuration(readConfig), kong.UsageOnError(), kong.Vars{"data": defaultData()},
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(&console{out: os.Stdout, err: os.Stderr}),
	)
	command, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	if err := withoutCancel(command.Run()); err != nil {
		fmt.Fprintln(os.Stderr, "longshore:", err)
		os.Exit(1)
	}
}

// withoutCancel drops from an error what is only a consequence of the end that
// was asked for; what failed besides stays.
func withoutCancel(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var left []error
		for _, e := range joined.Unwrap() {
			left = append(left, withoutCancel(e))
		}
		return errors.Join(left...)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
