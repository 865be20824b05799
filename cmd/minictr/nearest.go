package main

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// didYouMean names the words that are nearest to one that is none of them: it
// is "" if none is near.
func didYouMean(word string, known []string) string {
	best, nearest := (utf8.RuneCountInString(word)+1)/3, []string(nil) // a letter of three may be wrong
	for _, name := range known {
		d := distance(word, name)
		if len(word) > 1 && strings.HasPrefix(name, word) {
			d = 0
		}
		switch {
		case d > best || slices.Contains(nearest, name):
			continue
		case d < best:
			best, nearest = d, nil
		}
		nearest = append(nearest, name)
	}
	if len(nearest) == 0 || len(nearest) > 3 {
		return ""
	}
	return "did you mean " + strings.Join(nearest, " or ") + "? "
}

// distance is how many letters must be added, removed, replaced or swapped with
// the next to make one word of another: Damerau and Levenshtein's, where no
// letter is touched twice.
func distance(from, to string) int {
	a, b := []rune(from), []rune(to)
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replaced := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			rows[i][j] = min(replaced, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
