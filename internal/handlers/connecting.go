package handlers

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
	"patchbay/views"
)

// This file is the whole way of a flow, in its order: connect or reconnect, begin, callback, exchange, saveExchange, choose
// if there is something to choose, finishConnect. Credentials that a merchant types (connect_page.go) join it at
// saveExchange. flows.go shows a flow's page.

const (
	exchangeLimit = 45 * time.Second // for all calls of one exchange. A flow lapses after a minute, so its result can still be saved
	saveLimit     = 12 * time.Second // for the tries to save the result of an exchange
)

// connect starts a flow from a provider's form: by redirect, or with the credentials that were typed.
func (s *Server) connect(w http.ResponseWriter, r *http.Request) error {
	provider, err := s.provider(r.PathValue("provider"))
	if err != nil {
		return err
	}
	reconnect := r.PostFormValue("connection")
	if len(fieldsOf(provider)) == 0 && reconnect == "" {
		return s.begin(w, r, provider, pg.ID{}, nil)
	}
	page, err := s.viewConnectPage(r, provider, reconnect)
	if err != nil {
		return err
	}
	var connection pg.ID
	if page.ReconnectID != "" {
		if connection, err = pg.ParseID(page.ReconnectID); err != nil {
			return err
		}
	}
	return s.beginTyped(w, r, provider, connection, page)
}

// beginTyped begins with what was typed into the form of a provider's page, if it has one.
func (s *Server) beginTyped(w http.ResponseWriter, r *http.Request, provider connectors.Provider, reconnect pg.ID, page views.ConnectPage) error {
	switch c := provider.Connector.(type) {
	case connectors.CredentialConnector:
		return s.connectWithCredentials(w, r, provider, c, reconnect, page)
	case connectors.Asker:
		if len(page.Fields) > 0 {
			return s.askFirst(w, r, provider, c, reconnect, page)
		}
	}
	return s.begin(w, r, provider, reconnect, nil)
}

// reconnect starts a flow for a connection, which keeps its id and history.
func (s *Server) reconnect(w http.ResponseWriter, r *http.Request) error {
	id, err := pg.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	c, err := s.DB.ConnectionDetail(r.Context(), id, visitorOf(r).user.MerchantID)
	if err != nil {
		return err
	}
	return s.beginReconnect(w, r, c.Connection)
}

// beginReconnect sends the browser to the provider, or to the form for what the merchant types. A connection that cannot be
// reconnected says why on its own page.
func (s *Server) beginReconnect(w http.ResponseWriter, r *http.Request, c db.Connection) error {
	provider, err := s.provider(c.Provider)
	if err != nil || !provider.Is(c.Provider, c.Environment) || !c.DisconnectedAt.IsZero() {
		return redirect(w, r, "/connections/"+c.ID.String())
	}
	if len(fieldsOf(provider)) > 0 {
		return redirect(w, r, "/connect/"+provider.Name+"?connection="+c.ID.String())
	}
	return s.begin(w, r, provider, c.ID, nil)
}

// connectsPerMerchant limits attempts to connect: each is kept for more than a year, and some call the provider before anybody leaves.
func connectsPerMerchant() pg.Limit { return pg.Limit{Burst: 60, Every: 10 * time.Second} }

// begin creates a flow and sends the browser to the provider with it. inputs are what the merchant typed, if the provider asks.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, provider connectors.Provider, reconnect pg.ID, inputs map[string]string) error {
	redirector, ok := provider.Connector.(connectors.Redirector)
	if !ok {
		return pg.ErrNotFound
	}
	v := visitorOf(r)
	if v.role() != linked { // a link's own attempts are limited where they begin
		if err := s.rateLimit(r, "connects of "+v.user.MerchantID.String(), connectsPerMerchant()); err != nil {
			return err
		}
	}
	n := db.NewFlow{
		ID: pg.NewID(), UserID: v.user.ID, LinkID: v.link.ID, Until: v.link.ExpiresAt, MerchantID: v.user.MerchantID, Provider: provider.Name,
		Environment: provider.Environment, ConnectionID: reconnect,
		State: pg.NewSecret(), Browser: s.rememberBrowser(w, r), Verifier: string(pg.NewSecret()), Inputs: inputs, By: s.actor(r),
	}
	another, err := s.hasAccount(r, provider)
	if err != nil {
		return err
	}
	f, err := s.DB.BeginFlow(r.Context(), n)
	if err != nil {
		return err
	}

	ctx, calls := connectors.WithCalls(r.Context())
	ctx, cancel := context.WithTimeout(ctx, exchangeLimit)
	defer cancel()
	location := ""
	if err = s.callbackKnown(ctx, provider, s.actor(r)); err == nil {
		location, err = redirector.AuthorizationURL(ctx, connectors.Flow{
			State: string(n.State), Verifier: n.Verifier, CallbackURL: s.callbackURL(provider.Name), Locale: v.locale,
			Another: another && reconnect == (pg.ID{}), Inputs: inputs,
		})
	}
	if err != nil {
		s.Log.InfoContext(r.Context(), "not begun", "provider", provider.Name, "flow", f.ID, "outcome", connectors.OutcomeOf(err), "status", calls.Last().Status, "reason", connectors.ReasonOf(err))
		if err := s.saveFailure(r, f, err, calls.All); err != nil {
			return err
		}
		return redirect(w, r, "/flows/"+f.Reference)
	}
	w.Header().Set("Location", location) // as the connector wrote it: http.Redirect would clean its path
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

const askLimit = 3 * time.Second // for asking whether our callback address is registered: a merchant waits

// callbackKnown asks the provider whether our callback address is registered, so that no merchant is sent to an error page of the
// provider's: before the first hand-over of this process, and until the provider has said yes after it said no. It returns the
// provider's no alone: with any other answer the merchant is handed over, and the next one's hand-over asks again.
func (s *Server) callbackKnown(ctx context.Context, provider connectors.Provider, by audit.Actor) error {
	checker, ok := provider.Connector.(connectors.CallbackChecker)
	if !ok {
		return nil
	}
	refused, err := s.DB.CallbackRefusedSince(ctx, provider.Name, provider.Environment)
	if err != nil {
		return err
	}
	if _, known := s.known.Load(provider.Name); known && refused.IsZero() {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	err = checker.CheckCallback(limited, s.callbackURL(provider.Name))
	no := connectors.OutcomeOf(err) == status.ClientRejected
	switch {
	case err != nil && !no:
		s.Log.InfoContext(ctx, "callback address not checked", "provider", provider.Name, "reason", connectors.ReasonOf(err))
		return nil
	case no:
		s.Log.WarnContext(ctx, "callback address not registered", "provider", provider.Name, "address", s.callbackURL(provider.Name), "reason", connectors.ReasonOf(err))
	default:
		s.known.Store(provider.Name, true)
	}
	if no == refused.IsZero() {
		if err := s.DB.CallbackRefused(ctx, provider.Name, provider.Environment, no, s.callbackURL(provider.Name), by); err != nil {
			s.Log.ErrorContext(ctx, "what the provider says of our callback address is not kept", "provider", provider.Name, "err", err)
		}
	}
	return err
}

// hasAccount says whether the visitor's merchant has an account at the provider.
func (s *Server) hasAccount(r *http.Request, provider connectors.Provider) (bool, error) {
	owned, err := s.DB.MerchantConnections(r.Context(), visitorOf(r).user.MerchantID, []string{})
	return slices.ContainsFunc(owned, func(c db.Connection) bool {
		return provider.Is(c.Provider, c.Environment)
	}), err
}

// callback is the address to which providers send browsers back. Every hit, also a repeated or a forged one, ends in a
// redirect to an address without the query, so that no code stays in a browser's history. An error of ours before the
// code is spent is returned, and fail redirects too.
func (s *Server) callback(w http.ResponseWriter, r *http.Request) error {
	if isPrefetch(r) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	provider, err := s.provider(r.PathValue("provider"))
	if err != nil {
		return err
	}
	redirector, ok := provider.Connector.(connectors.Redirector)
	if !ok {
		return pg.ErrNotFound
	}
	query := parseQuery(r.URL.RawQuery)
	code, state := redirector.Code(query), query.Get("state")

	f, err := s.flowOfCallback(r, provider, code, state)
	if errors.Is(err, pg.ErrNotFound) {
		return s.rejectCallback(w, r, provider, status.EndForged)
	}
	if err != nil {
		return err
	}
	if f.LinkID != (pg.ID{}) {
		l, err := s.linkOfFlow(r, f)
		if errors.Is(err, pg.ErrNotFound) {
			return s.rejectCallback(w, r, provider, status.EndOtherBrowser)
		}
		if err != nil {
			return err
		}
		r = s.withLink(w, r, l)
	}
	v := visitorOf(r)
	signedOut, repeated := v.role() == anonymous, f.Stage != status.StageBegun
	switch {
	case !provider.Is(f.Provider, f.Environment):
		return s.rejectCallback(w, r, provider, status.EndOtherProvider)
	case (signedOut || !repeated) && !s.ofBrowser(r, f):
		return s.rejectCallback(w, r, provider, status.EndOtherBrowser)
	case !signedOut && !v.began(f):
		return s.rejectCallback(w, r, provider, status.EndOtherUser)
	case repeated:
		return s.redirectToFlow(w, r, f)
	case signedOut: // resume spends the code once the user has signed in again
		err = s.DB.AnswerFlow(r.Context(), f, code, query.Encode())
		if err != nil && !errors.Is(err, db.ErrTaken) {
			return err
		}
		return redirect(w, r, "/login?next="+url.QueryEscape("/flows/"+f.Reference))
	}

	taken, err := s.DB.TakeFlow(r.Context(), f, code)
	if errors.Is(err, db.ErrTaken) { // by a hit at the same moment, perhaps as another flow with the same code
		if other, err := s.DB.FlowOfCallback(r.Context(), provider.Name, code, state); err == nil && v.began(other) {
			f = other
		}
		return s.redirectToFlow(w, r, f)
	}
	if err != nil {
		return err
	}
	err = s.exchange(r, provider, redirector, taken, query)
	if errors.Is(err, pg.ErrNotFound) {
		return redirect(w, r, "/connect/"+provider.Name+"/ended/"+string(status.EndInterrupted))
	}
	if err != nil { // the flow's page says how far it came
		s.Log.ErrorContext(r.Context(), "exchange not saved", "provider", provider.Name, "flow", f.ID, "err", err)
	}
	return redirect(w, r, "/flows/"+f.Reference)
}

// maxAnswer is the longest answer that is handed over in an address, in bytes.
const maxAnswer = 16 << 10

// postedCallback hands an answer that a provider has the browser post (OAuth 2.0 Form Post Response Mode) over to callback. A form of
// another site comes without our cookies, the GET of a redirect with them; callback then drops the query. Nothing else is done here,
// since any site may post to this address.
func (s *Server) postedCallback(w http.ResponseWriter, r *http.Request) error {
	answer := url.Values{}
	for name, values := range r.Form { // the form, then the query
		switch name {
		case "id_token", "access_token", "refresh_token", "token_type", "expires_in": // not asked for, and no use
		default:
			answer[name] = values[:1]
		}
	}
	query := answer.Encode()
	if len(query) > maxAnswer {
		return errTooLarge
	}
	return redirect(w, r, "/connect/"+url.PathEscape(r.PathValue("provider"))+"/callback?"+query)
}

// parseQuery reads a query as providers write it, also one with a second "?": a ";" is part of a value (RFC 3986 section 3.4), and
// what is not percent-encoded right stands for itself. url.ParseQuery drops such pairs.
func parseQuery(raw string) url.Values {
	query := make(url.Values)
	for pair := range strings.SplitSeq(raw, "&") {
		if name, value, _ := strings.Cut(pair, "="); name != "" {
			query.Add(unescape(name), unescape(value))
		}
	}
	return connectors.FixDoubledQuery(query)
}

// unescape decodes a part of a query, or returns it as it is if it cannot be decoded.
func unescape(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}

// flowOfCallback finds the flow of a callback: by its code when that has been seen before, by state, or, for providers that
// may not send state back, by the browser that began it. It returns ErrNotFound if there is none.
func (s *Server) flowOfCallback(r *http.Request, provider connectors.Provider, code, state string) (db.Flow, error) {
	f, err := s.DB.FlowOfCallback(r.Context(), provider.Name, code, state)
	if !errors.Is(err, pg.ErrNotFound) || state != "" || !provider.Connector.Info().NoState {
		return f, err
	}
	echoed, err := s.DB.StateEchoed(r.Context(), provider.Name, provider.Environment)
	if err != nil || echoed {
		return f, errors.Join(err, pg.ErrNotFound)
	}
	secret, ok := s.browserSecret(r)
	if !ok {
		return f, pg.ErrNotFound
	}
	return s.DB.FlowOfBrowser(r.Context(), provider.Name, secret)
}

// rejectCallback exchanges nothing and leaves every flow as it is. A signed-in merchant gets a reference to quote.
func (s *Server) rejectCallback(w http.ResponseWriter, r *http.Request, provider connectors.Provider, outcome status.End) error {
	s.Log.InfoContext(r.Context(), "callback refused", "provider", provider.Name, "outcome", outcome)
	v := visitorOf(r)
	if v.role() == merchant {
		wait, err := s.DB.Allow(r.Context(), "refused callbacks of "+v.user.ID.String(), pg.Limit{Burst: 20, Every: time.Minute})
		var f db.Flow
		if err == nil && wait == 0 {
			f, err = s.DB.RefuseFlow(r.Context(), db.NewFlow{
				UserID: v.user.ID, MerchantID: v.user.MerchantID, Provider: provider.Name, Environment: provider.Environment, By: s.actor(r),
			}, outcome)
		}
		if err != nil {
			s.Log.ErrorContext(r.Context(), "refused callback not kept", "provider", provider.Name, "err", err)
		}
		if f.Reference != "" {
			return redirect(w, r, "/flows/"+f.Reference)
		}
	}
	return redirect(w, r, "/connect/"+provider.Name+"/ended/"+string(outcome))
}

// redirectToFlow sends a repeated hit to the flow's page, once the first hit's exchange has ended.
func (s *Server) redirectToFlow(w http.ResponseWriter, r *http.Request, f db.Flow) error {
	if _, err := s.awaitExchange(r.Context(), f); err != nil && r.Context().Err() == nil {
		s.Log.ErrorContext(r.Context(), "exchange not awaited", "flow", f.ID, "err", err)
	}
	return redirect(w, r, "/flows/"+f.Reference)
}

// awaitExchange waits while a flow is being exchanged, in this or another process. It holds no connection to the database while it
// waits.
func (s *Server) awaitExchange(ctx context.Context, f db.Flow) (db.Flow, error) {
	if f.Stage != status.StageExchanging {
		return f, nil
	}
	err := retry(ctx, 25*time.Millisecond, 400*time.Millisecond, func() (again bool, err error) {
		f, err = s.DB.FlowByID(ctx, f.ID)
		return err == nil && f.Stage == status.StageExchanging, err
	})
	return f, err
}

// resume continues a flow whose callback came while its user was signed out: it spends the code. It waits for an exchange that is
// under way, connects if there is nothing to ask, and returns the flow as it is now. rejected is why this visitor's browser may not
// continue it.
func (s *Server) resume(r *http.Request, f db.Flow) (_ db.Flow, rejected status.End, err error) {
	if f.Stage == status.StageAnswered && visitorOf(r).began(f) && !isPrefetch(r) {
		provider, err := s.provider(f.Provider)
		redirector, ok := provider.Connector.(connectors.Redirector)
		switch {
		case err != nil, !ok, !provider.Is(f.Provider, f.Environment):
			return f, status.EndClientRejected, nil
		case !s.ofBrowser(r, f):
			return f, status.EndOtherBrowser, nil
		}
		taken, err := s.DB.TakeFlow(r.Context(), f, "")
		if err == nil {
			err = s.exchange(r, provider, redirector, taken, parseQuery(taken.Answer))
		}
		if err != nil && !errors.Is(err, db.ErrTaken) {
			return f, "", err
		}
		if f, err = s.DB.FlowByID(r.Context(), f.ID); err != nil {
			return f, "", err
		}
	}
	if f, err = s.awaitExchange(r.Context(), f); err != nil {
		return f, "", err
	}
	// The hit that spent the code is about to connect, or its process has died. The first of the two connects, and both show it.
	if visitorOf(r).began(f) && !isPrefetch(r) && s.DB.Unasked(f) {
		provider, err := s.provider(f.Provider)
		if err != nil || !provider.Is(f.Provider, f.Environment) {
			return f, "", nil
		}
		if err := s.finishConnect(r, provider, f, ""); err != nil {
			return f, "", err
		}
		f, err = s.DB.FlowByID(r.Context(), f.ID)
		return f, "", err
	}
	return f, "", nil
}

// exchange spends the provider's code. It goes on when the browser hangs up, since a code can be spent only once.
func (s *Server) exchange(r *http.Request, provider connectors.Provider, redirector connectors.Redirector, f db.ClaimedFlow, query url.Values) error {
	state := query.Get("state")
	ctx, calls := connectors.WithCalls(context.WithoutCancel(r.Context()))
	ctx, cancel := context.WithTimeout(ctx, exchangeLimit)
	defer cancel()
	began := s.DB.Now()
	grant, err := redirector.Exchange(ctx, connectors.Flow{
		State: state, Verifier: f.Verifier, CallbackURL: s.callbackURL(provider.Name), Locale: visitorOf(r).locale, Inputs: f.Inputs,
	}, query)
	proven := f.OfState(state)
	if err == nil && proven && provider.Connector.Info().NoState {
		if err := s.DB.SetStateEchoed(ctx, provider.Name, provider.Environment); err != nil {
			s.Log.ErrorContext(ctx, "state not remembered", "provider", provider.Name, "err", err)
		}
	}
	return s.saveExchange(r, provider, f.Flow, exchanged{grant: grant, err: err, began: began, calls: calls, proven: proven})
}

// exchanged is the result of an exchange with a provider.
type exchanged struct {
	grant  connectors.Grant
	err    error
	began  time.Time // by our clock: the grant's lifetimes count from here
	calls  *connectors.Calls
	proven bool // state shows that the browser that began the flow brought the answer
}

// saveExchange saves the result of an exchange before anything else is done with it, and connects if there is nothing to
// ask. It goes on when the browser hangs up. It returns ErrNotFound if the flow's merchant was erased meanwhile.
func (s *Server) saveExchange(r *http.Request, provider connectors.Provider, f db.Flow, x exchanged) error {
	s.Log.InfoContext(r.Context(), "exchanged", "provider", provider.Name, "flow", f.ID, "outcome", connectors.OutcomeOf(x.err), "status", x.calls.Last().Status, "reason", connectors.ReasonOf(x.err))
	var took time.Duration
	for _, call := range x.calls.All {
		took += call.Took
	}
	s.Refresh.Count(provider.Name, provider.Environment, "connect", connectors.OutcomeOf(x.err), took)
	if x.err != nil {
		return s.saveFailure(r, f, x.err, x.calls.All)
	}
	x.grant.Account = x.grant.Account.Bounded()
	err := retrySave(r.Context(), func(ctx context.Context) (err error) {
		f, err = s.DB.KeepGrant(ctx, f, x.grant, x.began, x.proven, x.calls.All)
		return err
	})
	if errors.Is(err, db.ErrTaken) {
		_, err := s.DB.FlowByID(r.Context(), f.ID)
		if errors.Is(err, pg.ErrNotFound) { // its merchant was erased: nobody is to have the access
			err = errors.Join(err, s.Jobs.RevokeUnwanted(r.Context(), db.UnwantedGrant{Flow: f, Grant: x.grant}))
		}
		return err // nil: the flow has ended in between, as its page shows
	}
	if err != nil || !x.proven {
		return err
	}
	return s.finishConnect(r, provider, f, "")
}

// saveFailure ends a flow with the error of its provider.
func (s *Server) saveFailure(r *http.Request, f db.Flow, failed error, calls []connectors.Call) error {
	var limited *connectors.RateLimitedError
	if errors.As(failed, &limited) {
		f.ExpiresAt = s.DB.Now().Add(limited.RetryAfter)
	}
	stage, end := flowOutcome(failed)
	return retrySave(r.Context(), func(ctx context.Context) error {
		return s.DB.EndFlow(ctx, f, stage, end, connectors.ReasonOf(failed), calls, s.actor(r))
	})
}

// flowOutcome returns how a flow ends in which the provider, or its connector, answered with err.
func flowOutcome(err error) (stage status.Stage, end status.End) {
	var rejected *connectors.RejectedError
	var temporary *connectors.TemporaryError
	var unreadable *connectors.UnreadableError
	var reason string
	switch {
	case errors.As(err, &rejected):
		reason = rejected.Reason
	case errors.As(err, &temporary):
		reason = temporary.Reason
	case errors.As(err, &unreadable):
		reason = unreadable.Reason
	}
	switch outcome := connectors.OutcomeOf(err); {
	case outcome == status.AccessDenied:
		return status.StageDenied, status.EndDenied
	case outcome == status.InvalidInput:
		return status.StageFailed, status.EndInput
	case reason == connectors.ReasonNoMerchant:
		return status.StageFailed, status.EndNoMerchant
	case reason == connectors.ReasonNoAccount:
		return status.StageFailed, status.EndNoIdentity
	case reason == connectors.ReasonIDToken:
		return status.StageFailed, status.EndUnverified
	case reason == connectors.ReasonWrongIssuer && unreadable == nil:
		return status.StageFailed, status.EndForged
	case outcome == status.ClientRejected, unreadable != nil:
		return status.StageFailed, status.EndClientRejected
	case outcome == status.Rejected:
		return status.StageFailed, status.EndRejected
	case outcome == status.RateLimited:
		return status.StageFailed, status.EndRateLimited
	}
	return status.StageFailed, status.EndTemporary
}

// choose handles the user's choice in a flow.
func (s *Server) choose(w http.ResponseWriter, r *http.Request) error {
	f, err := s.flowOfVisitor(r)
	if err != nil {
		return err
	}
	if !visitorOf(r).began(f) {
		return errForbidden
	}
	choice := db.Choice(r.PostFormValue("choice"))
	provider, err := s.provider(f.Provider)
	switch {
	case f.Stage != status.StageChoosing:
	case choice == db.ChooseCancel:
		grant, err := s.DB.CancelFlow(r.Context(), f, s.actor(r))
		if err != nil && !errors.Is(err, db.ErrTaken) {
			return err
		}
		if err == nil {
			s.revokeUnwanted(r, f, grant)
		}
	case err != nil:
		return err
	case choice == "":
		return errMalformed
	case provider.Is(f.Provider, f.Environment):
		if err := s.finishConnect(r, provider, f, choice); err != nil {
			return err
		}
	}
	return redirect(w, r, "/flows/"+f.Reference)
}

// finishConnect connects as chosen or, with choice "", if there is nothing to ask.
func (s *Server) finishConnect(r *http.Request, provider connectors.Provider, f db.Flow, choice db.Choice) error {
	var made db.ConnectResult
	err := retrySave(r.Context(), func(ctx context.Context) (err error) {
		made, err = s.DB.Connect(ctx, f, choice, s.actor(r), provider.Connector.Info(), s.Jobs)
		return err
	})
	switch {
	case errors.Is(err, db.ErrMustChoose), errors.Is(err, db.ErrTaken), errors.Is(err, db.ErrRevoking):
		return nil // the flow's page shows its stage
	case errors.Is(err, db.ErrRevoked):
		return retrySave(r.Context(), func(ctx context.Context) error {
			return s.DB.EndFlow(ctx, f, status.StageFailed, status.EndInterrupted, "", nil, s.actor(r))
		})
	case err != nil:
		return err
	}
	if made.Replaced != nil {
		return s.revokeAtProvider(r, *made.Replaced)
	}
	return nil
}

// retrySave calls save until it succeeds, for saveLimit at most: a restart of the database must not lose what a provider
// gives only once. It goes on when the browser has hung up.
func retrySave(ctx context.Context, save func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveLimit)
	defer cancel()
	return retry(ctx, 50*time.Millisecond, time.Second, func() (again bool, err error) {
		err = save(ctx)
		for _, final := range []error{db.ErrTaken, db.ErrMustChoose, db.ErrRevoked, pg.ErrNotFound, seal.ErrSealed, seal.ErrUnknownKey} {
			if errors.Is(err, final) {
				return false, err
			}
		}
		return err != nil, err
	})
}
