package runtime

import (
	"context"
	"errors"
	"time"
)

// Errors of the contract. Implementations wrap them with %w.
var (
	ErrNotFound      = errors.New("container not found")
	ErrAlreadyExists = errors.New("container already exists")
	ErrNotRunning    = errors.New("container is not running")
	// ErrCutOff is Create's when what made the container was killed meanwhile and
	// nothing of the container is left: it may be asked for again.
	ErrCutOff = errors.New("the making of the container was cut off")
)

// Phase is where a container stands. Phases move forward only.
type Phase string

// The phases of a container.
const (
	PhaseCreated Phase = "created"
	PhaseRunning Phase = "running"
	PhaseExited  Phase = "exited"
)

// Mount is one mount inside a container's mount namespace, in OCI terms.
type Mount struct {
	// Destination is the absolute path inside the container.
	Destination string   `json:"destination"`
	Type        string   `json:"type,omitempty"` // "bind", "tmpfs", …
	Source      string   `json:"source,omitempty"`
	Options     []string `json:"options,omitempty"` // "rbind", "ro", "size=64m"
}

// RootFS says how the container's root file system is mounted: by the shim, as
// one mount over the (empty, existing) directory that the runtime chooses.
type RootFS struct {
	Type     string   `json:"type"` // "overlay" or "bind"
	Source   string   `json:"source"`
	Options  []string `json:"options,omitempty"`
	ReadOnly bool     `json:"readOnly,omitempty"`
}

// Rlimit is one POSIX resource limit, with Docker's names ("nofile").
type Rlimit struct {
	Name string `json:"name"`
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// Device is a host device made available in the container.
type Device struct {
	HostPath      string `json:"hostPath"`
	ContainerPath string `json:"containerPath"`
	// Permissions is a subset of "rwm".
	Permissions string `json:"permissions"`
}

// Resources are the cgroup limits of a container, or of a whole group. Zero
// means no limit.
type Resources struct {
	// CPUShares is the relative weight in cgroup v1's unit (1024 = one CPU's worth).
	CPUShares uint64 `json:"cpuShares,omitempty"`
	// CPUQuotaMicros per 100 ms period is a hard limit.
	CPUQuotaMicros int64 `json:"cpuQuotaMicros,omitempty"`
	// MemoryBytes is the hard limit, ReservationBytes the soft one, SwapBytes the
	// limit of memory plus swap (-1: unlimited; 0: same as MemoryBytes).
	MemoryBytes      int64 `json:"memoryBytes,omitempty"`
	ReservationBytes int64 `json:"reservationBytes,omitempty"`
	SwapBytes        int64 `json:"swapBytes,omitempty"`
	// Swappiness, 0 to 100, is how readily the kernel swaps the container's memory; nil
	// is the machine's own. Machines with cgroup v2 refuse it.
	Swappiness *uint64 `json:"swappiness,omitempty"`
	// PIDs limits processes and threads together. A container's 0 is the runtime's
	// default; -1 is unlimited.
	PIDs int64 `json:"pids,omitempty"`
}

// Spec is everything needed to create one container. It may hold secrets (Env):
// implementations keep it on tmpfs only.
type Spec struct {
	// ID is unique on the node: [a-z0-9-]{1,64}.
	ID string `json:"id"`
	// Group names the containers that share a shim and a parent cgroup (the task's id).
	Group string `json:"group"`
	// GroupResources are set on the group's cgroup by whichever container comes first.
	GroupResources Resources `json:"groupResources"`

	RootFS RootFS  `json:"rootfs"`
	Mounts []Mount `json:"mounts,omitempty"` // beyond the default /proc, /dev, /sys …

	Args []string `json:"args"`
	Env  []string `json:"env,omitempty"` // "NAME=value"
	Cwd  string   `json:"cwd,omitempty"` // default "/"; created when missing
	// User is "", "uid", "uid:gid", "name", "name:group"; names are looked up in
	// the root file system's /etc/passwd and /etc/group.
	User      string `json:"user,omitempty"`
	Hostname  string `json:"hostname,omitempty"`
	Terminal  bool   `json:"terminal,omitempty"`
	OpenStdin bool   `json:"openStdin,omitempty"`

	// NetNS is the path of the network namespace to join; "host" shares the host's;
	// "" makes a new one with nothing but loopback.
	NetNS string `json:"netns"`
	// PIDMode and IPCMode are "" (private), "host", or "container:ID" with a container
	// of the same group.
	PIDMode string `json:"pidMode,omitempty"`
	IPCMode string `json:"ipcMode,omitempty"`

	Resources       Resources         `json:"resources"`
	Rlimits         []Rlimit          `json:"rlimits,omitempty"`
	CapAdd          []string          `json:"capAdd,omitempty"` // "NET_ADMIN", "ALL"
	CapDrop         []string          `json:"capDrop,omitempty"`
	Devices         []Device          `json:"devices,omitempty"`
	Sysctls         map[string]string `json:"sysctls,omitempty"`
	ShmBytes        int64             `json:"shmBytes,omitempty"` // default 64 MiB
	Privileged      bool              `json:"privileged,omitempty"`
	NoNewPrivileges bool              `json:"noNewPrivileges,omitempty"`
	// SeccompUnconfined turns the default seccomp profile off.
	SeccompUnconfined bool `json:"seccompUnconfined,omitempty"`
	// Init runs a minimal init as PID 1 that forwards signals and reaps children.
	Init bool `json:"init,omitempty"`

	Output Output `json:"output"`
}

// Output says how the shim keeps what the container writes. The spool is read
// with OpenSpool.
type Output struct {
	// Discard drops the output.
	Discard bool `json:"discard,omitempty"`
	// MaxBytes bounds what is spooled and not yet acknowledged. In blocking mode
	// the container waits at the bound; with NonBlocking the oldest is dropped.
	MaxBytes    int64 `json:"maxBytes,omitempty"` // default 16 MiB
	NonBlocking bool  `json:"nonBlocking,omitempty"`
}

// Exit tells how a container ended.
type Exit struct {
	// Code is the exit status, or 128+signal.
	Code      int       `json:"code"`
	Signal    int       `json:"signal,omitempty"`
	OOMKilled bool      `json:"oomKilled,omitempty"`
	At        time.Time `json:"at"`
	// Lost is set when the shim died with the container: the true code is unknown.
	Lost bool `json:"lost,omitempty"`
}

// Status is what is known of a container.
type Status struct {
	ID        string
	Group     string
	Phase     Phase
	PID       int
	CreatedAt time.Time
	StartedAt time.Time
	// Exit is set in PhaseExited.
	Exit *Exit
}

// Stats is one sample of a container's use of resources, from its cgroup.
type Stats struct {
	At               time.Time
	CPUNanos         uint64 // total
	CPUUserNanos     uint64
	CPUSystemNanos   uint64
	MemoryBytes      uint64 // usage
	MemoryLimitBytes uint64
	MemoryCacheBytes uint64
	PIDs             uint64
	ReadBytes        uint64
	WriteBytes       uint64
}

// ExecSpec is a process added to a running container (health checks, exec).
type ExecSpec struct {
	Args []string `json:"args"`
	Env  []string `json:"env,omitempty"` // appended to the container's
	User string   `json:"user,omitempty"`
	Cwd  string   `json:"cwd,omitempty"`
	// OutputLimit bounds the combined output that is returned (default 4 KiB).
	OutputLimit int `json:"outputLimit,omitempty"`
	// Timeout kills the process; 0 means 60 s.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// ExecResult is how an added process ended.
type ExecResult struct {
	Code     int
	Output   []byte
	TimedOut bool
}

// Runtime runs containers. All methods may be called concurrently; those on one
// container are serialised by the implementation.
type Runtime interface {
	// Create makes the container ready to start: shim, cgroup, root file system,
	// namespaces, init process waiting. ErrAlreadyExists when the id is taken;
	// after any other error nothing is left behind.
	Create(ctx context.Context, spec Spec) error
	// Start runs the container's process. Starting what already runs or has exited is nil.
	Start(ctx context.Context, id string) error
	// Signal sends a signal to the container's init; all sends it to every process.
	// ErrNotRunning when it has exited.
	Signal(ctx context.Context, id string, signal int, all bool) error
	// Wait blocks until the container has exited or ctx ends. It answers at once
	// for one that exited earlier, also across restarts of the caller.
	Wait(ctx context.Context, id string) (Exit, error)
	Status(ctx context.Context, id string) (Status, error)
	Stats(ctx context.Context, id string) (Stats, error)
	Exec(ctx context.Context, id string, spec ExecSpec) (ExecResult, error)
	// List returns every container that the runtime knows, exited ones included.
	List(ctx context.Context) ([]Status, error)
	// Delete kills what still runs and removes every trace but the spool. When the
	// group's last container goes, its shim and cgroup go too. Deleting what does not
	// exist is nil.
	Delete(ctx context.Context, id string) error
	// OpenSpool reads the container's output from a cursor; see Spool. It works
	// while the container runs, after its exit and after Delete, until RemoveSpool.
	OpenSpool(ctx context.Context, id string) (Spool, error)
	// RemoveSpool drops the output. Removing what does not exist is nil.
	RemoveSpool(ctx context.Context, id string) error
	// Close releases the caller's resources. Containers run on.
	Close() error
}

// Stream tells which of a container's outputs a chunk came from.
type Stream uint8

// The streams of a container.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// Chunk is one piece of output as it was read from the container, without
// regard to line ends.
type Chunk struct {
	Stream Stream
	At     time.Time
	Data   []byte
	// Dropped is about how many bytes were lost just before this chunk: dropped in
	// NonBlocking mode, or refused by a full disk.
	Dropped int64
	// Cursor is the position after this chunk: acknowledge it with Ack, resume from it.
	Cursor int64
}

// Spool is a container's output, kept by the shim until it is acknowledged.
type Spool interface {
	// Next returns the chunk after cursor. It blocks until there is one, ctx ends,
	// or the output has ended (io.EOF: exited and all read). A cursor before the
	// oldest kept chunk continues at the oldest. Position 0 is the beginning.
	Next(ctx context.Context, cursor int64) (Chunk, error)
	// Ack allows the spool to forget everything before cursor. It is durable
	// enough to survive a restart of shim or caller, and may be late.
	Ack(cursor int64) error
	// Acked returns the last acknowledged cursor (0 when none).
	Acked() (int64, error)
	Close() error
}
