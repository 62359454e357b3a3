package transport

import "context"

// Dial opens a connection that is the caller's alone, for a conversation that must notice when it breaks: whoever answers
// behind a new connection may be another process with other data. The caller closes it; Pool.Close breaks it too.
func (p *Pool) Dial(ctx context.Context, addr string) (*Conn, error) {
	c, err := p.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	if !p.keep(c) {
		_ = c.Close() // it always succeeds
		return nil, errPoolClosed(addr)
	}
	context.AfterFunc(c.ctx, func() { p.forget(c) })
	return c, nil
}

// keep remembers a connection that is not shared, so that Close breaks it; false when the pool is closed already.
func (p *Pool) keep(c *Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.streams[c] = struct{}{}
	return true
}

func (p *Pool) forget(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.streams, c)
}
