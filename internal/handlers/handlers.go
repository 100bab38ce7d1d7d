// Package handlers serves the pages for browsers and the JSON API: one function per use case, all routes in one table. It
// has no SQL and no facts about providers; it asks a provider's connector what it can do.
package handlers

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/securecookie"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/jobs"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/sso"
	"patchbay/internal/status"
	"patchbay/internal/trace"
	"patchbay/internal/webhooks"
	"patchbay/static"
	"patchbay/views"
)

// Options configure a Server.
type Options struct {
	DB             *db.DB
	Accounts       *account.Store
	Providers      []connectors.Provider // in the order of the merchants' page
	Refresh        *refresh.Engine
	Webhooks       *webhooks.Webhooks
	Log            *slog.Logger
	PublicURL      *url.URL                    // the origin of all pages
	ReturnURLs     []*url.URL                  // to which and below which connect links may lead back
	TrustedProxies []netip.Prefix              // their X-Forwarded-For, X-Forwarded-Host and X-Forwarded-Proto are used
	SessionKeys    [][]byte                    // the first signs, all verify
	Jobs           *jobs.Jobs                  // mail, revocations, bulk work
	RequireFactor  bool                        // staff who sign in with a password must have a second factor
	Brand          views.Brand                 // the platform's face; zero for Patchbay's
	SSO            *sso.Provider               // sign-in through the platform; nil without
	SSOTitle       string                      // what the platform's provider is called; "" without
	Demo           []views.DemoSignIn          // sample users on the sign-in page of the demo
	Works          func(context.Context) error // returns an error if the program cannot work with the database, for /readyz; may be nil
}

// Server serves pages and API. New makes one. It is safe for concurrent use.
type Server struct {
	Options
	sessions           *sessionStore
	shown              []securecookie.Codec
	passkeys           *account.RelyingParty // nil if none can belong to PublicURL
	openIncidents      incidents
	limits             apiLimits
	configured         status.Providers // the providers' settings, without incidents: see statuses
	requests           *requestMetrics
	warnHiddenHost     sync.Once                                           // logs a warning of a proxy that hides the requested host
	callbackAccepted   sync.Map                                            // names of the providers that took our callback address
	warnUntrustedProxy sync.Once                                           // logs a warning of a proxy that is not trusted
	buffers            sync.Pool                                           // of *bytes.Buffer, for pages before they are sent
	secure             bool                                                // PublicURL is https: cookies are Secure and carry __Host-
	pause              func(ctx context.Context, wait time.Duration) error // waits; replaced in tests
}

// New makes a server.
func New(o Options) *Server {
	s := &Server{Options: o, secure: o.PublicURL.Scheme == "https", pause: pause, requests: newRequestMetrics(), configured: connectors.Statuses(o.Providers)}
	s.sessions, s.shown = newSessionStore(o.Accounts, o.SessionKeys, s.secure), shownCodecs(o.SessionKeys)
	var err error
	if s.passkeys, err = account.NewRelyingParty(o.PublicURL, cmp.Or(o.Brand.Name, "Patchbay")); err != nil {
		o.Log.Warn("passkeys are not offered at PUBLIC_URL", "err", err)
	}
	return s
}

// roles is a set of roles, such as those that a route serves.
type roles uint8

const (
	anonymous roles = 1 << iota // not signed in
	merchant                    // a merchant's user
	support
	admin
	linked        // the browser of a connect link, at what its link is for
	factorPending // gave the right password, and must give or set up a second factor first

	staff    = support | admin
	signedIn = merchant | staff
	everyone = anonymous | signedIn
)

// page serves one request. It writes nothing if it returns an error, which fail turns into a page.
type page func(w http.ResponseWriter, r *http.Request) error

type route struct {
	pattern string
	roles   roles
	do      page
	leaves  bool // a form of this page redirects to a provider: Chromium applies form-action to that redirect, so it is left out
}

const (
	callbackRoute = "GET /connect/{provider}/callback"
	postedRoute   = "POST /connect/{provider}/callback"
)

// routes returns every route for browsers with the roles that it serves. api.go has those of the API.
func (s *Server) routes() []route {
	return []route{
		{"GET /login", everyone | factorPending, s.loginPage, false},
		{"POST /login", everyone | factorPending, s.login, false},
		{ssoRoute, everyone | factorPending, s.beginSSO, false},
		{ssoCallbackRoute, everyone | factorPending, s.finishSSO, false},
		{"POST /login/passkey", everyone | factorPending, s.loginByPasskey, false},
		{"POST /passkey-challenges", everyone | factorPending, s.challenge, false},
		{"POST /logout", everyone | factorPending, s.logout, false},
		{"POST /language", everyone | factorPending, s.setLanguage, false},
		{"GET /login/second-factor", staff | factorPending, s.secondFactorPage, false},
		{"POST /login/second-factor", staff | factorPending, s.proveSecondFactor, false},
		{"GET /account/second-factor", staff | factorPending, s.secondFactorSettings, false},
		{"POST /account/second-factor", staff | factorPending, s.changeSecondFactor, false},

		{"GET /{$}", signedIn, s.home, true},
		{"GET /connect/{provider}", merchant, s.connectPage, true},
		{"POST /connect/{provider}", merchant, s.connect, true},
		{callbackRoute, everyone, s.callback, false},
		{postedRoute, everyone, s.postedCallback, false},
		{"GET /connect/{provider}/ended/{outcome}", everyone, s.endedPage, false},
		{"GET /providers/{provider}/logo", everyone, s.logo, false},
		{"GET /flows/{reference}", signedIn | linked, s.flowPage, true},
		{"POST /flows/{reference}/choice", merchant | linked, s.choose, true},
		{"GET /links/{secret}", everyone, s.linkPage, true},
		{"POST /links/{secret}", everyone, s.followLink, true},

		{"GET /ended", merchant, s.endedConnections, false},
		{"GET /connections/{id}", signedIn, s.connectionPage, true},
		{"GET /connections/{id}/refresh", signedIn, s.redirectRefresh, false},
		{"POST /connections/{id}/refresh", signedIn, s.refreshNow, true},
		{"POST /connections/{id}/nickname", signedIn, s.nameConnection, false},
		{"POST /connections/{id}/reconnect", merchant, s.reconnect, true},
		{"GET /connections/{id}/disconnect", merchant | admin, s.disconnectPage, false},
		{"POST /connections/{id}/disconnect", merchant | admin, s.disconnect, false},

		{"GET /account", signedIn, s.accountPage, false},
		{"POST /account", signedIn, s.saveAccount, false},
		{"GET /password", everyone, s.forgottenPage, false},
		{"POST /password", everyone, s.forgotten, false},
		{"GET /password/{secret}", everyone, s.newPasswordPage, false},
		{"POST /password/{secret}", everyone, s.newPassword, false},
		{"GET /invitations/{secret}", everyone, s.invitationPage, false},
		{"POST /invitations/{secret}", everyone, s.acceptInvitation, false},
		{"GET /reconnect/{secret}", signedIn, s.reconnectLinkPage, true},
		{"POST /reconnect/{secret}", merchant, s.followReconnectLink, true},

		{"GET /admin", staff, s.fromReplica(s.overview), false},
		{"POST /admin/mail", admin, s.retryMail, false},
		{"GET /admin/connections", staff, s.fromReplica(s.adminConnections), false},
		{"GET /admin/connections.csv", staff, s.fromReplica(s.exportConnections(csvFile)), false},
		{"GET /admin/connections.xlsx", staff, s.fromReplica(s.exportConnections(bookFile)), false},
		{"POST /admin/bulk", staff, s.beginBulk, false},
		{"GET /admin/bulk/{id}", staff, s.bulkPage, false},
		{"POST /admin/bulk/{id}", staff, s.changeBulk, false},
		{"GET /admin/providers", staff, s.adminProviders, false},
		{"GET /admin/providers/{provider}", staff, s.adminProvider, false},
		{"POST /admin/providers/{provider}", admin, s.changeProvider, false},
		{"GET /admin/events", staff, s.fromReplica(s.adminEvents), false},
		{"GET /admin/events.csv", staff, s.fromReplica(s.exportEvents(csvFile)), false},
		{"GET /admin/events.xlsx", staff, s.fromReplica(s.exportEvents(bookFile)), false},
		{"POST /admin/events", admin, s.setRetention, false},
		{"GET /admin/keys", staff, s.adminKeys, false},
		{"POST /admin/keys", admin, s.addKey, false},
		{"POST /admin/keys/{id}/revoke", admin, s.revokeKey, false},
		{"GET /admin/webhooks", staff, s.adminWebhooks, false},
		{"POST /admin/webhooks", admin, s.addEndpoint, false},
		{"POST /admin/webhooks/{id}", admin, s.changeEndpoint, false},
		{"POST /admin/webhooks/deliveries/{id}", admin, s.sendAgain, false},
		{"GET /admin/merchants", staff, s.fromReplica(s.adminMerchants), false},
		{"POST /admin/merchants", admin, s.addMerchant, false},
		{"GET /admin/merchants/{id}", staff, s.adminMerchant, false},
		{"GET /admin/merchants/{id}/erase", admin, s.erasePage, false},
		{"POST /admin/merchants/{id}/erase", admin, s.erase, false},
		{"GET /admin/users", staff, s.fromReplica(s.adminUsers), false},
		{"POST /admin/users", admin, s.inviteUser, false},
		{"POST /admin/users/{id}", admin, s.changeUser, false},
		{"POST /connections/{id}/ask", staff, s.askToReconnect, false},
		{"POST /connections/{id}/notes", staff, s.changeNotes, false},
		{"GET /outbox", everyone, s.outbox, false},
		{"GET /outbox/{id}", everyone, s.outboxHTML, false},
	}
}

// Routes returns the handler of everything that the program serves.
func (s *Server) Routes() http.Handler {
	pages := http.NewServeMux()
	for _, one := range s.routes() {
		pages.Handle(one.pattern, s.compressed(one.pattern, s.page(one)))
	}
	pages.Handle("/", s.page(route{roles: everyone, do: func(http.ResponseWriter, *http.Request) error { return pg.ErrNotFound }}))

	origins := http.NewCrossOriginProtection()
	if err := origins.AddTrustedOrigin(s.PublicURL.Scheme + "://" + s.PublicURL.Host); err != nil {
		s.Log.Error("PUBLIC_URL is no origin", "err", err)
	}
	origins.AddInsecureBypassPattern(postedRoute) // it does nothing but redirect
	origins.SetDenyHandler(s.page(route{roles: everyone, do: func(http.ResponseWriter, *http.Request) error { return errCrossSite }}))

	all := http.NewServeMux()
	all.Handle("/", s.canonicalHost(origins.Handler(pages)))
	all.Handle("GET /static/", static.Handler())
	all.HandleFunc("GET "+views.BrandPath, s.brand)
	all.HandleFunc("POST /hooks/{provider}/{secret}", s.hook)
	all.HandleFunc("GET /livez", s.livez)
	all.HandleFunc("GET /readyz", s.readyz)
	s.api(all)
	return s.guard(all)
}

// pageCSP is the Content-Security-Policy of pages. A page whose forms lead away lacks formCSP.
const (
	pageCSP = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
	formCSP = "; form-action 'self'"
)

// page wraps a route's page: it finds the visitor, checks the role, and handles the error.
func (s *Server) page(one route) http.Handler {
	csp := pageCSP
	if !one.leaves {
		csp += formCSP
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", csp)
		h.Set("Cache-Control", "no-store")
		if limit := limitOf(one.pattern); limit > 0 {
			ctx, cancel := context.WithTimeout(r.Context(), limit)
			defer cancel()
			r = r.WithContext(ctx)
		}
		v, err := s.visit(w, r)
		r = r.WithContext(context.WithValue(r.Context(), visitorKey{}, v))
		v.shown = s.takeShown(w, r)
		r = r.WithContext(context.WithValue(r.Context(), visitorKey{}, v))
		identify(r, cmp.Or(v.user.Role, v.factorPending.Role), cmp.Or(v.user.ID, v.factorPending.ID))
		if err == nil && r.Method == http.MethodPost {
			err = parsed(r)
		}
		if err == nil && one.roles&linked != 0 {
			r, err = s.asLinkVisitor(w, r)
			v = visitorOf(r)
			if v.role() == linked {
				identify(r, audit.RoleLink, v.link.ID)
			}
		}
		switch {
		case err != nil:
		case one.roles&v.role() != 0:
			if r.Method == http.MethodPost && s.DB.ReplicaState() != pg.ReplicaNone {
				s.setCookie(w, wroteCookie, "1", pg.MaxLag+5*time.Second)
			}
			var proved *http.Request
			if proved, err = s.proved(w, r, one.pattern); proved != nil {
				err = one.do(w, proved)
			}
		case v.role() == factorPending && (r.Method == http.MethodGet || r.Method == http.MethodHead):
			http.Redirect(w, r, s.factorPendingPage(v.factorPending, r.URL.RequestURI()), http.StatusSeeOther)
		case v.role() == factorPending:
			http.Redirect(w, r, s.factorPendingPage(v.factorPending, ""), http.StatusSeeOther)
		case v.role() == anonymous && (r.Method == http.MethodGet || r.Method == http.MethodHead):
			http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
		case v.role() == anonymous:
			s.setCookie(w, "notice", "form-not-sent", time.Minute)
			http.Redirect(w, r, "/login?next="+url.QueryEscape(s.formPage(r)), http.StatusSeeOther)
		case v.role() == merchant:
			err = pg.ErrNotFound // the back office does not exist for merchants
		default:
			err = errForbidden
		}
		if err != nil {
			s.fail(w, r, err)
		}
	})
}

// formPage returns the address of the page that has the form which a visitor sent whose session had ended. What they typed for a
// provider is in it, unless it is secret.
func (s *Server) formPage(r *http.Request) string {
	provider, err := s.provider(r.PathValue("provider"))
	if err == nil {
		values := url.Values{}
		for _, f := range fieldsOf(provider) {
			if typed := r.PostFormValue(f.Name); typed != "" && !f.Secret && len(typed) <= 200 {
				values.Set(f.Name, typed)
			}
		}
		if reconnect, err := pg.ParseID(r.PostFormValue("connection")); err == nil {
			values.Set("connection", reconnect.String())
		}
		return (&url.URL{Path: "/connect/" + provider.Name, RawQuery: values.Encode()}).String()
	}
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/connections/"), strings.HasPrefix(path, "/flows/"): // the form is on the page above
		return path[:strings.LastIndex(path, "/")]
	case strings.HasPrefix(path, "/admin/bulk/"), strings.HasPrefix(path, "/admin/providers/"), strings.HasPrefix(path, "/reconnect/"), path == "/account":
		return path
	case strings.HasPrefix(path, "/admin/"): // of one in a list
		return "/admin/" + strings.SplitN(path, "/", 4)[2]
	}
	return "/"
}

// wroteCookie is the name of the cookie of a browser that has sent a form within pg.MaxLag and a little: it reads what that did.
const wroteCookie = "wrote"

// fromReplica has a page's lists read from the replica, if there is one, unless this browser has just sent a form.
func (s *Server) fromReplica(do page) page {
	return func(w http.ResponseWriter, r *http.Request) error {
		if _, err := r.Cookie(s.cookieName(wroteCookie)); err != nil {
			r = r.WithContext(pg.FromReplica(r.Context()))
		}
		return do(w, r)
	}
}

// How long an answer may take, so that a database that hangs is answered 503. A refresh waits for its provider, and a sign-in for
// the platform's.
const (
	pageLimit    = 10 * time.Second
	readLimit    = 5 * time.Second // of the API
	refreshLimit = time.Minute
)

// limitOf returns for how long the page of a pattern may work; 0 means without end. What calls providers has limits of its own, and
// downloads take as long as their readers.
func limitOf(pattern string) time.Duration {
	switch {
	case strings.HasSuffix(pattern, ".csv"), strings.HasSuffix(pattern, ".xlsx"), pattern == callbackRoute:
		return 0
	case strings.HasPrefix(pattern, "GET ") && pattern != ssoRoute && pattern != ssoCallbackRoute:
		return pageLimit
	default:
		return refreshLimit
	}
}

// parsed reads the form. It returns errMalformed if it can be read in part only.
func parsed(r *http.Request) error {
	err := r.ParseForm()
	var large *http.MaxBytesError
	if err != nil && !errors.As(err, &large) {
		return errMalformed
	}
	cleanForm(r.Form)
	cleanForm(r.PostForm)
	return err
}

// guard wraps every request: it turns a panic into a page, refuses a body over 64 KB, sets the security headers, and logs one
// line without the ids in the path and without the query.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		answer := &statusWriter{ResponseWriter: w}
		ctx, id := trace.WithRequest(r.Context())
		who := &visitorID{}
		r = r.WithContext(context.WithValue(ctx, visitorIDKey{}, who))
		defer func() {
			if fault := recover(); fault != nil {
				if fault == http.ErrAbortHandler {
					panic(fault)
				}
				s.Log.ErrorContext(r.Context(), "panic", "route", r.Pattern, "where", stack())
				if answer.status == 0 {
					s.fail(answer, r, errBroken)
				}
			}
			trace.Route(r.Context(), r.Pattern)
			if answer.status == http.StatusOK && r.Pattern == tokenRoute {
				return // counted by key, connection and minute instead
			}
			s.requests.count(r.Pattern, answer.status, time.Since(began))
			line := []any{"method", r.Method, "route", r.Pattern, "status", answer.status, "ms", time.Since(began).Milliseconds(), "address", s.address(r)}
			if who.role != "" {
				line = append(line, "role", who.role, "id", who.id)
			}
			s.Log.InfoContext(r.Context(), "request", line...)
		}()
		h := answer.Header()
		h.Set(trace.Header, id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; frame-ancestors 'none'") // pages and pictures have their own
		if s.secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		refused := s.cleanRequest(r)
		if r.ContentLength > maxBody {
			refused = errTooLarge
		}
		if refused != nil {
			h.Set("Content-Security-Policy", pageCSP+formCSP)
			if v, err := s.visit(answer, r); err == nil { // for the page's language
				r = r.WithContext(context.WithValue(r.Context(), visitorKey{}, v))
			}
			s.fail(answer, r, refused)
			return
		}
		r.Body = http.MaxBytesReader(answer, r.Body, maxBody)
		next.ServeHTTP(answer, r)
	})
}

const maxBody = 64 << 10

// visitorID is who sent a request, for the request's line in the log: a user, an API key or a connect link.
type visitorID struct {
	role audit.Role
	id   pg.ID
}

type visitorIDKey struct{}

// identify notes who sent a request. It is called also if they may not do what they ask for.
func identify(r *http.Request, role audit.Role, id pg.ID) {
	if who, ok := r.Context().Value(visitorIDKey{}).(*visitorID); ok && id != (pg.ID{}) {
		*who = visitorID{role, id}
	}
}

// statusWriter records the status for the log.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the real writer.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
