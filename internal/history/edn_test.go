package history

import (
	"strings"
	"testing"
)

func TestWriteEDN(t *testing.T) {
	in := `{"at":10,"call":1,"type":"invoke","client":3,"ops":[{"learn_association":{"source":"l","target":"e1"}},{"read_neighbors":{"id":"l"}}]}
{"at":20,"call":2,"type":"invoke","client":4,"ops":[{"add":{"id":"a","key":"k","delta":1}}]}
{"at":30,"call":1,"type":"ok","results":[{},{"neighbors":["e1","e2"]}]}
`
	want := `{:index 0, :process 3, :type :invoke, :f :txn, :value [[:append "l" "e1"] [:r "l" nil]], :time 10}
{:index 1, :process 4, :type :invoke, :f :txn, :value [[:add "a"]], :time 20}
{:index 2, :process 3, :type :ok, :f :txn, :value [[:append "l" "e1"] [:r "l" ["e1" "e2"]]], :time 30}
{:index 3, :process 4, :type :info, :f :txn, :value [[:add "a"]], :time 30}
`
	var out strings.Builder
	if err := WriteEDN(&out, strings.NewReader(in)); err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
	if err := WriteEDN(&out, strings.NewReader("{")); err != nil {
		t.Errorf("a history that was cut off: %v", err)
	}
	if err := WriteEDN(&out, strings.NewReader("{\n")); err == nil {
		t.Error("it is no history")
	}
}
