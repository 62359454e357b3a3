package semantic

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// word is a run of letters and digits, in lower case; an apostrophe inside belongs to it, and so do a point and a comma
// between digits. A per cent sign is a word of its own.
type word struct {
	text   string
	number bool // begins with a digit
}

// negates tells the short forms: isn't, won't.
func (w word) negates() bool { return strings.HasSuffix(w.text, "n't") }

// isYear tells four digits that are more likely a year than an amount: 1000 to 2999.
func (w word) isYear() bool {
	return w.number && len(w.text) == 4 && (w.text[0] == '1' || w.text[0] == '2') && strings.Trim(w.text, "0123456789") == ""
}

// wordsOf splits the first MaxText bytes of a text.
func wordsOf(text string) []word {
	text = strings.ReplaceAll(clip(text), "’", "'")
	var words []word
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == '%':
			words = append(words, word{text: "percent"})
		case unicode.IsLetter(r), unicode.IsDigit(r):
			size = wordLen(text)
			words = append(words, word{text: strings.ToLower(text[:size]), number: unicode.IsDigit(r)})
		}
		text = text[size:]
	}
	return words
}

// clip cuts a text at a character.
func clip(text string) string {
	if len(text) <= MaxText {
		return text
	}
	end := MaxText
	for end > MaxText-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// wordLen is how many bytes the word has that the text begins with.
func wordLen(text string) int {
	digit := false // the last character is one
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRuneInString(text[at:])
		next, _ := utf8.DecodeRuneInString(text[at+size:])
		switch {
		case unicode.IsLetter(r), unicode.IsMark(r):
			digit = false
		case unicode.IsDigit(r):
			digit = true
		case r == '\'' && unicode.IsLetter(next), (r == '.' || r == ',') && digit && unicode.IsDigit(next):
		default:
			return at
		}
		at += size
	}
	return len(text)
}
