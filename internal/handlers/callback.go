package handlers

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
)

// callback is where providers send browsers back to. Whatever comes, and however often, it ends in a redirect to an
// address without the query: codes stay in nobody's history. What goes wrong on our side before the answer is spent ends in fail.
func (s *Server) callback(w http.ResponseWriter, r *http.Request) error {
	if isPrefetch(r) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	setup, err := s.provider(r.PathValue("provider"))
	if err != nil {
		return err
	}
	redirector, ok := setup.Connector.(connectors.Redirector)
	if !ok {
		return db.ErrNotFound
	}
	query := parseQuery(r.URL.RawQuery)
	answer, state := redirector.Code(query), query.Get("state")

	f, err := s.flowOfCallback(r, setup, answer, state)
	if errors.Is(err, db.ErrNotFound) {
		return s.rejectCallback(w, r, setup, "forged")
	}
	if err != nil {
		return err
	}
	v := visitorOf(r)
	again := f.Stage != db.Begun
	switch {
	case f.Provider != setup.Name || f.Environment != setup.Environment:
		return s.rejectCallback(w, r, setup, "other-provider")
	case !again && !s.ofBrowser(r, f):
		return s.rejectCallback(w, r, setup, "other-browser")
	case v.role() != anonymous && v.user.ID != f.UserID:
		return s.rejectCallback(w, r, setup, "other-user")
	case again && v.role() == anonymous && !s.ofBrowser(r, f):
		return s.rejectCallback(w, r, setup, "other-browser")
	case again:
		return s.redirectToFlow(w, r, f)
	case v.role() == anonymous:
		err = s.DB.AnswerFlow(r.Context(), f, answer, query.Encode())
		if err != nil && !errors.Is(err, db.ErrTaken) {
			return err
		}
		return redirect(w, r, "/login?next="+url.QueryEscape("/flows/"+f.Reference))
	}

	taken, err := s.DB.TakeFlow(r.Context(), f, answer)
	if errors.Is(err, db.ErrTaken) {
		if other, err := s.DB.FlowOfCallback(r.Context(), setup.Name, answer, state); err == nil && other.UserID == v.user.ID {
			f = other
		}
		return s.redirectToFlow(w, r, f)
	}
	if err != nil {
		return err
	}
	if err := s.exchange(r, setup, redirector, taken, query); err != nil { // its page says how far it came
		s.Log.ErrorContext(r.Context(), "exchange not saved", "provider", setup.Name, "flow", f.ID, "err", err)
	}
	return redirect(w, r, "/flows/"+f.Reference)
}

// isPrefetch says whether a browser asks ahead of its user (or for the headers alone). Such a request must change nothing.
func isPrefetch(r *http.Request) bool {
	return r.Method == http.MethodHead || prefetched(r) || strings.HasPrefix(r.Header.Get("Purpose"), "prefetch") ||
		strings.HasPrefix(r.Header.Get("X-Purpose"), "preview") || r.Header.Get("X-Moz") == "prefetch"
}

// parseQuery reads what can be read of a query, also with a second "?".
func parseQuery(raw string) url.Values {
	query, _ := url.ParseQuery(raw) // the pairs it could read are all there is
	return connectors.FixDoubledQuery(query)
}

// flowOfCallback finds the flow that a callback answers: by its answer when that was seen before, by state, or, where
// state may not come back, by the newest of the browser's cookies.
func (s *Server) flowOfCallback(r *http.Request, setup connectors.Provider, answer, state string) (db.Flow, error) {
	f, err := s.DB.FlowOfCallback(r.Context(), setup.Name, answer, state)
	if !errors.Is(err, db.ErrNotFound) || state != "" || !setup.Connector.Info().NoState {
		return f, err
	}
	echoed, err := s.DB.StateEchoed(r.Context(), setup.Name, setup.Environment)
	if err != nil || echoed {
		return f, errors.Join(err, db.ErrNotFound)
	}
	secrets := s.flowSecrets(r)
	if len(secrets) == 0 {
		return f, db.ErrNotFound
	}
	return s.DB.FlowOfBrowser(r.Context(), setup.Name, secrets)
}

// rejectCallback turns a callback away: nothing is exchanged and the flow it was meant for, if any, stays as it is. Signed-in
// merchants get a reference to quote.
func (s *Server) rejectCallback(w http.ResponseWriter, r *http.Request, setup connectors.Provider, outcome string) error {
	s.Log.InfoContext(r.Context(), "callback refused", "provider", setup.Name, "outcome", outcome)
	v := visitorOf(r)
	if v.role() == merchant {
		wait, err := s.DB.Allow(r.Context(), "refused callbacks of "+v.user.ID.String(), db.Limit{Burst: 20, Every: time.Minute})
		var f db.Flow
		if err == nil && wait == 0 {
			f, err = s.DB.RefuseFlow(r.Context(), db.NewFlow{
				UserID: v.user.ID, MerchantID: v.user.MerchantID, Provider: setup.Name, Environment: setup.Environment, By: s.actor(r),
			}, outcome)
		}
		if err != nil {
			s.Log.ErrorContext(r.Context(), "refused callback not kept", "provider", setup.Name, "err", err)
		}
		if f.Reference != "" {
			return redirect(w, r, "/flows/"+f.Reference)
		}
	}
	return redirect(w, r, "/connect/"+setup.Name+"/ended/"+outcome)
}

// redirectToFlow sends a further hit to where the first one ends, once it has; that page waits too.
func (s *Server) redirectToFlow(w http.ResponseWriter, r *http.Request, f db.Flow) error {
	if _, err := s.awaitExchange(r.Context(), f); err != nil && r.Context().Err() == nil {
		s.Log.ErrorContext(r.Context(), "exchange not awaited", "flow", f.ID, "err", err)
	}
	return redirect(w, r, "/flows/"+f.Reference)
}

// awaitExchange waits while a flow is being exchanged, here or in another process. Nothing of the database is held meanwhile.
func (s *Server) awaitExchange(ctx context.Context, f db.Flow) (db.Flow, error) {
	for wait := 25 * time.Millisecond; f.Stage == db.Exchanging; wait = min(2*wait, 400*time.Millisecond) {
		if err := pause(ctx, wait); err != nil {
			return f, err
		}
		var err error
		if f, err = s.DB.FlowByID(ctx, f.ID); err != nil {
			return f, err
		}
	}
	return f, nil
}

// exchange spends the provider's answer. It goes on when the browser hangs up: an answer can be spent only once.
func (s *Server) exchange(r *http.Request, setup connectors.Provider, redirector connectors.Redirector, f db.Taken, query url.Values) error {
	state := query.Get("state")
	ctx, calls := connectors.WithCalls(context.WithoutCancel(r.Context()))
	ctx, cancel := context.WithTimeout(ctx, exchangeLimit)
	defer cancel()
	obtained := s.DB.Now()
	grant, err := redirector.Exchange(ctx, connectors.Flow{
		State: state, Verifier: f.Verifier, CallbackURL: s.callbackURL(setup.Name), Locale: visitorOf(r).locale,
	}, query)
	proven := f.OfState(state)
	if err == nil && proven && setup.Connector.Info().NoState {
		if err := s.DB.SetStateEchoed(ctx, setup.Name, setup.Environment); err != nil {
			s.Log.ErrorContext(ctx, "state not remembered", "provider", setup.Name, "err", err)
		}
	}
	return s.saveExchange(r, setup, f.Flow, finished{grant: grant, err: err, obtained: obtained, calls: calls, proven: proven})
}
