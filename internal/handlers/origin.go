package handlers

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// This file finds the client's address and the requested host of a request behind proxies. It uses headers of trusted proxies only.
// A header that cannot be parsed means that the address is unknown, and not that it is the proxy's.

// peer returns the address at the other end of the connection. It is not valid if there is none.
func peer(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return address.Unmap()
}

func (s *Server) trusted(address netip.Addr) bool {
	for _, network := range s.TrustedProxies {
		if network.Contains(address.Unmap()) {
			return true
		}
	}
	return false
}

// address returns the client's IP address: the peer's, or the one that trusted proxies name. It returns "" if it is unknown,
// because a trusted proxy names nothing that can be read.
func (s *Server) address(r *http.Request) string {
	address := peer(r)
	if !address.IsValid() {
		return ""
	}
	if s.trusted(address) && forwarded(r) {
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for i := len(hops) - 1; i >= 0 && s.trusted(address); i-- {
			if address = parseHop(hops[i]); !address.IsValid() {
				return ""
			}
		}
	}
	return address.String()
}

// parseHop reads one address of X-Forwarded-For: IPv4 or IPv6, in brackets, in quotes and with a port, as proxies write it. It
// returns an invalid address for anything else.
func parseHop(text string) netip.Addr {
	text = strings.TrimSpace(strings.Trim(strings.TrimSpace(text), `"`))
	address, err := netip.ParseAddr(text)
	if err != nil {
		if inside, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inside, "]") {
			address, err = netip.ParseAddr(strings.TrimSuffix(inside, "]"))
		} else {
			var with netip.AddrPort
			with, err = netip.ParseAddrPort(text)
			address = with.Addr()
		}
	}
	if err != nil {
		return netip.Addr{}
	}
	return address.Unmap().WithZone("")
}

// forwarded reports whether a proxy forwarded the request.
func forwarded(r *http.Request) bool {
	for _, name := range []string{
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server", "Forwarded", "Via", "X-Real-Ip",
		"X-Client-Ip", "X-Original-For", "X-Original-Host", "X-Arr-Log-Id", "True-Client-Ip", "Cf-Connecting-Ip", "Fly-Client-Ip",
	} {
		if _, ok := r.Header[name]; ok {
			return true
		}
	}
	return false
}

// fromOperator reports whether a request comes straight from this machine or from a trusted network. A proxy's request never does:
// neither one that names its client nor one that hides it, which uses HTTP/1.0 or asks for PUBLIC_URL's host.
func (s *Server) fromOperator(r *http.Request) bool {
	address := peer(r)
	if !address.IsLoopback() && !s.trusted(address) || forwarded(r) || !r.ProtoAtLeast(1, 1) {
		return false
	}
	public := hostOf(s.PublicURL, s.PublicURL.Host)
	return hostOf(s.PublicURL, r.Host) != public || isUpstream(public)
}

// hostOf returns a host as it is compared: in lower case, without the final dot, and without the port that public's scheme
// implies.
func hostOf(public *url.URL, host string) string {
	host = strings.ToLower(strings.TrimSpace(host))
	implied := map[string]string{"http": ":80", "https": ":443"}[public.Scheme]
	host = strings.TrimSuffix(host, implied)
	name, port, found := strings.Cut(host, ":")
	if strings.HasPrefix(host, "[") { // IPv6
		return strings.TrimSuffix(host, ":")
	}
	name = strings.TrimSuffix(name, ".")
	if found && port != "" {
		name += ":" + port
	}
	return name
}

// isUpstream reports whether a host is what a proxy calls the server behind it, and not what a browser's bar shows to people
// outside: an IP address, a name without a dot, or one under .internal, .local or .localhost.
func isUpstream(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	for _, suffix := range []string{".internal", ".local", ".localhost"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return !strings.Contains(name, ".")
}

// requestedHost returns the host in the browser's bar, and whether that is known. A trusted proxy may hide it: by naming the server
// behind it as Host without X-Forwarded-Host, as nginx, Apache and IIS do by default.
func (s *Server) requestedHost(r *http.Request) (host string, known bool) {
	if s.trusted(peer(r)) {
		if named, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Host"), ","); strings.TrimSpace(named) != "" {
			return hostOf(s.PublicURL, named), true
		}
		host = hostOf(s.PublicURL, r.Host)
		return host, !isUpstream(host) || host == hostOf(s.PublicURL, s.PublicURL.Host)
	}
	return hostOf(s.PublicURL, r.Host), true
}

// usesPlainHTTP reports whether a trusted proxy says that the browser uses plain HTTP although PUBLIC_URL is https.
func (s *Server) usesPlainHTTP(r *http.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return s.secure && strings.EqualFold(strings.TrimSpace(scheme), "http") && s.trusted(peer(r))
}

// movedCookie marks a browser that was just sent to PUBLIC_URL. If it comes back with it, PUBLIC_URL leads here by a proxy that
// does not say so, and another redirect would lead to the same address again.
const movedCookie = "moved"

// canonicalHost keeps pages at PUBLIC_URL, where cookies and callbacks belong: a GET elsewhere is redirected there, and anything
// else is refused with 421, since by DNS rebinding a web page can ask under a host of its own.
func (s *Server) canonicalHost(next http.Handler) http.Handler {
	public := hostOf(s.PublicURL, s.PublicURL.Host)
	misdirected := s.page(route{roles: everyone, do: func(http.ResponseWriter, *http.Request) error { return errMisdirected }})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, known := s.requestedHost(r)
		read := r.Method == http.MethodGet || r.Method == http.MethodHead
		_, err := r.Cookie(movedCookie)
		moved := err == nil
		switch {
		case !known:
			s.warnHiddenHost.Do(func() {
				s.Log.WarnContext(r.Context(), "the proxy hides which address was asked for: have it send Host or X-Forwarded-Host (docs/operating.md)", "proxy", peer(r).String(), "host", host)
			})
			next.ServeHTTP(w, r)
		case host == public && !(s.usesPlainHTTP(r) && read && !moved):
			next.ServeHTTP(w, r)
		case !read:
			misdirected.ServeHTTP(w, r)
		case host != public && moved, !s.trusted(peer(r)) && hostOf(s.PublicURL, r.Header.Get("X-Forwarded-Host")) == public:
			s.warnUntrustedProxy.Do(func() {
				s.Log.WarnContext(r.Context(), "PUBLIC_URL leads here by a proxy that is not in TRUSTED_PROXIES, or that hides the Host (docs/operating.md)", "peer", peer(r).String(), "host", host)
			})
			misdirected.ServeHTTP(w, r)
		default:
			there := *s.PublicURL
			there.Path, there.RawPath, there.RawQuery = r.URL.Path, r.URL.RawPath, r.URL.RawQuery
			http.SetCookie(w, &http.Cookie{Name: movedCookie, Value: "1", Path: "/", MaxAge: int(movedLifetime / time.Second), HttpOnly: true, SameSite: http.SameSiteLaxMode})
			http.Redirect(w, r, there.String(), http.StatusTemporaryRedirect)
		}
	})
}

// movedLifetime is how long movedCookie lasts: longer than a redirect, shorter than a second visit.
const movedLifetime = 4 * time.Second
