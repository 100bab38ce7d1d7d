package connectors

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// This file puts what a merchant typed into the addresses and parameters of an entry, where a name in braces stands for it: {shop}.
// It is no template language. What is put in was checked (see Input.clean), so that it cannot leave its place: no host is ever called
// that is not below a domain which the operator wrote, but that of an input of the kind host.

// addressParts are the parts of an address with placeholders, as they are written. url.Parse would refuse the braces of a host.
type addressParts struct{ scheme, host, port, path, query string }

func splitAddress(address string) (p addressParts) {
	rest, authority := address, ""
	p.scheme, rest, _ = strings.Cut(rest, "://")
	authority, p.path = rest, ""
	if end := strings.IndexAny(rest, "/?#\\"); end >= 0 {
		authority, p.path = rest[:end], rest[end:]
	}
	p.path, p.query, _ = strings.Cut(p.path, "?")
	p.host = authority
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") && !strings.Contains(authority[i:], "}") {
		p.host, p.port = authority[:i], authority[i+1:]
	}
	return p
}

// fill puts values into an address. Names that stand for no input stay: {token} and {account} are put in elsewhere. It returns
// *RejectedError if a value is missing that the address needs, or is not one that the entry takes (any more).
func (in Inputs) fill(address string, values map[string]string) (string, error) {
	if !strings.Contains(address, "{") {
		return address, nil
	}
	parts := splitAddress(address)
	host, err := in.replace(parts.host, values, func(_ Input, value string) string { return value })
	if err != nil {
		return "", err
	}
	path, err := in.replace(parts.path, values, func(i Input, value string) string {
		if len(i.Options) > 0 {
			return value // the operator's own
		}
		return url.PathEscape(value)
	})
	if err != nil {
		return "", err
	}
	query, err := in.replace(parts.query, values, func(_ Input, value string) string { return url.QueryEscape(value) })
	if err != nil {
		return "", err
	}
	filled := parts.scheme + "://" + host
	if parts.port != "" {
		filled += ":" + parts.port
	}
	if filled += path; query != "" {
		filled += "?" + query
	}
	return filled, nil
}

// fillAll puts values into parameters. A parameter whose value consists of an optional input that was left empty is dropped.
func (in Inputs) fillAll(params, values map[string]string) (map[string]string, error) {
	if len(in) == 0 || len(params) == 0 {
		return params, nil
	}
	filled := make(map[string]string, len(params))
	for name, value := range params {
		put, err := in.replace(value, values, func(_ Input, value string) string { return value })
		if err != nil {
			return nil, err
		}
		if put != "" || value == "" {
			filled[name] = put
		}
	}
	return filled, nil
}

// replace puts values into a text, each written as write says.
func (in Inputs) replace(s string, values map[string]string, write func(Input, string) string) (string, error) {
	var err error
	filled := namePattern.ReplaceAllStringFunc(s, func(braced string) string {
		i, known := in.named(braced[1 : len(braced)-1])
		if !known {
			return braced
		}
		if i.From != "" && values[i.Name] == "" {
			return braced // the callback has not come yet
		}
		value, code := i.clean(values[i.Name])
		if code != "" {
			err = &RejectedError{Reason: "no-input", Detail: "what the merchant typed is no " + i.Name + " of this entry", Unsent: true}
		}
		return write(i, i.stands(value))
	})
	return filled, err
}

// named returns the input with a name.
func (in Inputs) named(name string) (Input, bool) {
	at := slices.IndexFunc(in, func(i Input) bool { return i.Name == name })
	if at < 0 {
		return Input{}, false
	}
	return in[at], true
}

// typedHost says whether what a merchant typed is part of an address's host.
func (in Inputs) typedHost(address string) bool { return in.typedIn(splitAddress(address).host) }

// typedIn says whether what a merchant typed is part of a text: not what they chose of the operator's options.
func (in Inputs) typedIn(s string) bool {
	return slices.ContainsFunc(namesIn(s), func(name string) bool {
		i, known := in.named(name)
		return known && len(i.Options) == 0
	})
}

// sourceOf says who wrote an address that was filled. In a sandbox an address on this machine is the operator's, so that an entry
// can be tried.
func (in Inputs) sourceOf(address, filled, environment string) source {
	if !in.typedHost(address) {
		return fromOperator
	}
	whole := splitAddress(address)
	if environment == "sandbox" && isLocal(splitAddress(filled).host) && strings.Trim(namePattern.ReplaceAllString(whole.host, ""), ".") != "" {
		return fromOperator
	}
	return fromMerchant
}

// isLocal says whether a host is this machine (RFC 6761 section 6.3).
func isLocal(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && address.IsLoopback()
}

// placeFault says what is wrong with where placeholders stand in an address, or "". checked is for the rules of whole addresses: it is
// given the address as it is with values filled in.
func (in Inputs) placeFault(address, environment string, checked func(filled string) string) string {
	if len(in) == 0 && !strings.ContainsAny(address, "{}") {
		return checked(address)
	}
	parts := splitAddress(address)
	if strings.ContainsAny(parts.scheme, "{}") {
		return "must not hold a name in braces in its scheme"
	}
	if strings.ContainsAny(parts.port, "{}") {
		return "must not hold a name in braces in its port"
	}
	for _, name := range namesIn(address) {
		i, known := in.named(name)
		if !known {
			continue
		}
		if i.Secret {
			return "must not hold {" + name + "}, which is secret"
		}
		if !strings.Contains(parts.host, "{"+name+"}") {
			continue
		}
		switch {
		case len(i.Options) > 0:
		case i.Kind == "host" && (parts.host != "{"+name+"}" || parts.port != "" || parts.scheme != "https"):
			return "must have {" + name + "} as its whole host, with https and without a port"
		case i.Kind == "host":
		case i.Kind == "segment":
			return "must not hold {" + name + "} in its host: it is a segment of a path"
		}
	}
	for _, host := range in.hostsOf(parts.host) {
		if i, whole := in.named(strings.Trim(host, "{}")); whole && i.Kind == "host" {
			continue
		}
		if wrong := hostFault(host, environment); wrong != "" {
			return wrong
		}
	}
	for _, filled := range in.samples(address) {
		if wrong := checked(filled); wrong != "" {
			return wrong
		}
	}
	if strings.ContainsAny(namePattern.ReplaceAllString(address, ""), "{}") {
		return "has a brace without its other"
	}
	return ""
}

// hostsOf returns a host once for each value of each option in it, with the other placeholders left.
func (in Inputs) hostsOf(host string) []string {
	hosts := []string{host}
	for _, name := range namesIn(host) {
		i, known := in.named(name)
		if !known || len(i.Options) == 0 {
			continue
		}
		var all []string
		for _, h := range hosts {
			for _, o := range i.Options {
				all = append(all, strings.ReplaceAll(h, "{"+name+"}", o.Value))
			}
		}
		hosts = all[:min(len(all), 1000)]
	}
	return hosts
}

// hostFault says what is wrong with where labels stand in a host, or "": what follows the last of them must be a domain of the
// operator's, and not one below which anybody may have theirs.
func hostFault(host, environment string) string {
	last := strings.LastIndexByte(host, '}')
	if last < 0 {
		return ""
	}
	_, fixed, _ := strings.Cut(host[last:], ".")
	fixed, _, _ = strings.Cut(fixed, "/") // options may hold a path
	fixed, _, _ = strings.Cut(fixed, ":") // and a port
	switch {
	case environment == "sandbox" && isLocal(fixed):
	case isSuffix(fixed):
		return "must have a name in braces before a domain of the provider's only, as in https://{shop}.example.com"
	}
	return ""
}

// isSuffix says whether everybody may have a domain below this one: it has fewer than two labels, or is a suffix of ICANN's such
// as co.uk.
func isSuffix(domain string) bool {
	return strings.Count(domain, ".") == 0 || registrable(domain) == ""
}

// registrable returns the domain that its owner registered, of which domain is one or part: example.co.uk of www.example.co.uk. It is
// "" for a suffix of ICANN's. Suffixes that a company declares for its customers' domains are the company's.
func registrable(domain string) string {
	domain = strings.ToLower(domain)
	suffix, icann := publicsuffix.PublicSuffix(domain)
	for !icann {
		_, above, ok := strings.Cut(suffix, ".")
		if !ok {
			break
		}
		suffix, icann = publicsuffix.PublicSuffix(above)
	}
	below, ok := strings.CutSuffix(domain, "."+suffix)
	if !ok {
		return ""
	}
	return below[strings.LastIndexByte(below, '.')+1:] + "." + suffix
}

// samples returns an address with sample values: one for each option, so that each is checked.
func (in Inputs) samples(address string) []string {
	parts := splitAddress(address)
	most := 1
	for _, i := range in {
		most = max(most, len(i.Options))
	}
	var filled []string
	for n := range most {
		put := func(s string) string {
			return namePattern.ReplaceAllStringFunc(s, func(braced string) string {
				i, known := in.named(braced[1 : len(braced)-1])
				switch {
				case !known:
					return braced
				case len(i.Options) > 0:
					return i.Options[n%len(i.Options)].Value
				case i.Kind == "host":
					return "host.example.com"
				}
				return "x"
			})
		}
		one := parts.scheme + "://" + put(parts.host)
		if parts.port != "" {
			one += ":" + parts.port
		}
		if one += put(parts.path); parts.query != "" {
			one += "?" + put(parts.query)
		}
		if !slices.Contains(filled, one) {
			filled = append(filled, one)
		}
	}
	return filled
}

// sharedFault says whether addresses that hold what a merchant typed lead to domains of different owners, or choose by different
// options. faults name the key of the address.
func (in Inputs) sharedFault(addresses []keyedAddress) (wrong []string) {
	var first keyedAddress
	for _, a := range addresses {
		if !in.typedHost(a.address) {
			continue
		}
		if first.address == "" {
			first = a
			continue
		}
		if owners(in, a.address) != owners(in, first.address) {
			wrong = append(wrong, a.key+" must be below the same domain as "+first.key)
		}
	}
	return wrong
}

// keyedAddress is an address of an entry, and the key that it is the value of.
type keyedAddress struct{ key, address string }

// owners returns the registered domains that an address may lead to, as one text.
func owners(in Inputs, address string) string {
	var all []string
	for _, host := range in.hostsOf(splitAddress(address).host) {
		host, _, _ = strings.Cut(host, "/")
		host, _, _ = strings.Cut(host, ":")
		owner := host
		if end := strings.LastIndexByte(host, '}'); end >= 0 {
			_, fixed, _ := strings.Cut(host[end:], ".")
			if owner = registrable(fixed); owner == "" {
				owner = fixed
			}
			if fixed == "" {
				owner = host // of the kind host: the name itself
			}
		}
		if !slices.Contains(all, owner) {
			all = append(all, owner)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// with returns the profile with what a merchant typed in its addresses and parameters.
func (p *profile) with(values map[string]string) (*profile, error) {
	if len(p.Inputs) == 0 {
		return p, nil
	}
	filled := *p
	filled.typed = slices.Clone(p.typed) // by the issuer
	var err error
	address := func(written string) string {
		to, wrong := p.Inputs.fill(written, values)
		if wrong != nil {
			err = wrong
		}
		if to != "" && p.Inputs.sourceOf(written, to, p.Environment) == fromMerchant {
			filled.typed = append(filled.typed, to)
		}
		return to
	}
	params := func(written map[string]string) map[string]string {
		put, wrong := p.Inputs.fillAll(written, values)
		if wrong != nil {
			err = wrong
		}
		return put
	}
	filled.authorizeURL, filled.tokenURL, filled.refreshURL = address(p.authorizeURL), address(p.tokenURL), address(p.refreshURL)
	filled.revokeURL, filled.userinfoURL = address(p.revokeURL), address(p.userinfoURL)
	filled.AuthorizeParams, filled.TokenParams, filled.RefreshParams = params(p.AuthorizeParams), params(p.TokenParams), params(p.RefreshParams)
	filled.Entry.Revoke.Params = params(p.Entry.Revoke.Params)
	if p.Account != nil {
		account := *p.Account
		account.URL = address(account.URL)
		filled.Account = &account
	}
	return &filled, err
}

// profileWith returns what the provider is like for a merchant who typed values.
func (s *standard) profileWith(ctx context.Context, values map[string]string) (*profile, error) {
	p, err := s.profile(ctx, values)
	if err != nil {
		return nil, err
	}
	return p.with(values)
}

// Fields returns what the merchant is asked before the browser leaves.
func (s *standard) Fields() []Field { return s.entry.Inputs.fields() }

// CheckInputs returns what is kept of what the merchant typed.
func (s *standard) CheckInputs(typed map[string]string) (map[string]string, error) {
	return s.entry.Inputs.read(typed)
}
