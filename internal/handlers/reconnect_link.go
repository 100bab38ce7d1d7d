package handlers

import (
	"errors"
	"net/http"

	"patchbay/internal/db"
	"patchbay/views"
)

// reconnectLinkPage shows what staff ask for. The link carries no authority: whoever is not signed in signs in first, and
// the connection of another merchant does not exist.
func (s *Server) reconnectLinkPage(w http.ResponseWriter, r *http.Request) error {
	_, c, err := s.askedFor(r)
	if err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, views.ReconnectAsk(views.ReconnectAskPage{
		Page: s.viewPage(r), Action: r.URL.Path, Provider: s.viewProviderOf(c.Provider, c.Environment), Account: viewAccount(c.Account, c.ID.String()),
	}))
	return nil
}

// followReconnectLink spends the link and begins the reconnect that it is pinned to.
func (s *Server) followReconnectLink(w http.ResponseWriter, r *http.Request) error {
	link, c, err := s.askedFor(r)
	if err != nil {
		return err
	}
	if err := s.DB.SpendReconnectLink(r.Context(), link.ID); err != nil {
		return err
	}
	return s.beginAgain(w, r, c)
}

func (s *Server) askedFor(r *http.Request) (db.Link, db.Connection, error) {
	link, err := s.DB.Link(r.Context(), db.LinkReconnect, db.Secret(r.PathValue("secret")))
	if err != nil {
		return link, db.Connection{}, err
	}
	c, err := s.DB.WholeConnection(r.Context(), link.ConnectionID, visitorOf(r).user.MerchantID)
	if errors.Is(err, db.ErrNotFound) || err == nil && !c.DisconnectedAt.IsZero() {
		err = db.ErrLink
	}
	return link, c.Connection, err
}

// askToReconnect writes to the merchant's people, or makes a link for staff to hand over: when they ask for one
// (how=link), where no mail is sent, or when there is nobody to write to.
func (s *Server) askToReconnect(w http.ResponseWriter, r *http.Request) error {
	c, err := s.connectionOfVisitor(r)
	if err != nil {
		return err
	}
	if !c.DisconnectedAt.IsZero() {
		return see(w, r, "/connections/"+c.ID.String())
	}
	by := s.by(r)
	asked := db.Event{
		Kind: "connection.reconnect-asked", Actor: by.Actor, ActorID: by.ID, Address: by.Address,
		MerchantID: c.MerchantID, ConnectionID: c.ID, Provider: c.Provider,
	}
	if err := s.DB.AddEvent(r.Context(), asked); err != nil {
		return err
	}
	written := 0
	if r.PostFormValue("how") != "link" && s.Jobs.Mails() {
		people, err := s.DB.People(r.Context(), db.People{Merchant: c.MerchantID, Limit: 50})
		if err != nil {
			return err
		}
		for _, one := range people {
			if !one.LockedAt.IsZero() || one.Invited {
				continue
			}
			letter := db.Letter{Kind: db.LetterReconnect, User: one.ID, By: by.ID, Connections: []db.ID{c.ID}}
			if err := s.Jobs.Write(r.Context(), letter); err != nil {
				return err
			}
			written++
		}
	}
	if written > 0 {
		return s.done(w, r, "/connections/"+c.ID.String(), "asked")
	}
	secret, _, err := s.DB.AddLink(r.Context(), by, db.LinkReconnect, db.ID{}, c.ID)
	if err != nil {
		return err
	}
	page, err := s.viewConnection(r, c)
	if err != nil {
		return err
	}
	page.Staff.AskedLink = s.publicAddress("/reconnect/" + string(secret))
	s.render(w, r, http.StatusOK, views.Connection(page))
	return nil
}
