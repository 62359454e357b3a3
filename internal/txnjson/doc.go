// Package txnjson is the JSON form of transactions: of HTTP, of gridctl and of recorded histories.
//
//	{"ops":[{"add":{…}},…]} -> Decode -> transport.Txn        transport.TxnOk -> Answer -> {"status":"committed","results":[…]}
//
// Invariants: what Decode takes it takes wholly (a field that it does not know, or that is missing, is refused and named), and Encode of it is
// decoded to the same transaction. Limits of the protocol are not checked here: whoever runs a transaction does.
// It imports the vocabulary alone; never a master or a client.
package txnjson
