package handlers

import (
	"sync"
	"testing"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/sandbox"
)

// hits follows the callback n times at once, each to its page. when is called as soon as n transactions wait for the account.
func (p *person) hits(callback string, n int, when func()) []answer {
	p.t.Helper()
	var all sync.WaitGroup
	pages := make([]answer, n)
	for i := range pages {
		all.Go(func() {
			if got := p.get(callback); got.location != "" {
				pages[i] = p.get(got.location)
			}
		})
	}
	when()
	all.Wait()
	return pages
}

func TestEveryHitOnACallbackEndsAtTheSamePage(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{CamInvoice: sandbox.CamInvoiceOptions{EchoState: true}}))
	for _, one := range []struct {
		name, provider, account string
		before                  func(*person) // what the merchant has done already
		h1                      string
	}{
		{"a new account connects without a question", "acme", "acme-user-001", func(*person) {}, "Acme is connected"},
		{"so does one of a provider with odd words", "caminvoice", "KHUID00001234", func(*person) {}, caminvoiceConnected},
		{
			"an account that is there already asks everywhere", "acme", "acme-user-001",
			func(p *person) { p.connect("acme", "acme-user-001") }, "This account is already connected",
		},
	} {
		t.Run(one.name, func(t *testing.T) {
			p := s.merchant(one.name[:9])
			one.before(p)
			callback := p.consent(p.leave(one.provider), one.account, "allow")
			release := dbtest.HoldAccount(t, s.db, one.provider, "sandbox", one.account)
			pages := p.hits(callback, 6, func() {
				// The first hit is about to connect, and the pages of the others are about to be drawn.
				dbtest.Eventually(t, "all hits wait", func() bool { return dbtest.HeldTransactions(t, s.db) >= 6 })
				release()
			})
			for _, page := range append(pages, p.get(s.flowPath())) {
				wantH1(t, page, one.h1)
			}
		})
	}
}
