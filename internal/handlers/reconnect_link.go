package handlers

import (
	"errors"
	"net/http"

	"patchbay/internal/account"
	"patchbay/internal/bulk"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/views"
)

// reconnectLinkPage shows the connection that staff ask the merchant to reconnect. The link carries no authority: the visitor
// must be signed in, learns nothing of another merchant's connection, and staff see the page without its button. A link that
// is spent or too old leads to the connection's page.
func (s *Server) reconnectLinkPage(w http.ResponseWriter, r *http.Request) error {
	link, c, err := s.askedFor(r)
	switch {
	case errors.Is(err, errOtherBusiness):
		return s.otherBusiness(w, r)
	case err != nil:
		return err
	case !c.DisconnectedAt.IsZero():
		return redirect(w, r, "/connections/"+c.ID.String())
	case link.Over:
		return s.redirectWithNotice(w, r, "/connections/"+c.ID.String(), "link-over")
	}
	page := views.ReconnectAskPage{
		Page: s.viewPage(r), Action: r.URL.Path, Provider: s.viewProviderOf(c.Provider, c.Environment), Account: s.accountOf(c.Connection),
		Merchant: c.MerchantName, ConnectionID: c.ID.String(),
	}
	if provider, err := s.provider(c.Provider); err == nil && len(fieldsOf(provider)) == 0 { // else the page with the fields comes first
		page.Host = s.destination(r, provider, nil)
	}
	s.render(w, r, http.StatusOK, views.ReconnectAsk(page))
	return nil
}

// followReconnectLink spends the link and begins to reconnect its connection.
func (s *Server) followReconnectLink(w http.ResponseWriter, r *http.Request) error {
	link, c, err := s.askedFor(r)
	if errors.Is(err, errOtherBusiness) {
		return s.otherBusiness(w, r)
	}
	if err != nil {
		return err
	}
	if c.DisconnectedAt.IsZero() {
		if err = s.Accounts.SpendReconnectLink(r.Context(), link.ID); errors.Is(err, account.ErrInvalidLink) {
			return s.redirectWithNotice(w, r, "/connections/"+c.ID.String(), "link-over")
		}
		if err != nil {
			return err
		}
	}
	return s.beginReconnect(w, r, c.Connection)
}

var errOtherBusiness = errors.New("a link for another merchant than the visitor's")

// askedFor reads the link in the address and its connection. It returns ErrLink if there is no such link, and
// errOtherBusiness if the connection is another merchant's.
func (s *Server) askedFor(r *http.Request) (account.Link, db.ConnectionDetail, error) {
	link, err := s.Accounts.ReconnectLink(r.Context(), pg.Secret(r.PathValue("secret")))
	if err != nil {
		return link, db.ConnectionDetail{}, err
	}
	c, err := s.DB.ConnectionDetail(r.Context(), link.ConnectionID, visitorOf(r).user.MerchantID)
	if errors.Is(err, pg.ErrNotFound) {
		err = errOtherBusiness
	}
	return link, c, err
}

// otherBusiness shows that the link is for another merchant, without naming it.
func (s *Server) otherBusiness(w http.ResponseWriter, r *http.Request) error {
	s.render(w, r, http.StatusNotFound, views.ReconnectElsewhere(views.ReconnectElsewherePage{Page: s.viewPage(r), Next: r.URL.Path}))
	return nil
}

// askedPeople returns the merchant's users who can sign in, who can be mailed, and those who have not accepted their invitation.
func (s *Server) askedPeople(r *http.Request, merchant pg.ID) (reached, invited []account.UserRow, err error) {
	people, err := s.Accounts.ListUsers(r.Context(), account.UserQuery{Merchant: merchant}, "", 50)
	for _, one := range people.Rows {
		switch {
		case !one.LockedAt.IsZero(), one.Email == "":
		case one.Invited:
			invited = append(invited, one)
		default:
			reached = append(reached, one)
		}
	}
	return reached, invited, err
}

// askToReconnect mails the merchant's users. It shows a link for staff to pass on instead if they ask for one (how=link), if
// no mail is set up, or if no user can sign in.
func (s *Server) askToReconnect(w http.ResponseWriter, r *http.Request) error {
	c, err := s.connectionOfVisitor(r)
	if err != nil {
		return err
	}
	if !c.DisconnectedAt.IsZero() {
		return redirect(w, r, "/connections/"+c.ID.String())
	}
	by := s.actor(r)
	mail := r.PostFormValue("how") != "link" && s.Jobs.SendsMail()
	asked, err := bulk.AskToReconnect(r.Context(), s.DB, by, c.Connection, mail, s.Jobs)
	if err != nil {
		return err
	}
	if len(asked) > 0 {
		return s.redirectWithNotice(w, r, "/connections/"+c.ID.String()+"#ask", "asked")
	}
	secret, _, err := s.Accounts.AddLink(r.Context(), by, account.LinkReconnect, pg.ID{}, c.ID)
	if err != nil {
		return err
	}
	why := views.NoMailNobody
	switch {
	case !s.Jobs.SendsMail():
		why = views.NoMailUnset
	case r.PostFormValue("how") == "link":
		why = views.NoMailChosen
	}
	return s.redirectToShow(w, r, "/connections/"+c.ID.String(), shown{Link: s.publicAddress("/reconnect/" + string(secret)), LinkWhy: why})
}
