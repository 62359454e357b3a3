package episode

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/workload"
	"github.com/sutra-grid/sutra-grid/internal/history"
)

// judgeFault applies the rules on one fault, which lasted from shown.Began to end and was healed a moment later.
func (r *run) judgeFault(shown *Shown, end, healed time.Time) {
	switch {
	case shown.Proof.Count > 0:
	case shown.Kind == rig.KindPoint:
		r.v.NotMet = append(r.v.NotMet, fmt.Sprintf("%s: no process came to %s", shown.Kind, shown.Label))
	default:
		r.found(RuleProof, shown.Name(), shown.Began, "nothing shows that the fault had an effect")
	}
	began := r.begun.Add(shown.Began)
	if end.Sub(began) < LeastTime {
		end = began.Add(LeastTime)
	}
	for _, l := range r.loads {
		ok, all := l.Tally().Window(began, end)
		shown.OK, shown.All = shown.OK+ok, shown.All+all
	}
	// What happens meanwhile to a fault under all others may leave no majority.
	if shown.Hold > 0 && r.majority(shown.Kind) && shown.All >= LeastJudged && float64(shown.OK) < LeastShare*float64(shown.All) {
		r.found(RuleOperations, shown.Name(), shown.Began, "%d of %d operations succeeded while a majority was there; want %.0f %%", shown.OK, shown.All, 100*LeastShare)
	}
	if shown.Back = r.back(healed); shown.Back < 0 || shown.Back > RecoveryLimit {
		r.found(RuleRecovery, shown.Name(), shown.Healed, "the first success came %s after everything ran again; want at most %s", shown.Back, RecoveryLimit)
	}
}

// majority tells whether a fault leaves a majority of all that operations need. A shard of one voter has none without its node.
func (r *run) majority(k rig.Kind) bool {
	spec, err := rig.Lookup(k)
	return err == nil && spec.Majority && (r.plan.Replicas > 1 || !spec.Kind.MeetsNodes())
}

// judge applies the rules on the whole run, the checkers among them.
func (r *run) judge() error {
	for _, l := range r.loads {
		ok, failed, unknown := l.Tally().Counts()
		r.v.OK, r.v.Failed, r.v.Unknown = r.v.OK+ok, r.v.Failed+failed, r.v.Unknown+unknown
		log, reports, err := Check(r.history(l.id))
		if err != nil {
			return fmt.Errorf("check %s: %w", l.id, err)
		}
		l.log = log
		r.judgeReports(l.id, reports)
	}
	r.v.Timeline = r.timeline()
	if r.v.OK < LeastOK {
		r.found(RuleOperations, "", 0, "%d operations succeeded; want %d to judge by", r.v.OK, LeastOK)
	}
	happened := func(s Shown) bool { return s.Proof.Count > 0 }
	if len(r.v.NotMet) > 0 && !slices.ContainsFunc(r.v.Faults, happened) {
		r.found(RuleProof, "", 0, "no fault has met anybody: %s", strings.Join(r.v.NotMet, "; "))
	}
	for _, line := range r.grid.Trouble() {
		r.found(RuleTrouble, "", 0, "%s", line)
	}
	return nil
}

func (r *run) judgeReports(of string, reports []history.Report) {
	r.v.Checkers = append(r.v.Checkers, reports...)
	for _, report := range reports {
		for _, a := range report.Anomalies {
			r.found(RuleCheckers, string(a.Class), 0, "%s, %s: %s", of, report.Checker, a.Text)
		}
	}
}

// Check judges a stored history by the workloads that it says it is of.
func Check(path string) (*history.Log, []history.Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	log, err := history.ReadLog(f)
	if err != nil {
		return nil, nil, err
	}
	reports, err := workload.Check(log)
	return log, reports, err
}
