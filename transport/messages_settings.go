package transport

import "github.com/sutra-grid/sutra-grid/fsm/event"

// The replicated settings, spoken on a master's grid port; they are written by Propose of a setting_changed.
type (
	// GetSetting is a linearizable read of one setting.
	GetSetting struct {
		Key string `wire:"key"`
		Reading
	}
	// GetSettingOk answers GetSetting. A write may be made conditional on Version: setting_changed with Version + 1 is refused
	// (KindConflict) when there was another one since.
	GetSettingOk struct {
		Value   string         `wire:"value"`
		Version uint64         `wire:"version"` // one more with each change; 0: it was never set
		Seq     uint64         `wire:"seq"`
		Epoch   event.Position `wire:"epoch"`
		Read
	}
)
