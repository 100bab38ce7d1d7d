package connectors

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"patchbay/internal/dial"
)

// source says who wrote the address of a request. Whoever did may not have us call machines of the network that we run in.
type source int

const (
	fromOperator source = iota // settings and CONNECTORS_FILE: any address
	fromProvider               // an answer of the provider's, such as its metadata: a public address, or the operator's proxy
	fromMerchant               // what a merchant typed is in it: a public address, and never by a proxy, which resolves names itself
)

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
	case s == fromOperator, s == fromProvider && proxied && (notLiteral != nil || dial.IsPublic(literal)):
		return c.any, proxied
	}
	return c.public, false
}

// isInside says whether a connection's other end is on this machine or in a private network.
func isInside(c net.Conn) bool {
	remote, err := netip.ParseAddrPort(c.RemoteAddr().String())
	return err == nil && !dial.IsPublic(remote.Addr())
}
