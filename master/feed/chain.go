package feed

import (
	"encoding/hex"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// checkLink checks that e continues a history whose chain value is prev (safety S27).
func checkLink(prev event.Chain, e *event.Envelope) error {
	if err := event.Verify(prev, e); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return nil
}

// chainOf is the chain value an encoded envelope ends with.
func chainOf(encoded []byte) (event.Chain, error) {
	e, err := event.DecodeEnvelope(encoded)
	if err != nil {
		return event.Chain{}, err
	}
	return e.Chain, nil
}

// hexChain is the form of a chain value in event storage.
func hexChain(chain event.Chain) string { return hex.EncodeToString(chain[:]) }
