package engine

import (
	"fmt"
	"strconv"
)

func size(flag, text string, least int64) (int64, error) {
	n, err := Bytes(text)
	if err != nil || n < least {
		return 0, fmt.Errorf("%s: %q", flag, text)
	}
	return n, nil
}

func whole(text string, least, most int64) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || int64(n) < least || int64(n) > most {
		return 0, fmt.Errorf("%q is no number from %d to %d", text, least, most)
	}
	return int64(n), nil
}

type wall struct{}
