package embed

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
)

const (
	testKey   = "sk-test-0123456789"
	testModel = "text-embedding-test"
)

// server behaves like the OpenAI embeddings service (platform.openai.com/docs/api-reference/embeddings), with vectors of the
// built-in embedder. Fields are set before the first request.
type server struct {
	*httptest.Server
	t       *testing.T
	hashing *Hashing
	before  func(w http.ResponseWriter, texts []string) (done bool)

	mu      sync.Mutex
	batches [][]string
}

func newServer(t *testing.T, dimension int) *server {
	s := &server{t: t, hashing: hashing(t, dimension)}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) seen() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.batches)
}

func apiError(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": message, "type": "invalid_request_error", "param": nil, "code": nil}})
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Model    string   `json:"model"`
		Input    []string `json:"input"`
		Encoding string   `json:"encoding_format"`
	}
	body, err := io.ReadAll(r.Body)
	switch {
	case r.URL.Path != "/v1/embeddings" || r.Method != http.MethodPost:
		apiError(w, http.StatusNotFound, "Invalid URL")
		return
	case r.Header.Get("Authorization") != "Bearer "+testKey:
		apiError(w, http.StatusUnauthorized, "Incorrect API key provided: "+r.Header.Get("Authorization"))
		return
	case err != nil || r.Header.Get("Content-Type") != "application/json" || json.Unmarshal(body, &q) != nil:
		apiError(w, http.StatusBadRequest, "We could not parse the JSON body of your request")
		return
	case q.Model != testModel:
		apiError(w, http.StatusNotFound, "The model does not exist")
		return
	case len(q.Input) == 0 || len(q.Input) > 2048 || slices.Contains(q.Input, "") || q.Encoding != "float":
		apiError(w, http.StatusBadRequest, "'$.input' is invalid")
		return
	}
	s.mu.Lock()
	s.batches = append(s.batches, q.Input)
	s.mu.Unlock()
	if s.before != nil && s.before(w, q.Input) {
		return
	}
	vectors, err := s.hashing.Embed(r.Context(), q.Input)
	if err != nil {
		s.t.Error(err)
	}
	writeVectors(w, vectors)
}

// writeVectors answers with the last vector first: the index says whose it is.
func writeVectors(w io.Writer, vectors [][]float32) {
	data := []any{}
	for i, v := range slices.Backward(vectors) {
		data = append(data, map[string]any{"object": "embedding", "index": i, "embedding": v})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"object": "list", "data": data, "model": testModel, "usage": map[string]int{"prompt_tokens": 1, "total_tokens": 1}})
}

func clientOf(t *testing.T, url string, change func(*Config)) *Endpoint {
	t.Helper()
	cfg := DefaultConfig()
	cfg.URL, cfg.Model, cfg.APIKey, cfg.Dimension, cfg.Instance = url, testModel, testKey, 16, "node-1"
	if change != nil {
		change(&cfg)
	}
	e, err := NewEndpoint(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}
