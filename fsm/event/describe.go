package event

import (
	"fmt"
	"strings"
)

// One sentence per emitted type, for people: gridctl, the console and answers to questions show them.

func describeAgentRegistered(e AgentRegistered) string {
	return fmt.Sprintf("%s registered from %s (%s, version %s), up to %s", e.AgentID, e.Hostname, e.Platform, e.Version, count(uint64(e.MaxStorageNodes), "node"))
}

func describeAgentHeartbeat(e AgentHeartbeat) string {
	return fmt.Sprintf("%s runs %s at %.0f %% CPU", e.AgentID, count(uint64(e.StorageNodeCount), "node"), e.Load.CPU*100)
}

func describeAgentDegraded(e AgentDegraded) string {
	return fmt.Sprintf("%s is degraded: no heartbeat for %.1f s", e.AgentID, e.SecondsSinceHeartbeat)
}

func describeAgentOffline(e AgentOffline) string {
	return fmt.Sprintf("%s is offline: its last heartbeat was at %s", e.AgentID, FormatTime(e.LastSeen))
}

func describeAgentRecovered(e AgentRecovered) string {
	return fmt.Sprintf("%s is back after %.1f s", e.AgentID, e.DowntimeSeconds)
}

func describeAgentUnregistered(e AgentUnregistered) string {
	return fmt.Sprintf("%s left the grid%s", e.AgentID, because(e.Reason))
}

func describeSpawnRequested(e SpawnRequested) string {
	return fmt.Sprintf("%s shall run on %s", e.NodeID, e.AgentID)
}

func describeSpawnSucceeded(e SpawnSucceeded) string {
	return fmt.Sprintf("%s runs on %s as pid %d at %s", e.NodeID, e.AgentID, e.PID, e.Endpoint)
}

func describeSpawnFailed(e SpawnFailed) string {
	return fmt.Sprintf("%s could not be started on %s%s", e.NodeID, e.AgentID, because(e.Error))
}

func describeStopRequested(e StopRequested) string {
	return fmt.Sprintf("%s on %s shall stop", e.NodeID, e.AgentID)
}

func describeStopSucceeded(e StopSucceeded) string {
	return fmt.Sprintf("%s on %s stopped", e.NodeID, e.AgentID)
}

func describeStopFailed(e StopFailed) string {
	return fmt.Sprintf("%s on %s did not stop%s", e.NodeID, e.AgentID, because(e.Error))
}

func describeNodeCrashed(e NodeCrashed) string {
	how := "exit code unknown"
	switch {
	case e.OOM:
		how = "out of memory"
	case e.Signal != "":
		how = "signal " + e.Signal
	case e.ExitCode != nil:
		how = fmt.Sprintf("exit code %d", *e.ExitCode)
	}
	return fmt.Sprintf("%s on %s crashed: %s", e.NodeID, e.AgentID, how)
}

func describeNodeRestarted(e NodeRestarted) string {
	return fmt.Sprintf("%s runs again on %s as pid %d (restart %d)", e.NodeID, e.AgentID, e.NewPID, e.RestartCount)
}

func describeClusterHealthy(e ClusterHealthy) string {
	return fmt.Sprintf("the cluster is healthy: %d of %s healthy, %d of %s running", e.HealthyAgents, count(uint64(e.TotalAgents), "agent"), e.RunningNodes, count(uint64(e.TotalNodes), "node"))
}

func describeClusterDegraded(e ClusterDegraded) string {
	return "the cluster is degraded" + because(e.Reason)
}

func describeClusterCritical(e ClusterCritical) string {
	return "the cluster is critical" + because(e.Reason)
}

func describeShardMapCreated(e ShardMapCreated) string {
	return fmt.Sprintf("the shard map has %s of %s each (%s)", count(uint64(e.Shards), "shard"), count(uint64(e.Replicas), "replica"), e.Strategy)
}

func describeShardCreated(e ShardCreated) string {
	nodes := make([]string, len(e.Voters))
	for i, v := range e.Voters {
		nodes[i] = string(v.NodeID)
	}
	return fmt.Sprintf("%s is to be formed on %s", e.ShardID, strings.Join(nodes, ", "))
}

func describeShardFormed(e ShardFormed) string {
	return fmt.Sprintf("%s is formed (term %d)", e.ShardID, e.Term)
}

func describeShardLeaderChanged(e ShardLeaderChanged) string {
	return fmt.Sprintf("%s leads %s in term %d", e.NodeID, e.ShardID, e.Term)
}

func describeShardQuorumLost(e ShardQuorumLost) string {
	return fmt.Sprintf("%s has lost its quorum: %d live, %d needed", e.ShardID, e.Live, e.Needed)
}

func describeShardQuorumRestored(e ShardQuorumRestored) string {
	return fmt.Sprintf("%s has its quorum again: %d live, %d needed", e.ShardID, e.Live, e.Needed)
}

func describeTxnCommitted(e TxnCommitted) string {
	return fmt.Sprintf("transaction %s committed on %s", e.TxnID, count(uint64(len(e.Shards)), "shard"))
}

func describeTxnAborted(e TxnAborted) string {
	what := "one attempt of transaction"
	if e.Final {
		what = "transaction"
	}
	return fmt.Sprintf("%s %s aborted%s", what, e.TxnID, because(e.Reason))
}

func describeTxnCompleted(e TxnCompleted) string {
	if len(e.TxnIDs) == 0 {
		return fmt.Sprintf("the transaction horizon moved to event %d", e.Horizon.Seq)
	}
	return fmt.Sprintf("%s finished on every shard", count(uint64(len(e.TxnIDs)), "transaction"))
}

func describeMasterJoined(e MasterJoined) string {
	return fmt.Sprintf("%s joined at %s as %s", e.MasterID, e.Address, e.Suffrage)
}

func describeMasterLeft(e MasterLeft) string {
	return fmt.Sprintf("%s left the masters", e.MasterID)
}

func describeReplicaReaddressed(e ReplicaReaddressed) string {
	return fmt.Sprintf("%s of %s moved from %s to %s", e.ReplicaID.Owner(), e.ShardID, e.OldAddress, e.Address)
}

func describeLeaderElected(e LeaderElected) string {
	if e.Previous == "" || e.Previous == e.MasterID {
		return fmt.Sprintf("%s leads in term %d", e.MasterID, e.Term)
	}
	return fmt.Sprintf("%s leads in term %d, after %s", e.MasterID, e.Term, e.Previous)
}

func describeMasterUnreachable(e MasterUnreachable) string {
	return fmt.Sprintf("%s is unreachable since %s", e.MasterID, FormatTime(e.LastContact))
}

func describeMasterRecovered(e MasterRecovered) string {
	return fmt.Sprintf("%s is reachable again", e.MasterID)
}

func describeIncarnationStarted(e IncarnationStarted) string {
	return fmt.Sprintf("incarnation %d of grid %s starts behind event %d%s", e.Incarnation.N, e.GridID, e.BaseSeq, because(e.Reason))
}

func describeFeedAcked(e FeedAcked) string {
	return fmt.Sprintf("sink %s holds the feed through %d", e.Sink, e.Through)
}

func describeSinkAdded(e SinkAdded) string {
	return fmt.Sprintf("sink %s at %s receives the feed", e.Sink, e.Address)
}

func describeSinkRemoved(e SinkRemoved) string {
	return fmt.Sprintf("sink %s no longer receives the feed", e.Sink)
}

func describeSettingChanged(e SettingChanged) string {
	return fmt.Sprintf("setting %s is %q (version %d)", e.Key, e.Value, e.Version)
}

func describeAssociationTypeAdded(e AssociationTypeAdded) string {
	return fmt.Sprintf("association type %q is number %d", e.Name, e.Number)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func count(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
