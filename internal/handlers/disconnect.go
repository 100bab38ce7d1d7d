package handlers

import (
	"context"
	"errors"
	"net/http"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/views"
)

// revokeLimit is how long a provider may take to end access: less than the lock on the account is kept.
const revokeLimit = 22 * time.Second

// disconnectPage asks first, and says what will happen and what cannot.
func (s *Server) disconnectPage(w http.ResponseWriter, r *http.Request) error {
	c, err := s.connectionOfVisitor(r)
	if err != nil {
		return err
	}
	if !c.DisconnectedAt.IsZero() {
		return see(w, r, "/connections/"+c.ID.String())
	}
	page := views.DisconnectPage{
		Page: s.viewPage(r), ID: c.ID.String(), Provider: s.viewProviderOf(c.Provider, c.Environment), Account: viewAccount(c.Account, c.ID.String()),
	}
	if c.ExpiresAt.After(s.DB.Now()) {
		page.Until = c.ExpiresAt
	}
	if setup, err := s.provider(c.Provider); err == nil && setup.Environment == c.Environment {
		_, page.Revokes = setup.Connector.(connectors.Revoker)
	}
	s.render(w, r, http.StatusOK, views.Disconnect(page))
	return nil
}

// disconnect ends a connection here and tells the provider. The connection's page is its receipt from now on.
func (s *Server) disconnect(w http.ResponseWriter, r *http.Request) error {
	id, err := db.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	parting, ended, err := s.DB.Disconnect(r.Context(), id, visitorOf(r).user.MerchantID, s.by(r))
	if err != nil {
		return err
	}
	if ended {
		if err := s.part(r, parting); err != nil {
			return err
		}
	}
	return see(w, r, "/connections/"+id.String())
}

// part tells the provider that access is no longer wanted, and writes down what came of it.
func (s *Server) part(r *http.Request, p db.Parting) error {
	ctx, calls := connectors.WithCalls(context.WithoutCancel(r.Context()))
	revoked, err := s.revoke(ctx, p)
	if err != nil {
		s.Log.ErrorContext(ctx, "not revoked", "provider", p.Connection.Provider, "connection", p.Connection.ID, "err", err)
	}
	s.Log.InfoContext(ctx, "disconnected", "provider", p.Connection.Provider, "connection", p.Connection.ID, "revoked", revoked, "status", calls.Last().Status)
	return s.save(ctx, func(ctx context.Context) error { return s.DB.AddRevoked(ctx, p, revoked, calls.Last()) })
}

// revoke ends access at the provider. Where that ends the whole account's, it is done only while nobody else, of any
// merchant, has the account or is about to. The error is the database's.
func (s *Server) revoke(ctx context.Context, p db.Parting) (string, error) {
	c := p.Connection
	setup, err := s.provider(c.Provider)
	if err != nil || setup.Environment != c.Environment {
		return db.RevokedKept, nil
	}
	revoker, ok := setup.Connector.(connectors.Revoker)
	if !ok {
		return db.RevokedNotOffered, nil
	}
	if setup.Connector.Info().RevokesAccount {
		begun, err := s.DB.BeginRevocation(ctx, c.Provider, c.Environment, c.Account.ID)
		if err != nil {
			return db.RevokedFailed, err
		}
		if !begun {
			return db.RevokedKept, nil
		}
		p.Grant.Account.ID = c.Account.ID
	} else if p.Grant.Access == "" {
		return db.RevokedFailed, nil
	}
	call, cancel := context.WithTimeout(ctx, revokeLimit)
	defer cancel()
	failed := revoker.Revoke(call, p.Grant)
	if setup.Connector.Info().RevokesAccount {
		var refusal *connectors.Refusal
		err = s.DB.EndRevocation(ctx, c.Provider, c.Environment, c.Account.ID, !errors.As(failed, &refusal))
	}
	switch {
	case failed == nil:
		return db.RevokedDone, err
	case errors.Is(failed, connectors.ErrNotOffered):
		return db.RevokedNotOffered, err
	}
	return db.RevokedFailed, err
}

// throwAway ends access that the person chose not to keep, where that is a matter of one token. A whole account's is
// never ended because somebody said no.
func (s *Server) throwAway(r *http.Request, f db.Flow, g connectors.Grant) {
	setup, err := s.provider(f.Provider)
	if err != nil || setup.Environment != f.Environment || setup.Connector.Info().RevokesAccount || g.Access == "" {
		return
	}
	revoker, ok := setup.Connector.(connectors.Revoker)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), revokeLimit)
	defer cancel()
	if err := revoker.Revoke(ctx, g); err != nil {
		s.Log.InfoContext(ctx, "unwanted access not revoked", "provider", f.Provider, "flow", f.ID, "class", connectors.Class(err))
	}
}
