// Package servers starts what is measured as real processes on loopback, with the defaults of each, and ends it again.
//
//	Grid      gridctl dev: masters, agents, nodes, event storage
//	Etcd      three processes of this program's own hidden command, each an embedded etcd
//	Postgres  two servers that can prepare transactions, if the machine has the programs
//
// Every process gets a directory below the one that is given, is known by its own pid, and ends with Close; should this program be killed,
// the kernel (Grid, Postgres) or the end of their input (Etcd) ends them too.
package servers
