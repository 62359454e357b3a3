package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// maxHTTPBody bounds a request's body: an agent's record is at most 64 KiB in the log, its JSON somewhat more.
const maxHTTPBody = 256 << 10

// api serves the HTTP routes of a master. Its replies state their contract in headers and body: seq, shard-map epoch, read mode.
type api struct {
	core    func(ctx context.Context) (*core, error) // the serving master, waited for while it starts
	status  func(ctx context.Context) *transport.ClusterStatus
	limit   time.Duration
	metrics http.Handler
	stats   *stats
}

// contract is what a reply holds for.
type contract struct {
	Seq      uint64 `json:"seq"`
	Epoch    uint64 `json:"epoch"`
	ReadMode string `json:"read_mode,omitempty"` // empty for writes
}

// reply is a handler's result: any JSON body under a status.
type reply struct {
	status int
	body   any
	contract
}

// routes is the one table of what HTTP answers.
func (a *api) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(ctx context.Context, r *http.Request) (reply, error){
		"POST /api/agents/register":  a.register,
		"POST /api/agents/heartbeat": a.heartbeat,
		"GET /api/agents":            a.listAgents,
		"GET /api/agents/{id}":       a.getAgent,
		"GET /api/health":            a.health,
	} {
		mux.Handle(pattern, a.handler(pattern, handle))
	}
	mux.Handle("GET /metrics", a.metrics)
	mux.Handle("/", a.handler("other", func(_ context.Context, r *http.Request) (reply, error) {
		return reply{}, &event.Error{Kind: event.KindNotFound, Message: fmt.Sprintf("no route %s %s", r.Method, r.URL.Path)}
	}))
	return mux
}

func (a *api) handler(route string, handle func(ctx context.Context, r *http.Request) (reply, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), a.limit)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, maxHTTPBody)
		begin := time.Now()
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
	if rep.Seq > 0 {
		h.Set("X-Grid-Seq", strconv.FormatUint(rep.Seq, 10))
		h.Set("X-Grid-Epoch", strconv.FormatUint(rep.Epoch, 10))
	}
	if rep.ReadMode != "" {
		h.Set("X-Grid-Read-Mode", rep.ReadMode)
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

func (a *api) listAgents(ctx context.Context, _ *http.Request) (reply, error) {
	c, err := a.core(ctx)
	if err != nil {
		return reply{}, err
	}
	ok, err := c.agents.List(ctx)
	if err != nil {
		return reply{}, err
	}
	con := contract{Seq: ok.Seq, Epoch: ok.Epoch.Seq, ReadMode: modeLinearizable}
	return reply{http.StatusOK, struct {
		Agents []transport.AgentRecord `json:"agents"`
		contract
	}{ok.Agents, con}, con}, nil
}

func (a *api) getAgent(ctx context.Context, r *http.Request) (reply, error) {
	c, err := a.core(ctx)
	if err != nil {
		return reply{}, err
	}
	ok, err := c.agents.Get(ctx, event.AgentID(r.PathValue("id")))
	if err != nil {
		return reply{}, err
	}
	con := contract{Seq: ok.Seq, Epoch: ok.Epoch.Seq, ReadMode: modeLinearizable}
	return reply{http.StatusOK, struct {
		transport.AgentRecord
		contract
	}{ok.Agent, con}, con}, nil
}

// health answers 200 only when this master can serve; the body has the same shape either way.
func (a *api) health(ctx context.Context, _ *http.Request) (reply, error) {
	s := a.status(ctx)
	code := http.StatusOK
	if s.Status != statusOK {
		code = http.StatusServiceUnavailable
	}
	return reply{code, s, contract{Seq: s.Seq, Epoch: s.Epoch, ReadMode: s.ReadMode}}, nil
}

func readJSON(body io.Reader, into any) error {
	data, err := io.ReadAll(body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &event.Error{Kind: event.KindTooLarge, Message: fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)}
	case err != nil:
		return &event.Error{Kind: event.KindInvalid, Message: fmt.Sprintf("read the body: %v", err)}
	}
	if err := json.Unmarshal(data, into); err != nil {
		return &event.Error{Kind: event.KindInvalid, Message: fmt.Sprintf("the body is not the JSON this route takes: %v", err)}
	}
	return nil
}
