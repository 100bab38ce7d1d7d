package handlers

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/jobs"
)

// TestAnEntrySaysWhichCompanyIsConnected: the bookkeeper's own sub stands for none of their companies.
func TestAnEntrySaysWhichCompanyIsConnected(t *testing.T) {
	t.Parallel()
	provider := newStrict(t)
	s := newTestServer(t, withConnector(provider.connectorWith(t, `,"account":{"id":"callback.realmId","keep":{"realm_id":"callback.realmId"}},"grant_life":"8760h"`)))
	p := s.merchant("Two Companies")
	for _, realm := range []string{"4620816365000001", "4620816365000002"} {
		_, page := p.returns(p.post("/connect/books"), "U1", "realmId", realm)
		wantH1(t, page, booksConnected)
	}
	list := p.connections()
	if len(list) != 2 || list[0].Account.ID != "4620816365000001" || list[1].Account.ID != "4620816365000002" || list[1].Account.Values["realm_id"] != "4620816365000002" || len(list[1].Account.Values) != 1 {
		t.Fatalf("connections: %+v", list)
	}
	_, page := p.returns(p.post("/connect/books"), "U1", "realmId", "4620816365000002")
	wantH1(t, page, booksThere)
	_, page = p.returns(p.reconnects(list[0].ID), "U1", "realmId", "4620816365000001")
	wantH1(t, page, booksAgain)
	_, page = p.returns(p.reconnects(list[0].ID), "U1", "realmId", "4620816365000003")
	wantH1(t, page, booksDiffers)
	if now := p.connections(); len(now) != 2 || now[0].Account.ID != "4620816365000001" {
		t.Fatal("overwritten without a question")
	}
	_, page = p.returns(p.reconnects(list[0].ID), "U1") // the company is not in the callback
	if strings.Contains(page.body, booksAgain) {
		t.Error("an account without an id was taken for the connected one")
	}
	if got := p.connections()[0]; got.AccessEnds.IsZero() || got.AccessEnds.Sub(time.Now().Add(8760*time.Hour)).Abs() > time.Minute {
		t.Errorf("reconnect by %v, want in a year", got.AccessEnds)
	}
	if page := p.get("/connections/" + list[0].ID.String()); !strings.Contains(page.body, "realm_id") || !strings.Contains(page.body, "Refreshes by itself until") {
		t.Error("the page does not show what is kept, or until when consent is given")
	}
	if ended, alive := provider.revocations(); ended != 0 || alive == 0 {
		t.Errorf("%d revocations", ended)
	}
}

func TestAnEntrysWordsAreOnThePages(t *testing.T) {
	t.Parallel()
	const svg = `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`
	logo := func(o *Options, _ *jobs.Options) {
		o.Providers[0].Logo = connectors.Logo{Image: []byte(svg), Type: "image/svg+xml"}
	}
	s := newTestServer(t, withConnector(newStrict(t).connectorWith(t, `,"description":{"en":"Sends orders to <Books>","km":"K"},"category":"Accounting","color":"#123456",
		"help_url":"https://help.example/books","portal_url":"https://books.example/apps"`)), withOptions(logo))
	p := s.merchant("Shop")
	for path, says := range map[string][]string{
		"/":              {"Sends orders to &lt;Books&gt;", "Accounting", `src="/providers/books/logo"`},
		"/connect/books": {"Sends orders to &lt;Books&gt;", `href="https://help.example/books"`, `href="https://books.example/apps"`, "Help with ", `src="/providers/books/logo"`},
	} {
		page := p.get(path)
		for _, want := range says {
			if !strings.Contains(page.body, want) {
				t.Errorf("%s does not show %s", path, want)
			}
		}
	}
	for path, want := range map[string]int{"/providers/books/logo": http.StatusOK, "/providers/nothing/logo": http.StatusNotFound} {
		res, err := client.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want || want == http.StatusOK && (res.Header.Get("Content-Type") != "image/svg+xml" || !strings.Contains(res.Header.Get("Content-Security-Policy"), "sandbox")) {
			t.Errorf("%s: %d %v", path, res.StatusCode, res.Header)
		}
	}
}
