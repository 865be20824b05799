package lang

import "strings"

// Width is the number of columns that a terminal gives a text: two for each
// character of East Asia (Unicode's UAX #11, Wide), one for each other.
func Width(s string) (n int) {
	for _, r := range s {
		n += width(r)
	}
	return n
}

func width(r rune) int {
	switch {
	case r >= 0x0300 && r <= 0x036f: // combining
		return 0
	case r >= 0x1100 && r <= 0x115f, // Hangul's first consonants
		r >= 0x2e80 && r <= 0xa4cf, // CJK, kana, Hangul's compatible letters
		r >= 0xac00 && r <= 0xd7a3, // Hangul
		r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f,
		r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6:
		return 2
	}
	return 1
}

// Pad fills a text with blanks up to a number of columns.
func Pad(s string, columns int) string {
	return s + strings.Repeat(" ", max(columns-Width(s), 0))
}

// Fold breaks a text at its blanks into lines of at most so many columns; a
// word that is longer has a line to itself.
func Fold(s string, columns int) (lines []string) {
	line, used := "", 0
	for word := range strings.FieldsSeq(s) {
		if w := Width(word); line != "" && used+1+w > columns {
			lines, line, used = append(lines, line), word, w
		} else if line == "" {
			line, used = word, w
		} else {
			line, used = line+" "+word, used+1+w
		}
	}
	return append(lines, line)
}
