package event

// What each body is on the wire.

// Type is TypeAgentRegistered.
func (AgentRegistered) Type() Type { return TypeAgentRegistered }

// Type is TypeAgentHeartbeat.
func (AgentHeartbeat) Type() Type { return TypeAgentHeartbeat }

// Type is TypeAgentDegraded.
func (AgentDegraded) Type() Type { return TypeAgentDegraded }

// Type is TypeAgentOffline.
func (AgentOffline) Type() Type { return TypeAgentOffline }

// Type is TypeAgentRecovered.
func (AgentRecovered) Type() Type { return TypeAgentRecovered }

// Type is TypeAgentUnregistered.
func (AgentUnregistered) Type() Type { return TypeAgentUnregistered }

// Type is TypeSpawnRequested.
func (SpawnRequested) Type() Type { return TypeSpawnRequested }

// Type is TypeSpawnSucceeded.
func (SpawnSucceeded) Type() Type { return TypeSpawnSucceeded }

// Type is TypeSpawnFailed.
func (SpawnFailed) Type() Type { return TypeSpawnFailed }

// Type is TypeStopRequested.
func (StopRequested) Type() Type { return TypeStopRequested }

// Type is TypeStopSucceeded.
func (StopSucceeded) Type() Type { return TypeStopSucceeded }

// Type is TypeStopFailed.
func (StopFailed) Type() Type { return TypeStopFailed }

// Type is TypeNodeCrashed.
func (NodeCrashed) Type() Type { return TypeNodeCrashed }

// Type is TypeNodeRestarted.
func (NodeRestarted) Type() Type { return TypeNodeRestarted }

// Type is TypeClusterHealthy.
func (ClusterHealthy) Type() Type { return TypeClusterHealthy }

// Type is TypeClusterDegraded.
func (ClusterDegraded) Type() Type { return TypeClusterDegraded }

// Type is TypeClusterCritical.
func (ClusterCritical) Type() Type { return TypeClusterCritical }

// Type is TypeShardMapCreated.
func (ShardMapCreated) Type() Type { return TypeShardMapCreated }

// Type is TypeShardCreated.
func (ShardCreated) Type() Type { return TypeShardCreated }

// Type is TypeShardFormed.
func (ShardFormed) Type() Type { return TypeShardFormed }

// Type is TypeShardLeaderChanged.
func (ShardLeaderChanged) Type() Type { return TypeShardLeaderChanged }

// Type is TypeShardQuorumLost.
func (ShardQuorumLost) Type() Type { return TypeShardQuorumLost }

// Type is TypeShardQuorumBack.
func (ShardQuorumRestored) Type() Type { return TypeShardQuorumBack }

// Type is TypeTxnCommitted.
func (TxnCommitted) Type() Type { return TypeTxnCommitted }

// Type is TypeTxnAborted.
func (TxnAborted) Type() Type { return TypeTxnAborted }

// Type is TypeTxnCompleted.
func (TxnCompleted) Type() Type { return TypeTxnCompleted }

// Type is TypeMasterJoined.
func (MasterJoined) Type() Type { return TypeMasterJoined }

// Type is TypeMasterLeft.
func (MasterLeft) Type() Type { return TypeMasterLeft }

// Type is TypeReplicaReaddressed.
func (ReplicaReaddressed) Type() Type { return TypeReplicaReaddressed }

// Type is TypeLeaderElected.
func (LeaderElected) Type() Type { return TypeLeaderElected }

// Type is TypeMasterUnreachable.
func (MasterUnreachable) Type() Type { return TypeMasterUnreachable }

// Type is TypeMasterRecovered.
func (MasterRecovered) Type() Type { return TypeMasterRecovered }

// Type is TypeIncarnationStarted.
func (IncarnationStarted) Type() Type { return TypeIncarnationStarted }

// Type is TypeFeedAcked.
func (FeedAcked) Type() Type { return TypeFeedAcked }

// Type is TypeSinkAdded.
func (SinkAdded) Type() Type { return TypeSinkAdded }

// Type is TypeSinkRemoved.
func (SinkRemoved) Type() Type { return TypeSinkRemoved }

// Type is TypeSettingChanged.
func (SettingChanged) Type() Type { return TypeSettingChanged }

// Type is TypeAssociationTypeAdded.
func (AssociationTypeAdded) Type() Type { return TypeAssociationTypeAdded }
