package network

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Barred lists the chains of other tables that drop what this host forwards,
// unless a rule of theirs accepts it: "ip filter FORWARD". What one chain drops
// no other can save, nft(8).
func Barred() (chains []string, err error) {
	for _, family := range []struct {
		number byte
		name   string
	}{{unix.NFPROTO_IPV4, "ip"}, {unix.NFPROTO_IPV6, "ip6"}, {unix.NFPROTO_INET, "inet"}} {
		answers, e := ask(unix.NFNL_SUBSYS_NFTABLES, unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, family.number)
		if errors.Is(e, unix.ENOENT) {
			continue
		}
		err = errors.Join(err, e)
		for _, chain := range answers {
			name := func(kind uint16) string { return strings.TrimRight(string(find(chain, kind)), "\x00") }
			number := func(path ...uint16) int64 {
				if b := find(chain, path...); len(b) == 4 {
					return int64(binary.BigEndian.Uint32(b))
				}
				return -1 // it is jumped to
			}
			if number(unix.NFTA_CHAIN_HOOK, unix.NFTA_HOOK_HOOKNUM) == unix.NF_INET_FORWARD && number(unix.NFTA_CHAIN_POLICY) == drop {
				chains = append(chains, strings.Join([]string{family.name, name(unix.NFTA_CHAIN_TABLE), name(unix.NFTA_CHAIN_NAME)}, " "))
			}
		}
	}
	slices.Sort(chains)
	return chains, err
}
