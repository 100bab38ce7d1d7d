package connectors

import (
	"net/url"
	"strings"
	"testing"
)

func TestWhoseAnAddressIs(t *testing.T) {
	in := Inputs{{Name: "shop", Kind: "label"}, {Name: "region", Options: Options{{Key: "eu", Value: "127.0.0.1:1"}}}, {Name: "tenant", Kind: "segment"}, {Name: "host", Kind: "host"}}
	values := map[string]string{"shop": "ch168", "region": "eu", "tenant": "t", "host": "internal.example.com"}
	for _, c := range []struct {
		address, environment string
		want                 source
	}{
		{"https://{shop}.example.com/", "production", fromMerchant},
		{"https://{shop}.example.com/", "sandbox", fromMerchant},
		{"http://{shop}.localhost:1/", "sandbox", fromOperator},
		{"http://{shop}.localhost:1/", "production", fromMerchant},
		{"https://{host}/", "sandbox", fromMerchant},
		{"https://{host}/", "production", fromMerchant},
		{"http://{region}/", "sandbox", fromOperator},
		{"https://{region}/", "production", fromOperator},
		{"https://10.0.0.1/{tenant}", "production", fromOperator},
		{"https://api.example.com/", "production", fromOperator},
	} {
		filled, err := in.fill(c.address, values)
		if got := in.sourceOf(c.address, filled, c.environment); err != nil || got != c.want {
			t.Errorf("%s in %s (%s): %d, want %d, %v", c.address, c.environment, filled, got, c.want, err)
		}
	}
}

func TestARegisteredDomainIsItsOwners(t *testing.T) {
	for domain, want := range map[string]string{
		"example.com": "example.com", "a.b.example.com": "example.com", "example.co.uk": "example.co.uk", "co.uk": "", "com": "", "myshopify.com": "myshopify.com", "a.myshopify.com": "myshopify.com",
		"github.io": "github.io", "s3.amazonaws.com": "amazonaws.com", "com.kh": "", "ch168.com.kh": "ch168.com.kh",
	} {
		if got := registrable(domain); got != want {
			t.Errorf("%s: %q, want %q", domain, got, want)
		}
	}
}

// FuzzWhatIsTypedStaysInItsPlace types anything into a label, a segment, a query's value, an issuer, and a key in the path and the query of
// a check.
func FuzzWhatIsTypedStaysInItsPlace(f *testing.F) {
	for _, seed := range []string{"ch168", "a.b", "..", "%2e%2e", "a/b", "a@b", "a#b", "a?b", "a\\b", "a:1", "ＡＢ", "ខ្មែរ", "[::1]", "https://x.example.com/y", "\u202ea", "a\x00b", "{label}", "&a=b", "ch168.example.com."} {
		f.Add(seed)
	}
	in := Inputs{{Name: "label", Kind: "label", Suffix: ".example.com"}, {Name: "segment", Kind: "segment"}, {Name: "text"}, {Name: "host", Kind: "host"}, {Name: "secret", Kind: "segment", Secret: true}, {Name: "typed", Secret: true}}
	f.Fuzz(func(t *testing.T, typed string) {
		for _, c := range []struct{ name, address string }{
			{"label", "https://{label}.example.com:8443/a/b?c=d"},
			{"segment", "https://api.example.com:8443/{segment}/b?c=d"},
			{"text", "https://api.example.com:8443/a/b?c={text}"},
			{"secret", "https://api.example.com:8443/bot{secret}/b?c=d"},
			{"secret", "https://api.example.com:8443/{secret}/b?c=d"},
			{"typed", "https://api.example.com:8443/a/b?c={typed}"},
			{"label", "https://{label}.example.com:8443/a/{label}?c=d"},
		} {
			i, _ := in.named(c.name)
			value, code := i.clean(typed)
			if code != "" {
				continue
			}
			filled, err := in.fill(c.address, map[string]string{c.name: value})
			if err != nil {
				t.Fatalf("%q is kept as %q, and %v", typed, value, err)
			}
			u, err := url.Parse(filled)
			if err != nil {
				t.Fatalf("%q makes %q: %v", typed, filled, err)
			}
			domain, ok := strings.CutSuffix(u.Hostname(), "example.com")
			if !ok || domain == "" || strings.Count(domain, ".") != 1 || u.Scheme != "https" || u.Port() != "8443" || u.User != nil || u.Fragment != "" || u.Opaque != "" || len(u.Query()) != 1 {
				t.Fatalf("%q makes %q", typed, filled)
			}
			if parts := strings.Split(u.EscapedPath(), "/"); len(parts) != 3 || parts[1] == ".." || parts[1] == "." || u.JoinPath().Path != u.Path {
				t.Fatalf("%q makes the path %q", typed, u.EscapedPath())
			}
			for _, at := range metadataURLs(filled) {
				if m, err := url.Parse(at); err != nil || m.Host != u.Host || m.Scheme != "https" || !strings.Contains(m.Path, "/.well-known/") {
					t.Fatalf("%q is asked as issuer at %q", typed, at)
				}
			}
			if (c.name == "text" || c.name == "typed") && u.Query().Get("c") != value {
				t.Fatalf("%q is sent as %q", value, u.Query().Get("c"))
			}
		}
		host, _ := in.named("host")
		if value, code := host.clean(typed); code == "" {
			u, err := url.Parse("https://" + value + "/a")
			if err != nil || u.Host != value || u.Path != "/a" || u.User != nil || u.Port() != "" || !strings.Contains(value, ".") || value[len(value)-1] < 'a' && value[len(value)-1] != '-' && value[len(value)-1] > '9' {
				t.Fatalf("%q is the host %q", typed, value)
			}
		}
	})
}
