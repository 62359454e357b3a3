package sim

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// register is one concept as its one writer knows it. Every version has a content of its own, so a read says which it saw.
//
// Allowed to a read: the version acknowledged last when it began, any that was sent later, and any earlier one whose outcome is
// open, for what was held up on the way may arrive behind what was sent later. Never: what surely was not done.
type register struct {
	id string

	mu       sync.Mutex
	contents []string         // guarded by mu; version v is at v-1
	acked    int              // guarded by mu; 0: none
	open     map[int]struct{} // guarded by mu; their outcome is unknown, and they have not been seen since
	void     map[int]struct{} // guarded by mu; surely not done
}

func newRegister(id string) *register {
	return &register{id: id, open: map[int]struct{}{}, void: map[int]struct{}{}}
}

// begin says that a version is about to be sent, and what it holds.
func (r *register) begin(what string) (version int, content string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	version = len(r.contents) + 1
	content = fmt.Sprintf("%s version %d %s", r.id, version, what)
	r.contents = append(r.contents, content)
	r.open[version] = struct{}{}
	return version, content
}

// settle says what became of a version.
func (r *register) settle(version int, did outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch did {
	case acked:
		delete(r.open, version)
		r.acked = version
	case failed:
		delete(r.open, version)
		r.void[version] = struct{}{}
	case open: // as it is
	}
}

// horizon is what a read that begins now must not miss.
type horizon struct {
	acked int
	open  map[int]struct{}
}

func (r *register) horizon() horizon {
	r.mu.Lock()
	defer r.mu.Unlock()
	return horizon{r.acked, maps.Clone(r.open)}
}

// written tells whether the concept surely exists.
func (r *register) written() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.acked > 0
}

// saw checks what a read, which began at h, found.
func (r *register) saw(h horizon, found bool, content string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	version := 0
	if found {
		if version = slices.Index(r.contents, content) + 1; version == 0 {
			return fmt.Errorf("%s reads %q, which nobody wrote: altered", r.id, content)
		}
	}
	if _, was := r.void[version]; was {
		return fmt.Errorf("%s reads version %d, which was refused as surely not done", r.id, version)
	}
	if _, was := h.open[version]; version < h.acked && !was {
		return fmt.Errorf("%s reads version %d; %d was acknowledged before, open were %v: lost", r.id, version, h.acked, slices.Sorted(maps.Keys(h.open)))
	}
	return nil
}

// adopt is saw by the writer itself, between two writes: the version that is there was done, and is not done again.
func (r *register) adopt(h horizon, found bool, content string) error {
	if err := r.saw(h, found, content); err != nil || !found {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acked = slices.Index(r.contents, content) + 1
	delete(r.open, r.acked)
	return nil
}
