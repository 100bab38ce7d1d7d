// Package platform is a small platform that uses Patchbay: sample code for engineers of real ones, and what the demo shows. Its merchants
// press Connect on its page, give access at the provider, and come back. It asks Patchbay before it believes what a browser brings, hears of
// everything by webhooks, and reads a token when it needs one.
//
// It shares no code with Patchbay. In place of a database it has maps, and in place of passwords a button.
package platform

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options are what a platform needs of Patchbay.
type Options struct {
	URL string // this platform's address without a trailing slash, in browsers' bars: https://platform.example/platform
	API string // https://connect.example.com/api/v1
	Key string // an API key of all merchants
	Log *slog.Logger
}

// Platform serves the sample platform's pages and takes its webhooks, below the path of Options.URL.
type Platform struct {
	Options
	patchbay patchbay
	hooks    hooks
	pages    *template.Template
	path     string
	served   http.Handler

	mu       sync.Mutex
	sessions map[string]*session
}

// account is a person of one of this platform's merchants.
type account struct {
	User     user
	Merchant merchant
}

// accounts are all who can sign in here.
var accounts = []account{
	{user{"u-42", "Sok Dara"}, merchant{"corner-17", "Mekong Coffee", "km"}},
	{user{"u-51", "Élodie Tremblay"}, merchant{"corner-23", "Dépanneur du Canal", "fr"}},
	{user{"u-63", "Grace Miller"}, merchant{"corner-31", "Harbour Bakery", "en"}},
}

// session is one browser in which a user is signed in.
type session struct {
	account account
	links   map[string]bool // the connect links made for this session, by id
}

//go:embed pages
var files embed.FS

// New makes a platform. It believes no webhook until Trust.
func New(o Options) (*Platform, error) {
	at, err := url.Parse(o.URL)
	if err != nil {
		return nil, err
	}
	p := &Platform{
		Options:  o,
		patchbay: patchbay{api: o.API, key: o.Key, client: &http.Client{Timeout: 90 * time.Second}}, // a refresh may be waited for
		hooks:    hooks{seen: map[string]bool{}},
		path:     at.Path, sessions: map[string]*session{},
	}
	functions := template.FuncMap{"path": func() string { return p.path }, "time": func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04:05 UTC") }}
	if p.pages, err = template.New("").Funcs(functions).ParseFS(files, "pages/*.html"); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+p.path+"/hooks", p.hooks.receive)
	mux.HandleFunc("GET "+p.path+"/{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, p.path, http.StatusSeeOther) })
	mux.HandleFunc("POST "+p.path+"/sign-in", p.signIn)
	mux.HandleFunc("POST "+p.path+"/sign-out", p.signOut)
	for pattern, serve := range map[string]func(*visit) error{
		"GET " + p.path:                  p.home,
		"POST " + p.path + "/connect":    p.connect,
		"GET " + p.path + "/back":        p.back,
		"POST " + p.path + "/confirm":    p.confirm,
		"POST " + p.path + "/token":      p.token,
		"POST " + p.path + "/disconnect": p.disconnect,
		"GET " + p.path + "/webhooks":    p.webhooks,
	} {
		mux.HandleFunc(pattern, p.signedIn(serve))
	}
	p.served = http.NewCrossOriginProtection().Handler(mux) // another site's form does nothing here
	return p, nil
}

// ServeHTTP serves pages and takes webhooks.
func (p *Platform) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.served.ServeHTTP(w, r) }

// HookURL is the address that takes webhooks.
func (p *Platform) HookURL() string { return p.URL + "/hooks" }

// Trust has webhooks verified with the secret of the endpoint.
func (p *Platform) Trust(secret string) error { return p.hooks.trust(secret) }

// Subscribe has Patchbay send its events to HookURL, and returns the endpoint's secret. It is done once: keep the secret.
func (p *Platform) Subscribe(ctx context.Context) (secret string, err error) {
	return p.patchbay.addEndpoint(ctx, p.HookURL())
}

// visit is one request of a user who is signed in.
type visit struct {
	*session
	w http.ResponseWriter
	r *http.Request
}

const cookieName = "sample_platform"

// signedIn serves those who are signed in, and shows others the page to sign in on.
func (p *Platform) signedIn(serve func(*visit) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := p.sessionOf(r)
		if s == nil {
			p.page(w, http.StatusOK, "sign-in.html", accounts)
			return
		}
		err := serve(&visit{s, w, r})
		if err == nil {
			return
		}
		p.Log.WarnContext(r.Context(), "sample platform", "path", r.URL.Path, "err", err)
		no, status := &problem{Title: "Patchbay does not answer"}, http.StatusBadGateway
		switch {
		case errors.Is(err, errNotYours):
			no, status = &problem{Title: "This is not yours"}, http.StatusNotFound
		case errors.As(err, &no):
			status = no.Status
		}
		p.page(w, status, "problem.html", struct {
			account
			Problem *problem
			Advice  string
		}{s.account, no, advice(err, no.Type)})
	}
}

// advice is the text that a merchant reads about an error.
func advice(err error, kind string) string {
	if errors.Is(err, errNotYours) {
		return "It was begun in another browser, or by another person. You have connected nothing here."
	}
	switch kind {
	case "action-needed":
		return "The provider has ended the access. Reconnect the account."
	case "provider-trouble":
		return "The provider has trouble. Nothing is lost: try again in a while."
	case "rate-limited":
		return "That was too much at once. Try again in a minute."
	case "not-confirmed":
		return "It was too late, or not you. Nothing is connected: begin again."
	}
	return "Our engineers have been told. Quote the number to them."
}

func (p *Platform) sessionOf(r *http.Request) *session {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions[cookie.Value]
}

func (p *Platform) signIn(w http.ResponseWriter, r *http.Request) {
	i := slices.IndexFunc(accounts, func(a account) bool { return a.User.ExternalID == r.FormValue("user") })
	if i < 0 {
		http.Redirect(w, r, p.path, http.StatusSeeOther)
		return
	}
	id := rand.Text()
	p.mu.Lock()
	p.sessions[id] = &session{account: accounts[i], links: map[string]bool{}}
	p.mu.Unlock()
	// Lax: the browser must still be signed in when it comes back from Patchbay, which is another site.
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: id, Path: p.path, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: strings.HasPrefix(p.URL, "https:")})
	http.Redirect(w, r, p.path, http.StatusSeeOther)
}

func (p *Platform) signOut(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		p.mu.Lock()
		delete(p.sessions, cookie.Value)
		p.mu.Unlock()
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: p.path, MaxAge: -1})
	http.Redirect(w, r, p.path, http.StatusSeeOther)
}

// shown is a connection with its provider's title.
type shown struct {
	connection
	Title string
}

// home lists what the merchant has connected, and what can be.
func (p *Platform) home(v *visit) error {
	providers, err := p.patchbay.providers(v.r.Context())
	if err != nil {
		return err
	}
	connections, err := p.patchbay.connections(v.r.Context(), v.account.Merchant.ExternalID)
	if err != nil {
		return err
	}
	titles := map[string]string{}
	for _, one := range providers {
		titles[one.Name] = one.Title
	}
	var all []shown
	for _, c := range connections {
		if c.Health != "disconnected" {
			all = append(all, shown{c, titles[c.Provider]})
		}
	}
	p.page(v.w, http.StatusOK, "home.html", struct {
		account
		Providers   []provider
		Connections []shown
	}{v.account, providers, all})
	return nil
}

// connect makes a connect link for the user who is signed in, and sends the browser there.
func (p *Platform) connect(v *visit) error {
	l := newLink{
		Merchant: v.account.Merchant, User: v.account.User, Provider: v.r.FormValue("provider"), Connection: v.r.FormValue("connection"),
		ReturnURL: p.URL + "/back", Return: "button", Confirm: v.r.FormValue("confirm") != "",
	}
	if v.r.FormValue("redirect") != "" {
		l.Return = "redirect"
	}
	made, err := p.patchbay.addLink(v.r.Context(), l)
	if err != nil {
		return err
	}
	p.mu.Lock()
	v.links[made.ID] = true
	p.mu.Unlock()
	http.Redirect(v.w, v.r, made.URL, http.StatusSeeOther)
	return nil
}

// errNotYours is returned for a link or a connection that is not the signed-in merchant's.
var errNotYours = errors.New("not of this session")

// ownLink reads a link that was made for this session.
func (p *Platform) ownLink(v *visit, id string) (link, error) {
	p.mu.Lock()
	own := v.links[id]
	p.mu.Unlock()
	if !own {
		return link{}, errNotYours
	}
	return p.patchbay.link(v.r.Context(), id)
}

// ownConnection reads a connection of the signed-in merchant.
func (p *Platform) ownConnection(v *visit) (connection, error) {
	c, err := p.patchbay.connection(v.r.Context(), v.r.FormValue("connection"))
	if err == nil && c.Merchant.ExternalID != v.account.Merchant.ExternalID {
		err = errNotYours
	}
	return c, err
}

// back is where the browser returns to. Its query could be forged, so the link is read by the API.
func (p *Platform) back(v *visit) error {
	q := v.r.URL.Query()
	l, err := p.ownLink(v, q.Get("patchbay_link"))
	if err != nil {
		return err
	}
	p.page(v.w, http.StatusOK, "back.html", struct {
		account
		Link       link
		Brought    string // what the address said
		Connection string
		Code       string
	}{v.account, l, q.Get("patchbay_state"), q.Get("patchbay_connection"), q.Get("patchbay_code")})
	return nil
}

// confirm says that it was this user who gave access. It is asked of the session for which the link was made: then no stranger can have
// finished it.
func (p *Platform) confirm(v *visit) error {
	l, err := p.ownLink(v, v.r.FormValue("link"))
	if err != nil {
		return err
	}
	if l, err = p.patchbay.confirm(v.r.Context(), l.ID, v.r.FormValue("code")); err != nil {
		return err
	}
	http.Redirect(v.w, v.r, p.path+"/back?"+url.Values{"patchbay_link": {l.ID}, "patchbay_state": {l.State}, "patchbay_connection": {l.Connection}}.Encode(), http.StatusSeeOther)
	return nil
}

// token reads a token. A platform sends it to the provider's API and keeps it nowhere; here its beginning is shown.
func (p *Platform) token(v *visit) error {
	c, err := p.ownConnection(v)
	if err != nil {
		return err
	}
	t, err := p.patchbay.token(v.r.Context(), c.ID)
	if err != nil {
		return err
	}
	p.page(v.w, http.StatusOK, "token.html", struct {
		account
		Connection connection
		Token      token
		Beginning  string
	}{v.account, c, t, beginning(t.AccessToken)})
	return nil
}

// beginning returns what is shown of a token: at most 6 characters, and never more than a quarter.
func beginning(token string) string {
	return token[:min(6, len(token)/4)] + "…"
}

// disconnect ends a connection, and shows the receipt.
func (p *Platform) disconnect(v *visit) error {
	c, err := p.ownConnection(v)
	if err != nil {
		return err
	}
	receipt, err := p.patchbay.disconnect(v.r.Context(), c.ID)
	if err != nil {
		return err
	}
	p.page(v.w, http.StatusOK, "disconnected.html", struct {
		account
		Connection connection
		Revoked    string
		Until      *time.Time
	}{v.account, c, receipt.Revoked, receipt.AccessUntil})
	return nil
}

// webhooks lists what came.
func (p *Platform) webhooks(v *visit) error {
	p.page(v.w, http.StatusOK, "webhooks.html", struct {
		account
		Hooks []hook
	}{v.account, p.hooks.of(v.account.Merchant.ExternalID)})
	return nil
}

func (p *Platform) page(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := p.pages.ExecuteTemplate(&b, name, data); err != nil {
		p.Log.Error("sample platform", "page", name, "err", err)
		http.Error(w, "The page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer") // a code may be in the address
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // fails only when the browser has gone
}
