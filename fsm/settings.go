package fsm

import (
	"strconv"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// The settings that the state machine itself obeys; all are whole numbers.
const (
	// SettingRequestsMax bounds the request table: ids.
	SettingRequestsMax = "requests.max"
	// SettingRequestsKeep is how long a request id is remembered: seconds of log time.
	SettingRequestsKeep = "requests.keep_seconds"
	// SettingFeedQuota is what the outbox may hold: MiB.
	SettingFeedQuota = "feed.quota_mb"
)

const (
	maxSettings     = 1 << 10
	maxSettingKey   = 128
	maxSettingValue = 4 << 10
	maxTypes        = 1 << 16
	firstType       = 1000 // number of the first association type that is not of the Sutra protocol
)

// bound is the default and the range of a setting.
type bound struct{ standard, low, high uint64 }

// bounds of the settings above. A request table of 2^20 takes about 250 MiB; 16 is for tests of what forgetting means.
var bounds = map[string]bound{
	SettingRequestsMax:  {1 << 20, 16, 1 << 22},
	SettingRequestsKeep: {600, 60, 86_400},
	SettingFeedQuota:    {8 << 10, 1, 1 << 24},
}

// limits are the settings above, read once, and a bound that tests lower.
type limits struct {
	openTxns int
	requests int
	keep     int64  // µs
	quota    uint64 // bytes
}

func limitsOf(s *State) limits {
	read := func(key string) uint64 {
		if v := s.settings.get(key); v != nil {
			if n, err := strconv.ParseUint(v.Value, 10, 64); err == nil {
				return n
			}
		}
		return bounds[key].standard
	}
	return limits{
		openTxns: maxOpenTxns,
		requests: int(read(SettingRequestsMax)),
		keep:     int64(read(SettingRequestsKeep)) * 1e6,
		quota:    read(SettingFeedQuota) << 20,
	}
}

func decideSettingChanged(s *State, _ *event.Command, b event.SettingChanged) verdict {
	const op = "change setting"
	if bad := badID(b.Key); bad != "" || len(b.Key) > maxSettingKey {
		return refuse(event.KindInvalid, op, "key %q: %s", b.Key, bad)
	}
	if len(b.Value) > maxSettingValue {
		return refuse(event.KindTooLarge, op, "%s: %d bytes, want at most %d", b.Key, len(b.Value), maxSettingValue)
	}
	if lim, ours := bounds[b.Key]; ours {
		if n, err := strconv.ParseUint(b.Value, 10, 64); err != nil || n < lim.low || n > lim.high {
			return refuse(event.KindInvalid, op, "%s is %q: want a whole number from %d to %d", b.Key, b.Value, lim.low, lim.high)
		}
	}
	_, version := s.Setting(b.Key)
	if version == 0 && s.settings.len() >= maxSettings {
		return refuse(event.KindRefused, op, "%s: there are %d settings, the limit", b.Key, maxSettings)
	}
	if b.Version != 0 && b.Version != version+1 {
		v := refuse(event.KindConflict, op, "%s is at version %d: read it and try again", b.Key, version)
		v.value = version
		return v
	}
	b.Version = version + 1
	v := accept(b)
	v.value = b.Version
	return v
}

func evolveSettingChanged(s *State, _ *event.Envelope, b event.SettingChanged) error {
	s.settings.set(b.Key, Setting{Key: b.Key, Value: b.Value, Version: b.Version})
	s.limits = limitsOf(s)
	return nil
}

// protocolTypes are the association types of the Sutra protocol; their numbers are fixed.
var protocolTypes = map[string]uint32{"semantic": 0, "causal": 1, "temporal": 2, "hierarchical": 3, "compositional": 4}

// decideAssociationTypeAdded: Answer.Value is the name's number, new or not.
func decideAssociationTypeAdded(s *State, _ *event.Command, b event.AssociationTypeAdded) verdict {
	const op = "name association type"
	if b.Name == "" || len(b.Name) > maxID {
		return refuse(event.KindInvalid, op, "%q: want a name of 1 to %d bytes", b.Name, maxID)
	}
	if n, ok := s.AssociationType(b.Name); ok {
		return verdict{value: uint64(n)}
	}
	if s.types.len() >= maxTypes {
		return refuse(event.KindRefused, op, "%q: there are %d names, the limit", b.Name, maxTypes)
	}
	next := uint32(firstType + s.types.len())
	if b.Number != 0 && b.Number != next {
		return refuse(event.KindConflict, op, "%q: the next number is %d", b.Name, next)
	}
	b.Number = next
	v := accept(b)
	v.value = uint64(next)
	return v
}

func evolveAssociationTypeAdded(s *State, _ *event.Envelope, b event.AssociationTypeAdded) error {
	s.types.set(b.Name, AssociationType{Name: b.Name, Number: b.Number})
	return nil
}
