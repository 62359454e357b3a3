package fault

// Disk is told of everything that the processes of this program make durable below a directory. Its methods are called from any
// goroutine, with a path that the process itself uses, absolute.
type Disk interface {
	// Synced says that it was. Of a file that is the bytes in [from, to), and everything that it holds if to is 0.
	Synced(path string, from, to int64)
}
