package webhooks

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// received is one request that a receiver got.
type received struct {
	at     time.Time // by the test's clock
	header http.Header
	body   []byte
	Type   Type
	Data   struct {
		ID         pg.ID         `json:"id"`
		Health     status.Health `json:"health"`
		WhoMustAct status.Party  `json:"who_must_act"`
		Sequence   int64         `json:"sequence"`
		Merchant   struct {
			Name       string `json:"name"`
			ExternalID string `json:"external_id"`
		} `json:"merchant"`
		Provider    string `json:"provider"`
		Environment string `json:"environment"`
		Reason      string `json:"reason"`
	} `json:"data"`
}

// receiver is a program of the platform that gets webhooks.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	all    []received
	answer func(w http.ResponseWriter, r *http.Request) // nil: 204
}

func (r *receiver) become(answer func(w http.ResponseWriter, r *http.Request)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func answers(status int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

func (r *receiver) got() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

func (r *receiver) types() (all []Type) {
	for _, one := range r.got() {
		all = append(all, one.Type)
	}
	return all
}

// mails are the mails that were enqueued.
type mails struct {
	notify.Queue
	mu  sync.Mutex
	all []notify.Mail
}

func (m *mails) EnqueueMail(_ context.Context, _ pgx.Tx, mail notify.Mail) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, mail)
	return nil
}

// room is a room with a database and a clock of its own.
type room struct {
	*Webhooks
	t     *testing.T
	clock *dbtest.Clock
	mails mails
}

func newRoom(t *testing.T, private bool) *room {
	t.Helper()
	clock := dbtest.NewClock(time.Now())
	d := dbtest.New(t, pg.Options{Clock: clock.Clock})
	r := &room{t: t, clock: clock, Webhooks: New(Options{
		DB: d, Private: private, Log: slog.New(slog.DiscardHandler), Providers: status.Providers{"elecq": {SetUp: true, Environment: "sandbox"}},
	})}
	r.pollInterval = 5 * time.Millisecond
	return r
}

// run sends until the test ends.
func (r *room) run() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Run(ctx, &r.mails)
	}()
	r.t.Cleanup(func() {
		cancel()
		dbtest.Receive(r.t, ended, "sending to end")
	})
}

// sweep sends what is due by the clock, and returns when it is recorded. It is for tests that do not run.
func (r *room) sweep() {
	r.t.Helper()
	r.mail = &r.mails
	var queues sync.WaitGroup
	r.poll(r.t.Context(), &queues)
	dbtest.Wait(r.t, &queues, "the deliveries")
}

// receiver starts a receiver and adds its endpoint.
func (r *room) receiver(types ...Type) (*receiver, Endpoint, Secret) {
	r.t.Helper()
	to := &receiver{}
	to.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		one := received{at: r.clock.Now(), header: q.Header}
		one.body, _ = io.ReadAll(q.Body)
		if err := json.Unmarshal(one.body, &one); err != nil {
			r.t.Errorf("a body that is no JSON: %v", err)
		}
		to.mu.Lock()
		to.all = append(to.all, one)
		answer := to.answer
		to.mu.Unlock()
		if answer == nil {
			answer = answers(http.StatusNoContent)
		}
		answer(w, q)
	}))
	r.t.Cleanup(to.Close)
	e, secret, err := r.Add(r.t.Context(), audit.System, to.URL+"/hooks?token=abc", types)
	if err != nil {
		r.t.Fatal(err)
	}
	return to, e, secret
}

func (r *room) connection(name string) pg.ID {
	r.t.Helper()
	id, err := r.DB.AddConnection(r.t.Context(), dbtest.Merchant(r.t, r.DB, name).ID, "elecq", "sandbox", connectors.Grant{
		Token: connectors.Token{Access: "the-access-token", Refresh: "the-refresh-token", Lifetime: time.Hour}, Account: connectors.Account{ID: name, Name: name},
	}, r.DB.Now(), connectors.Info{})
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// waitFor waits until a receiver got so many requests and every delivery of an endpoint was recorded.
func (r *room) waitFor(to *receiver, e Endpoint, n int) []received {
	r.t.Helper()
	dbtest.Eventually(r.t, "so many deliveries", func() bool { return len(to.got()) >= n && r.recorded(e) })
	if got := to.got(); len(got) > n {
		r.t.Fatalf("%d deliveries, want %d", len(got), n)
	}
	return to.got()
}

// recorded reports whether nothing is due or under way.
func (r *room) recorded(e Endpoint) bool {
	r.t.Helper()
	due, err := r.due(r.t.Context()) // first: what is claimed is not due, and this process is busy until it is recorded
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.busy[e.ID] && !slices.Contains(due, e.ID)
}

func (r *room) endpoint(id pg.ID) Endpoint {
	r.t.Helper()
	all, err := r.Endpoints(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range all {
		if e.ID == id {
			return e
		}
	}
	r.t.Fatal("there is no such endpoint")
	return Endpoint{}
}

func (r *room) events(do func(tx pgx.Tx) error) {
	r.t.Helper()
	if err := r.DB.Tx(r.t.Context(), do); err != nil {
		r.t.Fatal(err)
	}
}

func TestEveryChangeIsTold(t *testing.T) {
	r := newRoom(t, true)
	to, e, _ := r.receiver()
	merchant := dbtest.Merchant(t, r.DB, "CH168 Shop")
	id := r.connection("CH168 Shop")
	event := func(kind status.Kind) func() {
		return func() {
			r.events(func(tx pgx.Tx) error {
				return r.DB.Audit.Add(t.Context(), tx, audit.Event{Kind: kind, MerchantID: merchant.ID, ConnectionID: id, Provider: "elecq", Code: "hung", Note: "sandbox"})
			})
		}
	}
	set := func(states ...dbtest.State) func() { return func() { dbtest.Set(t, r.DB, id, states...) } }
	r.run()
	n := 0
	for _, step := range []struct {
		what   string
		do     func()
		told   []Type
		health status.Health
	}{
		{"it was connected", func() {}, []Type{ConnectionConnected}, status.Fine},
		{"a refresh fails and is tried again", set(dbtest.Retrying(r.DB.Now())), nil, ""},
		{"the provider rejects it", set(dbtest.Refused(r.DB.Now())), []Type{ConnectionActionNeeded}, status.ActionNeeded},
		{"the problem is written once more", set(dbtest.Refused(r.DB.Now())), nil, ""},
		{"it becomes another problem", set(dbtest.Problem(status.ProblemRevoked, r.DB.Now())), []Type{ConnectionActionNeeded}, status.ActionNeeded},
		{"it works again", set(dbtest.Working()), []Type{ConnectionRecovered}, status.Fine},
		{"it is rejected again", set(dbtest.Refused(r.DB.Now())), []Type{ConnectionActionNeeded}, status.ActionNeeded},
		{"an incident takes the problem back", set(dbtest.Retrying(r.DB.Now()), dbtest.Problem("", r.DB.Now())), nil, ""},
		{"and it works", set(dbtest.Working()), []Type{ConnectionRecovered}, status.Fine},
		{"a refresh fails for a moment", set(dbtest.Retrying(r.DB.Now()), dbtest.Working()), nil, ""},
		{"it is reconnected though nothing was wrong", event(status.ConnectionReconnected), []Type{ConnectionReconnected}, status.Fine},
		{"another account takes its place", event(status.ConnectionReplaced), []Type{ConnectionReconnected}, status.Fine},
		{"the platform must act", set(dbtest.Problem(status.ProblemClientRejected, r.DB.Now())), []Type{ConnectionActionNeeded}, status.ActionNeeded},
		{"a reconnect ends the problem", func() {
			r.events(func(tx pgx.Tx) error {
				if _, err := tx.Exec(t.Context(), `UPDATE connections SET problem = '', problem_since = NULL WHERE id = $1`, id); err != nil {
					return err
				}
				return r.DB.Audit.Add(t.Context(), tx, audit.Event{Kind: status.ConnectionReconnected, MerchantID: merchant.ID, ConnectionID: id, Provider: "elecq"})
			})
		}, []Type{ConnectionReconnected}, status.Fine},
		{"a transaction is rolled back", func() {
			tx, err := r.DB.Pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), `UPDATE connections SET problem = 'refused' WHERE id = $1`, id); err != nil {
				t.Fatal(err)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, nil, ""},
		{"a page is looked at", event(status.ConnectionViewed), nil, ""},
		{"an incident opens", event(status.IncidentOpened), []Type{IncidentOpened}, ""},
		{"and ends", event(status.IncidentEnded), []Type{IncidentEnded}, ""},
		{"it is disconnected", func() {
			dbtest.Set(t, r.DB, id, dbtest.Disconnected(r.DB.Now()))
			event(status.ConnectionDisconnected)()
		}, []Type{ConnectionDisconnected}, status.Disconnected},
		{"the merchant is erased", event("merchant.erased"), []Type{MerchantErased}, ""},
	} {
		step.do()
		n += len(step.told)
		got := r.waitFor(to, e, n)[n-len(step.told):]
		for i, one := range got {
			if one.Type != step.told[i] || one.Data.Health != step.health {
				t.Errorf("%s: told %s with health %q, want %s with %q", step.what, one.Type, one.Data.Health, step.told[i], step.health)
			}
		}
	}
	var sequence int64
	for _, one := range to.got() {
		switch {
		case strings.HasPrefix(string(one.Type), "connection."):
			if one.Data.ID != id || one.Data.Sequence <= sequence || one.Data.Merchant.Name != "CH168 Shop" || one.Data.Environment != "sandbox" {
				t.Errorf("%s after %d: %s", one.Type, sequence, one.body)
			}
			sequence = one.Data.Sequence
		case one.Type == IncidentOpened:
			if one.Data.Provider != "elecq" || one.Data.Environment != "sandbox" || one.Data.Reason != "hung" {
				t.Errorf("%s", one.body)
			}
		}
		if bytes.Contains(one.body, []byte("-token")) {
			t.Errorf("a token was sent: %s", one.body)
		}
	}
}

func TestWithoutAnEndpointNothingIsWritten(t *testing.T) {
	r := newRoom(t, true)
	r.connection("CH168 Shop")
	var n int
	if err := r.DB.Pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM webhook_events) + (SELECT count(*) FROM webhook_sequences)`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows, %v", n, err)
	}
}

func TestAnEndpointGetsTheTypesItAskedFor(t *testing.T) {
	r := newRoom(t, true)
	to, e, _ := r.receiver(ConnectionRecovered, IncidentOpened)
	all, every, _ := r.receiver()
	r.run()
	id := r.connection("CH168 Shop")
	dbtest.Set(t, r.DB, id, dbtest.Refused(r.DB.Now()))
	dbtest.Set(t, r.DB, id, dbtest.Working())
	r.waitFor(to, e, 1)
	r.waitFor(all, every, 3)
	if got := to.types(); !slices.Equal(got, []Type{ConnectionRecovered}) {
		t.Errorf("got %v", got)
	}
}

func TestTheLibraryVerifiesOurSignatures(t *testing.T) {
	r := newRoom(t, true)
	to, e, secret := r.receiver()
	r.run()
	r.connection("CH168 Shop")
	r.waitFor(to, e, 1)
	_, second, err := r.Rotate(t.Context(), audit.System, e.ID)
	if err != nil {
		t.Fatal(err)
	}
	r.connection("Second")
	r.waitFor(to, e, 2)
	r.clock.Advance(24*time.Hour + time.Second)
	r.connection("Third")
	got := r.waitFor(to, e, 3)
	for i, verified := range []map[Secret]bool{{secret: true, second: false}, {secret: true, second: true}, {secret: false, second: true}} {
		for s, want := range verified {
			hook, err := standardwebhooks.NewWebhook(string(s))
			if err != nil {
				t.Fatal(err)
			}
			verify := hook.Verify
			if i == 2 { // the clock was moved
				verify = hook.VerifyIgnoringTimestamp
			}
			if err := verify(got[i].body, got[i].header); (err == nil) != want {
				t.Errorf("delivery %d: %v, want verified %t", i, err, want)
			}
			if hook.VerifyIgnoringTimestamp(append(got[i].body, ' '), got[i].header) == nil {
				t.Errorf("delivery %d: a body that was changed is verified", i)
			}
		}
	}
	if got[0].header.Get("webhook-id") == got[1].header.Get("webhook-id") {
		t.Error("two events have one id")
	}
	if !strings.HasPrefix(string(secret), "whsec_") || secret == second {
		t.Error("a secret is not one of Standard Webhooks, or is not another after a rotation")
	}
}

func TestAFailedDeliveryIsTriedBySchedule(t *testing.T) {
	r := newRoom(t, true)
	to, e, _ := r.receiver()
	to.become(answers(http.StatusServiceUnavailable))
	r.connection("CH168 Shop")
	r.sweep()
	ids := map[string]bool{}
	for i, after := range []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour} {
		r.clock.Advance(after - time.Second)
		r.sweep()
		if n := len(to.got()); n != i+1 {
			t.Fatalf("%d tries a second before it is due, want %d", n, i+1)
		}
		r.clock.Advance(time.Second)
		r.sweep()
		for _, one := range r.waitFor(to, e, i+2) {
			ids[one.header.Get("webhook-id")] = true
		}
	}
	if len(ids) != 1 {
		t.Errorf("the tries of one event have %d ids", len(ids))
	}
	r.clock.Advance(25 * time.Hour)
	r.sweep()
	if got := r.endpoint(e.ID); got.Failed != 1 || got.Waiting != 0 || got.State() != Failing || got.FailedStatus != http.StatusServiceUnavailable {
		t.Errorf("%+v", got)
	}
	to.become(nil)
	n, err := r.ResendFailed(t.Context(), audit.System, e.ID, r.DB.Now().Add(-7*24*time.Hour))
	if n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	r.sweep()
	r.waitFor(to, e, 11)
	if got := r.endpoint(e.ID); got.Failed != 0 || got.State() != On || got.DeliveredAt.IsZero() {
		t.Errorf("%+v", got)
	}
}

func TestAReceiverThatIsDownForTwoDaysLosesNothing(t *testing.T) {
	r := newRoom(t, true)
	to, e, _ := r.receiver()
	to.become(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }) // it hangs up
	r.run()
	const shops = 30
	want := map[pg.ID]bool{}
	begun := r.clock.Now()
	for i := 0; r.clock.Now().Before(begun.Add(48 * time.Hour)); i++ {
		if i < shops {
			want[r.connection("Shop "+string(rune('A'+i)))] = true
		}
		dbtest.Eventually(t, "the tries of an hour", func() bool { return r.recorded(e) })
		r.clock.Advance(time.Hour)
	}
	tries := len(to.got())
	to.become(nil)
	for range 40 { // hours
		r.clock.Advance(time.Hour)
		dbtest.Eventually(t, "the tries of an hour", func() bool { return r.recorded(e) })
	}
	delivered := map[pg.ID]bool{}
	for _, one := range to.got()[tries:] {
		if delivered[one.Data.ID] {
			t.Errorf("%s was delivered twice", one.Data.ID)
		}
		delivered[one.Data.ID] = true
	}
	if len(delivered) != len(want) {
		t.Errorf("%d of %d events came", len(delivered), len(want))
	}
	if got := r.endpoint(e.ID); got.Waiting != 0 || got.Failed != 0 || got.State() != On {
		t.Errorf("%+v", got)
	}
}

func TestAnEndpointIsSwitchedOff(t *testing.T) {
	for _, c := range []struct {
		what   string
		status int
		for_   time.Duration // of failures, an event every six hours
		off    OffReason
	}{
		{"it answers 410", http.StatusGone, 0, OffGone},
		{"it has failed for four days", http.StatusInternalServerError, 4 * 24 * time.Hour, ""},
		{"it has failed for five days", http.StatusInternalServerError, 5 * 24 * time.Hour, OffFailing},
		{"it redirects for five days", http.StatusFound, 5 * 24 * time.Hour, OffFailing},
		{"it takes everything", http.StatusAccepted, 6 * 24 * time.Hour, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := newRoom(t, true)
			admin := dbtest.User(t, r.DB, audit.RoleAdmin, "boss@platform.example", "a long password", "")
			dbtest.User(t, r.DB, audit.RoleSupport, "desk@platform.example", "a long password", "")
			to, e, _ := r.receiver()
			to.become(answers(c.status))
			id := r.connection("CH168 Shop")
			for begun := r.clock.Now(); ; r.clock.Advance(6 * time.Hour) {
				r.sweep()
				if r.clock.Now().Sub(begun) >= c.for_ {
					break
				}
				dbtest.Set(t, r.DB, id, dbtest.Refused(r.DB.Now()))
				dbtest.Set(t, r.DB, id, dbtest.Working())
			}
			got := r.endpoint(e.ID)
			if got.OffReason != c.off || got.OffAt.IsZero() != (c.off == "") {
				t.Fatalf("%+v", got)
			}
			r.mails.mu.Lock()
			sent := slices.Clone(r.mails.all)
			r.mails.mu.Unlock()
			if c.off == "" {
				if len(sent) != 0 {
					t.Errorf("mails: %+v", sent)
				}
				return
			}
			if len(sent) != 1 || sent[0].User != admin.ID || sent[0].Endpoint != e.ID || sent[0].Kind != notify.MailWebhookOff {
				t.Errorf("mails: %+v", sent)
			}
			if got.Waiting != 0 || got.Failed == 0 {
				t.Errorf("it is off and %d wait, %d failed", got.Waiting, got.Failed)
			}
			tries := len(to.got())
			r.connection("Later")
			r.clock.Advance(time.Hour)
			r.sweep()
			if len(to.got()) != tries {
				t.Error("something was sent to an endpoint that is off")
			}
			to.become(nil)
			if _, err := r.SwitchOn(t.Context(), audit.System, e.ID); err != nil {
				t.Fatal(err)
			}
			n, err := r.ResendFailed(t.Context(), audit.System, e.ID, r.DB.Now().Add(-30*24*time.Hour))
			if err != nil || n != got.Failed+1 {
				t.Fatalf("%d sent again, %v", n, err)
			}
			r.sweep()
			r.waitFor(to, e, tries+int(n))
		})
	}
}

func TestWhatIsNotCalled(t *testing.T) {
	public, private := newRoom(t, false), newRoom(t, true)
	for address, allowed := range map[string][2]bool{ // without and with WEBHOOK_PRIVATE
		"https://hooks.platform.example/patchbay":                     {true, true},
		"https://hooks.platform.example:8443/p?key=1":                 {true, true},
		"http://hooks.platform.example/patchbay":                      {false, true},
		"https://127.0.0.1/":                                          {false, true},
		"https://[::1]/":                                              {false, true},
		"https://10.1.2.3/":                                           {false, true},
		"https://169.254.169.254/latest/meta-data":                    {false, true},
		"https://[fd00:ec2::254]/":                                    {false, true},
		"https://user:password@hooks.platform.example/":               {},
		"https://hooks.platform.example/#part":                        {},
		"https:///path":                                               {},
		"ftp://hooks.platform.example/":                               {},
		"file:///etc/passwd":                                          {},
		"hooks.platform.example":                                      {},
		"":                                                            {},
		"https://hooks.platform.example/a b":                          {},
		"https://hooks.platform.example/\r\nX: y":                     {},
		"https://hooks.platform.example/" + strings.Repeat("a", 2000): {},
	} {
		for i, r := range []*room{public, private} {
			if _, err := r.checkURL(address); (err == nil) != allowed[i] {
				t.Errorf("%q, private addresses allowed %t: %v", address, i == 1, err)
			}
		}
	}
}

// TestPrivateAddressesAreRefusedWhenCalled: a name may resolve to anything by then.
func TestPrivateAddressesAreRefusedWhenCalled(t *testing.T) {
	called := 0
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called++ }))
	defer inside.Close()
	u, err := url.Parse(inside.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := newRoom(t, false)
	for _, address := range []string{inside.URL, "http://localhost:" + u.Port(), "http://[::1]:" + u.Port(), "http://0.0.0.0:" + u.Port(), "http://[::ffff:127.0.0.1]:" + u.Port()} {
		if got := r.try(t.Context(), sealedEndpoint{URL: address, Secret: newSecret()}, try{event: event{ID: pg.NewID()}}); got.reason != ReasonPrivate {
			t.Errorf("%s: %+v", address, got)
		}
	}
	if called != 0 {
		t.Error("a private address was called")
	}
}

func TestHowTriesEnd(t *testing.T) {
	r := newRoom(t, true)
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	certified := httptest.NewTLSServer(answersHandler(http.StatusOK))
	certified.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	defer certified.Close()
	closed := httptest.NewServer(answersHandler(http.StatusOK))
	closed.Close()
	redirects := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer redirects.Close()
	long := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 1000 {
			if _, err := w.Write(bytes.Repeat([]byte("a"), 10_000)); err != nil {
				return
			}
		}
	}))
	defer long.Close()
	for what, c := range map[string]struct {
		address string
		want    answer
	}{
		"a redirect is not followed":     {redirects.URL, answer{status: http.StatusTemporaryRedirect}},
		"nobody listens":                 {closed.URL, answer{reason: ReasonUnreachable}},
		"a certificate of nobody":        {certified.URL, answer{reason: ReasonCertificate}},
		"a name that there is not":       {"https://nowhere.invalid/", answer{reason: ReasonUnknownHost}},
		"an answer of ten megabytes":     {long.URL, answer{status: http.StatusOK}},
		"an endpoint that does not open": {"", answer{reason: ReasonSealed}},
	} {
		got := r.try(t.Context(), sealedEndpoint{URL: c.address, Secret: newSecret()}, try{event: event{ID: pg.NewID()}})
		if got.took = 0; got != c.want {
			t.Errorf("%s: %+v, want %+v", what, got, c.want)
		}
	}
	if elsewhere != 0 {
		t.Error("a redirect was followed")
	}
}

func answersHandler(status int) http.Handler { return http.HandlerFunc(answers(status)) }

// TestManyAtOnce: hundreds of connections need action at once. They are told at a bounded pace, one endpoint that hangs holds up no other,
// nor the writers.
func TestManyAtOnce(t *testing.T) {
	const shops = 250
	r := newRoom(t, true)
	hanging, _, _ := r.receiver()
	release := make(chan struct{})
	hanging.become(func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	merchant := dbtest.Merchant(t, r.DB, "CH168 Shop")
	ids := make([]pg.ID, shops)
	for i := range ids {
		ids[i] = dbtest.Connection(t, r.DB, merchant.ID, "elecq", pg.NewID().String(), "")
	}
	mark := func() {
		for _, id := range ids {
			dbtest.Set(t, r.DB, id, dbtest.Refused(r.DB.Now()))
		}
	}
	clear := func() {
		if _, err := r.DB.Pool.Exec(t.Context(), `UPDATE connections SET problem = '', problem_since = NULL`); err != nil {
			t.Fatal(err)
		}
	}
	var most, now int
	var mu sync.Mutex
	to, e, _ := r.receiver(ConnectionActionNeeded)
	to.become(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
		now--
		mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	})
	mark()
	clear()
	began := time.Now()
	r.run()
	mark()
	r.waitFor(to, e, 2*shops)
	pace := 2 * shops / time.Since(began).Seconds() // slower where the machine is busy, and never faster
	if pace > Rate+float64(Concurrency) || most > Concurrency {
		t.Errorf("%.0f a second, %d at once", pace, most)
	}
	sequences := map[pg.ID]map[int64]bool{}
	for _, one := range to.got() {
		if sequences[one.Data.ID] == nil {
			sequences[one.Data.ID] = map[int64]bool{}
		}
		sequences[one.Data.ID][one.Data.Sequence] = true
	}
	for id, seen := range sequences {
		if len(seen) != 2 || !seen[1] || !seen[3] {
			t.Errorf("%s: sequences %v", id, seen)
		}
	}
	if n := len(hanging.got()); n > Concurrency {
		t.Errorf("an endpoint that hangs has %d requests at once", n)
	}
}

func TestTwoProcessesSendEachOnce(t *testing.T) {
	r := newRoom(t, true)
	to, e, _ := r.receiver()
	other := &room{t: t, clock: r.clock, Webhooks: New(r.Options)}
	other.pollInterval = r.pollInterval
	r.run()
	other.run()
	for i := range 40 {
		r.connection("Shop " + string(rune('A'+i)))
	}
	dbtest.Eventually(t, "the end of both", func() bool { return len(to.got()) >= 40 && r.recorded(e) && other.recorded(e) })
	ids := map[string]int{}
	for _, one := range to.got() {
		ids[one.header.Get("webhook-id")]++
	}
	if len(to.got()) != 40 || len(ids) != 40 {
		t.Errorf("%d deliveries of %d events, want 40 of 40", len(to.got()), len(ids))
	}
}

func TestWhatAProcessLeftIsSentByAnother(t *testing.T) {
	r := newRoom(t, true)
	to, e, _ := r.receiver()
	r.connection("CH168 Shop")
	if _, tries, err := r.claim(t.Context(), e.ID, 8); len(tries) != 1 || err != nil { // and the process dies
		t.Fatalf("%d, %v", len(tries), err)
	}
	r.sweep()
	if len(to.got()) != 0 {
		t.Fatal("what another has claimed was sent")
	}
	r.clock.Advance(claimTimeout)
	r.sweep()
	r.waitFor(to, e, 1)
}

func TestWhatAnotherHasClaimedSinceIsNotGivenBack(t *testing.T) {
	r := newRoom(t, true)
	_, e, _ := r.receiver()
	r.connection("CH168 Shop")
	_, late, err := r.claim(t.Context(), e.ID, 8)
	if err != nil || len(late) != 1 {
		t.Fatalf("%d, %v", len(late), err)
	}
	r.clock.Advance(claimTimeout)
	if _, tries, err := r.claim(t.Context(), e.ID, 8); err != nil || len(tries) != 1 {
		t.Fatalf("%d, %v", len(tries), err)
	}
	r.release(t.Context(), late)
	if _, tries, err := r.claim(t.Context(), e.ID, 8); err != nil || len(tries) != 0 {
		t.Errorf("%d are claimed twice, %v", len(tries), err)
	}
}

func TestATestGoesToOneEndpoint(t *testing.T) {
	r := newRoom(t, true)
	to, e, _ := r.receiver(IncidentOpened)
	other, _, _ := r.receiver()
	if _, err := r.SwitchOff(t.Context(), audit.System, e.ID); err != nil {
		t.Fatal(err)
	}
	to.become(answers(http.StatusTeapot))
	if _, _, err := r.SendTest(t.Context(), audit.System, e.ID); err != nil {
		t.Fatal(err)
	}
	r.sweep()
	got := r.waitFor(to, e, 1)
	if got[0].Type != Test {
		t.Errorf("%s", got[0].body)
	}
	r.clock.Advance(10 * time.Minute)
	r.sweep()
	if len(to.got()) != 1 || len(other.got()) != 0 {
		t.Errorf("%d and %d requests", len(to.got()), len(other.got()))
	}
	if n := dbtest.Events(t, r.DB, status.WebhookTested); n != 1 {
		t.Errorf("%d events of the audit trail", n)
	}
}

func TestOneDeliveryIsSentAgain(t *testing.T) {
	r := newRoom(t, true)
	to, e, _ := r.receiver()
	r.run()
	r.connection("CH168 Shop")
	first := r.waitFor(to, e, 1)[0]
	page, err := r.Deliveries(t.Context(), Filter{Endpoint: e.ID, State: Delivered}, "", 10)
	if err != nil || len(page.Rows) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	d := page.Rows[0]
	if d.Type != ConnectionConnected || d.Status != http.StatusNoContent || d.Tries != 1 || d.TriedAt.IsZero() || strings.Contains(d.Host, "abc") {
		t.Errorf("%+v", d)
	}
	if _, err := r.Resend(t.Context(), audit.System, d.ID); err != nil {
		t.Fatal(err)
	}
	if second := r.waitFor(to, e, 2)[1]; second.header.Get("webhook-id") != first.header.Get("webhook-id") || second.Data.Sequence != first.Data.Sequence {
		t.Errorf("%s, and again %s", first.body, second.body)
	}
	if _, err := r.Resend(t.Context(), audit.System, pg.NewID()); err != pg.ErrNotFound {
		t.Errorf("a delivery that there is not: %v", err)
	}
}

func TestADeliveryThatIsAskedForAgainWhileItIsSentIsSentAgain(t *testing.T) {
	for name, status := range map[string]int{"it is taken": http.StatusNoContent, "it fails": http.StatusInternalServerError} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t, true)
			to, e, _ := r.receiver()
			arrived, goOn := make(chan struct{}, 10), make(chan struct{})
			answer := sync.OnceFunc(func() { close(goOn) })
			defer answer()
			to.become(func(w http.ResponseWriter, _ *http.Request) {
				arrived <- struct{}{}
				<-goOn
				w.WriteHeader(status)
			})
			if _, _, err := r.SendTest(t.Context(), audit.System, e.ID); err != nil {
				t.Fatal(err)
			}
			r.run()
			dbtest.Receive(t, arrived, "the first try")
			sending, err := r.Deliveries(t.Context(), Filter{}, "", 10)
			if err != nil || len(sending.Rows) != 1 {
				t.Fatalf("%v, %v", sending, err)
			}
			if _, err := r.Resend(t.Context(), audit.System, sending.Rows[0].ID); err != nil {
				t.Fatal(err)
			}
			answer()
			dbtest.Receive(t, arrived, "the second try")
		})
	}
}

func TestWhatExpiresIsAnnounced(t *testing.T) {
	r := newRoom(t, true)
	merchant := dbtest.Merchant(t, r.DB, "CH168 Shop")
	const day = 24 * time.Hour
	for name, end := range map[string]time.Duration{"eight": 8 * day, "six": 6 * day, "one": day, "over": -day} {
		dbtest.Connection(t, r.DB, merchant.ID, "elecq", name, name, dbtest.Lapsing(r.DB.Now().Add(end)))
	}
	dbtest.Connection(t, r.DB, merchant.ID, "elecq", "rejected", "", dbtest.Lapsing(r.DB.Now().Add(day)), dbtest.Refused(r.DB.Now()))
	dbtest.Connection(t, r.DB, merchant.ID, "flexiti", "not set up", "", dbtest.Lapsing(r.DB.Now().Add(day)))
	to, e, _ := r.receiver(ConnectionExpiring)
	r.run()
	step := func(after time.Duration, n int) {
		t.Helper()
		r.clock.Advance(after)
		if err := r.remind(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.waitFor(to, e, n)
	}
	step(0, 2)           // six and one
	step(time.Hour, 2)   // not twice
	step(2*day, 3)       // eight has six left
	step(2*day+day/2, 4) // six has two left, and less
	step(2*day, 5)       // eight has less than two left
	step(30*day, 5)
}

func TestEventsAreDroppedAfterAMonth(t *testing.T) {
	r := newRoom(t, true)
	_, e, _ := r.receiver()
	r.connection("CH168 Shop")
	for _, after := range []time.Duration{29 * 24 * time.Hour, 2 * 24 * time.Hour} {
		r.clock.Advance(after)
		if err := r.dropOld(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := int64(1)
		if r.clock.Now().After(time.Now().Add(30 * 24 * time.Hour)) {
			want = 0
		}
		if got := r.endpoint(e.ID).Waiting; got != want {
			t.Errorf("after %v: %d deliveries, want %d", after, got, want)
		}
	}
}

func TestNobodyWithoutTheKeysetHasEventsSentElsewhere(t *testing.T) {
	r := newRoom(t, true)
	to, e, _ := r.receiver()
	thief, t2, _ := r.receiver(IncidentOpened)
	if _, err := r.DB.Pool.Exec(t.Context(), `UPDATE webhook_endpoints SET url = $2 WHERE id = $1`, e.ID, thief.URL); err != nil {
		t.Fatal(err)
	}
	r.run()
	r.connection("CH168 Shop")
	r.waitFor(to, e, 1)
	if _, err := r.DB.Pool.Exec(t.Context(), `UPDATE webhook_endpoints SET sealed = (SELECT sealed FROM webhook_endpoints WHERE id = $2) WHERE id = $1`, e.ID, t2.ID); err != nil {
		t.Fatal(err)
	}
	r.connection("Second")
	dbtest.Eventually(t, "a failure", func() bool { return r.recorded(e) })
	if len(thief.got()) != 0 || len(to.got()) != 1 {
		t.Errorf("%d requests went elsewhere", len(thief.got()))
	}
}

func TestNoMoreThanTwentyEndpoints(t *testing.T) {
	r := newRoom(t, false)
	for i := range maxEndpoints + 1 {
		_, _, err := r.Add(t.Context(), audit.System, "https://hooks.platform.example/", nil)
		if want := map[bool]error{true: ErrTooMany}[i == maxEndpoints]; err != want {
			t.Fatalf("endpoint %d: %v, want %v", i, err, want)
		}
	}
	if _, _, err := r.Add(t.Context(), audit.System, "https://hooks.platform.example/", []Type{"connection.exploded"}); err != ErrType {
		t.Errorf("%v", err)
	}
}
