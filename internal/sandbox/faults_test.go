package sandbox

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/internal/db/dbtest"
)

func (b *bench) fault(provider string, m Fault) {
	b.Helper()
	if err := b.SetFault(provider, m); err != nil {
		b.Fatal(err)
	}
}

func TestFaults(t *testing.T) {
	b := start(t, Options{CamInvoice: CamInvoiceOptions{Rotate: true}})
	fresh := func() string {
		issued, err := b.Issue(CamInvoice, "KHUID00001234")
		if err != nil {
			t.Fatal(err)
		}
		return issued.Refresh
	}
	for _, c := range []struct {
		fault  Fault
		status int // 0: hung up
		part   string
		spent  bool
	}{
		{Fault{Kind: Slow, Delay: 60 * time.Millisecond}, 200, "token", true},
		{Fault{Kind: Late, Delay: 60 * time.Millisecond}, 200, "token", true},
		{Fault{Kind: Error500}, 500, "<h1>", false},
		{Fault{Kind: Forbidden}, 403, "<h1>", false},
		{Fault{Kind: Unavailable, RetryAfter: 3 * time.Second}, 503, "<h1>", false},
		{Fault{Kind: TooMany}, 429, "message", false},
		{Fault{Kind: HTML}, 200, "<!doctype html>", false},
		{Fault{Kind: Empty}, 200, "{}", false},
		{Fault{Kind: Lost}, 0, "", true},
		{Fault{Kind: HangUp}, 0, "", false},
		{Fault{Kind: Redirect}, 302, "", false},
		{Fault{Kind: Refused}, 401, "invalid_grant", false},
		{Fault{Kind: ClientRefused}, 401, "invalid_client", false},
		{Fault{Kind: OddLifetimes}, 200, `"expire_in":"soon"`, true},
		{Fault{Kind: OddLifetimes, Lifetime: -5}, 200, `"expire_in":-5`, true},
		{Fault{Kind: Skewed, Skew: time.Hour}, 200, "token", true},
	} {
		c.fault.Endpoint, c.fault.Count = "refresh", 1
		b.fault(CamInvoice, c.fault)
		refresh, began := fresh(), time.Now()
		a, err := b.try("POST", "/caminvoice/api/v1/auth/token", map[string]string{"refresh_token": refresh}, camBasic())
		if (err != nil) != (c.status == 0) || err == nil && (a.status != c.status || !strings.Contains(a.raw, c.part)) {
			t.Errorf("%s answered %d %.100s, %v", c.fault.Kind, a.status, a.raw, err)
		}
		if c.fault.Delay > 0 && time.Since(began) < c.fault.Delay {
			t.Errorf("%s answered too soon", c.fault.Kind)
		}
		switch c.fault.Kind {
		case Unavailable:
			if a.header.Get("Retry-After") != "3" {
				t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
			}
		case Skewed:
			date, err := http.ParseTime(a.header.Get("Date"))
			_, claims := b.claims(a.text("token"))
			if err != nil || time.Until(date) < 59*time.Minute || claims["iat"].(float64) < float64(time.Now().Add(59*time.Minute).Unix()) {
				t.Errorf("Date %s, claims %v", a.header.Get("Date"), claims)
			}
		}
		// The fault was for one call: the next shows whether the refresh token had been spent.
		want := 200
		if c.spent {
			want = 401
		}
		if again := b.camRefresh(refresh); again.status != want {
			t.Errorf("after %s a refresh gave %d, want %d", c.fault.Kind, again.status, want)
		}
		if spends := b.DoubleSpends(); c.fault.Kind == Lost && !spends[len(spends)-1].Unanswered {
			t.Error("a lost answer is not known as unanswered")
		}
	}
	if len(b.Faults()) != 0 {
		t.Errorf("left over: %v", b.Faults())
	}
	if b.SetFault(CamInvoice, Fault{Kind: "merry"}) == nil || b.SetFault("nobody", Fault{Kind: Slow}) == nil || b.SetFault(CamInvoice, Fault{Kind: Slow, Endpoint: "x"}) == nil {
		t.Error("nonsense is accepted")
	}
}

func TestFaultOfAProviderSparesPages(t *testing.T) {
	b := start(t, Options{CamInvoice: CamInvoiceOptions{Callbacks: []string{camCallback}}})
	b.fault(CamInvoice, Fault{Kind: Error500})
	b.want(b.camPage(camCallback, ""), 200)
	b.want(b.camRefresh("x"), 500)
	b.want(b.camExchange("x"), 500)
	b.fault(CamInvoice, Fault{Kind: HTML, Endpoint: "refresh"}) // the endpoint's own goes first
	b.want(b.camRefresh("x"), 200)
	b.want(b.elecqRefresh("x"), 200)
	b.ClearFaults(CamInvoice)
	b.want(b.camRefresh("x"), 401)
	b.fault(CamInvoice, Fault{Kind: Unavailable, Endpoint: "connect"})
	b.want(b.camPage(camCallback, ""), 503)
}

// TestEveryEndpointHasFaults gives each provider the same faults.
func TestEveryEndpointHasFaults(t *testing.T) {
	b := start(t, Options{})
	b.fault(Flexiti, Fault{Kind: Refused})
	b.want(b.flexiti(), 401, "invalid_token")
	b.fault(Flexiti, Fault{Kind: ClientRefused})
	b.want(b.flexiti(), 400, "invalid_client")
	b.fault(Flexiti, Fault{Kind: OddLifetimes, Lifetime: "1e400"})
	b.want(b.flexiti(), 200, `"expires_in":"1e400"`)
	b.fault(ELECQ, Fault{Kind: ClientRefused})
	b.want(b.elecqRefresh("x"), 200, `"respCode":"401"`)
	issued, _ := b.Issue(ELECQ, "100245")
	b.fault(ELECQ, Fault{Kind: Refused, Count: 1})
	b.want(b.elecqRefresh(issued.Refresh), 200, `"respCode":"401"`)
	b.want(b.elecqRefresh(issued.Refresh), 200, `"respCode":"200"`)
	b.fault("acme", Fault{Kind: Refused, Endpoint: "token"})
	b.want(b.acmeRefresh("x"), 400, "invalid_grant")
	b.fault("acme", Fault{Kind: ClientRefused, Endpoint: "token"})
	b.want(b.acmeRefresh("x"), 401, "invalid_client")
	b.fault(Bookings, Fault{Kind: ClientRefused})
	b.want(b.send("POST", "/bookings/api/oauth/token", map[string]string{"grant_type": "client_credentials", "client_id": "x"}), 401)
}

func TestCountersAndLimits(t *testing.T) {
	b := start(t, Options{})
	issued, _ := b.Issue(CamInvoice, "KHUID00001234")
	b.fault(CamInvoice, Fault{Kind: TooMany, Delay: 150 * time.Millisecond, Limit: 2})
	var all sync.WaitGroup
	var mu sync.Mutex
	got := map[int]int{}
	for range 4 {
		all.Go(func() {
			a, err := b.try("POST", "/caminvoice/api/v1/auth/token", map[string]string{"refresh_token": issued.Refresh}, camBasic())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			got[a.status]++
			mu.Unlock()
		})
	}
	dbtest.Wait(t, &all, "the calls")
	if got[200] != 2 || got[429] != 2 || b.Calls(CamInvoice, "refresh") != 4 || b.Calls(CamInvoice, "") != 4 {
		t.Errorf("answers %v, calls %d", got, b.Calls(CamInvoice, "refresh"))
	}
	b.ResetCounters()
	if b.Calls(CamInvoice, "refresh") != 0 || len(b.Records()) != 0 {
		t.Error("not reset")
	}
	b.fault(CamInvoice, Fault{Kind: Error500, Probability: 0.5})
	bad := 0
	for range 100 {
		if b.camRefresh(issued.Refresh).status == 500 {
			bad++
		}
	}
	if bad < 20 || bad > 80 {
		t.Errorf("%d of 100 were bad", bad)
	}
}

func TestControl(t *testing.T) {
	b := start(t, Options{})
	issued, _ := b.Issue(CamInvoice, "KHUID00001234")
	b.want(b.send("GET", "/control", nil), 200, "KHUID00001234", "Every provider is well")
	b.want(b.send("POST", "/control/mood", url.Values{"at": {"caminvoice refresh"}, "kind": {"503"}, "count": {"1"}, "retry_after_s": {"7"}, "delay_ms": {""}}), 200, "is now: 503")
	if a := b.want(b.camRefresh(issued.Refresh), 503); a.header.Get("Retry-After") != "7" {
		t.Errorf("Retry-After %s", a.header.Get("Retry-After"))
	}
	b.want(b.send("POST", "/control/mood", map[string]any{"provider": "caminvoice", "kind": "500", "delay_ms": 5}), 200, "done")
	b.want(b.camRefresh(issued.Refresh), 500)
	b.want(b.send("POST", "/control/clear", url.Values{}), 200)
	b.want(b.camRefresh(issued.Refresh), 200)
	b.want(b.send("POST", "/control/mood", map[string]any{"provider": "caminvoice", "kind": "x"}), 400, "error")
	b.want(b.send("POST", "/control/mood", url.Values{"at": {"caminvoice "}, "kind": {"slow"}, "count": {"many"}}), 400, "count must be a number")
	b.want(b.send("POST", "/control/revoke", map[string]any{"provider": "caminvoice", "account": "KHUID00001234"}), 200, "revoked: 1")
	b.want(b.camRefresh(issued.Refresh), 401)
	b.want(b.send("POST", "/control/restore", url.Values{"provider": {"caminvoice"}}), 200, "restored: 1")
	b.want(b.send("POST", "/control/expire", url.Values{"provider": {"caminvoice"}, "what": {"refresh"}}), 200)
	b.want(b.camRefresh(issued.Refresh), 401)
	b.want(b.send("POST", "/control/callback", url.Values{"provider": {"caminvoice"}, "callback": {camCallback}}), 200)
	b.want(b.camPage(camCallback, ""), 200)
	b.want(b.send("POST", "/control/webhook", map[string]any{"endpoint_id": "KHUID00001234"}), 200, "No webhook")
	state := b.want(b.send("GET", "/control/state", nil), 200, `"refresh":5`, `"double_spends":[]`, camCallback)
	if strings.Contains(state.raw, issued.Refresh) {
		t.Error("the state shows a refresh token")
	}
	b.want(b.send("GET", "/control/secrets", nil), 200, issued.Refresh)
	b.want(b.send("GET", "/control/settings", nil), 200, "CAMINVOICE_CLIENT_SECRET", "connectors_file")
	b.want(b.send("POST", "/control/reset", url.Values{}), 200)
	b.want(b.send("POST", "/control/clear", url.Values{}, header("Origin", "http://evil.example"), header("Sec-Fetch-Site", "cross-site")), 403)
}
