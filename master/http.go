package master

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/txnjson"
	"github.com/sutra-grid/sutra-grid/master/txn"
	"github.com/sutra-grid/sutra-grid/transport"
)

// maxHTTPBody bounds a request's body: an agent's record is at most 64 KiB in the log, its JSON somewhat more.
const maxHTTPBody = 256 << 10

// api serves the HTTP routes of a master. Its replies state their contract in headers and body: seq, shard-map epoch, read mode.
type api struct {
	core    func(ctx context.Context) (*core, error) // the serving master, waited for while it starts
	status  func(ctx context.Context, want transport.Reading) (*transport.ClusterStatus, error)
	limit   time.Duration
	metrics http.Handler
	stats   *stats
}

// contract is what a reply holds for.
type contract struct {
	Seq   uint64 `json:"seq"`
	Epoch uint64 `json:"epoch"`
	transport.Read
}

// reply is a handler's result: any JSON body under a status.
type reply struct {
	status int
	body   any
	contract
}

// bounds are a route's own; zero: those of all.
type bounds struct {
	body int64         // bytes of a request
	time time.Duration // of a request and its answer
}

// handler is one route.
type handler func(ctx context.Context, r *http.Request) (reply, error)

// routes is the one table of what HTTP answers.
func (a *api) routes() http.Handler {
	mux := http.NewServeMux()
	allowed := map[string][]string{"/metrics": {http.MethodGet}} // by path
	for _, route := range []struct {
		method, path string
		handle       handler
		bounds       bounds
	}{
		{http.MethodPost, "/api/agents/register", a.register, bounds{}},
		{http.MethodPost, "/api/agents/heartbeat", a.heartbeat, bounds{}},
		{http.MethodGet, "/api/agents", a.listAgents, bounds{}},
		{http.MethodGet, "/api/agents/{id}", a.getAgent, bounds{}},
		{http.MethodGet, "/api/nodes", a.listNodes, bounds{}},
		{http.MethodGet, "/api/feed", a.feed, bounds{}},
		{http.MethodGet, "/api/health", a.health, bounds{}},
		{http.MethodGet, "/livez", a.live, bounds{}},
		{http.MethodGet, "/readyz", a.ready, bounds{}},
		{http.MethodPost, "/api/txn", a.txn, bounds{txnjson.MaxBytes, txn.MaxTimeout + a.limit}},
		{http.MethodGet, "/api/concepts/{id}", a.getConcept, bounds{}},
	} {
		pattern := route.method + " " + route.path
		mux.Handle(pattern, a.handler(pattern, route.handle, route.bounds))
		allowed[route.path] = append(allowed[route.path], route.method)
	}
	mux.Handle("GET /metrics", a.metrics)
	rest := http.NewServeMux() // knows paths alone: beside patterns with methods they would be ambiguous
	for path, methods := range allowed {
		rest.Handle(path, a.wrongMethod(methods))
	}
	mux.Handle("/", rest)
	rest.Handle("/", a.handler("other", func(_ context.Context, r *http.Request) (reply, error) {
		return reply{}, &event.Error{Kind: event.KindNotFound, Message: fmt.Sprintf("no route %s %s", r.Method, r.URL.Path)}
	}, bounds{}))
	return mux
}

// wrongMethod answers the methods a path does not know; GET brings HEAD with it.
func (a *api) wrongMethod(methods []string) http.Handler {
	if slices.Contains(methods, http.MethodGet) {
		methods = append(methods, http.MethodHead)
	}
	slices.Sort(methods)
	allow := strings.Join(methods, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		message := fmt.Sprintf("%s does not take %s", r.URL.Path, r.Method)
		writeReply(w, reply{status: http.StatusMethodNotAllowed, body: errorBody{Error: message, Code: event.KindUnsupported, Hint: "use " + allow}})
		a.stats.served("other", http.StatusMethodNotAllowed, 0)
	})
}

func (a *api) handler(route string, handle handler, b bounds) http.Handler {
	limit := cmp.Or(b.time, a.limit)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, cmp.Or(b.body, maxHTTPBody))
		begin := time.Now()
		if b.time > 0 { // the server's own are for the other routes; what cannot be set stays as it is
			c := http.NewResponseController(w)
			_ = c.SetReadDeadline(begin.Add(limit))
			_ = c.SetWriteDeadline(begin.Add(2 * limit))
		}
		rep, err := handle(ctx, r)
		if err != nil {
			rep = failure(err)
		}
		writeReply(w, rep)
		a.stats.served(route, rep.status, time.Since(begin))
	})
}

func writeReply(w http.ResponseWriter, rep reply) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if rep.Seq > 0 || rep.Epoch > 0 {
		h.Set("X-Grid-Seq", strconv.FormatUint(rep.Seq, 10))
		h.Set("X-Grid-Epoch", strconv.FormatUint(rep.Epoch, 10))
	}
	if rep.ReadMode != "" {
		h.Set("X-Grid-Read-Mode", rep.ReadMode)
	}
	if _, none := rep.body.(ageless); rep.ReadMode == transport.Stale && !none {
		h.Set("X-Grid-Age-Ms", strconv.FormatUint(rep.AgeMillis, 10))
	}
	if rep.Term > 0 {
		h.Set("X-Grid-Term", strconv.FormatUint(rep.Term, 10))
	}
	if rep.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	body, err := json.Marshal(rep.body)
	if err != nil {
		rep.status, body = http.StatusInternalServerError, []byte(`{"error":"the reply could not be encoded","code":"internal","hint":""}`)
	}
	w.WriteHeader(rep.status)
	w.Write(append(body, '\n')) // a client that is gone needs no answer
}

type registerBody struct {
	AgentID         event.AgentID     `json:"agent_id"`
	Hostname        string            `json:"hostname"`
	Platform        string            `json:"platform"`
	MaxStorageNodes uint32            `json:"max_storage_nodes"`
	Version         string            `json:"version"`
	AgentEndpoint   string            `json:"agent_endpoint"`
	Zone            string            `json:"zone"`
	Labels          map[string]string `json:"labels"`
}

func (a *api) register(ctx context.Context, r *http.Request) (reply, error) {
	var b registerBody
	if err := readJSON(r.Body, &b); err != nil {
		return reply{}, err
	}
	c, err := a.core(ctx)
	if err != nil {
		return reply{}, err
	}
	answer, err := c.agents.Register(ctx, &transport.RegisterAgent{AgentID: b.AgentID, Hostname: b.Hostname, Platform: b.Platform,
		AgentEndpoint: b.AgentEndpoint, MaxStorageNodes: b.MaxStorageNodes, Version: b.Version, Zone: b.Zone, Labels: b.Labels}, "http")
	if err != nil {
		return reply{}, err
	}
	con := contract{Seq: answer.Seq, Epoch: answer.Epoch.Seq}
	return reply{http.StatusOK, struct {
		AgentID event.AgentID `json:"agent_id"`
		GridID  string        `json:"grid_id"`
		contract
	}{b.AgentID, c.founding.GridID, con}, con}, nil
}

// heartbeatBody has a timestamp, which nothing is decided by: health is the leader's own clock (safety S17).
type heartbeatBody struct {
	AgentID          event.AgentID   `json:"agent_id"`
	StorageNodeCount uint32          `json:"storage_node_count"`
	Timestamp        json.RawMessage `json:"timestamp"`
	Load             event.Load      `json:"load"`
}

func (a *api) heartbeat(ctx context.Context, r *http.Request) (reply, error) {
	var b heartbeatBody
	if err := readJSON(r.Body, &b); err != nil {
		return reply{}, err
	}
	c, err := a.core(ctx)
	if err != nil {
		return reply{}, err
	}
	answer, err := c.agents.Heartbeat(ctx, &transport.Heartbeat{AgentID: b.AgentID, StorageNodeCount: b.StorageNodeCount, Load: b.Load}, "http")
	if err != nil {
		return reply{}, err
	}
	con := contract{Seq: answer.Seq, Epoch: answer.Epoch.Seq}
	return reply{http.StatusOK, struct {
		AgentID event.AgentID `json:"agent_id"`
		contract
	}{b.AgentID, con}, con}, nil
}

func (a *api) listAgents(ctx context.Context, r *http.Request) (reply, error) {
	c, want, err := a.reading(ctx, r)
	if err != nil {
		return reply{}, err
	}
	ok, err := c.agents.List(ctx, want)
	if err != nil {
		return reply{}, err
	}
	con := contract{ok.Seq, ok.Epoch.Seq, ok.Read}
	return reply{http.StatusOK, struct {
		Agents []transport.AgentRecord `json:"agents"`
		contract
	}{ok.Agents, con}, con}, nil
}

func (a *api) listNodes(ctx context.Context, r *http.Request) (reply, error) {
	c, want, err := a.reading(ctx, r)
	if err != nil {
		return reply{}, err
	}
	ok, err := c.agents.Nodes(ctx, want)
	if err != nil {
		return reply{}, err
	}
	con := contract{ok.Seq, ok.Epoch.Seq, ok.Read}
	return reply{http.StatusOK, struct {
		Nodes []transport.NodeRecord `json:"nodes"`
		contract
	}{ok.Nodes, con}, con}, nil
}

func (a *api) getAgent(ctx context.Context, r *http.Request) (reply, error) {
	c, want, err := a.reading(ctx, r)
	if err != nil {
		return reply{}, err
	}
	ok, err := c.agents.Get(ctx, event.AgentID(r.PathValue("id")), want)
	if err != nil {
		return reply{}, err
	}
	con := contract{ok.Seq, ok.Epoch.Seq, ok.Read}
	return reply{http.StatusOK, struct {
		transport.AgentRecord
		contract
	}{ok.Agent, con}, con}, nil
}

// health answers 200 only when this master can serve; the body has the same shape either way.
func (a *api) health(ctx context.Context, r *http.Request) (reply, error) {
	want, err := readingOf(r.URL.Query())
	if err != nil {
		return reply{}, err
	}
	s, err := a.status(ctx, want)
	if err != nil {
		return reply{}, err
	}
	return reply{healthCode(s), s, contract{s.Seq, s.Epoch, transport.Read{ReadMode: s.ReadMode, AgeMillis: s.AgeMillis, Term: s.Term}}}, nil
}

func healthCode(s *transport.ClusterStatus) int {
	if s.Status != statusOK {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// probe is the body of the routes for supervisors.
type probe struct {
	Status string `json:"status"`
}

// live answers as long as the process can: whoever restarts it otherwise would not help a grid without a majority.
func (a *api) live(context.Context, *http.Request) (reply, error) {
	return reply{status: http.StatusOK, body: probe{statusOK}}, nil
}

// ready answers 200 when this master can serve a linearizable read.
func (a *api) ready(ctx context.Context, _ *http.Request) (reply, error) {
	s, err := a.status(ctx, transport.Reading{})
	if err != nil {
		return reply{}, err
	}
	return reply{status: healthCode(s), body: probe{s.Status}}, nil
}

// reading is the serving master and how fresh the answer is to be.
func (a *api) reading(ctx context.Context, r *http.Request) (*core, transport.Reading, error) {
	want, err := readingOf(r.URL.Query())
	if err != nil {
		return nil, want, err
	}
	c, err := a.core(ctx)
	return c, want, err
}

// readingOf reads ?consistency=linearizable|leader|stale&max_staleness=2s&min_seq=N. A bound too small or too large for
// milliseconds is refused rather than rounded.
func readingOf(q url.Values) (transport.Reading, error) {
	want := transport.Reading{Consistency: q.Get("consistency")}
	if text := q.Get("max_staleness"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Millisecond || d.Milliseconds() > math.MaxUint32 {
			return want, &event.Error{Kind: event.KindInvalid, Message: fmt.Sprintf("max_staleness %.20q: want a duration from 1ms, for example 2s", text)}
		}
		want.MaxStalenessMillis = uint32(d.Milliseconds())
	}
	if text := q.Get("min_seq"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return want, &event.Error{Kind: event.KindInvalid, Message: fmt.Sprintf("min_seq %.20q: want the seq of an event", text)}
		}
		want.MinSeq = n
	}
	return want, want.Validate()
}

// readAll reads a body, which has its bound.
func readAll(body io.Reader) ([]byte, error) {
	data, err := io.ReadAll(body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &event.Error{Kind: event.KindTooLarge, Message: fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)}
	case err != nil:
		return nil, &event.Error{Kind: event.KindInvalid, Message: fmt.Sprintf("read the body: %v", err)}
	}
	return data, nil
}

func readJSON(body io.Reader, into any) error {
	data, err := readAll(body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return &event.Error{Kind: event.KindInvalid, Message: fmt.Sprintf("the body is not the JSON this route takes: %v", err)}
	}
	return nil
}
