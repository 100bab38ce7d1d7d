package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/jobs"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

// world makes the demo's small world: merchants whose people sign in, connections in every state, and a week of history. It writes none
// of it by hand. It goes through the week by a clock of its own, connects, refreshes and disconnects as the app would, and has the
// sandboxes fail where something went wrong. So states, timelines, figures and what the sandboxes know agree.
type world struct {
	db       *db.DB // whose clock shows the time that act has set
	now      time.Time
	accounts *account.Store
	engine   *refresh.Engine
	jobs     *jobs.Jobs
	box      *sandbox.Sandbox
	settings settings

	users       map[string]account.User // by e-mail address
	key         db.APIKey               // the platform's own, which reads tokens
	secret      pg.Secret
	connections map[string]pg.ID // by name
	acts        []act
}

// act is something that happens in the week.
type act struct {
	ago time.Duration
	do  func(context.Context) error
}

// worldAddress is the network address of the world's people.
const worldAddress = "203.0.113.24"

// The connections of the world: who connects which account, and how long ago.
type worldConnection struct {
	name, email, provider, account string
	ago                            time.Duration
	until                          time.Duration // how long ago it was last used; 0: it is in use
}

func worldConnections() []worldConnection {
	const day = 24 * time.Hour
	return []worldConnection{
		{"shop-invoices", "merchant@example.com", sandbox.CamInvoice, "KHUID00001234", 7*day - 1*time.Hour, 0},
		{"shop-charging", "merchant@example.com", sandbox.ELECQ, "100245", 7*day - 2*time.Hour, 0},
		{"shop-credit", "merchant@example.com", sandbox.Flexiti, "flexitidemo", 7*day - 3*time.Hour, 0},
		{"shop-bookings", "merchant@example.com", sandbox.Bookings, "9b1e82a7-0a59-4e7e-add5-b9ffa37aade1", 6 * day, 2 * time.Hour}, // retrying
		{"shop-orders", "merchant@example.com", "acme", "acme-user-001", 5 * day, 22 * time.Hour},                                   // refused
		{"rice-invoices", "mekong@example.com", sandbox.CamInvoice, "KHUID00005678", 7*day - 4*time.Hour, 90 * time.Minute},         // revoked
		{"rice-orders", "mekong@example.com", "acme", "acme-user-002", 6*day - 5*time.Hour, 0},                                      // refused once, and reconnected
		{"rice-credit", "mekong@example.com", sandbox.Flexiti, "mattresshouse", 6*day - 6*time.Hour, 0},
		{"rice-charging", "mekong@example.com", sandbox.ELECQ, "100518", 6*day - 7*time.Hour, 31 * time.Hour},       // disconnected
		{"house-invoices", "angkor@example.com", sandbox.CamInvoice, "KHUID00009012", 7*day - 5*time.Hour, 8 * day}, // of another environment
		{"house-orders", "angkor@example.com", "acme", "acme-user-003", 4 * day, 4*day - 30*time.Minute},            // lapsed
		{"house-credit", "angkor@example.com", sandbox.Flexiti, "snowbikes", 6*day - 8*time.Hour, 0},
		{"house-bookings", "angkor@example.com", sandbox.Bookings, "9b1e82a7-6c14-4d0b-9a8e-51f0c2d7b3e4", 5*day - 3*time.Hour, 0},
	}
}

// makeWorld fills an empty demo.
func makeWorld(ctx context.Context, s settings, box *sandbox.Sandbox, present time.Time) error {
	w := &world{box: box, settings: s, users: map[string]account.User{}, connections: map[string]pg.ID{}}
	var err error
	if w.db, err = db.Open(ctx, s.databaseURL, s.keyset, pg.Options{Clock: pg.NewClock(func() time.Time { return w.now })}); err != nil {
		return err
	}
	defer w.db.Close()
	quiet := slog.New(slog.DiscardHandler) // what fails here fails on purpose
	w.accounts = account.New(w.db)
	w.engine = refresh.New(refresh.Options{DB: w.db, Connectors: connected(s.providers), Log: quiet})
	defer w.engine.Stop(context.WithoutCancel(ctx))
	if w.jobs, err = jobs.New(jobs.Options{
		DB: w.db, Accounts: w.accounts, Refresh: w.engine, Log: quiet, Providers: s.providers, PublicURL: s.publicURL, Brand: s.brand, Outbox: true,
	}); err != nil {
		return err
	}
	w.plan()
	slices.SortStableFunc(w.acts, func(a, b act) int { return int(b.ago - a.ago) })
	for _, one := range w.acts {
		w.now = present.Add(-one.ago)
		if err := one.do(ctx); err != nil {
			return fmt.Errorf("the demo's world, %s ago: %w", one.ago, err)
		}
		if err := w.engine.Flush(ctx); err != nil {
			return err
		}
	}
	// The notices have been verified: the rest of their rechecks would only say so again.
	if _, err := w.db.Pool.Exec(ctx, `UPDATE rechecks SET due_at = NULL`); err != nil {
		return err
	}
	return w.db.FoldCounts(ctx)
}

func (w *world) act(ago time.Duration, do func(context.Context) error) {
	w.acts = append(w.acts, act{ago, do})
}

// plan says what happens in the week.
func (w *world) plan() {
	const day = 24 * time.Hour
	w.act(8*day, w.begin)
	for _, c := range worldConnections() {
		w.act(c.ago+time.Minute, func(ctx context.Context) error { return w.signIn(ctx, c.email) })
		w.act(c.ago, func(ctx context.Context) error { return w.connect(ctx, c, pg.ID{}) })
		for ago, n := c.ago-5*time.Minute, 0; ago > max(c.until, 20*time.Minute); ago, n = ago-7*time.Hour-11*time.Minute, n+1 {
			w.act(ago, func(ctx context.Context) error { return w.use(ctx, c.name, 1+n%5) })
		}
	}
	w.incident(3*day, 36*time.Minute, sandbox.Flexiti, "shop-credit", "rice-credit", "house-credit")
	w.refused(2*day, "acme", "acme-user-002", "rice-orders")
	w.act(day+2*time.Hour, func(ctx context.Context) error {
		all := worldConnections()
		again := all[slices.IndexFunc(all, func(c worldConnection) bool { return c.name == "rice-orders" })]
		return w.connect(ctx, again, w.connections[again.name])
	})
	w.refused(21*time.Hour, "acme", "acme-user-001", "shop-orders")
	w.act(75*time.Minute, func(ctx context.Context) error { // CamInvoice says so first
		w.box.Revoke(sandbox.CamInvoice, "KHUID00005678")
		return errors.Join(w.engine.RecheckAccount(ctx, sandbox.CamInvoice, "KHUID00005678"), w.refresh(ctx, "rice-invoices"))
	})
	w.act(30*time.Hour, w.disconnect("rice-charging", "mekong@example.com"))
	w.act(4*day-90*time.Minute, func(ctx context.Context) error { return w.refresh(ctx, "house-orders") })
	for n, ago := 1, 68*time.Minute; n <= 8; n++ { // each try waits twice as long as the one before
		w.act(ago, w.failing(sandbox.Bookings, "shop-bookings"))
		ago -= 30 * time.Second << (n - 1)
	}
	w.act(15*time.Minute, func(ctx context.Context) error { return w.ask(ctx, "shop-orders", "merchant@example.com") })
	w.act(4*time.Minute, func(ctx context.Context) error { return w.signIn(ctx, "merchant@example.com") })
	w.act(2*time.Minute, func(ctx context.Context) error { // an attempt that waits for an answer
		return w.connect(ctx, worldConnection{email: "merchant@example.com", provider: sandbox.ELECQ, account: "100391"}, pg.ID{})
	})
}

// begin adds the people and the platform's key.
func (w *world) begin(ctx context.Context) error {
	if err := w.db.Audit.MakeMonths(ctx); err != nil {
		return err
	}
	for _, u := range append(demoUsers(), worldUsers()...) {
		added, err := addUser(ctx, w.db, w.accounts, u.NewUser, u.merchant)
		if err != nil {
			return err
		}
		w.users[u.Email] = added
	}
	var err error
	w.key, w.secret, err = w.db.AddAPIKey(ctx, audit.System, db.APIKey{Name: "Order service", Scopes: []string{db.ScopeConnections, db.ScopeTokens}})
	return err
}

func (w *world) actor(email string) audit.Actor {
	u := w.users[email]
	return audit.Actor{Role: u.Role, ID: u.ID, Address: worldAddress}
}

func (w *world) signIn(ctx context.Context, email string) error {
	u, err := w.accounts.UserByEmail(ctx, email)
	if err != nil {
		return err
	}
	if err := w.accounts.AddSession(ctx, pg.NewSecret(), u, worldAddress, "Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0"); err != nil {
		return err
	}
	return w.db.Audit.Record(ctx, audit.Event{Kind: status.UserSignedIn, Actor: w.actor(email), MerchantID: u.MerchantID})
}

// connect makes the connection, or reconnects it. One without a name waits to be confirmed.
func (w *world) connect(ctx context.Context, c worldConnection, again pg.ID) error {
	at := slices.IndexFunc(w.settings.providers, func(p connectors.Provider) bool { return p.Name == c.provider })
	p, u := w.settings.providers[at], w.users[c.email]
	if c.name == "house-invoices" { // made when the provider was set up for production
		p.Environment = "production"
	}
	keyed, isKeyed := p.Connector.(connectors.CredentialConnector)
	n := db.NewFlow{
		ID: pg.NewID(), UserID: u.ID, MerchantID: u.MerchantID, Provider: p.Name, Environment: p.Environment, ConnectionID: again,
		State: pg.NewSecret(), Browser: pg.NewSecret(), Verifier: string(pg.NewSecret()), Keyed: isKeyed, By: w.actor(c.email),
	}
	f, err := w.db.BeginFlow(ctx, n)
	if err != nil {
		return err
	}
	call, calls := connectors.WithCalls(ctx)
	with := connectors.Flow{State: string(n.State), Verifier: n.Verifier, CallbackURL: w.settings.publicURL.JoinPath("connect", p.Name, "callback").String(), Locale: "en"}
	var g connectors.Grant
	if isKeyed {
		g, err = keyed.Authenticate(call, with, worldKeys(c.provider, c.account))
	} else {
		var answer url.Values
		redirector := p.Connector.(connectors.Redirector)
		if answer, err = w.consent(call, redirector, with, c.account); err == nil {
			var taken db.ClaimedFlow
			if taken, err = w.db.ClaimFlow(ctx, f, redirector.Code(answer)); err == nil {
				f = taken.Flow
				g, err = redirector.Exchange(call, with, answer)
			}
		}
	}
	if err != nil {
		return err
	}
	w.engine.Count(p.Name, p.Environment, "connect", status.OK, calls.Last().Took)
	if c.name == "house-orders" { // it was given for once
		g.Refresh, g.RefreshLifetime = "", 0
	}
	if f, err = w.db.KeepGrant(ctx, f, db.Exchange{Grant: g, Obtained: w.now, Proven: c.name != "", Calls: calls.All}); err != nil || c.name == "" {
		return err
	}
	made, err := w.db.Connect(ctx, f, db.ChooseConnect, w.actor(c.email), p.Connector.Info(), nil)
	w.connections[c.name] = made.Connection.ID
	return err
}

// consent allows at the sandbox's page, as a person with a browser does, and returns what the callback carries.
func (w *world) consent(ctx context.Context, c connectors.Redirector, f connectors.Flow, as string) (url.Values, error) {
	location, err := c.AuthorizationURL(ctx, f)
	if err != nil {
		return nil, err
	}
	page, err := url.Parse(location)
	if err != nil {
		return nil, err
	}
	form := page.Query()
	form.Set("decision", "allow")
	form.Set("account", as)
	page.RawQuery, page.Path = "", strings.Replace(page.Path, "/elecq/authorize", "/elecq/sign-in", 1)
	browser := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, page.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := browser.Do(request)
	if err != nil {
		return nil, err
	}
	response.Body.Close()
	back, err := response.Location()
	if err != nil {
		return nil, fmt.Errorf("the sandbox's %s: %w", page.Path, err)
	}
	return back.Query(), nil
}

// worldKeys are what a merchant types.
func worldKeys(provider, account string) map[string]string {
	for _, m := range sandbox.SampleFlexitiMerchants() {
		if provider == sandbox.Flexiti && m.ClientID == account {
			return map[string]string{"client_id": m.ClientID, "client_secret": m.ClientSecret, "merchant_username": m.Username, "merchant_password": m.Password}
		}
	}
	for _, m := range sandbox.SampleBookingsMerchants() {
		if provider == sandbox.Bookings && m.ClientID == account {
			return map[string]string{"client_id": m.ClientID, "client_secret": m.ClientSecret}
		}
	}
	return nil
}

// refresh refreshes a connection, whatever comes of it.
func (w *world) refresh(ctx context.Context, name string) error {
	_, err := w.engine.RefreshNow(ctx, w.connections[name], audit.System)
	var needed *refresh.ActionNeededError
	var ours *refresh.PlatformActionError
	if errors.As(err, &needed) || errors.As(err, &ours) {
		return nil
	}
	return err
}

// use has the platform ask for access some times, which is refreshed first if it has ended. It does nothing where a person must act: the
// platform gets an error, and the provider is not asked.
func (w *world) use(ctx context.Context, name string, times int) error {
	id := w.connections[name]
	if c, err := w.db.ConnectionDetail(ctx, id, pg.ID{}); err != nil || c.Problem != "" {
		return err
	}
	h, ok, err := w.db.ReadToken(ctx, w.secret, id)
	if err == nil && (!ok || h.ExpiresAt.Before(w.now.Add(time.Minute))) {
		if err = w.refresh(ctx, name); err == nil {
			h, ok, err = w.db.ReadToken(ctx, w.secret, id)
		}
	}
	for ; ok && err == nil && times > 0; times-- {
		w.engine.RecordTokenRead(id, w.key.ID, h)
	}
	return err
}

// refused has an account's owner end access at its provider, which then refuses to refresh it.
func (w *world) refused(ago time.Duration, provider, account, name string) {
	w.act(ago, func(ctx context.Context) error {
		w.box.Revoke(provider, account)
		return w.refresh(ctx, name)
	})
}

// failing has a provider fail at one refresh of a connection.
func (w *world) failing(provider, name string) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := w.box.SetFault(provider, sandbox.Fault{Kind: sandbox.Error500}); err != nil {
			return err
		}
		defer w.box.ClearFaults(provider)
		return w.refresh(ctx, name)
	}
}

// incident has a provider fail for all its connections until an incident opens, which ends when it answers again.
func (w *world) incident(ago, lasts time.Duration, provider string, names ...string) {
	for n := range 9 {
		w.act(ago-time.Duration(n)*30*time.Second, w.failing(provider, names[n%len(names)]))
	}
	for n, name := range names {
		w.act(ago-lasts-time.Duration(n)*time.Second, func(ctx context.Context) error { return w.refresh(ctx, name) })
	}
	w.act(ago-lasts-time.Duration(len(names))*time.Second, func(ctx context.Context) error { return w.engine.EndIncident(ctx, provider, audit.System) })
}

func (w *world) disconnect(name, email string) func(context.Context) error {
	return func(ctx context.Context) error {
		r, _, err := w.db.Disconnect(ctx, w.connections[name], w.users[email].MerchantID, w.actor(email), nil)
		if err != nil {
			return err
		}
		revoked, call, err := w.jobs.Revoke(ctx, r)
		if err != nil {
			return err
		}
		return w.db.RecordRevocation(ctx, r, revoked, call)
	}
}

// ask has support mail a merchant to reconnect.
func (w *world) ask(ctx context.Context, name, email string) error {
	by, id, user := w.actor("support@example.com"), w.connections[name], w.users[email]
	c, err := w.db.ConnectionDetail(ctx, id, user.MerchantID)
	if err != nil {
		return err
	}
	if err := w.db.Audit.Record(ctx, audit.Event{
		Kind: status.ConnectionReconnectAsked, Actor: by, MerchantID: user.MerchantID, ConnectionID: id, Provider: c.Provider, Note: user.Email,
	}); err != nil {
		return err
	}
	return w.jobs.SendMail(ctx, notify.Mail{Kind: notify.MailReconnect, User: user.ID, By: by.ID, Connections: []pg.ID{id}})
}

// worldSize says how much there is in the world.
func worldSize() string {
	merchants := map[string]bool{}
	for _, c := range worldConnections() {
		merchants[c.email] = true
	}
	return fmt.Sprintf("a week of %d merchants with %d connections", len(merchants), len(worldConnections()))
}
