package connectors

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"
)

// source says who wrote the address of a request. Whoever did may not have us call machines of the network that we run in.
type source int

const (
	fromOperator source = iota // settings and CONNECTORS_FILE: any address
	fromProvider               // an answer of the provider's, such as its metadata: a public address, or the operator's proxy
	fromMerchant               // what a merchant typed is in it: a public address, and never by a proxy, which resolves names itself
)

var errNotPublic = errors.New("the address is not public")

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

// isPublic says whether an address is one of the public Internet: not loopback, private (RFC 1918), unique local (RFC 4193),
// link-local, shared (RFC 6598) or multicast.
func isPublic(a netip.Addr) bool {
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(a) })
}

// publicOnly is a Control of net.Dialer: it is called with each address that a name resolved to, just before it is called.
func publicOnly(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !isPublic(to.Addr()) {
		return errNotPublic
	}
	return nil
}

type dialControl func(ctx context.Context, network, address string, c syscall.RawConn) error

func newTransport(proxy func(*http.Request) (*url.URL, error), control dialControl) *http.Transport {
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, ControlContext: control}).DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    64, // the refresh engine keeps this many calls going to one provider
		IdleConnTimeout:        60 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// transport returns the client that may send a request to an address of this source, and whether it sends by a proxy.
func (c *Client) transport(r *http.Request, s source) (client *http.Client, proxied bool) {
	proxy, err := c.proxy(r)
	proxied = proxy != nil || err != nil
	literal, notLiteral := netip.ParseAddr(r.URL.Hostname())
	switch {
	case s == fromOperator, s == fromProvider && proxied && (notLiteral != nil || isPublic(literal)):
		return c.any, proxied
	}
	return c.public, false
}

// isInside says whether a connection's other end is on this machine or in a private network.
func isInside(c net.Conn) bool {
	remote, err := netip.ParseAddrPort(c.RemoteAddr().String())
	return err == nil && !isPublic(remote.Addr())
}
