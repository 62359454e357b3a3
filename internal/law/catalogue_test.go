package law

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// proof says for one event type which test makes the real thing happen and sees the event, or why nothing produces it yet.
type proof struct {
	test   string // folder.TestName
	notYet string
}

const (
	sim    = "internal/sim"
	noMove = "shards do not move or split by themselves yet, and agents are not drained"
)

// proofs has every type of the catalogue.
var proofs = map[event.Type]proof{
	event.TypeAgentRegistered:   {test: sim + ".TestOnce"},
	event.TypeAgentHeartbeat:    {test: sim + ".TestASilentAgentAndWhatFollows"},
	event.TypeAgentDegraded:     {test: sim + ".TestASilentAgentAndWhatFollows"},
	event.TypeAgentOffline:      {test: sim + ".TestASilentAgentAndWhatFollows"},
	event.TypeAgentRecovered:    {test: sim + ".TestASilentAgentAndWhatFollows"},
	event.TypeAgentUnregistered: {test: sim + ".TestOnce"},

	event.TypeSpawnRequested: {test: sim + ".TestFormationHasCauses"},
	event.TypeSpawnSucceeded: {test: sim + ".TestFormationHasCauses"},
	event.TypeSpawnFailed:    {test: "agent.TestFailedStart"},
	event.TypeStopRequested:  {notYet: "no command takes a node away, and placement keeps the ones it has"},
	event.TypeStopSucceeded:  {notYet: "agents report it; nothing asks them to stop a node yet"},
	event.TypeStopFailed:     {notYet: "agents report it; nothing asks them to stop a node yet"},
	event.TypeNodeCrashed:    {test: sim + ".TestACrashAndWhatFollows"},
	event.TypeNodeRestarted:  {test: sim + ".TestACrashAndWhatFollows"},

	event.TypeClusterHealthy:  {test: sim + ".TestACrashAndWhatFollows"},
	event.TypeClusterDegraded: {test: sim + ".TestACrashAndWhatFollows"},
	event.TypeClusterCritical: {test: sim + ".TestAQuorumIsLostAndRestored"},

	event.TypeStorageMetrics:           {test: "storagenode.TestStorageMetrics"},
	event.TypeQueryPerformance:         {test: "storagenode.TestQueryPerformance"},
	event.TypeEmbeddingLatency:         {test: "storagenode.TestEmbeddingEvents"},
	event.TypeHNSWIndexBuilt:           {test: "storagenode.TestHNSWIndexEvents"},
	event.TypeHNSWIndexLoaded:          {test: "storagenode.TestHNSWIndexEvents"},
	event.TypePathfindingMetrics:       {test: "storagenode.TestPathfindingMetrics"},
	event.TypeReconciliationComplete:   {test: "storagenode.TestReconciliationComplete"},
	event.TypeCrossShardQuery:          {notYet: "masters do not sample the queries that they spread over shards yet"},
	event.TypeRebalanceProgress:        {notYet: noMove},
	event.TypeEmbeddingServiceHealthy:  {test: "storagenode.TestEmbeddingEvents"},
	event.TypeEmbeddingServiceDegraded: {test: "storagenode.TestEmbeddingEvents"},

	event.TypeShardMapCreated:    {test: "master.TestFoundingEvents"},
	event.TypeReplicaAssigned:    {test: sim + ".TestAReplicaIsReplaced"},
	event.TypeReplicaPromoted:    {test: sim + ".TestAReplicaIsReplaced"},
	event.TypeReplicaRemoved:     {test: sim + ".TestADeadReplicaIsRemoved"},
	event.TypeShardLeaderChanged: {test: sim + ".TestACrashAndWhatFollows"},
	event.TypeShardMoveStarted:   {notYet: noMove},
	event.TypeShardMoveFinished:  {notYet: noMove},
	event.TypeShardMoveAborted:   {notYet: noMove},
	event.TypeShardSplitStarted:  {notYet: noMove},
	event.TypeShardSplitFinished: {notYet: noMove},
	event.TypeShardSplitAborted:  {notYet: noMove},
	event.TypeShardQuorumLost:    {test: sim + ".TestAQuorumIsLostAndRestored"},
	event.TypeShardQuorumBack:    {test: sim + ".TestAQuorumIsLostAndRestored"},
	event.TypeShardFormed:        {test: sim + ".TestFormationHasCauses"},
	event.TypeReplicaReaddressed: {test: "master.TestAMasterMoves"},
	event.TypeShardLost:          {notYet: "no command declares a shard lost"},
	event.TypeShardCreated:       {test: sim + ".TestFormationHasCauses"},

	event.TypeTxnCommitted: {test: "master/txn.TestCommitOverTwoShards"},
	event.TypeTxnAborted:   {test: "master/txn.TestInquiryAgainstASlowCommit"},
	event.TypeTxnCompleted: {test: "master/txn.TestCommitOverTwoShards"},

	event.TypeMasterJoined:       {test: "master.TestFoundingEvents"},
	event.TypeMasterLeft:         {test: "master.TestAMasterJoinsAndTheLeaderIsRemoved"},
	event.TypeLeaderElected:      {test: "master.TestLeaderLost"},
	event.TypeStateChecked:       {test: "master.TestAnImpureReplicaLeaves"},
	event.TypeMasterUnreachable:  {test: sim + ".TestALostMasterAndWhatFollows"},
	event.TypeMasterRecovered:    {test: sim + ".TestALostMasterAndWhatFollows"},
	event.TypeLevelRaised:        {test: "master.TestLevelRises"},
	event.TypeIncarnationStarted: {test: "master.TestFoundingEvents"},
	event.TypeClockSkew:          {test: "master.TestALeaderWhoseClockJumps"},

	event.TypeFeedAcked:    {test: "master/feed.TestLostAcknowledgement"},
	event.TypeFeedRewound:  {test: "master.TestASinkLosesItsData"},
	event.TypeFeedGap:      {notYet: "a sink that needs trimmed events is refused, not filled up"},
	event.TypeSinkAdded:    {test: "master.TestFoundingEvents"},
	event.TypeSinkRemoved:  {test: "master/feed.TestSinksComeAndGo"},
	event.TypeEventsFolded: {notYet: "spools refuse when they are full; nothing is folded"},

	event.TypeAgentDrainStarted:   {notYet: noMove},
	event.TypeAgentDrainFinished:  {notYet: noMove},
	event.TypeAgentDrainCancelled: {notYet: noMove},
	event.TypeBinaryPublished:     {notYet: "there is no binary registry"},
	event.TypeBinaryRetired:       {notYet: "there is no binary registry"},
	event.TypeTokenCreated:        {notYet: "there are no tokens"},
	event.TypeTokenRevoked:        {notYet: "there are no tokens"},

	event.TypeSettingChanged:       {test: sim + ".TestOnce"},
	event.TypeAssociationTypeAdded: {test: sim + ".TestOnce"},
	event.TypeBackupCut:            {notYet: "there is no backup"},
}

// TestEveryEventIsProved: each type of the catalogue names a test that exists, or says why there is none; a type that can be in the log
// and has no test is one that agents or tools report and nothing yet brings about.
func TestEveryEventIsProved(t *testing.T) {
	tests := map[string]map[string]string{}
	for _, typ := range event.Types() {
		p, listed := proofs[typ]
		switch {
		case !listed:
			t.Errorf("%s: say in proofs which test makes it happen, or why nothing does", typ)
		case (p.test == "") == (p.notYet == ""):
			t.Errorf("%s: want either a test or a reason", typ)
		case p.test != "" && !event.Info(typ).Emitted:
			t.Errorf("%s is not emitted, and %s is said to see it", typ, p.test)
		}
		if p.test == "" {
			continue
		}
		dot := strings.LastIndexByte(p.test, '.')
		folder, name := p.test[:dot], p.test[dot+1:]
		if tests[folder] == nil {
			tests[folder] = testsIn(t, folder)
		}
		switch source, exists := tests[folder][name]; {
		case !exists:
			t.Errorf("%s: there is no test %s in %s", typ, name, folder)
		case !strings.Contains(source, typ.String()) && !strings.Contains(source, camel(typ.String())):
			t.Errorf("%s: the file of %s does not speak of it", typ, p.test)
		}
	}
	if len(proofs) != len(event.Types()) {
		t.Errorf("%d proofs for %d types", len(proofs), len(event.Types()))
	}
}

// camel is a type's name as Go code has it.
func camel(snake string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(snake, "_") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

// testsIn lists the test functions of a folder, each with the text of its file.
func testsIn(t *testing.T, folder string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", folder, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d test files, %v", folder, len(files), err)
	}
	names := map[string]string{}
	for _, name := range files {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, is := d.(*ast.FuncDecl); is && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				names[fn.Name.Name] = string(source)
			}
		}
	}
	return names
}
