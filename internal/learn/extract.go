package learn

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sutra-grid/sutra-grid/transport"
)

// The bounds of an extraction. What is said first is what a content is about; a thousand more look-ups would find less.
const (
	maxWords      = 500 // of a content that are looked at
	maxTextBytes  = 64 << 10
	maxGram       = 4    // words of a name
	maxCandidates = 8000 // ids looked up
	minLetters    = 3    // of a name of one word: shorter ones are mostly articles and prepositions
)

// Link is an association that a content calls for.
type Link struct {
	Target     string
	Confidence float32
}

// Want says which links are wanted.
type Want struct {
	Self  string  // the concept itself, which is not linked to
	Limit int     // at most transport.MaxExtracted; 0: none
	Least float32 // confidence
}

// Lookup tells which concepts exist: one answer per id, at most transport.MaxExists ids.
type Lookup func(ctx context.Context, ids []string) (known []bool, err error)

// Extract finds the concepts whose ids or names occur in a content.
//
// The rule: words are separated by white space and stripped of what is no letter, digit or mark at both ends. A name is one
// to four neighbouring words with nothing stripped between them; one word has at least three characters. Names are looked for
// in the first 500 words, from left to right, the longest first, and do not overlap. A name stands for the concept whose id
// is the first that exists of: the name as written, in lower case, and with each word's first letter in upper case; the same
// three with "_" between the words; the id of the concept that was learnt by content and whose whole content is the name, as
// written and in lower case.
//
// Confidence: 0.5, and 0.1 for each word after the first, 0.1 when the id is the name as written, 0.1 for each further
// occurrence; at most 1. Links below w.Least are left out, and of the others the most confident kept, at most w.Limit, those of
// equal confidence in the order of the content.
func Extract(ctx context.Context, content string, w Want, lookup Lookup) ([]Link, error) {
	limit := min(w.Limit, transport.MaxExtracted)
	if limit <= 0 {
		return nil, nil
	}
	names := readNames(content)
	known, err := lookUp(ctx, names, lookup)
	if err != nil {
		return nil, err
	}
	links := choose(names, known, w.Self)
	links = slices.DeleteFunc(links, func(l Link) bool { return l.Confidence < w.Least })
	slices.SortStableFunc(links, func(a, b Link) int { return cmp.Compare(b.Confidence, a.Confidence) })
	return links[:min(len(links), limit)], nil
}

// name is a possible name in a content.
type name struct {
	start, words int      // in words of the content
	ids          []string // of the concepts it may stand for, the best first; the first is as written
}

// word is a word and whether the next one follows it with nothing but white space between.
type word struct {
	text   string
	joined bool
}

// readWords splits a content.
func readWords(content string) []word {
	var words []word
	inside := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) }
	for field := range strings.FieldsSeq(beginning(content)) {
		left := strings.TrimLeftFunc(field, func(r rune) bool { return !inside(r) })
		text := strings.TrimRightFunc(left, func(r rune) bool { return !inside(r) })
		if left != field && len(words) > 0 {
			words[len(words)-1].joined = false
		}
		if text == "" {
			continue
		}
		if len(words) == maxWords {
			break
		}
		words = append(words, word{text: text, joined: text == left})
	}
	return words
}

// beginning is what of a content is read.
func beginning(content string) string {
	if len(content) > maxTextBytes {
		content = content[:maxTextBytes]
	}
	return strings.ToValidUTF8(content, " ")
}

// readNames lists the possible names from left to right, at each word the longest first.
func readNames(content string) []name {
	words := readWords(content)
	var names []name
	for i := range words {
		longest := 1
		for longest < maxGram && i+longest < len(words) && words[i+longest-1].joined {
			longest++
		}
		for n := longest; n > 0; n-- {
			texts := make([]string, n)
			for j := range texts {
				texts[j] = words[i+j].text
			}
			if n > 1 || utf8.RuneCountInString(texts[0]) >= minLetters {
				names = append(names, name{start: i, words: n, ids: idsOf(texts)})
			}
		}
	}
	return names
}

// idsOf lists what a name's concept may be called.
func idsOf(words []string) []string {
	written := strings.Join(words, " ")
	lower := strings.ToLower(written)
	titles := make([]string, len(words))
	for i, w := range words {
		first, size := utf8.DecodeRuneInString(w)
		titles[i] = string(unicode.ToUpper(first)) + w[size:]
	}
	title := strings.Join(titles, " ")
	ids := []string{written, lower, title}
	for _, id := range ids[:3] {
		ids = append(ids, strings.ReplaceAll(id, " ", "_"))
	}
	ids = append(ids, transport.ConceptIDOf(written), transport.ConceptIDOf(lower))
	var distinct []string
	for _, id := range ids {
		if len(id) <= transport.MaxID && strings.IndexByte(id, 0) < 0 && !slices.Contains(distinct, id) {
			distinct = append(distinct, id)
		}
	}
	return distinct
}

// lookUp asks for the ids of all names, each once, and at most maxCandidates.
func lookUp(ctx context.Context, names []name, lookup Lookup) (map[string]bool, error) {
	found := map[string]bool{}
	var ids []string
	for _, n := range names {
		for _, id := range n.ids {
			if _, there := found[id]; !there && len(ids) < maxCandidates {
				found[id] = false
				ids = append(ids, id)
			}
		}
	}
	if len(ids) == 0 {
		return found, nil
	}
	known, err := lookup(ctx, ids)
	if err != nil {
		return nil, err
	}
	if len(known) != len(ids) {
		return nil, fmt.Errorf("look up %d ids: got %d answers", len(ids), len(known))
	}
	for i, id := range ids {
		found[id] = known[i]
	}
	return found, nil
}

// choose takes the names that stand for something, and adds up what they stand for.
func choose(names []name, known map[string]bool, self string) []Link {
	var links []Link
	at := map[string]int{}
	free := 0 // the first word that is in no name yet
	for _, n := range names {
		i := slices.IndexFunc(n.ids, func(id string) bool { return known[id] && id != self })
		if n.start < free || i < 0 {
			continue
		}
		free = n.start + n.words
		target := n.ids[i]
		if k, again := at[target]; again {
			links[k].Confidence = min(1, links[k].Confidence+0.1)
			continue
		}
		confidence := 0.5 + 0.1*float32(n.words-1)
		if i == 0 {
			confidence += 0.1
		}
		at[target] = len(links)
		links = append(links, Link{target, min(1, confidence)})
	}
	return links
}
