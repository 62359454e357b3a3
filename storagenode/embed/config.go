package embed

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Config describes a service. Start from DefaultConfig; URL is the caller's.
type Config struct {
	URL       string // http or https; "/v1/embeddings" is added when it has no path
	Model     string // sent as "model"
	APIKey    string // sent as a bearer token; never in a log or an error
	Instance  string // whose events these are: the node's id
	Dimension int    // of every vector; an answer with another one is refused

	Timeout     time.Duration // of one batch, its retries included
	Attempts    int           // at one batch; above 1 only while the service is healthy
	Concurrency int           // batches under way together
	MaxBatch    int           // texts of one request
	MaxBytes    int           // of the texts of one request; a single text is cut at MaxText and may go alone
	MaxText     int           // bytes of a text that are sent
	MaxWaiting  int           // texts that wait for their turn; more are refused as Busy
	CacheBytes  int64         // of vectors kept

	Window        int           // results that the service's health is judged by
	ProbeInterval time.Duration // between attempts while the service is degraded
	SampleEvery   time.Duration // at most one latency report in this time
	Reports       Reports

	Transport http.RoundTripper // nil: one of its own
}

// Reports is told what happens; nil fields are not called. Calls come one after the other for health, and at most one per
// SampleEvery for latency; they must not block.
type Reports struct {
	Latency  func(Latency)
	Healthy  func(Healthy)
	Degraded func(Degraded)
}

// Latency is one sampled answer.
type Latency struct {
	Instance  string
	BatchSize int
	Latency   time.Duration
	Dimension int
	CacheHit  bool // answered without the service
}

// Healthy says that the service answers: for the first time, or again.
type Healthy struct {
	Instance, Endpoint        string
	SuccessRate, CacheHitRate float64 // 0 to 1: of the window; since the start
}

// Degraded says that the service fails too often.
type Degraded struct {
	Instance, Endpoint string
	ErrorRate          float64 // 0 to 1, of the window
	Reason             string  // the last failure
}

// DefaultConfig is for a service in the same network.
func DefaultConfig() Config {
	return Config{
		Dimension:   DefaultDimension,
		Timeout:     8 * time.Second, // below a request's own 10 s, so that the caller hears the reason
		Attempts:    3,
		Concurrency: 4, // a service on one GPU answers one batch at a time; more only waits there
		MaxBatch:    64,
		MaxBytes:    1 << 20,
		MaxText:     24 << 10, // about 8,000 tokens of prose, what such models read at most
		MaxWaiting:  10_000,
		CacheBytes:  64 << 20, // 20,000 vectors of 768
		// Fewer results make one lost packet a state; more hide a dead service for longer than its callers wait.
		Window:        20,
		ProbeInterval: time.Second,
		SampleEvery:   time.Second,
	}
}

// Validate reports everything that is wrong, each with its value and bound.
func (c *Config) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf("embedding "+format, args...))
		}
	}
	_, err := c.endpoint()
	check(err == nil, "endpoint: %v", err)
	check(c.Dimension >= 1, "dimension %d: must be at least 1", c.Dimension)
	check(c.Timeout > 0, "timeout %s: must be above 0", c.Timeout)
	check(c.Attempts >= 1, "attempts %d: must be at least 1", c.Attempts)
	check(c.Concurrency >= 1, "concurrency %d: must be at least 1", c.Concurrency)
	check(c.MaxBatch >= 1, "batch of %d texts: must be at least 1", c.MaxBatch)
	check(c.MaxText >= 4, "text limit of %d bytes: must be at least 4, one character", c.MaxText)
	check(c.MaxWaiting >= 1, "queue of %d texts: must be at least 1", c.MaxWaiting)
	check(c.Window >= minResults, "health window of %d results: must be at least %d", c.Window, minResults)
	check(!strings.ContainsAny(c.APIKey, "\r\n"), "API key: must be one line")
	return errors.Join(faults...)
}

// endpoint is the address to post to. Errors do not repeat it: it may hold a password.
func (c *Config) endpoint() (*url.URL, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("want http://host:port or https://host:port, with a path if it is not /v1/embeddings")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/embeddings"
	}
	return u, nil
}
