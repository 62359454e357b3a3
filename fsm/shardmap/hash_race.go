//go:build race

package shardmap

import "github.com/spaolacci/murmur3"

// Hash is murmur3 (x86, 32 bits, seed 0) of an id. murmur3.Sum32 walks its input with a uintptr, which the race build's
// pointer checks refuse; the hash.Hash32 form gives the same values without that.
func Hash(id string) uint32 {
	h := murmur3.New32()
	_, _ = h.Write([]byte(id)) // a hash.Hash never fails
	return h.Sum32()
}
