package handlers

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/status"
	"patchbay/internal/text"
	"patchbay/internal/trace"
	"patchbay/views"
)

// sessionStore is a sessions.Store over Postgres: the cookie holds a signed random id, the row its hash and the user. The
// row decides when a session ends, so the signature does not expire.
type sessionStore struct {
	accounts *account.Store
	codecs   []securecookie.Codec
	secure   bool
}

// Keys of a session's Values: who is signed in, and for a new session its user, the browser's address and user agent.
const (
	valueSignedIn = "signed-in" // account.SignedIn
	valueUser     = "user"      // pg.ID of the user to sign in
	valueAddress  = "address"
	valueAgent    = "agent"
)

func newSessionStore(accounts *account.Store, keys [][]byte, secure bool) *sessionStore {
	return &sessionStore{accounts: accounts, codecs: signers(keys), secure: secure}
}

// signers returns what signs the values of cookies: the first key signs, all verify.
func signers(keys [][]byte) []securecookie.Codec {
	var pairs [][]byte
	for _, key := range keys {
		pairs = append(pairs, key, nil) // CodecsFromPairs takes every second key for encryption
	}
	codecs := securecookie.CodecsFromPairs(pairs...)
	for _, codec := range codecs {
		if c, ok := codec.(*securecookie.SecureCookie); ok {
			c.MaxAge(0).SetSerializer(securecookie.NopEncoder{})
		}
	}
	return codecs
}

// Get returns the request's session. It is read once for each request.
func (s *sessionStore) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(s, name)
}

// New reads the session that the cookie names. For a cookie that is not ours, or whose session has ended, it returns a new
// session without a user. An error is the database's.
func (s *sessionStore) New(r *http.Request, name string) (*sessions.Session, error) {
	session := sessions.NewSession(s, name)
	session.IsNew = true
	session.Options = &sessions.Options{
		Path: "/", HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode, MaxAge: int(account.SessionLifetime / time.Second),
	}
	cookie, err := r.Cookie(name)
	if err != nil {
		return session, nil
	}
	var id []byte
	if securecookie.DecodeMulti(name, cookie.Value, &id, s.codecs...) != nil {
		return session, nil
	}
	in, err := s.accounts.SignedInBy(r.Context(), pg.Secret(id))
	if errors.Is(err, pg.ErrNotFound) {
		return session, nil
	}
	if err != nil {
		return session, err
	}
	session.ID, session.IsNew = string(id), false
	session.Values[valueSignedIn] = in
	return session, nil
}

// Save ends a session with a negative MaxAge and starts one without an id. It must be called before a page is rendered.
func (s *sessionStore) Save(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	if session.Options.MaxAge < 0 {
		if in, ok := session.Values[valueSignedIn].(account.SignedIn); ok {
			if err := s.accounts.EndSession(r.Context(), in.User.ID, in.Session.Hash); err != nil {
				return err
			}
		}
		http.SetCookie(w, sessions.NewCookie(session.Name(), "", session.Options))
		return nil
	}
	if session.ID == "" {
		user, _ := session.Values[valueUser].(account.User)
		address, _ := session.Values[valueAddress].(string)
		agent, _ := session.Values[valueAgent].(string)
		secret := pg.NewSecret()
		if err := s.accounts.AddSession(r.Context(), secret, user, address, agent); err != nil {
			return err
		}
		session.ID = string(secret)
	}
	encoded, err := securecookie.EncodeMulti(session.Name(), []byte(session.ID), s.codecs...)
	if err != nil {
		return err
	}
	http.SetCookie(w, sessions.NewCookie(session.Name(), encoded, session.Options))
	return nil
}

// signIn gives the browser a new session and ends the one it had, against session fixation. It returns account.ErrWrongPassword if
// the user's access was ended meanwhile.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request, user account.User) error {
	session, err := s.sessions.Get(r, s.cookieName("session"))
	if err != nil {
		return err
	}
	if in, ok := session.Values[valueSignedIn].(account.SignedIn); ok {
		if err := s.Accounts.EndSession(r.Context(), in.User.ID, in.Session.Hash); err != nil {
			return err
		}
	}
	session.ID = ""
	session.Values = map[any]any{valueUser: user, valueAddress: s.address(r), valueAgent: r.UserAgent()}
	return session.Save(r, w)
}

// renewSession gives the browser the secret that its session has since a proof, and returns the request as one of that session.
func (s *Server) renewSession(w http.ResponseWriter, r *http.Request, secret pg.Secret) (*http.Request, error) {
	session, err := s.sessions.Get(r, s.cookieName("session"))
	if err != nil {
		return nil, err
	}
	v := visitorOf(r)
	v.session.Hash = secret.Hash()
	if in, ok := session.Values[valueSignedIn].(account.SignedIn); ok {
		in.Session.Hash = v.session.Hash
		session.Values[valueSignedIn] = in
	}
	session.ID = string(secret)
	return r.WithContext(context.WithValue(r.Context(), visitorKey{}, v)), session.Save(r, w)
}

// signOut ends the browser's session.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request) error {
	session, err := s.sessions.Get(r, s.cookieName("session"))
	if err != nil {
		return err
	}
	session.Options.MaxAge = -1
	return session.Save(r, w)
}

// visitor is the sender of a request. Its user is zero if it is not signed in.
type visitor struct {
	user          account.User
	factorPending account.User // gave the right password, and must give or set up a second factor first; user is zero then
	merchant      db.Merchant  // zero for staff
	session       account.Session
	link          db.ConnectLink // of a browser that a platform sent here, at what the link is for; else zero
	browser       pg.Secret      // this browser's secret, if this answer gives it one
	locale        string         // of the page
	shown         shown          // what this page shows once
	notice        string         // code of the notice to show, with its values
}

type visitorKey struct{}

// visitorOf returns the visitor that page found; before that, one who is not signed in.
func visitorOf(r *http.Request) visitor {
	v, ok := r.Context().Value(visitorKey{}).(visitor)
	if !ok {
		v.locale = views.MatchLocale(r.Header.Get("Accept-Language"))
	}
	return v
}

func (v visitor) role() roles {
	if v.link.ID != (pg.ID{}) {
		return linked
	}
	if v.factorPending.ID != (pg.ID{}) {
		return factorPending
	}
	switch v.user.Role {
	case audit.RoleMerchant:
		return merchant
	case audit.RoleSupport:
		return support
	case audit.RoleAdmin:
		return admin
	default:
		return anonymous
	}
}

// began reports whether the visitor began a flow: as its user, or with its connect link.
func (v visitor) began(f db.Flow) bool {
	if v.role() == linked || f.LinkID != (pg.ID{}) {
		return v.role() == linked && v.link.ID == f.LinkID
	}
	return v.user.ID == f.UserID
}

// visit returns the visitor. The language is the one just chosen, else the one chosen in this browser, else the account's, else the
// browser's. It may set cookies.
func (s *Server) visit(w http.ResponseWriter, r *http.Request) (visitor, error) {
	var v visitor
	session, err := s.sessions.Get(r, s.cookieName("session"))
	if in, ok := session.Values[valueSignedIn].(account.SignedIn); ok && err == nil {
		v.user, v.merchant, v.session = in.User, in.Merchant, in.Session
		if in.Session.FactorPending || s.mustSetUp(in.User) {
			v.user, v.factorPending = account.User{}, in.User
		}
		if s.DB.Now().Sub(v.session.SeenAt) >= time.Minute {
			err = s.Accounts.TouchSession(r.Context(), v.session.Hash, s.address(r), r.UserAgent())
		}
	}
	v.locale = s.chooseLocale(w, r, cmp.Or(v.user.Locale, v.factorPending.Locale))
	if r.Method == http.MethodGet && !isPrefetch(r) {
		if cookie, err := r.Cookie(s.cookieName("notice")); err == nil {
			v.notice = cookie.Value
			s.setCookie(w, "notice", "", -time.Second)
		}
	}
	return v, err
}

func (s *Server) chooseLocale(w http.ResponseWriter, r *http.Request, own string) string {
	if strings.Contains(r.URL.RawQuery, "lang=") {
		if tag := r.URL.Query().Get("lang"); views.KnownLocale(tag) {
			s.setCookie(w, "lang", tag, 365*24*time.Hour)
			return tag
		}
	}
	if cookie, err := r.Cookie(s.cookieName("lang")); err == nil && views.KnownLocale(cookie.Value) {
		return cookie.Value
	}
	if views.KnownLocale(own) {
		return own
	}
	return views.MatchLocale(r.Header.Get("Accept-Language"))
}

// redirectWithNotice redirects to a page that shows a notice. notice is a code under "notice." in the locales; pairs are
// the names and values to fill in.
func (s *Server) redirectWithNotice(w http.ResponseWriter, r *http.Request, path, notice string, pairs ...string) error {
	if len(pairs) > 0 {
		values := url.Values{}
		for i := 0; i+1 < len(pairs); i += 2 {
			values.Set(pairs[i], pairs[i+1])
		}
		notice += "?" + values.Encode()
	}
	s.setCookie(w, "notice", notice, time.Minute)
	return redirect(w, r, path)
}

// actor returns the visitor as the actor of an event.
func (s *Server) actor(r *http.Request) audit.Actor {
	v := visitorOf(r)
	if v.role() == linked {
		return s.actorOf(r, audit.RoleLink, v.link.ID)
	}
	if v.role() == factorPending {
		return s.actorOf(r, v.factorPending.Role, v.factorPending.ID)
	}
	return s.actorOf(r, v.user.Role, v.user.ID)
}

// actorOf returns a user of a role, or an API key, as the actor of an event of this request.
func (s *Server) actorOf(r *http.Request, role audit.Role, id pg.ID) audit.Actor {
	return audit.Actor{Role: role, ID: id, Address: s.address(r), Request: trace.Request(r.Context())}
}

// viewPage returns what every page shows around its body.
func (s *Server) viewPage(r *http.Request) views.Page {
	v := visitorOf(r)
	page := views.Page{Path: r.URL.RequestURI()}
	notice, filled, _ := strings.Cut(v.notice, "?")
	page.Notice = notice
	if values, err := url.ParseQuery(filled); err == nil {
		for name := range values {
			page.NoticeOf = append(page.NoticeOf, name, values.Get(name))
		}
	}
	if v.role() == linked {
		page.Incidents, page.Link = s.incidents(r), s.viewLink(v.link)
	} else if v.user.ID != (pg.ID{}) {
		page.Incidents = s.incidents(r)
		page.User = &views.Person{User: v.user, Merchant: v.merchant.Name}
	}
	return page
}

// incidents caches the open incidents, which every page shows.
type incidents struct {
	mu   sync.Mutex
	read time.Time // when they were last read, or reading failed
	list []refresh.ProviderState
}

const incidentsAge = 3 * time.Second

// currentIncidents returns the open incidents, read at most incidentsAge ago. One request reads them again; the others use
// the cached ones, so that they do not queue behind a database that does not answer.
func (s *Server) currentIncidents(ctx context.Context) []refresh.ProviderState {
	s.openIncidents.mu.Lock()
	now, known := s.DB.Now(), s.openIncidents.list
	due := now.Sub(s.openIncidents.read) >= incidentsAge || now.Before(s.openIncidents.read)
	if due {
		s.openIncidents.read = now
	}
	s.openIncidents.mu.Unlock()
	if !due {
		return known
	}
	list, err := s.Refresh.Incidents(ctx)
	if err != nil {
		s.Log.WarnContext(ctx, "incidents not read", "err", err) // the page is shown without its banner
		return known
	}
	s.openIncidents.mu.Lock()
	defer s.openIncidents.mu.Unlock()
	s.openIncidents.list = list
	return list
}

// incidents returns the open incidents that the visitor reads of: staff of all, others of the providers that they have connected and of
// the one that the page is about.
func (s *Server) incidents(r *http.Request) []views.Incident {
	var all []views.Incident
	open := s.currentIncidents(r.Context())
	if v := visitorOf(r); len(open) > 0 && !v.user.Staff() {
		used, err := s.DB.MerchantProviders(r.Context(), v.user.MerchantID)
		if err != nil {
			s.Log.WarnContext(r.Context(), "providers of a merchant not read", "err", err) // the page is shown without its banner
		}
		used = append(used, r.PathValue("provider"), v.link.Provider)
		open = slices.DeleteFunc(slices.Clone(open), func(one refresh.ProviderState) bool { return !slices.Contains(used, one.Name) })
	}
	for _, one := range open {
		if provider, err := s.provider(one.Name); err == nil && provider.Is(one.Name, one.Environment) {
			i := views.Incident{
				Name: provider.Name, Provider: provider.Title, Since: one.IncidentSince,
				Ours: one.Reason == status.ReasonClientRejected, Declared: one.Reason == status.ReasonDeclared, Message: one.Message,
			}
			if one.Until.After(s.DB.Now()) {
				i.Until = one.Until
			}
			all = append(all, i)
		}
	}
	return all
}

// formText returns a field of the form as a name: see text.Name.
func formText(r *http.Request, name string) string { return text.Name(r.PostFormValue(name)) }

// tooLong reports whether a field of the form has more characters than a name may have.
func tooLong(r *http.Request, name string) bool {
	return text.Length(r.PostFormValue(name)) > text.MaxName
}

// publicAddress returns the absolute address of a path.
func (s *Server) publicAddress(path string) string {
	return strings.TrimSuffix(s.PublicURL.String(), "/") + path
}
