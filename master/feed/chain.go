package feed

import (
	"encoding/hex"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// checkLink checks that a record continues a history whose chain value is prev (safety S27). e is the record's head.
func checkLink(prev event.Chain, record []byte, e *event.Envelope) error {
	h, err := event.HashRecord(record)
	if err != nil {
		return err
	}
	if event.NextChain(prev, h) != e.Chain {
		return fmt.Errorf("%w: event %d, or one before it, is not what was recorded", ErrBroken, e.Seq)
	}
	return nil
}

// chainOf is the chain value an encoded envelope ends with.
func chainOf(encoded []byte) (event.Chain, error) {
	e, err := event.DecodeHead(encoded)
	if err != nil {
		return event.Chain{}, err
	}
	return e.Chain, nil
}

// hexChain is the form of a chain value in event storage.
func hexChain(chain event.Chain) string { return hex.EncodeToString(chain[:]) }
