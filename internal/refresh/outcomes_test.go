package refresh_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/status"
)

func (w *testEngine) sweep() int {
	w.Helper()
	n, err := w.engine.Sweep(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return n
}

func (w *testEngine) grant(id pg.ID) db.GrantState {
	w.Helper()
	r, err := w.db.ReadGrant(w.Context(), id)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

func (w *testEngine) detail(id pg.ID) db.ConnectionDetail {
	w.Helper()
	c, err := w.db.ConnectionDetail(w.Context(), id, pg.ID{})
	if err != nil {
		w.Fatal(err)
	}
	return c
}

func (w *testEngine) exec(sql string, args ...any) {
	w.Helper()
	if _, err := w.db.Pool.Exec(w.Context(), sql, args...); err != nil {
		w.Fatal(err)
	}
}

// kinds of a connection's events, oldest first, without how it was made.
func (w *testEngine) kinds(id pg.ID) []status.Kind {
	w.Helper()
	page, err := w.db.Audit.Timeline(w.Context(), id, "", 100)
	if err != nil {
		w.Fatal(err)
	}
	var kinds []status.Kind
	for i := len(page.Rows) - 2; i >= 0; i-- {
		kinds = append(kinds, page.Rows[i].Kind)
	}
	return kinds
}

func (w *testEngine) health(id pg.ID) status.Health {
	w.Helper()
	c := w.detail(id)
	return status.Of(c.Row(), status.Provider{SetUp: true, Environment: c.Environment}).Health
}

func always(err error) func(string) error { return func(string) error { return err } }

var errTrouble = errors.New("503")

func TestSweepTakesWhatIsDueAndOnlyThat(t *testing.T) {
	w := newTestEngine(t)
	due, later := w.connect("due", 25*time.Hour), w.connect("later", time.Minute)
	if n := w.sweep(); n != 1 {
		t.Errorf("%d attempts", n)
	}
	if w.sweep() != 0 {
		t.Error("a second sweep found something to do")
	}
	if w.partner.callsOf("due") != 1 || w.partner.callsOf("later") != 0 {
		t.Error("the wrong grant was refreshed")
	}
	if r := w.grant(due); r.Token.Access != "due-a1" || !r.ExpiresAt.Equal(w.db.Now().Add(w.partner.life)) {
		t.Errorf("saved %q until %s", r.Token.Access, r.ExpiresAt)
	}
	if why := w.detail(later).NextRefresh(w.db.Now()); why != status.NextKeptAlive {
		t.Errorf("next refresh because it is %s", why)
	}
}

func TestTroubleIsTriedAgainAndBlamesNobody(t *testing.T) {
	w := newTestEngine(t)
	id := w.connect("a", 25*time.Hour)
	w.partner.set(func() { w.partner.answer = always(errTrouble) })
	w.sweep()
	if w.health(id) != status.Retrying || w.detail(id).Failures != 1 {
		t.Fatalf("health %s, %d failures", w.health(id), w.detail(id).Failures)
	}
	var trouble *refresh.ProviderUnavailableError
	if _, err := w.engine.Fresh(t.Context(), id, refresh.DefaultValidity, audit.System); !errors.As(err, &trouble) || trouble.RetryAfter < 25*time.Second {
		t.Errorf("a reader while the next try is waited for: %v", err)
	}
	if n := w.partner.callsOf("a"); n != 1 {
		t.Errorf("a reader led: %d calls", n)
	}
	if w.sweep() != 0 {
		t.Error("swept before its time")
	}
	out, err := w.engine.RefreshNow(t.Context(), id, audit.Actor{Role: audit.RoleSupport})
	if err != nil || out.Outcome != status.Temporary || w.partner.callsOf("a") != 2 {
		t.Errorf("refresh now: %+v, %v", out.Outcome, err)
	}
	w.partner.set(func() { w.partner.answer = nil })
	w.clock.Advance(2 * time.Minute)
	w.sweep()
	if w.health(id) != status.Fine || w.detail(id).Failures != 0 {
		t.Errorf("after recovery: health %s, %d failures", w.health(id), w.detail(id).Failures)
	}
}

func TestRefusalIsTheMerchantsToMend(t *testing.T) {
	w := newTestEngine(t)
	id := w.connect("a", 25*time.Hour)
	w.partner.set(func() { w.partner.answer = always(&connectors.RejectedError{Reason: "invalid_grant"}) })
	w.sweep()
	var needed *refresh.ActionNeededError
	if _, err := w.engine.Fresh(t.Context(), id, refresh.DefaultValidity, audit.System); !errors.As(err, &needed) || needed.Problem != status.ProblemRejected {
		t.Errorf("a reader after the refusal: %v", err)
	}
	w.clock.Advance(48 * time.Hour)
	if w.sweep() != 0 {
		t.Error("a refused grant is swept")
	}
	w.partner.set(func() { w.partner.answer = nil })
	if out, err := w.engine.RefreshNow(t.Context(), id, audit.Actor{Role: audit.RoleSupport}); err != nil || out.Outcome != status.OK {
		t.Errorf("refresh now after the provider came to its senses: %s, %v", out.Outcome, err)
	}
	if w.health(id) != status.Fine {
		t.Errorf("health %s", w.health(id))
	}
}

func TestOurClientRefusedBlamesNoMerchant(t *testing.T) {
	w := newTestEngine(t)
	ids := []pg.ID{w.connect("a", 25*time.Hour), w.connect("b", 25*time.Hour)}
	w.partner.set(func() {
		w.partner.answer = always(&connectors.RejectedError{Reason: "invalid_client", ClientFault: true})
	})
	w.sweep()
	state, err := w.engine.ProviderState(t.Context(), "acme", "sandbox")
	if err != nil || state.Reason != status.ReasonClientRejected {
		t.Fatalf("incident %+v, %v", state, err)
	}
	for _, id := range ids {
		if r := w.grant(id); r.Problem != "" {
			t.Errorf("a connection carries the problem %s", r.Problem)
		}
	}
	var ours *refresh.PlatformActionError
	if _, err := w.engine.Fresh(t.Context(), ids[0], refresh.DefaultValidity, audit.System); !errors.As(err, &ours) {
		t.Errorf("a reader: %v", err)
	}
	w.partner.set(func() { w.partner.answer = nil })
	w.clock.Advance(time.Minute)
	w.sweep() // the probe
	w.sweep()
	for _, id := range ids {
		if w.health(id) != status.Fine {
			t.Errorf("after the secret was put right: %s", w.health(id))
		}
	}
}

func TestThreeRefusalsInARowMakeUsSuspectOurselves(t *testing.T) {
	w := newTestEngine(t)
	var ids []pg.ID
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		ids = append(ids, w.connect(name, 25*time.Hour))
	}
	w.partner.set(func() { w.partner.answer = always(&connectors.RejectedError{Reason: "invalid_grant"}) })
	w.sweep()
	for _, id := range ids {
		if r := w.grant(id); r.Problem != "" {
			t.Errorf("problem %s although it may be ourselves", r.Problem)
		}
	}
	// It was three merchants after all: one that is accepted proves us innocent, and then the no is believed.
	w.partner.set(func() {
		w.partner.answer = func(account string) error {
			if account == "d" || account == "e" {
				return nil
			}
			return &connectors.RejectedError{Reason: "invalid_grant"}
		}
	})
	for range 20 {
		w.clock.Advance(time.Minute)
		w.sweep()
	}
	for i, want := range []status.Health{status.ActionNeeded, status.ActionNeeded, status.ActionNeeded, status.Fine, status.Fine} {
		if got := w.health(ids[i]); got != want {
			t.Errorf("connection %d is %s, want %s", i, got, want)
		}
	}
}

func TestLaterIsHonoured(t *testing.T) {
	w := newTestEngine(t)
	id := w.connect("a", 25*time.Hour)
	w.partner.set(func() { w.partner.answer = always(&connectors.RateLimitedError{RetryAfter: 7 * time.Minute}) })
	w.sweep()
	w.partner.set(func() { w.partner.answer = nil })
	w.clock.Advance(6 * time.Minute)
	if w.sweep() != 0 || w.health(id) != status.Fine {
		t.Errorf("tried too early, or thought to be ill: %s", w.health(id))
	}
	w.clock.Advance(time.Minute)
	if w.sweep() != 1 {
		t.Error("not tried when asked to")
	}
}

// TestAskedToWaitASecondAgainAndAgain: a provider that is called on the second all the time only grows busier.
func TestAskedToWaitASecondAgainAndAgain(t *testing.T) {
	w := newTestEngine(t)
	id := w.connect("a", 25*time.Hour)
	w.partner.set(func() { w.partner.answer = always(&connectors.RateLimitedError{RetryAfter: time.Second}) })
	for range 300 {
		w.sweep()
		w.clock.Advance(time.Second)
	}
	if n := w.partner.callsOf("a"); n < 3 || n > 5 { // after 10, 20, 40, 80 and 160 seconds and a little more
		t.Errorf("%d calls in five minutes", n)
	}
	if w.health(id) != status.Fine || w.detail(id).Failures != 0 {
		t.Errorf("being asked to wait counts as a failure: %s", w.health(id))
	}
	w.partner.set(func() { w.partner.answer = nil })
	w.clock.Advance(6 * time.Minute)
	w.sweep()
	w.partner.set(func() { w.partner.answer = always(&connectors.RateLimitedError{RetryAfter: time.Second}) })
	if out, err := w.engine.RefreshNow(t.Context(), id, audit.System); err != nil || out.Outcome != status.RateLimited || out.RetryAfter > 12*time.Second {
		t.Errorf("after a yes it begins again: %s after %s, %v", out.Outcome, out.RetryAfter, err)
	}
}

func TestA5xxIsKeptToWhereItAsksForMoreThanOurBackOff(t *testing.T) {
	w := newTestEngine(t)
	long, short := w.connect("long", 25*time.Hour), w.connect("short", 25*time.Hour)
	w.partner.set(func() {
		w.partner.answer = func(account string) error {
			if account == "long" {
				return &connectors.TemporaryError{Reason: "status", RetryAfter: 7 * time.Minute}
			}
			return &connectors.TemporaryError{Reason: "status", RetryAfter: 2 * time.Second}
		}
	})
	w.sweep()
	for id, want := range map[pg.ID]time.Duration{long: 7 * time.Minute, short: 30 * time.Second} {
		s := w.detail(id)
		if wait := s.RefreshAt.Sub(w.clock.Now()); s.Failures != 1 || s.LastOutcome != status.Temporary || wait < want*9/10 || wait > want*11/10 {
			t.Errorf("%s with %d failures, again after %s, want %s", s.LastOutcome, s.Failures, wait, want)
		}
	}
}

func (w *testEngine) claim(id pg.ID) (*refresh.Engine, *refresh.Lease) {
	w.Helper()
	other := w.newEngine(w.db)
	lease, err := other.Claim(w.Context(), "acme", id)
	if err != nil || lease == nil {
		w.Fatalf("no lease: %v", err)
	}
	return other, lease
}

func TestALostAnswerIsWaitedForAndThenTriedOnce(t *testing.T) {
	w := newTestEngine(t)
	id := w.connect("a", 25*time.Hour)
	_, lease := w.claim(id) // by a process that spends the token and dies
	if _, err := w.partner.Refresh(t.Context(), lease.Grant); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(61 * time.Second)
	var trouble *refresh.ProviderUnavailableError
	if _, err := w.engine.Fresh(t.Context(), id, refresh.DefaultValidity, audit.System); !errors.As(err, &trouble) || trouble.Outcome != status.Lost {
		t.Fatalf("a reader while a late save may come: %v", err)
	}
	if out, err := w.engine.RefreshNow(t.Context(), id, audit.System); err != nil || out.Outcome != status.Lost {
		t.Errorf("refresh now meanwhile: %s, %v", out.Outcome, err)
	}
	if w.sweep() != 0 {
		t.Error("swept meanwhile")
	}
	w.clock.Advance(2 * time.Minute)
	w.sweep()
	if r := w.grant(id); r.Problem != status.ProblemInterrupted {
		t.Errorf("problem %q, want the interrupted renewal", r.Problem)
	}
	if n := w.partner.callsOf("a"); n != 2 {
		t.Errorf("%d calls", n)
	}
}

func TestALostAnswerIsReplayedAtOnceWhereThatIsSafe(t *testing.T) {
	w := newTestEngine(t)
	w.partner.info.ReplaySafe = true
	w.engine = w.newEngine(w.db)
	id := w.connect("a", 25*time.Hour)
	w.claim(id)
	w.clock.Advance(61 * time.Second)
	if w.sweep() != 1 || w.health(id) != status.Fine {
		t.Errorf("health %s", w.health(id))
	}
	if kinds := w.kinds(id); len(kinds) != 2 || kinds[0] != status.RefreshLost || kinds[1] != status.RefreshSaved {
		t.Errorf("events %v", kinds)
	}
}

func TestALateAnswerIsKeptAndTriedBeforeARefusalIsBelieved(t *testing.T) {
	w := newTestEngine(t)
	w.partner.info.ReplaySafe = true
	w.engine = w.newEngine(w.db)
	id := w.connect("a", 25*time.Hour)
	other, slow := w.claim(id)
	w.clock.Advance(61 * time.Second)
	w.sweep() // another process saves first
	late := connectors.Token{Access: "late", Type: "Bearer", Lifetime: time.Hour, Refresh: "a-late"}
	outcome, err := other.Save(t.Context(), slow, late)
	if err != nil || outcome != "kept-late" {
		t.Fatalf("%s, %v", outcome, err)
	}
	w.partner.set(func() { w.partner.live["a"] = "a-late" }) // the late one is the one that counts at the provider
	w.clock.Advance(25 * time.Hour)
	w.sweep()
	if w.health(id) != status.Fine || w.grant(id).Token.Access == "a-a1" {
		t.Errorf("health %s with token %s", w.health(id), w.grant(id).Token.Access)
	}
}

func TestOfTwoAnswersOfOneGrantThatAreSavedTogetherOneLands(t *testing.T) {
	w := newTestEngine(t)
	w.partner.info.ReplaySafe = true
	w.engine = w.newEngine(w.db)
	ids := []pg.ID{w.connect("a", 25*time.Hour), w.connect("b", 25*time.Hour), w.connect("c", 25*time.Hour)}
	_, first := w.claim(ids[0])
	w.clock.Advance(61 * time.Second)
	_, second := w.claim(ids[0])
	_, b := w.claim(ids[1])
	_, c := w.claim(ids[2])
	saved, err := w.engine.SaveTogether(t.Context(), []*refresh.Lease{b, first, second, c, c}, connectors.Token{Access: "new", Lifetime: time.Hour})
	if err != nil || !saved[0] || saved[1] == saved[2] || saved[3] == saved[4] {
		t.Fatalf("saved: %v, %v", saved, err)
	}
	for _, id := range ids {
		if s := w.detail(id); s.Generation != first.Generation+1 || len(w.kinds(id)) != 1 || w.grant(id).Token.Access != "new" {
			t.Errorf("generation %d, events %v", s.Generation, w.kinds(id))
		}
	}
}

func TestASaveThatLandedUnheardIsNotRepeated(t *testing.T) {
	w := newTestEngine(t)
	id := w.connect("a", 25*time.Hour)
	other, lease := w.claim(id)
	token := connectors.Token{Access: "new", Lifetime: time.Hour}
	for range 2 {
		outcome, err := other.Save(t.Context(), lease, token)
		if err != nil || outcome != "saved" {
			t.Fatalf("%s, %v", outcome, err)
		}
	}
	if s := w.detail(id); s.Generation != lease.Generation+1 || len(w.kinds(id)) != 1 {
		t.Errorf("generation %d, events %v", s.Generation, w.kinds(id))
	}
	// What the answer left out is as it was.
	_, again := w.claim(id)
	if again.Grant.Token.Refresh != "a-r0" {
		t.Error("the refresh token was lost by an answer without one")
	}
}

// TestTheEndOfAnotherRefreshTokenIsNotGuessed: whoever is told to come back by a day that is not one would come for nothing.
func TestTheEndOfAnotherRefreshTokenIsNotGuessed(t *testing.T) {
	w := newTestEngine(t)
	w.partner.set(func() { w.partner.refresh = 30 * 24 * time.Hour })
	for _, c := range []struct {
		account string
		token   connectors.Token
		careful bool // not by the plain way of saving
		inputs  bool // a merchant typed something
		typed   bool // credentials: the merchant need not come back
		fixed   bool
		known   bool
	}{
		{account: "same", token: connectors.Token{Access: "new", Lifetime: time.Hour}, fixed: true, known: true},
		{account: "rotates", token: connectors.Token{Access: "new", Lifetime: time.Hour, Refresh: "another"}},
		{account: "rotates-carefully", token: connectors.Token{Access: "new", Lifetime: time.Hour, Refresh: "another"}, careful: true},
		{account: "typed", token: connectors.Token{Access: "new", Lifetime: time.Hour}, inputs: true, typed: true},
		{account: "shop", token: connectors.Token{Access: "new", Lifetime: time.Hour}, inputs: true, fixed: true, known: true},
		{account: "repeats", token: connectors.Token{Access: "new", Lifetime: time.Hour, Refresh: "another", RefreshLifetime: 30 * 24 * time.Hour}, known: true},
	} {
		id := w.connect(c.account, 25*time.Hour)
		if c.careful {
			if _, err := w.db.Pool.Exec(t.Context(), `UPDATE grants SET failures = 1 WHERE connection_id = $1`, id); err != nil {
				t.Fatal(err)
			}
		}
		w.partner.info.Mints = c.typed
		other, lease := w.claim(id)
		if c.inputs {
			lease.Grant.Inputs = map[string]string{"client_id": "x"}
		}
		outcome, err := other.Save(t.Context(), lease, c.token)
		if err != nil || outcome != "saved" {
			t.Fatalf("%s: %s, %v", c.account, outcome, err)
		}
		if fixed, end := w.refreshEnd(id); fixed != c.fixed || end.IsZero() == c.known {
			t.Errorf("%s: fixed %v, until %v", c.account, fixed, end)
		}
	}
}

func TestAnAnswerOfAnOlderEpochIsDropped(t *testing.T) {
	w := newTestEngine(t)
	id := w.connect("a", 25*time.Hour)
	other, lease := w.claim(id)
	if _, _, err := w.db.Disconnect(t.Context(), id, pg.ID{}, audit.System, nil); err != nil {
		t.Fatal(err)
	}
	outcome, err := other.Save(t.Context(), lease, connectors.Token{Access: "new", Lifetime: time.Hour})
	if err != nil || outcome != "dropped" {
		t.Fatalf("%s, %v", outcome, err)
	}
	if r := w.grant(id); r.Token.Access != "" || !r.Disconnected {
		t.Error("access came back after the disconnection")
	}
	var needed *refresh.ActionNeededError
	if _, err := w.engine.Fresh(t.Context(), id, refresh.DefaultValidity, audit.System); !errors.As(err, &needed) || needed.Problem != "disconnected" {
		t.Errorf("a reader: %v", err)
	}
}

func TestUseKeepsWarm(t *testing.T) {
	w := newTestEngine(t)
	id := w.connect("a", time.Minute)
	r := w.grant(id)
	w.engine.RecordTokenRead(id, pg.ID{}, db.TokenRead{Provider: r.Provider, Environment: r.Environment, ExpiresAt: r.ExpiresAt, Lifetime: r.Lifetime})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := w.engine.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	s := w.detail(id)
	if s.RefreshAt.After(s.ExpiresAt) || s.NextRefresh(w.db.Now()) != status.NextKeptWarm {
		t.Errorf("due %s after it expires, %s", s.RefreshAt.Sub(s.ExpiresAt), s.NextRefresh(w.db.Now()))
	}
	w.clock.Advance(14 * time.Minute)
	w.sweep()
	if s := w.detail(id); s.RefreshAt.After(s.ExpiresAt) {
		t.Error("not kept warm after a refresh")
	}
}

func TestAHintIsVerifiedNowAndThreeTimesMore(t *testing.T) {
	w := newTestEngine(t)
	id, other := w.connect("a", time.Minute), w.connect("b", time.Minute)
	for range 3 { // replays change nothing
		if err := w.engine.RecheckAccount(t.Context(), "acme", "a"); err != nil {
			t.Fatal(err)
		}
	}
	for range 70 {
		w.sweep()
		w.clock.Advance(time.Minute)
	}
	if n := w.partner.callsOf("a"); n != 4 || w.health(id) != status.Fine {
		t.Errorf("%d refreshes of a living grant, health %s", n, w.health(id))
	}
	if w.partner.callsOf("b") != 0 {
		t.Error("another account was refreshed")
	}
	w.partner.set(func() { w.partner.answer = always(&connectors.RejectedError{Reason: "invalid_grant"}) })
	if err := w.engine.RecheckAccount(t.Context(), "acme", "a"); err != nil {
		t.Fatal(err)
	}
	w.sweep()
	if r := w.grant(id); r.Problem != status.ProblemRevoked {
		t.Errorf("problem %q", r.Problem)
	}
	if w.health(other) != status.Fine {
		t.Error("the other merchant's connection suffers")
	}
}

func TestTheSweepGoesOnWhateverHangsOrIsGone(t *testing.T) {
	w := newTestEngine(t, func(o *refresh.Options) { o.Tick = 50 * time.Millisecond })
	gone, hung := w.connect("gone", time.Minute), w.connect("hung", 48*time.Hour)
	if err := w.engine.RecheckAccount(t.Context(), "acme", "gone"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.db.Disconnect(t.Context(), gone, pg.ID{}, audit.System, nil); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	w.partner.set(func() {
		w.partner.delay = func(account string) time.Duration {
			if account == "hung" {
				<-release
			}
			return 0
		}
	})
	run(t, w.engine)
	refreshed := func(account string) {
		t.Helper()
		dbtest.Eventually(t, "a refresh of "+account, func() bool { return w.partner.callsOf(account) > 0 })
	}
	refreshed("hung")
	w.connect("due", 48*time.Hour)
	refreshed("due")
	if w.detail(hung).Generation != 1 {
		t.Error("the hung call had ended: nothing was proved")
	}
}

// refreshEnd is when a grant's right to be refreshed ends, zero when unknown, and whether refreshing does not move it.
func (w *testEngine) refreshEnd(id pg.ID) (fixed bool, end time.Time) {
	w.Helper()
	var known *time.Time
	if err := w.db.Pool.QueryRow(w.Context(), `SELECT refresh_expiry_fixed, refresh_expires_at FROM grants WHERE connection_id = $1`, id).Scan(&fixed, &known); err != nil {
		w.Fatal(err)
	}
	if known != nil {
		end = *known
	}
	return fixed, end
}

func TestReconnectByIsToldWhereRefreshingDoesNotExtend(t *testing.T) {
	w := newTestEngine(t)
	w.partner.life, w.partner.refresh = 24*time.Hour, 7*24*time.Hour
	id := w.connect("a", 0)
	_, end := w.refreshEnd(id)
	reconnectBy := func() time.Time {
		c := w.detail(id)
		return status.Of(c.Row(), status.Provider{SetUp: true, Environment: c.Environment}).ReconnectReminder(w.db.Now())
	}
	w.partner.set(func() { w.partner.refresh, w.partner.keeps = 0, true }) // from now on answers say nothing of it
	for range 6 {
		if by := reconnectBy(); !by.IsZero() && end.Sub(w.db.Now()) > 48*time.Hour {
			t.Errorf("told %s ahead", end.Sub(w.db.Now()))
		}
		w.clock.Advance(24 * time.Hour)
		w.sweep()
	}
	if by := reconnectBy(); !by.Equal(end) {
		t.Errorf("a day before the end: %s, want %s", by, end)
	}
}

func TestANoticeSentManyTimesAtOnceIsOneEvent(t *testing.T) {
	w := newTestEngine(t)
	for range 3 {
		var owner db.Merchant
		connect(t, w.db, w.partner, "shared", time.Minute, &owner)
	}
	var sent sync.WaitGroup
	for range 8 {
		sent.Go(func() {
			if err := w.engine.RecheckAccount(t.Context(), "acme", "shared"); err != nil {
				t.Error(err)
			}
		})
	}
	dbtest.Wait(t, &sent, "the notices")
	page, err := w.db.Audit.List(t.Context(), audit.Filter{Kind: status.ConnectionRevocationNoticed}, "", 100)
	if err != nil || len(page.Rows) != 3 {
		t.Errorf("%d events for three connections, %v", len(page.Rows), err)
	}
}
