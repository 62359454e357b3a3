package event

import "fmt"

// ConceptID is the id of the concept that holds the event of this seq in event storage: "event-" and 16 decimal digits.
func ConceptID(seq uint64) string { return fmt.Sprintf("event-%016d", seq) }
