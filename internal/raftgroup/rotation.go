package raftgroup

import (
	"fmt"

	"github.com/hashicorp/go-hclog"
)

// rotationLog is raft-wal's logger. The log begins a new file in the background, and when that fails, on a full disk, it only
// logs it; the next entry is then refused because "segment is sealed", which tells nobody what to do.
type rotationLog struct {
	hclog.Logger
	fail func(what string, err error) error
}

// Error implements hclog.Logger.
func (l rotationLog) Error(msg string, args ...any) {
	l.Logger.Error(msg, args...)
	if msg != "rotate error" {
		return
	}
	for _, a := range args {
		if err, ok := a.(error); ok {
			_ = l.fail("begin a new file", err) // tells
			return
		}
	}
	_ = l.fail("begin a new file", fmt.Errorf("%v", args))
}
