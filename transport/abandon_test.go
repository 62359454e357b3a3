package transport

import (
	"context"
	"testing"
)

// TestReplyAtTheLastMoment: a reply that comes together with the end of the caller's context is the answer, never nothing.
func TestReplyAtTheLastMoment(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := &call{done: make(chan struct{})}
	w.end(&HealthCheckOk{Healthy: true}, nil)
	reply, err := (&Conn{}).abandon(ctx, w)
	if ok, is := reply.(*HealthCheckOk); !is || !ok.Healthy || err != nil {
		t.Errorf("got %v, %v", reply, err)
	}
}
