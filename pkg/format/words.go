package format

import (
	"fmt"
	"math"
	"time"
)

// Size says a number of bytes with three digits, in units of 1000.
func Size(bytes int64) string {
	return scaled("%.3g%s", float64(bytes), 1000, 999.5, "B", "kB", "MB", "GB", "TB", "PB", "EB")
}

// BinarySize says it with four digits, in units of 1024.
func BinarySize(bytes uint64) string {
	return scaled("%.4g%s", float64(bytes), 1024, 1024, "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
}

func scaled(verbs string, n, base, most float64, units ...string) string {
	i := 0
	for ; math.Abs(n) >= most && i < len(units)-1; i++ {
		n /= base
	}
	return fmt.Sprintf(verbs, n, units[i])
}

// Duration says how long something takes, in the words of docker ps.
func Duration(d time.Duration) string {
	const day = 24
	minutes, hours := int(d.Minutes()), int(math.Round(d.Hours()))
	switch seconds := int(d.Seconds()); {
	case seconds < 1:
		return "Less than a second"
	case seconds == 1:
		return "1 second"
	case seconds < 60:
		return fmt.Sprintf("%d seconds", seconds)
	case minutes == 1:
		return "About a minute"
	case minutes < 60:
		return fmt.Sprintf("%d minutes", minutes)
	case hours == 1:
		return "About an hour"
	case hours < 2*day:
		return fmt.Sprintf("%d hours", hours)
	case hours < 14*day:
		return fmt.Sprintf("%d days", hours/day)
	case hours < 60*day:
		return fmt.Sprintf("%d weeks", hours/day/7)
	case hours < 2*365*day:
		return fmt.Sprintf("%d months", hours/day/30)
	}
	return fmt.Sprintf("%d years", hours/day/365)
}

// Ago says how long ago something was.
func Ago(t, now time.Time) string { return Duration(now.Sub(t)) + " ago" }
