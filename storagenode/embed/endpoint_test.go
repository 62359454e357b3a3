package embed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func wantKind(t *testing.T, err error, kind event.Kind, says string) {
	t.Helper()
	var e *event.Error
	if !errors.As(err, &e) || e.Kind != kind || !strings.Contains(e.Error(), says) {
		t.Errorf("got %v, want %s with %q", err, kind, says)
	}
	if err != nil && strings.Contains(err.Error(), testKey) {
		t.Errorf("the key is in %v", err)
	}
}

func TestEndpointConformance(t *testing.T) {
	s := newServer(t, 16)
	e := clientOf(t, s.URL, nil)
	texts := []string{"a dog", "", "a cat", "a dog", "  \n"}
	want, err := s.hashing.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 { // the second from the cache
		got, err := e.Embed(t.Context(), texts)
		if err != nil {
			t.Fatal(err)
		}
		for i := range texts {
			if !slices.Equal(got[i], want[i]) {
				t.Errorf("round %d: %q has %v, want %v", round, texts[i], got[i], want[i])
			}
		}
		got[0][0] = 42 // the vectors are the caller's
	}
	sent := 0
	for _, b := range s.seen() {
		sent += len(b)
	}
	if sent != 2 {
		t.Errorf("sent %v, want two texts once", s.seen())
	}
	if _, err := e.Embed(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestEndpointRefusals(t *testing.T) {
	s := newServer(t, 16)
	tests := []struct {
		name   string
		change func(*Config)
		says   string
	}{
		{"key", func(c *Config) { c.APIKey = "wrong" }, "status 401"},
		{"model", func(c *Config) { c.Model = "none" }, "status 404"},
		{"path", func(c *Config) { c.URL += "/v2" }, "status 404"},
	}
	for _, tt := range tests {
		_, err := clientOf(t, s.URL, tt.change).Embed(t.Context(), []string{"x"})
		wantKind(t, err, event.KindRefused, tt.says)
	}
	_, err := clientOf(t, s.URL, func(c *Config) { c.Dimension = 768 }).Embed(t.Context(), []string{"x"})
	wantKind(t, err, event.KindInternal, "16 components instead of 768")
}

// TestHostileAnswers: an answer that is wrong in any part is refused, and nothing of it is kept.
func TestHostileAnswers(t *testing.T) {
	entry := func(index, vector string) string { return fmt.Sprintf(`{"index":%s,"embedding":%s}`, index, vector) }
	tests := []struct{ name, body, says string }{
		{"no JSON", "<html>", "JSON"},
		{"cut off", `{"data":[{"index":0,"embedding":[1,`, "JSON"},
		{"no data", `{}`, "0 vectors for 2"},
		{"too few", `{"data":[` + entry("0", "[1,2]") + `]}`, "1 vectors for 2"},
		{"too many", `{"data":[` + entry("0", "[1,2]") + "," + entry("1", "[1,2]") + "," + entry("2", "[1,2]") + `]}`, "3 vectors for 2"},
		{"index twice", `{"data":[` + entry("0", "[1,2]") + "," + entry("0", "[1,2]") + `]}`, "index at data[1]"},
		{"index beyond", `{"data":[` + entry("0", "[1,2]") + "," + entry("2", "[1,2]") + `]}`, "index at data[1]"},
		{"index below", `{"data":[` + entry("-1", "[1,2]") + "," + entry("0", "[1,2]") + `]}`, "index at data[0]"},
		{"index missing", `{"data":[{"embedding":[1,2]},` + entry("1", "[1,2]") + `]}`, "index at data[0]"},
		{"NaN", `{"data":[` + entry("0", "[NaN,2]") + "," + entry("1", "[1,2]") + `]}`, "JSON"},
		{"NaN as text", `{"data":[` + entry("0", `["NaN",2]`) + "," + entry("1", "[1,2]") + `]}`, "data[0]"},
		{"null", `{"data":[` + entry("0", "[null,2]") + "," + entry("1", "[1,2]") + `]}`, "null"},
		{"infinite as float32", `{"data":[` + entry("0", "[1,2]") + "," + entry("1", "[1e39,2]") + `]}`, "1e+39"},
		{"infinite as float64", `{"data":[` + entry("0", "[1,2]") + "," + entry("1", "[1e999,2]") + `]}`, "data[1]"},
		{"zeros", `{"data":[` + entry("0", "[0,0]") + "," + entry("1", "[1,2]") + `]}`, "zero"},
		{"dimension", `{"data":[` + entry("0", "[1,2,3]") + "," + entry("1", "[1,2]") + `]}`, "3 components"},
		{"base64", `{"data":[` + entry("0", `"AACAPw=="`) + "," + entry("1", "[1,2]") + `]}`, "data[0]"},
		{"huge", `{"data":[` + strings.Repeat(" ", answerBase+1000) + `]}`, "larger than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, 2)
			s.before = func(w http.ResponseWriter, texts []string) bool {
				_, _ = io.WriteString(w, tt.body)
				return true
			}
			e := clientOf(t, s.URL, func(c *Config) { c.Dimension = 2; c.Concurrency = 1 })
			_, err := e.request([]*item{{text: "x"}, {text: "y"}})
			wantKind(t, err, event.KindInternal, tt.says)
			if len(s.seen()) != 1 {
				t.Errorf("asked %d times", len(s.seen()))
			}
		})
	}
}

// TestRedirectsAreNotFollowed: neither text nor key goes to another place.
func TestRedirectsAreNotFollowed(t *testing.T) {
	other := newServer(t, 16)
	s := newServer(t, 16)
	s.before = func(w http.ResponseWriter, _ []string) bool {
		w.Header().Set("Location", other.URL+"/v1/embeddings")
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	}
	_, err := clientOf(t, s.URL, nil).Embed(t.Context(), []string{"x"})
	wantKind(t, err, event.KindRefused, "307")
	if len(other.seen()) != 0 {
		t.Error("followed")
	}
}

// TestOneBadTextCostsItselfAlone: a batch that is refused for its input is asked for in halves.
func TestOneBadTextCostsItselfAlone(t *testing.T) {
	s := newServer(t, 16)
	s.before = func(w http.ResponseWriter, texts []string) bool {
		if slices.Contains(texts, "bad") {
			apiError(w, http.StatusBadRequest, "maximum context length")
			return true
		}
		return false
	}
	e := clientOf(t, s.URL, nil)
	var batch []*item
	for _, text := range []string{"a", "b", "bad", "c", "d"} {
		batch = append(batch, &item{key: key{text[0], byte(len(text))}, text: text, done: make(chan struct{})})
	}
	e.deliver(batch)
	for _, it := range batch {
		<-it.done
		if it.text == "bad" {
			wantKind(t, it.err, event.KindRefused, "maximum context length")
		} else if it.err != nil || len(it.vector) != 16 {
			t.Errorf("%q: %v", it.text, it.err)
		}
	}
}

// fake is a service in virtual time: it answers each request by a func.
type fake func(r *http.Request, n int) (status int, header http.Header, wait time.Duration)

// play runs a test against a fake service, whose answers are right when their status is 200.
type play struct {
	mu      sync.Mutex
	n       int
	at      []time.Duration
	texts   []int
	start   time.Time
	service fake
	hashing *Hashing
}

func (p *play) RoundTrip(r *http.Request) (*http.Response, error) {
	var q questionBody
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &q)
	}
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	n := p.n
	p.n++
	p.at = append(p.at, time.Since(p.start))
	p.texts = append(p.texts, len(q.Input))
	p.mu.Unlock()
	status, header, wait := p.service(r, n)
	select {
	case <-time.After(wait):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if status == 0 {
		return nil, errors.New("connection refused")
	}
	var answer strings.Builder
	if status == http.StatusOK {
		vectors, _ := p.hashing.Embed(context.Background(), q.Input)
		writeVectors(&answer, vectors)
	}
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(answer.String())), Request: r}, nil
}

func playWith(t *testing.T, service fake, change func(*Config)) (*play, *Endpoint) {
	p := &play{start: time.Now(), service: service, hashing: hashing(t, 16)}
	return p, clientOf(t, "http://service", func(c *Config) {
		c.Transport = p
		if change != nil {
			change(c)
		}
	})
}

// TestConcurrentCallsShareBatches: what comes while all batches are under way goes together; the same text goes once.
func TestConcurrentCallsShareBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, e := playWith(t, func(*http.Request, int) (int, http.Header, time.Duration) { return 200, nil, time.Second },
			func(c *Config) { c.Concurrency = 1; c.MaxBatch = 8 })
		var g sync.WaitGroup
		for i := range 33 {
			g.Go(func() {
				v, err := e.Embed(t.Context(), []string{fmt.Sprintf("text %d", i%17)})
				if err != nil || !slices.Equal(v[0], embedOne(t, p.hashing, fmt.Sprintf("text %d", i%17))) {
					t.Errorf("%d: %v", i, err)
				}
			})
			if i == 0 {
				synctest.Wait() // the first goes alone
			}
		}
		g.Wait()
		if !slices.Equal(p.texts, []int{1, 8, 8}) {
			t.Errorf("batches of %v", p.texts)
		}
		e.Close()
	})
}

func TestRetries(t *testing.T) {
	again := func(after string) fake {
		return func(_ *http.Request, n int) (int, http.Header, time.Duration) {
			if n == 0 {
				return 429, http.Header{"Retry-After": {after}}, 0
			}
			return 200, nil, 0
		}
	}
	tests := []struct {
		name     string
		service  fake
		requests int
		least    time.Duration // before the second request
		most     time.Duration
		kind     event.Kind
	}{
		{"429 with seconds", again("3"), 2, 3 * time.Second, 3 * time.Second, ""},
		{"429 with a date", again("Sat, 01 Jan 2000 00:00:04 GMT"), 2, 4 * time.Second, 4 * time.Second, ""}, // the bubble's clock begins in 2000
		{"429 with a date that is past", again("Sat, 01 Jan 1999 00:00:04 GMT"), 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		{"429 beyond the deadline", again("3600"), 1, 0, 0, event.KindUnavailable},
		{"503, then right", func(_ *http.Request, n int) (int, http.Header, time.Duration) { return []int{503, 200}[n], nil, 0 },
			2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		{"unreachable, then right", func(_ *http.Request, n int) (int, http.Header, time.Duration) { return []int{0, 200}[n], nil, 0 },
			2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		{"500 always", func(*http.Request, int) (int, http.Header, time.Duration) { return 500, nil, 0 }, 3, 100 * time.Millisecond, 200 * time.Millisecond, event.KindUnavailable},
		{"401", func(*http.Request, int) (int, http.Header, time.Duration) { return 401, nil, 0 }, 1, 0, 0, event.KindRefused},
		{"hangs", func(*http.Request, int) (int, http.Header, time.Duration) { return 200, nil, time.Hour }, 1, 0, 0, event.KindUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, e := playWith(t, tt.service, nil)
				_, err := e.Embed(t.Context(), []string{"x"})
				if tt.kind != "" {
					wantKind(t, err, tt.kind, "")
				} else if err != nil {
					t.Error(err)
				}
				if time.Since(p.start) > e.cfg.Timeout {
					t.Errorf("took %s", time.Since(p.start))
				}
				if p.n != tt.requests || p.n > 1 && (p.at[1] < tt.least || p.at[1] > tt.most) {
					t.Errorf("requests at %v, want %d, the second after %s to %s", p.at, tt.requests, tt.least, tt.most)
				}
				e.Close()
			})
		})
	}
}

// TestHealth: half of the window fails: degraded, said once; then one probe per interval and everybody else is refused at
// once; the first success: healthy, said once.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := false
		var said []string
		var latencies int
		p, e := playWith(t, func(*http.Request, int) (int, http.Header, time.Duration) {
			if broken {
				return 503, nil, 0
			}
			return 200, nil, 0
		}, func(c *Config) {
			c.Attempts, c.Window = 1, 4
			c.Reports = Reports{
				Healthy:  func(h Healthy) { said = append(said, fmt.Sprintf("healthy %.2f %.2f", h.SuccessRate, h.CacheHitRate)) },
				Degraded: func(d Degraded) { said = append(said, fmt.Sprintf("degraded %.2f", d.ErrorRate)) },
				Latency:  func(l Latency) { latencies++ },
			}
		})
		n := 0
		embed := func() error {
			n++
			_, err := e.Embed(t.Context(), []string{fmt.Sprint("text ", n)})
			return err
		}
		for range 4 {
			if err := embed(); err != nil {
				t.Error(err)
			}
		}
		broken = true
		for range 2 {
			wantKind(t, embed(), event.KindUnavailable, "503")
		}
		asked := p.n
		for range 10 {
			wantKind(t, embed(), event.KindUnavailable, "degraded")
		}
		if p.n != asked {
			t.Errorf("asked %d times while degraded", p.n-asked)
		}
		for range 3 {
			time.Sleep(e.cfg.ProbeInterval)
			wantKind(t, embed(), event.KindUnavailable, "503")
			wantKind(t, embed(), event.KindUnavailable, "degraded")
		}
		broken = false
		time.Sleep(e.cfg.ProbeInterval)
		for range 3 {
			if err := embed(); err != nil {
				t.Error(err)
			}
		}
		if want := []string{"healthy 1.00 0.00", "degraded 0.50", "healthy 1.00 0.00"}; !slices.Equal(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
		if latencies != 2 { // a second apart at least
			t.Errorf("%d latencies", latencies)
		}
		e.Close()
	})
}

func TestFullQueueAndLeavers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, e := playWith(t, func(*http.Request, int) (int, http.Header, time.Duration) { return 200, nil, time.Second },
			func(c *Config) { c.Concurrency, c.MaxWaiting, c.MaxBatch = 1, 2, 1 })
		var g sync.WaitGroup
		g.Go(func() { _, _ = e.Embed(t.Context(), []string{"first"}) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		for _, text := range []string{"second", "third"} {
			g.Go(func() {
				_, err := e.Embed(ctx, []string{text})
				wantKind(t, err, event.KindDeadline, "")
			})
		}
		synctest.Wait()
		_, err := e.Embed(t.Context(), []string{"fourth"})
		wantKind(t, err, event.KindBusy, "2 texts wait")
		g.Wait()
		time.Sleep(5 * time.Second)
		if p.n != 1 {
			t.Errorf("%d requests: what nobody waits for is sent", p.n)
		}
		if _, err := e.Embed(t.Context(), []string{"second"}); err != nil {
			t.Error(err)
		}
		e.Close()
	})
}

// TestClose ends requests under way and those who wait.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, e := playWith(t, func(*http.Request, int) (int, http.Header, time.Duration) { return 200, nil, time.Hour },
			func(c *Config) { c.Concurrency, c.MaxBatch = 1, 1; c.Timeout = 2 * time.Hour })
		var g sync.WaitGroup
		for i := range 3 {
			g.Go(func() {
				_, err := e.Embed(t.Context(), []string{fmt.Sprint(i)})
				wantKind(t, err, event.KindUnavailable, "closed")
			})
		}
		synctest.Wait()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		g.Wait()
		_, err := e.Embed(t.Context(), []string{"x"})
		wantKind(t, err, event.KindUnavailable, "closed")
	})
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(3 * entrySize(make([]float32, 4)))
	for i := range byte(4) {
		c.put(key{i}, make([]float32, 4))
		if i == 2 {
			c.get(key{0})
		}
	}
	var kept []bool
	for i := range byte(4) {
		_, ok := c.get(key{i})
		kept = append(kept, ok)
	}
	if want := []bool{true, false, true, true}; !slices.Equal(kept, want) || c.size > c.limit || len(c.entries) != c.used.Len() {
		t.Errorf("kept %v, want %v; %d of %d bytes", kept, want, c.size, c.limit)
	}
	c.put(key{9}, make([]float32, 1000))
	if _, ok := c.get(key{9}); ok {
		t.Error("an entry larger than the cache is kept")
	}
}

func TestConfigReportsEverything(t *testing.T) {
	err := (&Config{URL: "ftp://u:secret@x", APIKey: "a\nb"}).Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"endpoint", "dimension 0", "timeout", "attempts", "concurrency", "batch", "text limit", "queue", "window", "API key"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("a password is in %v", err)
	}
	for given, want := range map[string]string{"http://h:1": "http://h:1/v1/embeddings", "https://h/": "https://h/v1/embeddings", "http://h/x/embeddings": "http://h/x/embeddings"} {
		c := DefaultConfig()
		c.URL = given
		if u, err := c.endpoint(); err != nil || u.String() != want {
			t.Errorf("%s: %v, %v", given, u, err)
		}
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte(`{"data":[{"index":1,"embedding":[1,2]},{"index":0,"embedding":[0.5,-2e3]}]}`))
	f.Add([]byte(`{"data":[{"index":0,"embedding":null},{"index":0,"embedding":[0.5,-2e3]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		vectors, err := readAnswer(b, 2, 2)
		if err != nil {
			return
		}
		for _, v := range vectors {
			if len(v) != 2 || v[0]-v[0] != 0 || v[1]-v[1] != 0 || v[0] == 0 && v[1] == 0 {
				t.Fatalf("%v is accepted from %s", vectors, b)
			}
		}
	})
}
