package refresh_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/status"
)

// tokenServer is a provider's token endpoint. It answers each account as answers says, and others with a token.
type tokenServer struct {
	mu      sync.Mutex
	answers map[string]http.HandlerFunc
	calls   map[string]int
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	account, _, _ := strings.Cut(r.FormValue("refresh_token"), "-")
	s.mu.Lock()
	s.calls[account]++
	answer := s.answers[account]
	s.mu.Unlock()
	if answer == nil {
		answer = goodAnswer
	}
	answer(w, r)
}

func goodAnswer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"access_token":"new","token_type":"Bearer","expires_in":900,"refresh_token":%q}`, r.FormValue("refresh_token"))
}

func (s *tokenServer) set(account string, answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[account] = answer
}

func (s *tokenServer) callsOf(account string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[account]
}

// says answers with a status, a content type and a body.
func says(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func saysJSON(status int, body string) http.HandlerFunc {
	return says(status, "application/json", body)
}

// newTestServer is a testEngine whose provider is a standard one, with the server that answers for it.
func newTestServer(t *testing.T) (*testEngine, *tokenServer) {
	w, s := newTestEngine(t), &tokenServer{answers: map[string]http.HandlerFunc{}, calls: map[string]int{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	c, err := standard(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	w.engine = w.newEngine(w.db, func(o *refresh.Options) { o.Connectors = []connectors.Connector{c} })
	return w, s
}

func (w *testEngine) refreshNow(id pg.ID) refresh.Result {
	w.Helper()
	out, err := w.engine.RefreshNow(w.Context(), id, audit.System)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

func (w *testEngine) problem(id pg.ID) status.Problem {
	w.Helper()
	return w.grant(id).Problem
}

// wordless are answers that fail and say nothing of the grant. no: the third in a row is taken for a no.
var wordless = []struct {
	name   string
	answer http.HandlerFunc
	works  status.Problem // after three in a row, while another connection is refreshed
	hour   status.Problem // after three in a row over an hour, while no other is
}{
	{"400 with an empty body", says(400, "text/plain", ""), status.ProblemRejected, status.ProblemRejected},
	{"400 in plain text", says(400, "text/plain", "no"), status.ProblemRejected, status.ProblemRejected},
	{"400 as a page", says(400, "text/html", "<html>Bad Request</html>"), status.ProblemRejected, status.ProblemRejected},
	{"400 with an unknown code", saysJSON(400, `{"error":"E1234"}`), status.ProblemRejected, status.ProblemRejected},
	{"403 without a word", says(403, "text/plain", ""), status.ProblemRejected, status.ProblemRejected},
	{"410", says(410, "text/plain", ""), status.ProblemRejected, status.ProblemRejected},
	{"422 with a number", saysJSON(422, `{"code":1017}`), status.ProblemRejected, status.ProblemRejected},
	{"404, which may be our address", says(404, "text/html", "<html>Not Found</html>"), status.ProblemRejected, ""},
	{"401 without a word, which may be our client", says(401, "text/plain", ""), "", ""},
	{"400 while another request is under way", saysJSON(400, `{"error":"invalid_grant","error_description":"token request is already being processed"}`), "", ""},
	{"400 with the words of a rate limit", saysJSON(400, `{"error":"Access Denied","error_description":"You have made too many requests continuously. Please try again after some time."}`), "", ""},
	{"401 that asks to retry", saysJSON(401, `{"error":"invalid_client","message":"Concurrent requests. Please retry."}`), "", ""},
	{"408", says(408, "text/plain", ""), "", ""},
	{"425", says(425, "text/plain", ""), "", ""},
	{"500", says(500, "text/plain", ""), "", ""},
	{"503 that speaks of a grant", saysJSON(503, `{"error":"invalid_grant"}`), "", ""},
	{"429", says(429, "text/plain", ""), "", ""},
}

func TestTheThirdWordlessNoIsANo(t *testing.T) {
	t.Parallel()
	for _, c := range wordless {
		t.Run(c.name+" while others work", func(t *testing.T) {
			w, s := newTestServer(t)
			id, other := w.connect("dead", time.Hour), w.connect("other", time.Hour)
			s.set("dead", c.answer)
			for n := range 3 {
				if p := w.problem(id); p != "" {
					t.Errorf("problem %q after %d", p, n)
				}
				w.refreshNow(id)
				w.refreshNow(other)
				w.clock.Advance(time.Second)
			}
			if p := w.problem(id); p != c.works {
				t.Errorf("problem %q, want %q", p, c.works)
			}
		})
		t.Run(c.name+" for more than an hour", func(t *testing.T) {
			w, s := newTestServer(t)
			id := w.connect("dead", time.Hour)
			s.set("dead", c.answer)
			w.refreshNow(id)
			for range 8 {
				w.clock.Advance(8 * time.Minute)
				if p := w.problem(id); p != "" {
					t.Errorf("problem %q before an hour is over", p)
				}
				w.refreshNow(id)
			}
			if p := w.problem(id); p != c.hour {
				t.Errorf("problem %q, want %q", p, c.hour)
			}
			if state, err := w.engine.ProviderState(t.Context(), "acme", "sandbox"); err != nil || !state.IncidentSince.IsZero() {
				t.Errorf("incident %q, %v", state.Reason, err)
			}
		})
	}
}

func TestAnotherAnswerInBetweenIsNoRow(t *testing.T) {
	t.Parallel()
	w, s := newTestServer(t)
	id, other := w.connect("dead", time.Hour), w.connect("other", time.Hour)
	for _, answer := range []http.HandlerFunc{saysJSON(400, `{}`), saysJSON(400, `{}`), says(500, "text/plain", ""), saysJSON(400, `{}`), saysJSON(403, `{}`), saysJSON(400, `{"error":"E1"}`), saysJSON(400, `{}`)} {
		s.set("dead", answer)
		w.refreshNow(id)
		w.refreshNow(other)
		w.clock.Advance(time.Second)
	}
	if p := w.problem(id); p != "" {
		t.Errorf("problem %q", p)
	}
}

func TestTroubleOfDaysIsThePlatformsToLookInto(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"500": says(500, "text/plain", ""), "503": says(503, "text/html", "<html>"), "404": says(404, "text/plain", ""), "a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, "408": says(408, "text/plain", ""),
	} {
		t.Run(name, func(t *testing.T) {
			w, s := newTestServer(t)
			id := w.connect("ill", time.Hour)
			s.set("ill", answer)
			w.refreshNow(id)
			tries := 0
			for w.problem(id) == "" && tries < 200 {
				w.clock.Advance(min(w.detail(id).RefreshAt.Sub(w.db.Now()), 66*time.Minute))
				tries += w.sweep()
			}
			c := w.detail(id)
			if p, failing := c.Problem, w.db.Now().Sub(c.FailingSince); p != status.ProblemUnanswered || failing < 72*time.Hour || failing > 75*time.Hour || p.Party() != status.PartyPlatform {
				t.Errorf("problem %q after %s", p, failing)
			}
			if wait := w.detail(id).RefreshAt.Sub(w.db.Now()); wait <= time.Hour || wait > 4*time.Hour {
				t.Errorf("tried again after %s", wait)
			}
			var ours *refresh.PlatformActionError
			if _, err := w.engine.Fresh(t.Context(), id, refresh.DefaultValidity, audit.System); !errors.As(err, &ours) {
				t.Errorf("a reader: %v", err)
			}
			s.set("ill", nil)
			w.clock.Advance(4 * time.Hour)
			w.sweep()
			if w.problem(id) != "" || w.health(id) != status.Fine {
				t.Errorf("it does not recover: %q", w.problem(id))
			}
		})
	}
}

func TestAnAnswerThatIsNotUnderstoodIsThePlatformsToPutRight(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		times  int // until it is believed: outages show pages too
	}{
		"a page": {says(200, "text/html", "<html>Welcome</html>"), 3}, "XML": {says(200, "text/xml", "<token>secret-value</token>"), 3},
		"an empty body": {says(200, "application/json", ""), 3}, "a list": {saysJSON(200, `[{"access_token":"secret-value"}]`), 3}, "a string": {saysJSON(200, `"secret-value"`), 3},
		"no access token": {saysJSON(200, `{"expires_in":3600}`), 1}, "a number for a token": {saysJSON(200, `{"access_token":12345}`), 1},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := newTestServer(t)
			id := w.connect("odd", time.Minute)
			s.set("odd", c.answer)
			for range c.times - 1 {
				if out := w.refreshNow(id); out.Outcome != status.Temporary || out.Problem != "" || w.health(id) != status.Retrying {
					t.Errorf("at first: %s, problem %q, health %s", out.Outcome, out.Problem, w.health(id))
				}
			}
			out := w.refreshNow(id)
			if p := w.problem(id); out.Problem != status.ProblemUnreadable || p != status.ProblemUnreadable || p.Party() != status.PartyPlatform {
				t.Errorf("%s, problem %q", out.Outcome, p)
			}
			if r, err := w.engine.Fresh(t.Context(), id, refresh.DefaultValidity, audit.System); err != nil || r.Token.Access != "odd-a0" {
				t.Errorf("the good token is not handed out: %v", err)
			}
			if wait := w.detail(id).RefreshAt.Sub(w.db.Now()); wait <= 0 || wait > 3*time.Minute {
				t.Errorf("tried again after %s", wait)
			}
			page, err := w.db.Audit.Timeline(t.Context(), id, "", 1)
			if err != nil || page.Rows[0].Note == "" || strings.Contains(page.Rows[0].Note, "secret-value") {
				t.Errorf("its event says %q, %v", page.Rows[0].Note, err)
			}
			s.set("odd", nil)
			w.clock.Advance(3 * time.Minute)
			w.sweep()
			if w.health(id) != status.Fine {
				t.Errorf("it does not recover: %s", w.health(id))
			}
		})
	}
}

// cutOff ends the connection after the request has been read.
func cutOff(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// inTurn answers with each in its turn, and with the last from then on.
func inTurn(answers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		answer := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		mu.Unlock()
		answer(w, r)
	}
}

func TestACutOffAnswerIsAskedForOnceMoreAtOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		answer  http.HandlerFunc
		calls   int
		outcome status.Outcome
		problem status.Problem
	}{
		{"the same is answered in the grace period", inTurn(cutOff, goodAnswer), 2, status.OK, ""},
		{"reuse is detected", inTurn(cutOff, saysJSON(400, `{"error":"invalid_grant"}`)), 2, status.Rejected, status.ProblemInterrupted},
		{"it is cut off again", cutOff, 2, status.Temporary, ""},
		{"then it is in trouble", inTurn(cutOff, says(503, "text/plain", "")), 2, status.Temporary, ""},
		{"an answer of trouble is not asked for again", says(503, "text/plain", ""), 1, status.Temporary, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, s := newTestServer(t)
			id := w.connect("cut", time.Hour)
			s.set("cut", c.answer)
			out := w.refreshNow(id)
			if n := s.callsOf("cut"); out.Outcome != c.outcome || w.problem(id) != c.problem || n != c.calls {
				t.Errorf("%s, problem %q, %d calls; want %s, %q, %d", out.Outcome, w.problem(id), n, c.outcome, c.problem, c.calls)
			}
			if c.outcome != status.Temporary || c.calls == 1 {
				return
			}
			s.set("cut", saysJSON(400, `{"error":"invalid_grant"}`))
			if w.refreshNow(id); w.problem(id) != status.ProblemInterrupted {
				t.Errorf("a later rejection is explained as %q", w.problem(id))
			}
		})
	}
}

// TestALongWaitIsItsConnections: a 429 that asks for a day keeps that connection waiting; only several merchants' pause the provider.
func TestALongWaitIsItsConnections(t *testing.T) {
	t.Parallel()
	w, s := newTestServer(t)
	slow, other, third := w.connect("slow", time.Hour), w.connect("other", time.Hour), w.connect("third", time.Hour)
	wait := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "86400")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	s.set("slow", wait)
	if out := w.refreshNow(slow); out.Outcome != status.RateLimited || out.RetryAfter < 23*time.Hour {
		t.Fatalf("%s, again after %s", out.Outcome, out.RetryAfter)
	}
	if _, err := w.engine.Fresh(t.Context(), other, refresh.DefaultValidity, audit.System); err != nil {
		t.Errorf("the other connection: %v", err)
	}
	if at := w.detail(slow).RefreshAt; at.Sub(w.db.Now()) < 23*time.Hour {
		t.Errorf("the one that was asked to wait is tried at %s", at)
	}
	paused := func() time.Duration {
		state, err := w.engine.ProviderState(t.Context(), "acme", "sandbox")
		if err != nil {
			t.Fatal(err)
		}
		return max(0, state.PausedUntil.Sub(w.db.Now()))
	}
	for range 3 { // the same merchant again and again
		w.refreshNow(slow)
	}
	if p := paused(); p != 0 {
		t.Errorf("paused for %s by one merchant", p)
	}

	s.set("other", wait)
	w.refreshNow(other)
	if p := paused(); p == 0 || p > 5*time.Minute {
		t.Errorf("paused for %s by two merchants", p)
	}
	var trouble *refresh.ProviderUnavailableError
	if _, err := w.engine.Fresh(t.Context(), third, refresh.DefaultValidity, audit.System); !errors.As(err, &trouble) || trouble.RetryAfter > 5*time.Minute {
		t.Errorf("a reader meanwhile: %v", err)
	}
	w.clock.Advance(31 * time.Second)
	w.sweep() // the probe, which takes the third: the others wait for themselves
	if p := paused(); p != 0 || s.callsOf("third") != 1 {
		t.Errorf("after a probe that worked it is paused for %s; %d calls", p, s.callsOf("third"))
	}
	if s.callsOf("slow") != 4 || s.callsOf("other") != 2 {
		t.Errorf("those that were asked to wait were called %d and %d times", s.callsOf("slow"), s.callsOf("other"))
	}

	w.refreshNow(slow)
	w.refreshNow(other)
	if paused() == 0 {
		t.Error("not paused again")
	}
	admin := audit.Actor{Role: audit.RoleAdmin, ID: pg.NewID()}
	if err := w.engine.EndPause(t.Context(), "acme", admin); err != nil || paused() != 0 {
		t.Errorf("an admin's end: %v, paused for %s", err, paused())
	}
}
