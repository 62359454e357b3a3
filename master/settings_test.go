package master

import (
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestSettings: a setting is read at every master as it was written last, and a write may depend on what was read.
func TestSettings(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	leader, followers := c.leader()
	if got := must[transport.GetSettingOk](c, leader, &transport.GetSetting{Key: "k"}); got.Version != 0 || got.Value != "" {
		t.Errorf("never set: %+v", got)
	}
	for n, id := range append(followers, leader) {
		version := uint64(n + 1)
		wrote := must[transport.ProposeOk](c, id, proposeOf(t, event.SettingChanged{Key: "k", Value: string(id), Version: version}))
		if wrote.Value != version || wrote.Seq == 0 {
			t.Errorf("%s: written as %+v, want version %d", id, wrote, version)
		}
		for _, at := range c.ids() {
			got := must[transport.GetSettingOk](c, at, &transport.GetSetting{Key: "k"})
			if got.Value != string(id) || got.Version != version || got.Seq < wrote.Seq || got.ReadMode != transport.Linearizable || got.Term == 0 {
				t.Errorf("%s reads %+v after %s was written as version %d at %d", at, got, id, version, wrote.Seq)
			}
		}
		_, err := ask[transport.ProposeOk](c, id, proposeOf(t, event.SettingChanged{Key: "k", Value: "late", Version: version}))
		wantKind(t, err, event.KindConflict)
	}
}
