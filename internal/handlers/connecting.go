package handlers

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
	"patchbay/internal/text"
	"patchbay/views"
)

// This file is the whole way of a flow, in its order: connect or reconnect, begin, callback, exchange, obtainGrant, choose if there is
// something to choose, finishConnect. Where a merchant types credentials, connectWithCredentials does what begin to exchange do elsewhere.
// connect_page.go shows the forms, flows.go a flow's page.

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
			return s.beginWithInputs(w, r, provider, c, reconnect, page)
		}
	}
	return s.begin(w, r, provider, reconnect, nil)
}

// beginWithInputs reads what the merchant typed for a provider that their browser is sent to, and begins.
func (s *Server) beginWithInputs(w http.ResponseWriter, r *http.Request, provider connectors.Provider, asker connectors.Asker, reconnect pg.ID, page views.ConnectPage) (err error) {
	fillIn(page.Fields, r.PostFormValue)
	if page.Errors, err = s.ownPassword(r, page.Fields); err != nil {
		return err
	}
	typed := make(map[string]string, len(page.Fields))
	for _, f := range page.Fields {
		typed[f.Name] = text.Clean(r.PostFormValue(f.Name))
	}
	inputs, err := asker.CheckInputs(typed)
	var input *connectors.InputError
	if errors.As(err, &input) && len(page.Errors) == 0 {
		page.Errors = views.Errors{{Field: input.Field, Code: input.Code}}
	}
	if len(page.Errors) > 0 { // nothing is begun
		page.Host = s.destination(r, provider, page.Fields)
		s.render(w, r, http.StatusUnprocessableEntity, views.Connect(page))
		return nil
	}
	if err != nil {
		return err
	}
	return s.begin(w, r, provider, reconnect, inputs)
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

// connectsPerMerchant limits attempts to connect: each is kept for more than a year, and some call the provider before the browser is sent there.
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

// hasAccount says whether the visitor's merchant has an account at the provider.
func (s *Server) hasAccount(r *http.Request, provider connectors.Provider) (bool, error) {
	owned, err := s.DB.MerchantConnections(r.Context(), visitorOf(r).user.MerchantID, []string{})
	return slices.ContainsFunc(owned, func(c db.Connection) bool {
		return provider.Is(c.Provider, c.Environment)
	}), err
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
	if _, known := s.callbackAccepted.Load(provider.Name); known && refused.IsZero() {
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
		s.callbackAccepted.Store(provider.Name, true)
	}
	if no == refused.IsZero() {
		if err := s.DB.CallbackRefused(ctx, provider.Name, provider.Environment, no, s.callbackURL(provider.Name), by); err != nil {
			s.Log.ErrorContext(ctx, "what the provider says of our callback address is not kept", "provider", provider.Name, "err", err)
		}
	}
	return err
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
	from := db.Callback{Provider: provider.Name, Environment: provider.Environment, Code: redirector.Code(query), State: query.Get("state")}
	if from.State == "" && provider.Connector.Info().NoState {
		from.Browser, _ = s.browserSecret(r)
	}
	f, err := s.DB.FlowOfCallback(r.Context(), from)
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
		err = s.DB.AnswerFlow(r.Context(), f, from.Code, query.Encode())
		if err != nil && !errors.Is(err, db.ErrWrongStage) {
			return err
		}
		return redirect(w, r, "/login?next="+url.QueryEscape("/flows/"+f.Reference))
	}

	claimed, err := s.DB.ClaimFlow(r.Context(), f, from.Code)
	if errors.Is(err, db.ErrWrongStage) { // by a hit at the same moment, perhaps as another flow with the same code
		from.Browser = "" // it may have begun another since
		if other, err := s.DB.FlowOfCallback(r.Context(), from); err == nil && v.began(other) {
			f = other
		}
		return s.redirectToFlow(w, r, f)
	}
	if err != nil {
		return err
	}
	err = s.exchange(r, provider, redirector, claimed, query)
	if errors.Is(err, pg.ErrNotFound) {
		return redirect(w, r, "/connect/"+provider.Name+"/ended/"+string(status.EndInterrupted))
	}
	if err != nil { // the flow's page says how far it came
		s.Log.ErrorContext(r.Context(), "exchange not saved", "provider", provider.Name, "flow", f.ID, "err", err)
	}
	return redirect(w, r, "/flows/"+f.Reference)
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

// exchange spends the provider's code.
func (s *Server) exchange(r *http.Request, provider connectors.Provider, redirector connectors.Redirector, f db.ClaimedFlow, query url.Values) error {
	of := connectors.Flow{
		State: query.Get("state"), Verifier: f.Verifier, CallbackURL: s.callbackURL(provider.Name), Locale: visitorOf(r).locale, Inputs: f.Inputs,
	}
	_, err := s.obtainGrant(r, provider, f.Flow, f.HasState(of.State), func(ctx context.Context) (connectors.Grant, error) {
		return redirector.Exchange(ctx, of, query)
	})
	return err
}

// connectWithCredentials authenticates with the credentials that the merchant typed, and connects.
func (s *Server) connectWithCredentials(w http.ResponseWriter, r *http.Request, provider connectors.Provider, keyed connectors.CredentialConnector, reconnect pg.ID, page views.ConnectPage) error {
	v := visitorOf(r)
	inputs := make(map[string]string, len(page.Fields))
	for i, f := range page.Fields {
		inputs[f.Name] = text.Clean(r.PostFormValue(f.Name))
		if !f.Secret {
			page.Fields[i].Value = inputs[f.Name]
		}
	}
	tries := "keys of " + v.user.ID.String()
	if v.role() == linked {
		tries = "keys of " + v.link.ID.String()
	}
	err := s.rateLimit(r, tries, pg.Limit{Burst: 30, Every: 20 * time.Second})
	if err != nil {
		return err
	}
	if page.Errors, err = s.ownPassword(r, page.Fields); err != nil {
		return err
	}
	if len(page.Errors) > 0 { // nothing is sent
		s.render(w, r, http.StatusUnprocessableEntity, views.Connect(page))
		return nil
	}
	f, err := s.DB.BeginFlow(r.Context(), db.NewFlow{
		ID: pg.NewID(), UserID: v.user.ID, LinkID: v.link.ID, MerchantID: v.user.MerchantID, Provider: provider.Name, Environment: provider.Environment, ConnectionID: reconnect,
		State: pg.NewSecret(), Browser: pg.NewSecret(), Keyed: true, By: s.actor(r),
	})
	if err != nil {
		return err
	}
	rejected, err := s.obtainGrant(r, provider, f, true, func(ctx context.Context) (connectors.Grant, error) {
		return keyed.Authenticate(ctx, connectors.Flow{CallbackURL: s.callbackURL(provider.Name), Locale: v.locale}, inputs)
	})
	if err != nil {
		return err
	}
	if rejected != nil {
		s.renderNotConnected(w, r, page, f, rejected)
		return nil
	}
	if err := s.DB.ResetLimit(r.Context(), tries); err != nil { // a success does not count as a guess
		return err
	}
	return redirect(w, r, "/flows/"+f.Reference)
}

// obtainGrant asks the provider for a grant and saves it, or why there is none, before anything else is done. It connects if there is nothing to
// ask: the flow is proven if this browser is known to have begun it. It goes on when the browser hangs up, since a code can be spent only
// once. failed is the provider's error. It returns ErrNotFound if the flow's merchant was erased meanwhile.
func (s *Server) obtainGrant(r *http.Request, provider connectors.Provider, f db.Flow, proven bool, ask func(context.Context) (connectors.Grant, error)) (failed, err error) {
	ctx, calls := connectors.WithCalls(context.WithoutCancel(r.Context()))
	ctx, cancel := context.WithTimeout(ctx, exchangeLimit)
	defer cancel()
	x := db.Exchange{Obtained: s.DB.Now(), Proven: proven, Echoed: proven && provider.Connector.Info().NoState}
	x.Grant, failed = ask(ctx)
	x.Grant.Account, x.Calls = x.Grant.Account.Bounded(), calls.All

	s.Log.InfoContext(ctx, "exchanged", "provider", provider.Name, "flow", f.ID, "outcome", connectors.OutcomeOf(failed), "status", calls.Last().Status, "reason", connectors.ReasonOf(failed))
	var took time.Duration
	for _, call := range x.Calls {
		took += call.Took
	}
	s.Refresh.Count(provider.Name, provider.Environment, "connect", connectors.OutcomeOf(failed), took)
	if failed != nil {
		return failed, s.saveFailure(r, f, failed, x.Calls)
	}
	err = retrySave(ctx, func(ctx context.Context) (err error) {
		f, err = s.DB.KeepGrant(ctx, f, x)
		return err
	})
	switch {
	case errors.Is(err, pg.ErrNotFound): // the access is not wanted
		return nil, errors.Join(err, s.Jobs.RevokeUnwanted(context.WithoutCancel(r.Context()), db.UnwantedGrant{Flow: f, Grant: x.Grant}))
	case errors.Is(err, db.ErrWrongStage): // it has ended in between, as its page shows
		return nil, nil
	case err != nil || !proven:
		return nil, err
	}
	return nil, s.finishConnect(r, provider, f, "")
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
		claimed, err := s.DB.ClaimFlow(r.Context(), f, "")
		if err == nil {
			err = s.exchange(r, provider, redirector, claimed, parseQuery(claimed.Answer))
		}
		if err != nil && !errors.Is(err, db.ErrWrongStage) {
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
	if visitorOf(r).began(f) && !isPrefetch(r) && s.DB.NeedsNoChoice(f) {
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
		if err != nil && !errors.Is(err, db.ErrWrongStage) {
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
	case errors.Is(err, db.ErrMustChoose), errors.Is(err, db.ErrWrongStage), errors.Is(err, db.ErrRevoking), errors.Is(err, db.ErrRevoked):
		return nil // the flow's page shows its stage
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
		for _, final := range []error{db.ErrWrongStage, db.ErrMustChoose, db.ErrRevoked, pg.ErrNotFound, seal.ErrSealed, seal.ErrUnknownKey} {
			if errors.Is(err, final) {
				return false, err
			}
		}
		return err != nil, err
	})
}
