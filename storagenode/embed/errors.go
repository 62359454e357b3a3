package embed

import (
	"context"
	"errors"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

const opEmbed = "embed"

// stopped is the error of a caller whose context ended.
func stopped(err error) *event.Error {
	kind := event.KindDeadline
	if errors.Is(err, context.Canceled) {
		kind = event.KindUnavailable
	}
	return &event.Error{Kind: kind, Op: opEmbed, Message: err.Error()}
}

func failed(kind event.Kind, format string, args ...any) *event.Error {
	return &event.Error{Kind: kind, Op: opEmbed, Message: fmt.Sprintf(format, args...)}
}
