package handlers

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/refresh"
	"patchbay/views"
)

// exchangeLimit is how long a provider may take for a whole exchange, however many calls that is. A flow lapses after
// a minute, so that what comes of it can still be saved.
const exchangeLimit = 45 * time.Second

// saveLimit is how long what came of an exchange is tried to be saved.
const saveLimit = 12 * time.Second

// connectPage says what will happen, what is asked for and what is kept; for a keyed provider it holds the form.
func (s *Server) connectPage(w http.ResponseWriter, r *http.Request) error {
	setup, err := s.provider(r.PathValue("provider"))
	if err != nil {
		return err
	}
	page, err := s.beforeConnecting(r, setup, r.URL.Query().Get("connection"))
	if err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, views.Connect(page))
	return nil
}

// beforeConnecting fills the page. reconnect is the id of the connection to renew, as it stands in an address or a form.
func (s *Server) beforeConnecting(r *http.Request, setup connectors.Provider, reconnect string) (views.ConnectPage, error) {
	page := views.ConnectPage{Page: s.viewPage(r), Provider: viewProvider(setup)}
	owned, err := s.DB.MerchantConnections(r.Context(), visitorOf(r).user.MerchantID)
	if err != nil {
		return page, err
	}
	found := reconnect == ""
	for _, c := range owned {
		if c.Provider != setup.Name || c.Environment != setup.Environment {
			continue
		}
		page.AlreadyHas = true
		if c.ID.String() == reconnect {
			found = true
			page.ReconnectID, page.ReconnectAs = reconnect, cmp.Or(c.Account.Name, c.Account.ID)
		}
	}
	if !found {
		return page, db.ErrNotFound
	}
	if keyed, ok := setup.Connector.(connectors.CredentialConnector); ok {
		for _, f := range keyed.Fields() {
			page.Fields = append(page.Fields, views.Field{Name: f.Name, Secret: f.Secret, Optional: f.Optional, Options: f.Options, MaxLen: cmp.Or(f.MaxLen, 200)})
		}
	}
	return page, nil
}

// connect begins: to the provider, or with what was typed.
func (s *Server) connect(w http.ResponseWriter, r *http.Request) error {
	setup, err := s.provider(r.PathValue("provider"))
	if err != nil {
		return err
	}
	keyed, typed := setup.Connector.(connectors.CredentialConnector)
	reconnect := r.PostFormValue("connection")
	if !typed && reconnect == "" {
		return s.begin(w, r, setup, db.ID{})
	}
	page, err := s.beforeConnecting(r, setup, reconnect)
	if err != nil {
		return err
	}
	var pinned db.ID
	if page.ReconnectID != "" {
		if pinned, err = db.ParseID(page.ReconnectID); err != nil {
			return err
		}
	}
	if typed {
		return s.connectWithCredentials(w, r, setup, keyed, pinned, page)
	}
	return s.begin(w, r, setup, pinned)
}

// reconnect begins an attempt pinned to a connection: it keeps its id and history.
func (s *Server) reconnect(w http.ResponseWriter, r *http.Request) error {
	id, err := db.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	c, err := s.DB.WholeConnection(r.Context(), id, visitorOf(r).user.MerchantID)
	if err != nil {
		return err
	}
	return s.beginReconnect(w, r, c.Connection)
}

// beginReconnect renews one connection of the visitor's: to the provider, or to the form with what it is pinned to. What
// cannot be renewed says so on its page.
func (s *Server) beginReconnect(w http.ResponseWriter, r *http.Request, c db.Connection) error {
	setup, err := s.provider(c.Provider)
	if err != nil || setup.Environment != c.Environment || !c.DisconnectedAt.IsZero() {
		return redirect(w, r, "/connections/"+c.ID.String())
	}
	if _, ok := setup.Connector.(connectors.CredentialConnector); ok {
		return redirect(w, r, "/connect/"+setup.Name+"?connection="+c.ID.String())
	}
	return s.begin(w, r, setup, c.ID)
}

// begin makes a flow and sends the browser to the provider with it.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, setup connectors.Provider, pinned db.ID) error {
	redirector, ok := setup.Connector.(connectors.Redirector)
	if !ok {
		return db.ErrNotFound
	}
	v := visitorOf(r)
	begun := db.NewFlow{
		ID: db.NewID(), UserID: v.user.ID, MerchantID: v.user.MerchantID, Provider: setup.Name, Environment: setup.Environment, ConnectionID: pinned,
		State: db.NewSecret(), Browser: db.NewSecret(), Verifier: string(db.NewSecret()), By: s.actor(r),
	}
	f, err := s.DB.BeginFlow(r.Context(), begun)
	if err != nil {
		return err
	}
	s.setFlowCookie(w, r, f.ID, begun.Browser)

	ctx, calls := connectors.WithCalls(r.Context())
	ctx, cancel := context.WithTimeout(ctx, exchangeLimit)
	defer cancel()
	location, err := redirector.AuthorizationURL(ctx, connectors.Flow{
		State: string(begun.State), Verifier: begun.Verifier, CallbackURL: s.callbackURL(setup.Name), Locale: v.locale,
	})
	if err != nil {
		s.Log.InfoContext(r.Context(), "not begun", "provider", setup.Name, "flow", f.ID, "class", connectors.Class(err), "status", calls.Last().Status)
		stage, outcome := flowOutcome(err)
		f.ExpiresAt = s.retryAt(f, err)
		if err := s.retrySave(r.Context(), func(ctx context.Context) error { return s.DB.EndFlow(ctx, f, stage, outcome, calls.All, begun.By) }); err != nil {
			return err
		}
		return redirect(w, r, "/flows/"+f.Reference)
	}
	w.Header().Set("Location", location) // as the connector wrote it: http.Redirect would tidy it up
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// open proves what the merchant typed with the provider and connects.
func (s *Server) connectWithCredentials(w http.ResponseWriter, r *http.Request, setup connectors.Provider, keyed connectors.CredentialConnector, pinned db.ID, page views.ConnectPage) error {
	v := visitorOf(r)
	inputs := make(map[string]string, len(page.Fields))
	for i, f := range page.Fields {
		inputs[f.Name] = formText(r, f.Name)
		if !f.Secret {
			page.Fields[i].Value = inputs[f.Name]
		}
	}
	tries := "keys of " + v.user.ID.String()
	if err := s.rateLimit(r, tries, db.Limit{Burst: 30, Every: 20 * time.Second}); err != nil {
		return err
	}
	f, err := s.DB.BeginFlow(r.Context(), db.NewFlow{
		ID: db.NewID(), UserID: v.user.ID, MerchantID: v.user.MerchantID, Provider: setup.Name, Environment: setup.Environment, ConnectionID: pinned,
		State: db.NewSecret(), Browser: db.NewSecret(), Keyed: true, By: s.actor(r),
	})
	if err != nil {
		return err
	}
	ctx, calls := connectors.WithCalls(context.WithoutCancel(r.Context()))
	ctx, cancel := context.WithTimeout(ctx, exchangeLimit)
	defer cancel()
	obtained := s.DB.Now()
	grant, err := keyed.Authenticate(ctx, connectors.Flow{CallbackURL: s.callbackURL(setup.Name), Locale: v.locale}, inputs)
	if failed := s.saveExchange(r, setup, f, finished{grant: grant, err: err, obtained: obtained, calls: calls, proven: true}); failed != nil {
		return failed
	}
	var input *connectors.InputError
	switch class := connectors.Class(err); {
	case err == nil:
		if err := s.DB.Forgive(r.Context(), tries); err != nil { // the right keys are no guess
			return err
		}
		return redirect(w, r, "/flows/"+f.Reference)
	case errors.As(err, &input):
		for i, field := range page.Fields {
			if input.Code == connectors.InputSwapped && field.Name == input.Field {
				page.Fields[i].Value = "" // this is the secret: it is not shown again
			}
		}
		page.Errors = views.Errors{{Field: input.Field, Code: input.Code}}
		s.render(w, r, http.StatusUnprocessableEntity, views.Connect(page))
	case class == "refused":
		page.Refused, page.Reference = class, f.Reference
		s.render(w, r, http.StatusUnprocessableEntity, views.Connect(page))
	case class == "ours", class == "later":
		page.Refused, page.Reference = class, f.Reference
		s.render(w, r, http.StatusServiceUnavailable, views.Connect(page))
	default:
		page.Refused, page.Reference = "trouble", f.Reference
		s.render(w, r, http.StatusBadGateway, views.Connect(page))
	}
	return nil
}

// finished is what came of an exchange with a provider.
type finished struct {
	grant    connectors.Grant
	err      error
	obtained time.Time // when the answer was made at the latest, by our clock
	calls    *connectors.Calls
	proven   bool // whoever began the flow is known to be who answered it
}

// saveExchange saves what came of an exchange before anything else is done with it, and connects where nothing has to be asked.
// It is detached from the request: a browser that hangs up loses nothing.
func (s *Server) saveExchange(r *http.Request, setup connectors.Provider, f db.Flow, done finished) error {
	s.Log.InfoContext(r.Context(), "exchanged", "provider", setup.Name, "flow", f.ID, "class", connectors.Class(done.err), "status", done.calls.Last().Status)
	var took time.Duration
	for _, call := range done.calls.All {
		took += call.Took
	}
	s.Refresh.Count(setup.Name, setup.Environment, "connect", connectors.Class(done.err), took)
	by := s.actor(r)
	if done.err != nil {
		stage, outcome := flowOutcome(done.err)
		f.ExpiresAt = s.retryAt(f, done.err)
		return s.retrySave(r.Context(), func(ctx context.Context) error { return s.DB.EndFlow(ctx, f, stage, outcome, done.calls.All, by) })
	}
	err := s.retrySave(r.Context(), func(ctx context.Context) (err error) {
		f, err = s.DB.KeepGrant(ctx, f, done.grant, done.obtained, done.calls.All)
		return err
	})
	if errors.Is(err, db.ErrTaken) {
		return nil // given up meanwhile: its page says so
	}
	if err != nil || !done.proven {
		return err
	}
	return s.finishConnect(r, setup, f, "")
}

// conclude does what was chosen, or with choice "" what nobody needs to be asked about.
func (s *Server) finishConnect(r *http.Request, setup connectors.Provider, f db.Flow, choice string) error {
	var made db.Made
	err := s.retrySave(r.Context(), func(ctx context.Context) (err error) {
		made, err = s.DB.Connect(ctx, f, choice, s.actor(r), refresh.Schedule(setup.Connector), s.revokeJobs(f.Provider, f.Environment))
		return err
	})
	switch {
	case errors.Is(err, db.ErrMustChoose), errors.Is(err, db.ErrTaken), errors.Is(err, db.ErrRevoking):
		return nil // the flow's page says how it stands
	case errors.Is(err, db.ErrRevoked):
		return s.retrySave(r.Context(), func(ctx context.Context) error {
			return s.DB.EndFlow(ctx, f, db.Failed, db.OutcomeInterrupted, nil, s.actor(r))
		})
	case err != nil:
		return err
	}
	if made.Parting != nil {
		return s.revokeAtProvider(r, *made.Parting)
	}
	return nil
}

// retrySave tries again for a while: a database that restarts must not lose what a provider gave only once. It goes on when
// the browser has hung up.
func (s *Server) retrySave(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveLimit)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := do(ctx)
		if err == nil || errors.Is(err, db.ErrTaken) || errors.Is(err, db.ErrMustChoose) || errors.Is(err, db.ErrRevoked) ||
			errors.Is(err, db.ErrNotFound) || errors.Is(err, db.ErrSealed) {
			return err
		}
		if pause(ctx, wait) != nil {
			return err
		}
	}
}

// retryAt is when the provider wants to be asked again, where it said so; else the flow's time stays.
func (s *Server) retryAt(f db.Flow, err error) time.Time {
	var later *connectors.RateLimitedError
	if errors.As(err, &later) {
		return s.DB.Now().Add(later.RetryAfter)
	}
	return f.ExpiresAt
}

// ending is the stage and the outcome that a provider's error stands for.
func flowOutcome(err error) (stage, outcome string) {
	var refusal *connectors.RejectedError
	var trouble *connectors.TemporaryError
	var reason string
	if errors.As(err, &refusal) {
		reason = refusal.Reason
	} else if errors.As(err, &trouble) {
		reason = trouble.Reason
	}
	switch {
	case connectors.Class(err) == "denied":
		return db.Denied, "denied"
	case connectors.Class(err) == "input":
		return db.Failed, "input"
	case reason == "no-merchant-took-part":
		return db.Failed, "no-merchant"
	case reason == "no-account":
		return db.Failed, "no-identity"
	case reason == "wrong-issuer":
		return db.Failed, "forged"
	case connectors.Class(err) == "ours":
		return db.Failed, "ours"
	case connectors.Class(err) == "refused":
		return db.Failed, "provider-refused"
	case connectors.Class(err) == "later":
		return db.Failed, "provider-busy"
	}
	return db.Failed, "provider-down"
}

// A flow's cookie is named after its id, and ids are in the order of time.
func (s *Server) flowCookie(id db.ID) string { return "flow-" + id.String() }

// setFlowCookie gives the browser the flow's second secret and forgets the oldest of more than eight: a cookie header
// that is too long would keep everybody out.
func (s *Server) setFlowCookie(w http.ResponseWriter, r *http.Request, id db.ID, secret db.Secret) {
	s.setCookie(w, s.flowCookie(id), string(secret), db.ReplayFor)
	var names []string
	for _, cookie := range r.Cookies() {
		if strings.HasPrefix(cookie.Name, s.cookieName("flow-")) {
			names = append(names, cookie.Name)
		}
	}
	slices.Sort(names)
	for len(names) > 7 {
		s.setCookie(w, strings.TrimPrefix(names[0], s.cookieName("")), "", -time.Second)
		names = names[1:]
	}
}

// flowSecrets are the second secrets of every flow that this browser began, by the flow's id.
func (s *Server) flowSecrets(r *http.Request) map[db.ID]db.Secret {
	secrets := make(map[db.ID]db.Secret)
	for _, cookie := range r.Cookies() {
		if name, ok := strings.CutPrefix(cookie.Name, s.cookieName("flow-")); ok {
			if id, err := db.ParseID(name); err == nil {
				secrets[id] = db.Secret(cookie.Value)
			}
		}
	}
	return secrets
}

// ofBrowser says whether this browser began the flow.
func (s *Server) ofBrowser(r *http.Request, f db.Flow) bool {
	cookie, err := r.Cookie(s.cookieName(s.flowCookie(f.ID)))
	return err == nil && f.OfBrowser(db.Secret(cookie.Value))
}

func viewProvider(setup connectors.Provider) views.Provider {
	p := views.Provider{Name: setup.Name, Title: setup.Title, Environment: setup.Environment}
	if setup.Connector != nil {
		_, p.Keyed = setup.Connector.(connectors.CredentialConnector)
		info := setup.Connector.Info()
		p.Color, p.HomeURL = info.Color, info.HomeURL
	}
	return p
}

// viewProviderOf shows the provider of a connection, also one whose settings are gone.
func (s *Server) viewProviderOf(name, environment string) views.Provider {
	setup, err := s.anyProvider(name)
	if err != nil {
		setup = connectors.Provider{Name: name, Title: name}
	}
	p := viewProvider(setup)
	p.Environment = environment
	return p
}

// viewAccount shows whose account it is. self is the connection's own id, which stands in where a provider names nothing.
func viewAccount(a connectors.Account, self string) views.Account {
	v := views.Account{ID: a.ID, Name: a.Name, TIN: a.Detail("tin"), Nameless: a.ID == "" || a.ID == self}
	if other := a.Detail("company_name_kh"); other != a.Name {
		v.OtherName = other
	}
	for _, d := range a.Details {
		v.Details = append(v.Details, views.Detail{Key: d.Key, Value: d.Value})
	}
	return v
}
