package bubble

import (
	cryptorand "crypto/rand"
	"encoding/binary"
	"math/rand/v2"
	"sync"
)

// chance is randomness that follows from a seed.
type chance struct {
	mu   sync.Mutex
	from *rand.ChaCha8 // guarded by mu
}

// Read implements io.Reader.
func (c *chance) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.from.Read(p)
}

// Settle makes what is drawn in the process from now on follow from the seed: crypto/rand in any build, so that ids are the same whenever
// a job is done, and where Repeats is true also math/rand and the order of maps, selects and timers. A Body calls it first thing.
func Settle(seed uint64) {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	cryptorand.Reader = &chance{from: rand.NewChaCha8(key)}
	reseed(seed)
}
