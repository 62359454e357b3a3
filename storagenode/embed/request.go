package embed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// answerBase and componentBytes bound an answer: a component as decimal text, with white space.
const (
	answerBase     = 64 << 10
	componentBytes = 40
)

// failure is why one attempt brought nothing.
type failure struct {
	err   *event.Error
	again bool          // another attempt may succeed
	after time.Duration // not before (Retry-After)
	input bool          // the service does not take what was sent; it says nothing of the service
}

// Error is the text of the error that callers see.
func (f *failure) Error() string { return f.err.Error() }

// Unwrap gives that error.
func (f *failure) Unwrap() error { return f.err }

func refusesInput(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.input
}

// request asks for one batch, with retries while the service is healthy.
func (e *Endpoint) request(batch []*item) ([][]float32, error) {
	ctx, cancel := context.WithTimeout(e.ctx, e.cfg.Timeout)
	defer cancel()
	body, err := json.Marshal(question(e.cfg.Model, batch))
	if err != nil {
		return nil, failed(event.KindInternal, "encode the texts: %v", err)
	}
	deadline, _ := ctx.Deadline()
	backoff := transport.Backoff{First: 200 * time.Millisecond, Max: 2 * time.Second}
	for attempt := 1; ; attempt++ {
		if err := e.health.admit(time.Now()); err != nil {
			return nil, err
		}
		start := time.Now()
		vectors, f := e.attempt(ctx, body, len(batch))
		if f == nil {
			e.health.note(nil)
			e.latency(Latency{BatchSize: len(batch), Latency: time.Since(start)})
			return vectors, nil
		}
		if !f.input && e.ctx.Err() == nil {
			e.health.note(f.err)
		}
		if !f.again || attempt == e.cfg.Attempts || time.Until(deadline) <= f.after || backoff.Wait(ctx, f.after) != nil {
			return nil, f
		}
	}
}

type questionBody struct {
	Model    string   `json:"model"`
	Input    []string `json:"input"`
	Encoding string   `json:"encoding_format"`
}

func question(model string, batch []*item) questionBody {
	q := questionBody{Model: model, Encoding: "float"}
	for _, it := range batch {
		q.Input = append(q.Input, it.text)
	}
	return q
}

// attempt is one POST.
func (e *Endpoint) attempt(ctx context.Context, body []byte, texts int) ([][]float32, *failure) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url.String(), bytes.NewReader(body))
	if err != nil {
		return nil, &failure{err: failed(event.KindInternal, "make the request: %v", err)}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	if e.cfg.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+e.cfg.APIKey)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return nil, e.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	limit := answerBase + int64(texts)*int64(e.cfg.Dimension)*componentBytes
	answer, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, e.unreachable(ctx, err)
	case resp.StatusCode != http.StatusOK:
		return nil, e.refusal(resp, answer)
	case int64(len(answer)) > limit:
		return nil, e.wrong("is larger than %d bytes", limit)
	}
	vectors, err := readAnswer(answer, texts, e.cfg.Dimension)
	if err != nil {
		return nil, e.wrong("%v", err)
	}
	return vectors, nil
}

func (e *Endpoint) wrong(format string, args ...any) *failure {
	err := failed(event.KindInternal, format, args...)
	err.Message = "the answer of " + e.url.Redacted() + " " + err.Message
	return &failure{err: err}
}

func (e *Endpoint) unreachable(ctx context.Context, err error) *failure {
	if e.ctx.Err() != nil {
		return &failure{err: closedError()}
	}
	if ctx.Err() != nil {
		return &failure{err: failed(event.KindUnavailable, "%s did not answer within %s", e.url.Redacted(), e.cfg.Timeout)}
	}
	return &failure{err: failed(event.KindUnavailable, "%s cannot be reached: %v", e.url.Redacted(), err), again: true}
}

// refusal reads a status that is not 200. Words of the service are repeated only where they are about the texts: about a key
// they may quote it.
func (e *Endpoint) refusal(resp *http.Response, answer []byte) *failure {
	status := resp.StatusCode
	switch {
	case status == http.StatusTooManyRequests || status >= 500 || status == http.StatusRequestTimeout:
		f := &failure{err: failed(event.KindUnavailable, "%s answers with status %d", e.url.Redacted(), status), again: true,
			after: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
		f.err.RetryAfterMillis = uint32(min(f.after.Milliseconds(), math.MaxUint32))
		return f
	case status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge || status == http.StatusUnprocessableEntity:
		return &failure{err: failed(event.KindRefused, "%s does not take the text: status %d%s", e.url.Redacted(), status, words200(answer)), input: true}
	}
	return &failure{err: failed(event.KindRefused, "%s answers with status %d: check address, model and key", e.url.Redacted(), status)}
}

// words200 is the beginning of what the service says of a text.
func words200(answer []byte) string {
	var said struct {
		Error struct{ Message string }
	}
	if json.Unmarshal(answer, &said) != nil || said.Error.Message == "" {
		return ""
	}
	return ": " + strconv.Quote(beginning(said.Error.Message, 200))
}

// retryAfter reads the header's seconds or date; 0 when it has none that is ahead.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
