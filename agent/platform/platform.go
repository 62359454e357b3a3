// Package platform is the vocabulary between the agent and what runs its storage nodes: operating system processes here,
// containers or pods elsewhere.
//
//	agent --Spec--> adapter --Instance, Notice--> agent        Ref: what the agent writes down to find an instance again
//
// Invariants: an instance runs nothing before its Ref was recorded (Start calls record first), so none is ever left that
// nobody knows; an adapter finds, stops and reports only instances it is given a Ref for. The package imports nothing of
// ours; adapters live below it, one folder each, and the agent declares the interface they implement.
package platform

import "errors"

// Ref names one instance for ever: no later instance has the same. It is opaque to everybody but the adapter that made
// it; a process's is its pid, start time and boot.
type Ref string

// ErrGone says that the instance of a Ref does not run (any more).
var ErrGone = errors.New("no longer running")

// Spec says what to run.
type Spec struct {
	Path      string   // the program
	Args      []string // its arguments, without its own name
	Env       []string // NAME=value, beside the environment that everything inherits
	ReadyFile string   // the instance's ready line is kept here: "ready <host:port> <store id>"
	LogFile   string   // gets what the instance prints
	KeepLogs  int      // above 0: LogFile begins anew and so many older ones are kept; 0: LogFile is appended to
}

// Ready is what an instance says once it can be asked.
type Ready struct {
	Endpoint string // host:port
	StoreID  string // of its data directory; empty where there is none to tell
}

// Exit is how an instance ended.
type Exit struct {
	Code   *int32 // nil: unknown, or ended by a signal
	Signal string // "SIGKILL"; empty: unknown, or it exited by itself
	OOM    bool   // a guess: killed while the kernel was out of memory, or it said so itself
	Tail   string // the last lines it printed, at most TailBytes
}

// TailBytes bounds Exit.Tail, as the event that carries it is bounded.
const TailBytes = 4096

// Notice is one thing that happened to an instance; exactly one field is set.
type Notice struct {
	Ready *Ready
	Exit  *Exit
}

// Instance is one running instance.
type Instance struct {
	Ref Ref
	PID int // 0 where there is none
	// Notices gives Ready at most once, then Exit once, and is closed; after Close it is closed without them. It never
	// blocks the adapter.
	Notices <-chan Notice
	Handle
}

// Handle acts on an instance. All methods may be called at any time and from any goroutine.
type Handle interface {
	// Terminate asks the instance to end in good order. It does not wait. An instance that has ended already is no error.
	Terminate() error
	// Kill ends the instance at once. It does not wait.
	Kill() error
	// Close stops watching and returns when Notices is closed. The instance goes on.
	Close()
}
