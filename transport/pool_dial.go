package transport

import "context"

// Dial opens a connection that is the caller's alone, for a conversation that must notice when it breaks: whoever answers
// behind a new connection may be another process with other data. The caller closes it; Pool.Close breaks it too.
func (p *Pool) Dial(ctx context.Context, addr string) (*Conn, error) {
	c, err := p.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		go c.Close() // nobody saw it: its goroutines end by themselves
		return nil, errPoolClosed(addr)
	}
	p.streams[c] = struct{}{}
	context.AfterFunc(c.ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.streams, c)
	})
	return c, nil
}
