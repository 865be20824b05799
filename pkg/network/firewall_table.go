package network

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/netlink"
)

// The table of all networks is in this file, as nft list table inet minictr
// shows it. It never changes: networks and containers are elements of its sets.
const (
	table     = "minictr"
	tableSays = "the rules are the same for all networks: a network, or a published port, is an element"

	raw, dstnat, filter, srcnat = -300, -100, 0, 100 // priorities, as nft(8) names them
)

// A set is a set or a map of the table.
type set struct {
	name, comment string
	key, value    []datatype // concatenated; a set has no value
	ranges        bool
}

// A datatype is one of those of nft(8), by its number there.
type datatype struct{ number, size, order uint32 }

const hostOrder, bigEndian = 1, 2

// maxOwner is how long the comment of an element can be.
const maxOwner = 128

func sets() []set {
	ifname, proto, port := datatype{41, unix.IFNAMSIZ, hostOrder}, datatype{12, 1, bigEndian}, datatype{13, 2, bigEndian}
	family := datatype{2, 1, hostOrder}
	ip, ip6 := datatype{7, 4, bigEndian}, datatype{8, 16, bigEndian}
	return []set{
		{"bridges", "the bridge of each network", []datatype{ifname}, nil, false},
		{"within", "each bridge with itself", []datatype{ifname, ifname}, nil, false},
		{"internal", "bridges of networks that reach nothing outside", []datatype{ifname}, nil, false},
		{"subnets", "each bridge with its network's addresses", []datatype{ifname, ip}, nil, true},
		{"subnets6", "each bridge with its network's IPv6 addresses", []datatype{ifname, ip6}, nil, true},
		{"opened", "interfaces that pass on packets because of these networks alone", []datatype{ifname}, nil, false},
		{"router", "families of which this host is a router because of these networks alone", []datatype{family}, nil, false},
		{"published", "ports of any address of this host", []datatype{proto, port}, []datatype{ip, port}, false},
		{"published6", "ports of any IPv6 address of this host but ::1", []datatype{proto, port}, []datatype{ip6, port}, false},
		{"published-at", "ports of one address of this host", []datatype{ip, proto, port}, []datatype{ip, port}, false},
		{"published-at6", "ports of one IPv6 address of this host", []datatype{ip6, proto, port}, []datatype{ip6, port}, false},
	}
}

// ofNetworks and ofContainers are sets by whose elements they have.
func ofNetworks() []string { return []string{"bridges", "within", "internal", "subnets", "subnets6"} }

func ofContainers() []string {
	return []string{"published", "published6", "published-at", "published-at6"}
}

// A chain without a kind is jumped to.
type chain struct {
	name, comment, kind string
	hook                uint32
	priority            int32
}

func chains() []chain {
	return []chain{
		{"martians", "before connection tracking: nobody but the host speaks for its loopback", "filter", unix.NF_INET_PRE_ROUTING, raw},
		{"published", "a published port leads to its container", "", 0, 0},
		{"prerouting", "published ports, for others", "nat", unix.NF_INET_PRE_ROUTING, dstnat},
		{"output", "published ports, for this host", "nat", unix.NF_INET_LOCAL_OUT, dstnat},
		{"postrouting", "who is to be answered by way of this host", "nat", unix.NF_INET_POST_ROUTING, srcnat},
		{"forward", "which network reaches what", "filter", unix.NF_INET_FORWARD, filter},
	}
}

// A rule has a chain, what is said of it, and its expressions.
type rule struct {
	chain, comment string
	does           []byte
}

func rules() []rule {
	all := func(expressions ...[]byte) []byte { return slices.Concat(expressions...) }
	v4, v6 := equal(meta(unix.NFT_META_NFPROTO, 0), []byte{unix.NFPROTO_IPV4}), equal(meta(unix.NFT_META_NFPROTO, 0), []byte{unix.NFPROTO_IPV6})
	in, out := meta(unix.NFT_META_IIFNAME, 0), meta(unix.NFT_META_OIFNAME, 0)
	within := member("within", in, meta(unix.NFT_META_OIFNAME, unix.IFNAMSIZ/4))
	fromLoopback := all(v4, equal(header(sourceAt, 1, 0), []byte{127}))
	toLoopback := all(v4, equal(header(targetAt, 1, 0), []byte{127}))
	own := member("subnets", out, header(sourceAt, 4, unix.IFNAMSIZ/4))
	own6 := member("subnets6", out, header(sourceAt6, 16, unix.IFNAMSIZ/4))
	loopback6 := append(make([]byte, 15), 1)
	fromLoopback6 := all(v6, equal(header(sourceAt6, 16, 0), loopback6))
	began := bits(ct(unix.NFT_CT_STATE), ctEstablished|ctRelated)
	translated := bits(ct(unix.NFT_CT_STATUS), ipsDstNAT)
	toHost := equal(expression("fib", register(unix.NFTA_FIB_DREG, 0), word(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_ADDRTYPE),
		word(unix.NFTA_FIB_FLAGS, unix.NFTA_FIB_F_DADDR)), netlink.Number(unix.RTN_LOCAL))
	return []rule{
		{"martians", "route_localnet of a bridge is for answers: they are not at 127.0.0.1 yet", all(member("bridges", in), fromLoopback, verdict(drop, ""))},
		{"martians", "", all(member("bridges", in), toLoopback, verdict(drop, ""))},

		{"published", "of this very address", all(v4, value("published-at", header(targetAt, 4, 0), l4proto(1), dport(2)), dnat(unix.NFPROTO_IPV4, 1))},
		{"published", "of any address", all(v4, value("published", l4proto(0), dport(1)), dnat(unix.NFPROTO_IPV4, 1))},
		{"published", "of this very IPv6 address", all(v6, value("published-at6", header(targetAt6, 16, 0), l4proto(4), dport(5)), dnat(unix.NFPROTO_IPV6, 4))},
		{"published", "is an address by itself: see the sysctl bridge-nf-call-ip6tables", all(v6, equal(header(targetAt6, 16, 0), loopback6), verdict(unix.NFT_RETURN, ""))},
		{"published", "of any IPv6 address", all(v6, value("published6", l4proto(0), dport(1)), dnat(unix.NFPROTO_IPV6, 4))},

		{"prerouting", "a neighbour asks for 127.0.0.1: there is nothing for him", all(toLoopback, verdict(unix.NFT_RETURN, ""))},
		{"prerouting", "", all(toHost, verdict(unix.NFT_JUMP, "published"))},
		{"output", "", all(toHost, verdict(unix.NFT_JUMP, "published"))},

		{"postrouting", "out of a network, in the host's name", all(member("bridges", in), stranger("bridges", out), masquerade())},
		{"postrouting", "a container that reaches a published port of its own network", all(v4, own, translated, masquerade())},
		{"postrouting", "", all(v6, own6, translated, masquerade())},
		{"postrouting", "there is no way back to this host's loopback", all(member("bridges", out), fromLoopback, masquerade())},
		{"postrouting", "", all(member("bridges", out), fromLoopback6, masquerade())},

		{"forward", "answers", all(began, verdict(accept, ""))},
		{"forward", "neighbours on one network", all(within, verdict(accept, ""))},
		{"forward", "an internal network is alone", all(member("internal", in), verdict(drop, ""))},
		{"forward", "", all(member("internal", out), verdict(drop, ""))},
		{"forward", "networks don't reach each other", all(member("bridges", in), member("bridges", out), verdict(drop, ""))},
		{"forward", "from outside only what is published", all(member("bridges", out), translated, verdict(accept, ""))},
		{"forward", "", all(member("bridges", out), verdict(drop, ""))},
		{"forward", "this host is no router for others, but for what they have published", all(translated, verdict(accept, ""))},
		{"forward", "", all(v4, member("opened", in), verdict(drop, ""))},
		{"forward", "", all(member("router", meta(unix.NFT_META_NFPROTO, 0)), stranger("bridges", in), verdict(drop, ""))},
	}
}

// lay adds all of the table to a batch: what is there stays, but for the rules,
// which are replaced at once.
func lay(b *batch) {
	b.add("add table", unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, text(unix.NFTA_TABLE_NAME, table), attribute(tableUserdata, comment(0, tableSays)))
	for i, s := range sets() {
		const byteOrder, commentKind = 0, 7 // of a set's user data, libnftnl's udata.h
		says := append([]byte{byteOrder, 4}, netlink.Number(s.key[0].order)...)
		says = append(says, comment(commentKind, s.comment)...)
		attributes := [][]byte{
			text(unix.NFTA_SET_TABLE, table), text(unix.NFTA_SET_NAME, s.name), word(unix.NFTA_SET_ID, uint32(i+1)),
			word(unix.NFTA_SET_KEY_TYPE, concatenated(s.key)), word(unix.NFTA_SET_KEY_LEN, length(s.key)),
			attribute(unix.NFTA_SET_USERDATA, says),
		}
		if s.value != nil {
			attributes = append(attributes, word(unix.NFTA_SET_FLAGS, unix.NFT_SET_MAP),
				word(unix.NFTA_SET_DATA_TYPE, concatenated(s.value)), word(unix.NFTA_SET_DATA_LEN, length(s.value)))
		}
		if s.ranges {
			var fields []byte
			for _, t := range s.key {
				fields = append(fields, nest(unix.NFTA_LIST_ELEM, word(setFieldLen, t.size))...)
			}
			attributes = append(attributes, word(unix.NFTA_SET_FLAGS, unix.NFT_SET_INTERVAL|setConcat), nest(unix.NFTA_SET_DESC, nest(setDescConcat, fields)))
		}
		b.add("add set "+s.name, unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, attributes...)
	}
	for _, c := range chains() {
		attributes := [][]byte{text(unix.NFTA_CHAIN_TABLE, table), text(unix.NFTA_CHAIN_NAME, c.name), attribute(chainUserdata, comment(0, c.comment))}
		if c.kind != "" {
			attributes = append(attributes, text(unix.NFTA_CHAIN_TYPE, c.kind),
				nest(unix.NFTA_CHAIN_HOOK, word(unix.NFTA_HOOK_HOOKNUM, c.hook), word(unix.NFTA_HOOK_PRIORITY, uint32(c.priority))))
		}
		b.add("add chain "+c.name, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, attributes...)
	}
	b.add("flush table", unix.NFT_MSG_DELRULE, 0, text(unix.NFTA_RULE_TABLE, table))
	for _, r := range rules() {
		attributes := [][]byte{text(unix.NFTA_RULE_TABLE, table), text(unix.NFTA_RULE_CHAIN, r.chain), nest(unix.NFTA_RULE_EXPRESSIONS, r.does)}
		if r.comment != "" {
			attributes = append(attributes, attribute(unix.NFTA_RULE_USERDATA, comment(0, r.comment)))
		}
		b.add("add rule "+r.chain, unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, attributes...)
	}
}

// concatenated is the number of data types one after the other: six bits each.
func concatenated(types []datatype) (n uint32) {
	for _, t := range types {
		n = n<<6 | t.number
	}
	return n
}

// length is that of their data: each of several fills whole registers.
func length(types []datatype) (n uint32) {
	if len(types) == 1 {
		return types[0].size
	}
	for _, t := range types {
		n += (t.size + 3) &^ 3
	}
	return n
}

// Numbers that package unix lacks.
const (
	tableUserdata = 6    // NFTA_TABLE_USERDATA
	chainUserdata = 12   // NFTA_CHAIN_USERDATA
	setConcat     = 0x80 // NFT_SET_CONCAT
	setDescConcat = 2    // NFTA_SET_DESC_CONCAT
	setFieldLen   = 1    // NFTA_SET_FIELD_LEN
	elementEnd    = 10   // NFTA_SET_ELEM_KEY_END
	ctEstablished = 2    // NF_CT_STATE_BIT
	ctRelated     = 4
	ipsDstNAT     = 1 << 5 // IPS_DST_NAT
	drop, accept  = 0, 1   // NF_DROP, NF_ACCEPT

	sourceAt, targetAt, sourceAt6, targetAt6 = 12, 16, 8, 24 // in headers of IPv4 and IPv6
)

// Expressions put their result in registers of four bytes, by number, and go on
// or not. Those that take one find it in the first.

func expression(name string, attributes ...[]byte) []byte {
	return nest(unix.NFTA_LIST_ELEM, text(unix.NFTA_EXPR_NAME, name), nest(unix.NFTA_EXPR_DATA, attributes...))
}

func register(kind uint16, n uint32) []byte { return word(kind, unix.NFT_REG32_00+n) }

func meta(key, to uint32) []byte {
	return expression("meta", register(unix.NFTA_META_DREG, to), word(unix.NFTA_META_KEY, key))
}

func l4proto(to uint32) []byte { return meta(unix.NFT_META_L4PROTO, to) }

func ct(key uint32) []byte {
	return expression("ct", register(unix.NFTA_CT_DREG, 0), word(unix.NFTA_CT_KEY, key))
}

func payload(base, offset, size, to uint32) []byte {
	return expression("payload", register(unix.NFTA_PAYLOAD_DREG, to),
		word(unix.NFTA_PAYLOAD_BASE, base), word(unix.NFTA_PAYLOAD_OFFSET, offset), word(unix.NFTA_PAYLOAD_LEN, size))
}

// header is a part of the header of IPv4 or IPv6.
func header(offset, size, to uint32) []byte {
	return payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, size, to)
}

func dport(to uint32) []byte { return payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, to) }

func compare(op uint32, with []byte) []byte {
	return expression("cmp", register(unix.NFTA_CMP_SREG, 0), word(unix.NFTA_CMP_OP, op), nest(unix.NFTA_CMP_DATA, attribute(unix.NFTA_DATA_VALUE, with)))
}

func equal(load, with []byte) []byte { return slices.Concat(load, compare(unix.NFT_CMP_EQ, with)) }

// bits goes on if one of them is set.
func bits(load []byte, mask uint32) []byte {
	none := make([]byte, 4)
	return slices.Concat(load, expression("bitwise", register(unix.NFTA_BITWISE_SREG, 0), register(unix.NFTA_BITWISE_DREG, 0), word(unix.NFTA_BITWISE_LEN, 4),
		nest(unix.NFTA_BITWISE_MASK, attribute(unix.NFTA_DATA_VALUE, netlink.Number(mask))), nest(unix.NFTA_BITWISE_XOR, attribute(unix.NFTA_DATA_VALUE, none))),
		compare(unix.NFT_CMP_NEQ, none))
}

func lookup(set string, load [][]byte, more ...[]byte) []byte {
	attributes := append([][]byte{text(unix.NFTA_LOOKUP_SET, set), register(unix.NFTA_LOOKUP_SREG, 0)}, more...)
	return slices.Concat(slices.Concat(load...), expression("lookup", attributes...))
}

// member goes on if the set has what was loaded, stranger if not.
func member(set string, load ...[]byte) []byte { return lookup(set, load) }

func stranger(set string, load ...[]byte) []byte {
	return lookup(set, load, word(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV))
}

// value is member for a map, and loads the value.
func value(set string, load ...[]byte) []byte {
	return lookup(set, load, register(unix.NFTA_LOOKUP_DREG, 0))
}

// dnat takes the new address from the first register on, and the port from that one.
func dnat(family, port uint32) []byte {
	return expression("nat", word(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT), word(unix.NFTA_NAT_FAMILY, family),
		register(unix.NFTA_NAT_REG_ADDR_MIN, 0), register(unix.NFTA_NAT_REG_PROTO_MIN, port))
}

func masquerade() []byte { return expression("masq") }

func verdict(code int32, chain string) []byte {
	v := word(unix.NFTA_VERDICT_CODE, uint32(code))
	if chain != "" {
		v = append(v, text(unix.NFTA_VERDICT_CHAIN, chain)...)
	}
	return expression("immediate", word(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT), nest(unix.NFTA_IMMEDIATE_DATA, nest(unix.NFTA_DATA_VERDICT, v)))
}
