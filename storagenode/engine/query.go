package engine

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/transport"
)

// QueryByMetadata answers one page of the concepts that have all of the attributes and tags, in the order of their creation.
// Every page is a point in time of its own.
func (e *Engine) QueryByMetadata(q *transport.QueryByMetadata) (*transport.QueryByMetadataOk, error) {
	if err := transport.Validate(q, 0); err != nil {
		return nil, err
	}
	after, err := transport.DecodeCursor(q)
	if err != nil {
		return nil, err
	}
	ok := &transport.QueryByMetadataOk{Items: []transport.ConceptItem{}}
	err = e.view(func(r pebble.Reader) (err error) {
		page := itemPage{limit: pageLimit(q.Limit)}
		s := &search{r: r, q: q, full: page.full}
		s.take = func(id string) error {
			_, err := page.add(r, id, func(c *conceptRecord) bool { return s.matches(c.Attributes, c.Tags) })
			return err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		if err = s.open(); err == nil {
			err = s.read(after)
		}
		if err == nil && s.more {
			ok.Cursor = transport.EncodeCursor(q, s.last)
		}
		ok.Items = append(ok.Items, page.items...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ok, nil
}

// Scan answers one page of the concepts whose ids begin with a prefix, in byte order. Every page is a point in time of its own.
func (e *Engine) Scan(q *transport.Scan) (*transport.ScanOk, error) {
	if err := transport.Validate(q, 0); err != nil {
		return nil, err
	}
	after, err := transport.DecodeCursor(q)
	if err != nil {
		return nil, err
	}
	lower := conceptKey(nil, q.Prefix)
	upper := prefixEnd(nil, lower)
	if after != nil {
		lower = append(conceptKey(nil, after.ID), 0) // no id contains NUL, so the next key is behind this
	}
	ok := &transport.ScanOk{Items: []transport.ConceptItem{}}
	if bytes.Compare(lower, upper) >= 0 {
		return ok, nil
	}
	page := itemPage{limit: pageLimit(q.Limit)}
	err = e.view(func(r pebble.Reader) error {
		it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return err
		}
		for valid := it.First(); valid; valid = it.Next() {
			if page.full() {
				ok.Cursor = transport.EncodeCursor(q, transport.Place{ID: page.items[len(page.items)-1].ConceptID})
				break
			}
			if _, err := page.add(r, string(it.Key()[1:]), nil); err != nil {
				return errors.Join(err, it.Close())
			}
		}
		return errors.Join(it.Error(), it.Close())
	})
	if err != nil {
		return nil, err
	}
	ok.Items = append(ok.Items, page.items...)
	return ok, nil
}

func pageLimit(limit uint32) int {
	if limit == 0 {
		return transport.DefaultPage
	}
	return int(limit)
}

// itemPage is concepts on their way into a page.
type itemPage struct {
	limit int
	items []transport.ConceptItem
	size  int // bytes
}

func (p *itemPage) full() bool { return len(p.items) >= p.limit || p.size >= transport.PageBytes }

// add reads a concept into the page, unless want says no to it.
func (p *itemPage) add(r pebble.Reader, id string, want func(*conceptRecord) bool) (added bool, err error) {
	var c conceptRecord
	found, err := row(r, conceptKey(nil, id), func(value []byte) error { return pack.UnmarshalLoose(value, &c) })
	if err != nil {
		return false, fmt.Errorf("read concept %q: %w", id, err)
	}
	if !found {
		return false, fmt.Errorf("concept %q is in an index and not in the table", id)
	}
	if want != nil && !want(&c) {
		return false, nil
	}
	item := transport.ConceptItem{ConceptID: id, Content: c.Content, Strength: c.Strength, Confidence: c.Confidence,
		Version: c.Version, Created: transport.Seconds(c.Created), Modified: transport.Seconds(c.Modified)}
	if len(c.Attributes) > 0 || len(c.Tags) > 0 {
		item.Metadata = &transport.Metadata{Attributes: c.Attributes, Tags: c.Tags}
	}
	p.items, p.size = append(p.items, item), p.size+item.Size()
	return true, nil
}

// search is one page of a query in the making, or the ids of one. All indexes have one order within an attribute or a tag, so those that are asked
// for are intersected by going around: each looks for the present candidate, and who does not have it names the next one. The
// most selective index is asked in every round and so bounds the rounds; nothing is counted beforehand.
type search struct {
	r       pebble.Reader
	q       *transport.QueryByMetadata
	take    func(id string) error // takes a concept that all indexes have
	full    func() bool           // no more is wanted
	streams []*stream

	last transport.Place // everything up to here is decided
	more bool            // something may be behind it
}

// open makes a stream for each of the conditions, or one for all concepts when there is none.
func (s *search) open() error {
	from, to := s.q.Between()
	if from >= to {
		return nil
	}
	var prefixes [][]byte
	for k, v := range s.q.Attributes {
		prefixes = append(prefixes, attributePrefix(nil, k, v))
	}
	for _, tag := range s.q.Tags {
		prefixes = append(prefixes, tagPrefix(nil, tag))
	}
	if len(prefixes) == 0 {
		prefixes = append(prefixes, []byte{tableByTime})
	}
	for _, prefix := range prefixes {
		it, err := s.r.NewIter(&pebble.IterOptions{LowerBound: appendTime(slices.Clone(prefix), from), UpperBound: appendTime(slices.Clone(prefix), to)})
		if err != nil {
			return err
		}
		s.streams = append(s.streams, &stream{it: it, prefix: prefix, descending: s.q.Descending()})
	}
	return nil
}

func (s *search) close() (err error) {
	for _, stream := range s.streams {
		err = errors.Join(err, stream.it.Close())
	}
	return err
}

// read fills the page with what is behind a place, nil: from the beginning.
func (s *search) read(after *transport.Place) error {
	if len(s.streams) == 0 {
		return nil
	}
	first := s.streams[0]
	valid := first.start(after)
	agreed, at := 1, 0
	candidate := bytes.Clone(first.place())
	for looks := 0; valid; looks++ {
		if agreed == len(s.streams) {
			if err := s.decided(candidate); err != nil {
				return err
			}
			if err := s.take(s.last.ID); err != nil {
				return err
			}
			valid = s.streams[at].advance()
			candidate, agreed = append(candidate[:0], s.streams[at].place()...), 1
			if valid && s.full() {
				s.more = true
				return nil
			}
			continue
		}
		if s.last.ID != "" && looks >= maxPageScan {
			s.more = true
			return nil
		}
		at = (at + 1) % len(s.streams)
		valid = s.streams[at].seek(candidate)
		if !valid || bytes.Equal(s.streams[at].place(), candidate) {
			agreed++
			continue
		}
		if err := s.decided(candidate); err != nil {
			return err
		}
		candidate, agreed = append(candidate[:0], s.streams[at].place()...), 1
	}
	return s.streams[at].it.Error()
}

// decided remembers that nothing up to a candidate is open any more.
func (s *search) decided(candidate []byte) error {
	created, id, ok := splitTimeKey(candidate)
	if !ok {
		return fmt.Errorf("index key of %d bytes", len(candidate))
	}
	s.last = transport.Place{Created: created, ID: string(id)}
	return nil
}

// matches compares with the concept itself: the indexes only know hashes.
func (s *search) matches(attributes map[string]string, tags []string) bool {
	for k, v := range s.q.Attributes {
		if got, there := attributes[k]; !there || got != v {
			return false
		}
	}
	for _, tag := range s.q.Tags {
		if !slices.Contains(tags, tag) {
			return false
		}
	}
	return true
}

// stream reads the concepts of one index prefix, in the order of the query. A place is what follows the prefix: time and id.
type stream struct {
	it         *pebble.Iterator
	prefix     []byte
	descending bool
	key        []byte
}

// place is the present one; nil when there is none.
func (s *stream) place() []byte {
	if !s.it.Valid() {
		return nil
	}
	return s.it.Key()[len(s.prefix):]
}

// start goes to the first one behind a place, nil: to the first of all.
func (s *stream) start(after *transport.Place) bool {
	if after == nil {
		if s.descending {
			return s.it.Last()
		}
		return s.it.First()
	}
	s.key = timeKey(append(s.key[:0], s.prefix...), after.Created, after.ID)
	if s.descending {
		return s.it.SeekLT(s.key)
	}
	return s.it.SeekGE(append(s.key, 0)) // no id contains NUL
}

// seek goes to a place or, when it is not there, to the next one.
func (s *stream) seek(place []byte) bool {
	s.key = append(append(s.key[:0], s.prefix...), place...)
	if s.descending {
		return s.it.SeekLT(append(s.key, 0))
	}
	return s.it.SeekGE(s.key)
}

func (s *stream) advance() bool {
	if s.descending {
		return s.it.Prev()
	}
	return s.it.Next()
}
