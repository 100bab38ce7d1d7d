package handlers

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
	"patchbay/internal/trace"
	"patchbay/views"
)

// This file serves the browser that a platform sends here with a connect link. It is no user: the link it holds is all that it may use,
// and only for the requests that withLink is called for. Everywhere else it is a visitor who is not signed in.

// asLinkVisitor returns the request of a page of one flow as the connect link's, if the flow is one's and this browser began it. For any
// other request it returns r.
func (s *Server) asLinkVisitor(w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	if _, ok := s.browserSecret(r); !ok {
		return r, nil
	}
	f, err := s.DB.FlowByReference(r.Context(), r.PathValue("reference"))
	if errors.Is(err, pg.ErrNotFound) || err == nil && f.LinkID == (pg.ID{}) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	l, err := s.linkOfFlow(r, f)
	if errors.Is(err, pg.ErrNotFound) {
		return r, nil
	}
	return s.withLink(w, r, l), err
}

// linkOfFlow returns the connect link of a flow, if this browser began with it. It returns ErrNotFound if not.
func (s *Server) linkOfFlow(r *http.Request, f db.Flow) (db.ConnectLink, error) {
	l, err := s.DB.ConnectLink(r.Context(), f.LinkID, f.MerchantID)
	if err != nil {
		return l, err
	}
	if secret, ok := s.browserSecret(r); !ok || !l.HasBrowser(secret) || s.DB.Now().After(l.ExpiresAt.Add(db.ReplayFor)) {
		return l, pg.ErrNotFound
	}
	return l, nil
}

// withLink returns the request as the link's: of its merchant, and of no user, even if one is signed in to this browser.
func (s *Server) withLink(w http.ResponseWriter, r *http.Request, l db.ConnectLink) *http.Request {
	v := visitorOf(r)
	v.link, v.merchant, v.session = l, l.Merchant, account.Session{}
	v.user = account.User{MerchantID: l.Merchant.ID, Role: audit.RoleLink}
	if views.KnownLocale(l.Locale) {
		v.locale = s.chooseLocale(w, r, l.Locale)
	}
	return r.WithContext(context.WithValue(r.Context(), visitorKey{}, v))
}

// linkOfPath returns the link in the path, and whether this browser began with it: by its secret or, in that browser, by its id. It
// returns ErrNotFound if there is none.
func (s *Server) linkOfPath(r *http.Request) (l db.ConnectLink, own bool, err error) {
	text := r.PathValue("secret")
	browser, known := s.browserSecret(r)
	if id, malformed := pg.ParseID(text); malformed == nil {
		l, err = s.DB.ConnectLink(r.Context(), id, pg.ID{})
		if own = err == nil && known && l.HasBrowser(browser); err == nil && !own {
			err = pg.ErrNotFound
		}
		return l, own, err
	}
	l, err = s.DB.ConnectLinkBySecret(r.Context(), pg.Secret(text))
	return l, err == nil && known && l.HasBrowser(browser), err
}

// linkPage shows what a connect link is for: the provider's page, or the list of providers. It changes nothing.
func (s *Server) linkPage(w http.ResponseWriter, r *http.Request) error {
	l, own, err := s.linkOfPath(r)
	if err != nil {
		return s.linkOver(w, r, l, err)
	}
	if err := s.linkUsable(l, own); err != nil {
		return s.linkOver(w, r, l, err)
	}
	r = s.withLink(w, r, l)
	if own && s.linkDone(l) {
		return redirect(w, r, "/flows/"+l.Flow.Reference)
	}
	name := l.Provider
	if name == "" {
		if name = r.URL.Query().Get("provider"); name == "" {
			s.render(w, r, http.StatusOK, views.LinkProviders(s.viewLinkProviders(r)))
			return nil
		}
	}
	provider, page, err := s.viewLinkConnect(r, l, name)
	if errors.Is(err, pg.ErrNotFound) {
		return s.linkOver(w, r, l, errLinkTask)
	}
	if err != nil {
		return err
	}
	if provider.Name == l.Provider {
		fillIn(page.Fields, func(name string) string { return l.Inputs[name] })
	}
	page.Host = s.destination(r, provider, page.Fields)
	s.render(w, r, http.StatusOK, views.Connect(page))
	return nil
}

// followLink begins what a connect link is for. The first browser that does has the link for itself.
func (s *Server) followLink(w http.ResponseWriter, r *http.Request) error {
	l, own, err := s.linkOfPath(r)
	if err == nil {
		err = s.linkUsable(l, own)
	}
	if errors.Is(err, db.ErrLinkOtherBrowser) {
		if err := s.DB.RefuseConnectLink(r.Context(), l, l.Actor(s.address(r), trace.Request(r.Context()))); err != nil {
			return err
		}
	}
	if err != nil {
		return s.linkOver(w, r, l, err)
	}
	r = s.withLink(w, r, l)
	if own && s.linkDone(l) {
		return redirect(w, r, "/flows/"+l.Flow.Reference)
	}
	name := l.Provider
	if name == "" {
		name = r.PostFormValue("provider")
	}
	if name == "" {
		return redirect(w, r, r.URL.EscapedPath())
	}
	provider, page, err := s.viewLinkConnect(r, l, name)
	if errors.Is(err, pg.ErrNotFound) {
		return s.linkOver(w, r, l, errLinkTask)
	}
	if err != nil {
		return err
	}
	if err := s.rateLimit(r, "begin with link "+l.ID.String(), pg.Limit{Burst: 30, Every: 20 * time.Second}); err != nil {
		return err
	}
	browser := s.rememberBrowser(w, r)
	l, err = s.DB.BindConnectLink(r.Context(), l, browser, s.actor(r))
	if err != nil {
		return s.linkOver(w, r, l, err)
	}
	v := visitorOf(r)
	v.link, v.browser = l, browser
	r = r.WithContext(context.WithValue(r.Context(), visitorKey{}, v))
	return s.beginTyped(w, r, provider, l.ConnectionID, page)
}

// errLinkTask is returned if a link's task cannot be done any more: its provider is not set up, or its connection has ended.
var errLinkTask = errors.New("what the connect link is for is not there any more")

// linkUsable returns ErrLinkOtherBrowser if another browser has begun with a link, and ErrLinkOver if it has expired or was revoked. In the
// browser that began, a link that is over still leads to how its attempt ended.
func (s *Server) linkUsable(l db.ConnectLink, own bool) error {
	switch {
	case !own && !l.BoundAt.IsZero():
		return db.ErrLinkOtherBrowser
	case l.Ended(s.DB.Now()) && !(own && s.linkDone(l)):
		return db.ErrLinkOver
	}
	return nil
}

// linkDone reports whether a link's latest attempt is what its browser is to see, and none can be begun beside it.
func (s *Server) linkDone(l db.ConnectLink) bool {
	switch l.State(s.DB.Now()) {
	case db.LinkConnected, db.LinkConfirming:
		return true
	case db.LinkBegun:
		return l.Flow.Stage == status.StageChoosing || l.Flow.Stage == status.StageExchanging
	}
	return false
}

// viewLinkConnect fills in a provider's page for a link. It returns ErrNotFound if the link is not for this provider, the provider is
// not set up, or the connection to reconnect has ended.
func (s *Server) viewLinkConnect(r *http.Request, l db.ConnectLink, name string) (connectors.Provider, views.ConnectPage, error) {
	provider, err := s.provider(name)
	if err != nil || l.Provider != "" && l.Provider != name {
		return provider, views.ConnectPage{}, pg.ErrNotFound
	}
	reconnect := ""
	if l.ConnectionID != (pg.ID{}) {
		reconnect = l.ConnectionID.String()
	}
	page, err := s.viewConnectPage(r, provider, reconnect)
	page.Action = r.URL.EscapedPath()
	return provider, page, err
}

// viewLinkProviders lists what can be connected with a link for any provider.
func (s *Server) viewLinkProviders(r *http.Request) views.LinkProvidersPage {
	page := views.LinkProvidersPage{Page: s.viewPage(r), Action: r.URL.EscapedPath()}
	for _, provider := range s.Providers {
		if provider.Connector != nil {
			page.Providers = append(page.Providers, viewProvider(provider))
		}
	}
	return page
}

// linkOver shows why a connect link leads nowhere, with the way back to its platform if it is known. Of its merchant, its attempt and
// its outcome it shows nothing.
func (s *Server) linkOver(w http.ResponseWriter, r *http.Request, l db.ConnectLink, why error) error {
	page, code := views.LinkOverPage{}, http.StatusGone
	state := db.LinkExpired
	switch {
	case errors.Is(why, pg.ErrNotFound):
		page.Why, code, l = views.LinkUnknown, http.StatusNotFound, db.ConnectLink{}
	case errors.Is(why, db.ErrLinkOtherBrowser):
		page.Why, state = views.LinkUsed, db.LinkBegun
	case errors.Is(why, db.ErrLinkOver) && !l.RevokedAt.IsZero():
		page.Why = views.LinkRevoked
	case errors.Is(why, db.ErrLinkOver):
		page.Why = views.LinkExpired
	case errors.Is(why, errLinkTask):
		page.Why, state = views.LinkGone, db.LinkFailed
	default:
		return why
	}
	page.Page = s.viewPage(r)
	page.Page.Link, page.User = &views.Link{}, nil
	if u, ok := s.returnURL(l.ReturnURL); ok {
		page.Page.Link.Host, page.Page.Link.BackURL = u.Host, withOutcome(u, url.Values{"patchbay_state": {string(state)}, "patchbay_link": {l.ID.String()}})
	}
	s.render(w, r, code, views.LinkOver(page))
	return nil
}

// viewLink returns what pages show of the link with which the visitor came: for whom, and the way back.
func (s *Server) viewLink(l db.ConnectLink) *views.Link {
	link := &views.Link{Merchant: l.Merchant.Name, By: l.UserName}
	if u, ok := s.returnURL(l.ReturnURL); ok {
		link.Host, link.BackURL = u.Host, withOutcome(u, s.linkOutcome(l))
	}
	if !l.Ended(s.DB.Now()) && !s.linkDone(l) {
		link.AgainURL = "/links/" + l.ID.String()
	}
	return link
}

// linkOutcome returns the query parameters by which the platform learns the outcome when the browser comes back.
func (s *Server) linkOutcome(l db.ConnectLink) url.Values {
	values := url.Values{"patchbay_state": {string(l.State(s.DB.Now()))}, "patchbay_link": {l.ID.String()}}
	if l.Flow.Stage == status.StageConnected {
		values.Set("patchbay_connection", l.Flow.ResultID.String())
	}
	return values
}

// viewLinkEnd adds to a flow's page the way back with the outcome of this attempt and, if the platform is to confirm it, the code. at
// is the address to go to at once; "" to show the page.
func (s *Server) viewLinkEnd(r *http.Request, f db.Flow) (link *views.Link, at string, err error) {
	l := visitorOf(r).link
	l.Flow = db.LinkFlow{
		ID: f.ID, Reference: f.Reference, Provider: f.Provider, Stage: f.Stage, Outcome: f.Outcome, ResultID: f.ResultID, TouchedAt: f.TouchedAt, ExpiresAt: f.ExpiresAt,
	}
	link = s.viewLink(l)
	u, ok := s.returnURL(l.ReturnURL)
	if !ok {
		return link, "", nil
	}
	values := s.linkOutcome(l)
	if f.Stage == status.StageConfirming {
		code, err := s.DB.ConfirmCode(f)
		if err != nil {
			return link, "", err
		}
		values.Set("patchbay_code", string(code))
	}
	link.BackURL = withOutcome(u, values)
	if l.Redirects && slices.Contains([]status.Stage{status.StageConnected, status.StageConfirming}, f.Stage) {
		at = link.BackURL
	}
	return link, at, nil
}

// linksOfMerchant is how many links staff see on the page of a merchant.
const linksOfMerchant = 20

// viewLinkLine returns a link as staff see it.
func (s *Server) viewLinkLine(l db.ConnectLink) views.LinkLine {
	line := views.LinkLine{ConnectLink: l, State: l.State(s.DB.Now())}
	if name := cmp.Or(l.Provider, l.Flow.Provider); name != "" {
		line.Title = s.viewProviderOf(name, "").Title
	}
	return line
}
