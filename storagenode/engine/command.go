package engine

import (
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Kind says what a command does.
type Kind uint8

// The commands of a shard's log. Numbers are never reused.
const (
	Write   Kind = 1 // a single-shard write
	Prepare Kind = 2 // step 2 of a cross-shard transaction
	Finish  Kind = 3 // step 4
)

// Command is one command of a shard's log: a kind and the message of that kind.
type Command struct {
	Kind      Kind
	RequestID event.RequestID // of a Write; a transaction's id is in its message
	Issued    int64           // of a Write, unix µs
	Write     *transport.Write
	Prepare   *transport.Prepare
	Finish    *transport.Finish
}

// AppendCommand encodes c behind b.
func AppendCommand(b []byte, c Command) ([]byte, error) { panic("pending") }

// DecodeCommand reads what AppendCommand wrote.
func DecodeCommand(b []byte) (Command, error) { panic("pending") }
