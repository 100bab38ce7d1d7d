package connectors

import (
	"context"
	"net/url"
	"strings"

	"golang.org/x/net/idna"
)

// A Destined is a Redirector that can say beforehand where the browser is sent.
type Destined interface {
	Redirector
	// Destination returns the host of the provider's page, with the port where it has one of its own, as a browser shows it: a domain in
	// another script in Latin letters (xn--…, RFC 3492). It is "" where that is not known yet, as without the inputs.
	Destination(ctx context.Context, inputs map[string]string) string
}

var (
	_ Destined = (*standard)(nil)
	_ Destined = (*camInvoice)(nil)
	_ Destined = (*elecqBrowser)(nil)
)

// Destination is that of the address in force: the entry's own, else the one that the issuer publishes.
func (s *standard) Destination(ctx context.Context, inputs map[string]string) string {
	if s.entry.AuthorizeURL != "" {
		address, err := s.entry.Inputs.fill(s.entry.AuthorizeURL, inputs)
		if err != nil {
			return ""
		}
		return shownHost(address)
	}
	p, err := s.profileWith(ctx, inputs)
	if err != nil {
		return ""
	}
	return shownHost(p.authorizeURL)
}

// Destination is that of /connect.
func (c *camInvoice) Destination(context.Context, map[string]string) string {
	return shownHost(c.connectURL)
}

// Destination is that of the authorization address.
func (b *elecqBrowser) Destination(context.Context, map[string]string) string {
	return shownHost(b.authorizeURL)
}

// Destination is unknown: only the authorization address knows the sign-in page.
func (s *elecqServer) Destination(context.Context, map[string]string) string { return "" }

// shownHost returns the host of an address as browsers show it.
func shownHost(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	host, port := strings.ToLower(u.Host), ""
	if u.Port() != "" {
		host = strings.TrimSuffix(host, ":"+u.Port())
		if standard := map[string]string{"http": "80", "https": "443"}; standard[u.Scheme] != u.Port() {
			port = ":" + u.Port()
		}
	}
	if ascii, err := idna.Punycode.ToASCII(host); err == nil {
		host = ascii
	}
	return host + port
}
