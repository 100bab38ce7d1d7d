// Package dial says which addresses may be called when others than the operator wrote them: providers, merchants and programs
// could otherwise have us call machines of the network that we run in.
package dial

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"
)

// ErrNotPublic is returned for an address that is not one of the public Internet.
var ErrNotPublic = errors.New("the address is not public")

// notPublic are the networks that netip does not name itself (IANA's registries of special-purpose addresses), and Azure's wire
// server, which every machine there reaches.
var notPublic = func() (networks []netip.Prefix) {
	for _, s := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "168.63.129.16/32",
		"::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
	} {
		networks = append(networks, netip.MustParsePrefix(s))
	}
	return networks
}()

// nat64 is the prefix that an IPv4 address is put behind where a network has none (RFC 6052 section 2.1).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// IsPublic says whether an address is one of the public Internet: not loopback, private (RFC 1918), unique local (RFC 4193),
// link-local, shared (RFC 6598) or multicast.
func IsPublic(a netip.Addr) bool {
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(a) })
}

// PublicOnly is a ControlContext of net.Dialer: it is called with each address that a name resolved to, just before it is called. It
// returns ErrNotPublic.
func PublicOnly(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !IsPublic(to.Addr()) {
		return ErrNotPublic
	}
	return nil
}
