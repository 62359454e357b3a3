package transport

// Deletes, an extension of the storage protocol. Deleting what is not there is no error: Deleted is false. A delete that is
// sent again under its request id gets its first answer.
type (
	// DeleteConcept removes a concept with its vector and its associations, in one step. The id may be learned again and is
	// then new. Refused with KindNeedsTxn when a neighbour lives in another shard, and with KindTooLarge when the concept has
	// more than 1,000 associations.
	DeleteConcept struct {
		ConceptID string `wire:"concept_id"`
	}
	// DeleteConceptOk answers DeleteConcept.
	DeleteConceptOk struct {
		Deleted  bool   `wire:"deleted"`
		Sequence uint64 `wire:"sequence"`
	}
	// DeleteAssociation removes the association of a type from source to target; without a type, those of all types. Refused
	// with KindNeedsTxn when the ends live in two shards.
	DeleteAssociation struct {
		SourceID  string  `wire:"source_id"`
		TargetID  string  `wire:"target_id"`
		AssocType *uint32 `wire:"assoc_type,optional"`
	}
	// DeleteAssociationOk answers DeleteAssociation.
	DeleteAssociationOk struct {
		Deleted  bool   `wire:"deleted"`
		Sequence uint64 `wire:"sequence"`
	}
)
