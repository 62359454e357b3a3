package semantic

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"

	"github.com/sutra-grid/sutra-grid/transport"
)

// maxStatement is how many words a content may have that counts as one statement. Longer ones say several things, and those
// that share all of their words are copies.
const maxStatement = 64

// statementOf takes what a content is about and how it stands to it: the words that carry meaning, in order, without the ending
// s; negations and the second words of opposites turn it around; amounts count when the content says that something is, has
// or equals them.
func statementOf(words []word) (s transport.Statement) {
	if len(words) > maxStatement {
		return s
	}
	var about, amounts []string
	states := false // a word like "is" has come
	for _, w := range words {
		opposite, turned := opposites[w.text]
		switch {
		case negators[w.text] || w.negates():
			s.Negated = !s.Negated
			states = states || w.negates()
		case w.number && states:
			amounts = append(amounts, w.text)
		case stating[w.text]:
			states = true
		case small[w.text]:
		case turned:
			s.Negated = s.Negated != opposite.second
			about = append(about, singular(opposite.first))
		default:
			about = append(about, singular(w.text))
		}
	}
	if len(about) < 2 { // "not good" is about nothing
		return transport.Statement{}
	}
	s.Subject, s.Numbers = hashOf(about), hashOf(amounts)
	return s
}

// singular takes the ending s off, of plurals and of verbs alike.
func singular(w string) string {
	if len(w) > 3 && strings.HasSuffix(w, "s") && !strings.HasSuffix(w, "ss") {
		return w[:len(w)-1]
	}
	return w
}

// hashOf is never 0 for what is there, and 0 for nothing. Half a SHA-256's half: nobody is to make two subjects meet.
func hashOf(words []string) uint64 {
	if len(words) == 0 {
		return 0
	}
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return max(binary.BigEndian.Uint64(sum[:]), 1)
}
