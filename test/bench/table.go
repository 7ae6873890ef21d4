package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// table is figures, with the bars that they should clear.
type table struct{ rows [][3]string }

func (t *table) add(what, bar, format string, args ...any) {
	t.rows = append(t.rows, [3]string{what, fmt.Sprintf(format, args...), bar})
}

// String writes the table in Markdown.
func (t table) String() string {
	rows := append([][3]string{{"what", "measured", "bar"}}, t.rows...)
	var width [3]int
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	var b strings.Builder
	for n, r := range rows {
		for i, c := range r {
			fmt.Fprintf(&b, "| %s%s ", c, strings.Repeat(" ", width[i]-len([]rune(c))))
		}
		b.WriteString("|\n")
		if n == 0 {
			for i := range r {
				b.WriteString("|" + strings.Repeat("-", width[i]+2))
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}

// times is how long each of many acts took.
type times []time.Duration

// at returns a quantile; the times need not be sorted.
func (t times) at(q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(t))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

// ms writes milliseconds.
func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond)) }
