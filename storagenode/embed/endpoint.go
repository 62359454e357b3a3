package embed

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Endpoint embeds by a service of the OpenAI protocol. Texts that are asked for while all batches are under way wait and go
// together, without added delay; a text that several callers want at once is sent once; answers are cached.
//
// Invariant: a text that is not in the cache is in at most one item; an item waits, or is in one batch, or is done; done is
// closed once, after the item's result is set and it has left items.
type Endpoint struct {
	cfg    Config
	url    *url.URL
	client *http.Client
	cache  *cache
	health *health
	sample sampler

	ctx     context.Context // of the requests
	stop    context.CancelFunc
	sending sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	items   map[key]*item // not done; of mu
	waiting []*item       // in the order they came, those that nobody waits for included; of mu
	senders int           // at most Concurrency; of mu
}

// item is one text on its way to its vector.
type item struct {
	key    key
	text   string
	wanted int // callers that wait; of Endpoint.mu
	done   chan struct{}
	vector []float32 // after done
	err    error     // after done
}

// NewEndpoint starts a client; nothing is sent before the first text.
func NewEndpoint(cfg Config) (*Endpoint, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	at, err := cfg.endpoint()
	if err != nil {
		return nil, err
	}
	if cfg.Transport == nil {
		cfg.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, MaxConnsPerHost: cfg.Concurrency, MaxIdleConnsPerHost: cfg.Concurrency,
			IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10}
	}
	e := &Endpoint{cfg: cfg, url: at, cache: newCache(cfg.CacheBytes), items: map[key]*item{}, sample: sampler{every: cfg.SampleEvery}}
	e.health = newHealth(&e.cfg, at.Redacted())
	// A redirect would carry texts and key to a place that nobody configured.
	e.client = &http.Client{Transport: cfg.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	e.ctx, e.stop = context.WithCancel(context.Background())
	return e, nil
}

// Close ends the requests under way; their callers and those who wait get an error.
func (e *Endpoint) Close() error {
	e.stop()
	e.mu.Lock()
	e.closed = true
	left := e.waiting
	e.waiting = nil
	e.mu.Unlock()
	e.finish(left, nil, closedError())
	e.sending.Wait()
	e.client.CloseIdleConnections()
	return nil
}

func closedError() *event.Error {
	return failed(event.KindUnavailable, "the embedding client is closed")
}

// Dimension is the components of every vector.
func (e *Endpoint) Dimension() int { return e.cfg.Dimension }

// Embed asks the service for what the cache does not have. Kinds of errors: Busy, too many texts wait; Unavailable, the
// service cannot be reached, is degraded or says so itself; Refused, it does not take the text or the key; Internal, its
// answer is wrong; Deadline.
func (e *Endpoint) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	start := time.Now()
	vectors := make([][]float32, len(texts))
	asked := make([]*item, len(texts))
	defer e.leave(asked)
	hits := 0
	for i, text := range texts {
		if text = beginning(text, e.cfg.MaxText); strings.TrimSpace(text) == "" {
			continue
		}
		k := key(sha256.Sum256([]byte(text)))
		var ok bool
		if vectors[i], ok = e.cache.get(k); ok {
			hits++
			continue
		}
		var err error
		if asked[i], err = e.ask(k, text); err != nil {
			return nil, err
		}
	}
	e.health.looked(hits, len(texts))
	if hits == len(texts) && hits > 0 {
		e.latency(Latency{BatchSize: hits, Latency: time.Since(start), CacheHit: true})
	}
	for i, it := range asked {
		if it == nil {
			continue
		}
		select {
		case <-it.done:
			if it.err != nil {
				return nil, it.err
			}
			vectors[i] = slices.Clone(it.vector)
		case <-ctx.Done():
			return nil, stopped(ctx.Err())
		}
	}
	return vectors, nil
}

// ask puts a text into the queue, or joins those who wait for it.
func (e *Endpoint) ask(k key, text string) (*item, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, closedError()
	}
	if it, ok := e.items[k]; ok {
		it.wanted++
		return it, nil
	}
	if len(e.waiting) >= e.cfg.MaxWaiting {
		err := failed(event.KindBusy, "%d texts wait for the embedding service: retry", len(e.waiting))
		err.RetryAfterMillis = 500
		return nil, err
	}
	it := &item{key: k, text: text, wanted: 1, done: make(chan struct{})}
	e.items[k] = it
	e.waiting = append(e.waiting, it)
	if e.senders < e.cfg.Concurrency {
		e.senders++
		e.sending.Go(e.send)
	}
	return it, nil
}

// leave says that a caller no longer waits; what nobody wants is dropped when its turn comes.
func (e *Endpoint) leave(asked []*item) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, it := range asked {
		if it != nil {
			it.wanted--
		}
	}
}

// send works until nothing waits.
func (e *Endpoint) send() {
	for {
		batch, dropped := e.take()
		e.finish(dropped, nil, failed(event.KindUnavailable, "nobody waits for the vector any more"))
		if batch == nil {
			return
		}
		e.deliver(batch)
	}
}

// take forms the next batch; nil: nothing waits, and this sender is no longer counted.
func (e *Endpoint) take() (batch, dropped []*item) {
	e.mu.Lock()
	defer e.mu.Unlock()
	size, n := 0, 0
	for _, it := range e.waiting {
		if it.wanted == 0 {
			delete(e.items, it.key) // under the same lock: nobody can join any more
			dropped = append(dropped, it)
		} else {
			if size += len(it.text); len(batch) == e.cfg.MaxBatch || len(batch) > 0 && size > e.cfg.MaxBytes {
				break
			}
			batch = append(batch, it)
		}
		n++
	}
	if e.waiting = e.waiting[n:]; len(e.waiting) == 0 {
		e.waiting = nil // the array behind it goes too
	}
	if batch == nil {
		e.senders--
	}
	return batch, dropped
}

// deliver asks for a batch. When the service refuses it for what is in it, it is asked for in halves, so that one text that
// it does not take costs its own caller alone.
func (e *Endpoint) deliver(batch []*item) {
	vectors, err := e.request(batch)
	if refusesInput(err) && len(batch) > 1 {
		half := len(batch) / 2
		e.deliver(batch[:half])
		e.deliver(batch[half:])
		return
	}
	e.finish(batch, vectors, err)
}

// finish gives items their result; vectors is nil with an error.
func (e *Endpoint) finish(batch []*item, vectors [][]float32, err error) {
	for i, it := range batch {
		if it.err = err; err == nil {
			it.vector = vectors[i]
			e.cache.put(it.key, it.vector)
		}
	}
	e.mu.Lock()
	for _, it := range batch {
		if e.items[it.key] == it {
			delete(e.items, it.key)
		}
	}
	e.mu.Unlock()
	for _, it := range batch {
		close(it.done)
	}
}

func (e *Endpoint) latency(l Latency) {
	if e.cfg.Reports.Latency != nil && e.sample.take(time.Now()) {
		l.Instance, l.Dimension = e.cfg.Instance, e.cfg.Dimension
		e.cfg.Reports.Latency(l)
	}
}

// sampler lets one of many through.
type sampler struct {
	every time.Duration
	mu    sync.Mutex
	last  time.Time
}

func (s *sampler) take(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.IsZero() && now.Sub(s.last) < s.every {
		return false
	}
	s.last = now
	return true
}
