package episode

import (
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/internal/history"
)

// Verdict is what a run has shown.
type Verdict struct {
	Plan     Plan             `json:"plan"`
	Version  string           `json:"version"` // of the suite; the programs are its own build, unless it was given others
	Began    time.Time        `json:"began"`   // of the rig's clock
	Took     time.Duration    `json:"took"`    // ns of the rig's clock
	Valid    bool             `json:"valid"`
	Findings []Finding        `json:"findings"` // why it is not valid
	Faults   []Shown          `json:"faults"`
	NotMet   []string         `json:"not_met,omitempty"` // faults that the load gave no occasion to; of them all one at least must have happened
	Checkers []history.Report `json:"checkers"`
	OK       int              `json:"ok"`
	Failed   int              `json:"failed"`
	Unknown  int              `json:"unknown"`
	Timeline []Bucket         `json:"timeline"`
	Usage    []Sample         `json:"usage"`
	Again    string           `json:"again"` // the command that runs the plan once more

	// Trace is a fingerprint of all deliveries, faults and operations with their virtual times; empty in rig P. With Repeats it is the same
	// each time the plan is run by the same program.
	Trace   string `json:"trace,omitempty"`
	Repeats bool   `json:"repeats,omitempty"`

	Wrote   []string `json:"wrote,omitempty"`    // what all that the run has left on the grid is called
	LeftOut []string `json:"left_out,omitempty"` // what could not be judged on a grid that others use, and why
}

// Rule names what a run must satisfy.
type Rule string

// The rules.
const (
	RuleCheckers   Rule = "checkers"   // every checker is satisfied
	RuleOperations Rule = "operations" // enough succeeded to judge, in all and under each fault that leaves a majority
	RuleProof      Rule = "proof"      // every fault has shown its effect
	RuleRecovery   Rule = "recovery"   // the first success after a fault is healed comes in time
	RuleRest       Rule = "rest"       // once healed, the feed is shipped and nothing is in doubt in time
	RuleTrouble    Rule = "trouble"    // no panic, no race, no error that no fault explains
	RuleHarness    Rule = "harness"    // the suite itself failed
)

// Bounds of the rules.
const (
	LeastOK       = 500
	LeastShare    = 0.2              // of operations under a fault that leaves a majority
	LeastJudged   = 20               // operations under a fault that make a share
	LeastTime     = 3 * time.Second  // in which they are counted: a fail-over may take a second of it and more
	MoreTime      = 30 * time.Second // that the load lasts longer at most, for there to be LeastOK
	RecoveryLimit = 5 * time.Second
	RestLimit     = 15 * time.Second
)

// Finding is one reason why a run is not valid.
type Finding struct {
	Rule Rule          `json:"rule"`
	What string        `json:"what"`           // the class of an anomaly, or the fault; for rules on the whole, ""
	Text string        `json:"text"`           // for people
	When time.Duration `json:"when,omitempty"` // ns since the load began; 0: of the whole run
}

// Shown is a fault that has happened.
type Shown struct {
	rig.Fault
	Began  time.Duration `json:"began"`  // ns since the load began
	Healed time.Duration `json:"healed"` // ns since the load began: when everything runs again
	Proof  rig.Proof     `json:"proof"`
	OK     int           `json:"ok"`   // operations that succeeded while it lasted, or within LeastTime
	All    int           `json:"all"`  // and that ended
	Back   time.Duration `json:"back"` // ns from Healed to the first success
}

// Bucket is what happened in one stretch of the load.
type Bucket struct {
	At      time.Duration `json:"at"` // ns since the load began
	OK      int           `json:"ok"`
	Failed  int           `json:"failed"`
	Unknown int           `json:"unknown"`
	Median  time.Duration `json:"median"` // ns, of those that succeeded
	Worst   time.Duration `json:"worst"`
	Leader  string        `json:"leader"` // of the masters, when the stretch ended; "": none
}

// Sample is what processes used at one moment.
type Sample struct {
	At        time.Duration `json:"at"`
	Processes []rig.Usage   `json:"processes"`
}

// Classes is the classes of anomalies that were found, each once.
func (v *Verdict) Classes() []string {
	var out []string
	seen := map[string]bool{}
	for _, f := range v.Findings {
		name := f.What
		if f.Rule != RuleCheckers {
			name = string(f.Rule)
		}
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	return out
}

// LastUsage is what each process used when it was last asked.
func (v *Verdict) LastUsage() []rig.Usage {
	if len(v.Usage) == 0 {
		return nil
	}
	return v.Usage[len(v.Usage)-1].Processes
}

// lastOutput is how much of a process's output a verdict keeps: the beginning and the end.
const lastOutput = 64 << 10

// Ended is the verdict on a run whose process ended before it had one: of a panic, a deadlock, memory or time that ran out, or because
// the harness failed.
func Ended(p Plan, why error, output string, took time.Duration) *Verdict {
	if cut := len(output) - lastOutput; cut > 0 {
		output = fmt.Sprintf("%s\n… %d bytes …\n%s", output[:lastOutput/2], cut, output[len(output)-lastOutput/2:])
	}
	return &Verdict{Plan: p, Version: version(), Began: time.Now().Add(-took), Took: took, Findings: []Finding{{Rule: RuleHarness, Text: why.Error() + "\n" + output}}}
}
