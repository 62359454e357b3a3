package master

import (
	"strings"
	"testing"
)

func TestParsePeers(t *testing.T) {
	for _, tt := range []struct{ name, in, want, err string }{
		{"one", "master-1=h:1/2/3", "master-1=h:1/h:2/h:3", ""},
		{"sorted, spaces", " b=h:4/5/6, a=h:1/2/3 ", "a=h:1/h:2/h:3,b=h:4/h:5/h:6", ""},
		{"IPv6", "a=[::1]:1/2/3", "a=[::1]:1/[::1]:2/[::1]:3", ""},
		{"different hosts", "a=h:1/i:2/j:3", "a=h:1/i:2/j:3", ""},
		{"no id", "h:1/2/3", "", "no id"},
		{"too few ports", "a=h:1/2", "", "2 ports instead of 3"},
		{"no port", "a=h/2/3", "", "missing port"},
		{"every fault is named", "a=h:1/2,b=h/2/3", "", "missing port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParsePeers(tt.in)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.String() != tt.want {
				t.Errorf("got %s, want %s", p, tt.want)
			}
			again, err := ParsePeers(p.String())
			if err != nil || again.String() != tt.want {
				t.Errorf("its canonical form reads back as %s, %v", again, err)
			}
		})
	}
}

func TestValidateReportsEverything(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ID, cfg.Bootstrap, cfg.Join = "master-9", true, true
	cfg.Peers, _ = ParsePeers("a=h:1/2/3,a=h:1/5/6")
	cfg.Shards, cfg.Replicas, cfg.EventSink = 2000, 2, "nowhere"
	cfg.Limits.Offline = cfg.Limits.Degraded
	err := cfg.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"2 masters listed", "bootstrap, join: both given", "a is listed twice", "both use h:1", "master-9 is not in the list",
		"data: empty", "shards: 2000; want 1 to 1023", "replicas: 2; want 1, 3 or 5", `event-sink: "nowhere"`, "limits.offline: 15s"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in:\n%v", want, err)
		}
	}
}

// FuzzParsePeers: what is accepted has a canonical form that means the same.
func FuzzParsePeers(f *testing.F) {
	for _, seed := range []string{"", "master-1=h:1/2/3", "b=h:4/5/6, a=h:1/2/3", "a=[::1]:1/2/3", "a=h:1/i:2/j:3", "a=h:1/2", "=h:1/2/3", "a==:/:/:", "0=:/]/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePeers(s)
		if err != nil {
			return
		}
		again, err := ParsePeers(p.String())
		if err != nil || again.String() != p.String() {
			t.Errorf("%q is %q, which reads as %q, %v", s, p, again, err)
		}
	})
}
