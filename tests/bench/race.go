package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// race lets all take turns, in a new order each round, and returns the sorted
// times of each.
func race(cases []contestant, rounds int, pause time.Duration) ([][]time.Duration, error) {
	times := make([][]time.Duration, len(cases))
	for range rounds {
		for _, i := range rand.Perm(len(cases)) {
			time.Sleep(pause)
			took, err := cases[i].run()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", cases[i].name, err)
			}
			times[i] = append(times[i], took)
		}
	}
	for _, t := range times {
		slices.Sort(t)
	}
	return times, nil
}

// quantile is the time that a share of the runs did not exceed.
func quantile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(share*float64(len(sorted)-1))].Seconds() * 1e3
}

// table prints milliseconds, and the ratios of medians: to crun on the same
// bundle, and to the floor.
func table(cases []contestant, times [][]time.Duration) {
	median := func(name string, v variant) float64 {
		i := slices.IndexFunc(cases, func(c contestant) bool { return c.name == name && c.variant == v })
		if i < 0 {
			return 0
		}
		return quantile(times[i], 0.5)
	}
	fmt.Println("| | minimum | median | p90 | × crun | × floor |")
	fmt.Println("|---|--:|--:|--:|--:|--:|")
	for i, c := range cases {
		name := c.name
		switch c.variant {
		case filtered:
			name += ", seccomp"
		case apart, entered:
			name += ", " + string(c.variant)
		default:
		}
		m := quantile(times[i], 0.5)
		fmt.Printf("| %s | %.2f | %.2f | %.2f | %s | %s |\n", name, quantile(times[i], 0), m, quantile(times[i], 0.9),
			ratio(m, median("crun", c.variant)), ratio(m, median("floor", plain)))
	}
}

func ratio(a, b float64) string {
	if b == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", a/b)
}
