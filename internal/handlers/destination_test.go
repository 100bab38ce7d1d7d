package handlers

import (
	"net/url"
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"

	"patchbay/internal/sandbox"
)

// TestThePageBeforeLeavingNamesTheHost compares it with where each provider's button then leads.
func TestThePageBeforeLeavingNamesTheHost(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	named := 0
	p.get("/").document().Find(`a[href^="/connect/"]`).Each(func(_ int, link *goquery.Selection) {
		path := link.AttrOr("href", "")
		page := p.get(path)
		shown := page.text(".goes-to bdi")
		if page.has(`form[action^="/connect/"] input:not([type=hidden])`) { // what is typed decides, or nobody leaves
			if shown != "" {
				t.Errorf("%s asks for something, and already names %s", path, shown)
			}
			return
		}
		to, err := url.Parse(p.submit(page, `[action="`+path+`"]`).location)
		if err != nil || to.Host == "" {
			t.Fatalf("%s leads to %v, %v", path, to, err)
		}
		if named++; shown != to.Host {
			t.Errorf("%s names %q and leads to %q", path, shown, to.Host)
		}
	})
	if named < 3 {
		t.Errorf("%d pages were looked at", named)
	}
}

func TestPagesOfPastedKeysLeadToWhereTheKeysAre(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	page := s.merchant("CH168 Shop").get("/connect/flexiti")
	link := page.document().Find("form#typed a[target=_blank]")
	if link.AttrOr("href", "") == "" || !strings.Contains(link.Text(), "Flexiti") || link.AttrOr("rel", "") != "noopener noreferrer" {
		t.Errorf("beside the form stands %q", link.Text())
	}
}
