package handlers

import (
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/resource"
	"patchbay/internal/search"
	"patchbay/internal/status"
	"patchbay/internal/text"
	"patchbay/views"
)

//go:embed openapi.yaml
var openapi []byte

// call serves one request of the API. It writes nothing if it returns an error, which becomes a problem (RFC 9457).
type call func(w http.ResponseWriter, r *http.Request) error

const (
	tokenRoute      = "GET /api/v1/connections/{id}/token"
	apiRefreshRoute = "POST /api/v1/connections/{id}/refresh"
)

// api returns the handler of the API. It takes keys in the Authorization header only: cookies grant nothing here.
func (s *Server) api(mux *http.ServeMux) {
	handle := func(pattern string, do call) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			asked := r
			if pattern != tokenRoute { // which has limits of its own
				limit := readLimit
				if slices.Contains([]string{apiRefreshRoute, apiDisconnectRoute, apiEraseRoute}, pattern) {
					limit = refreshLimit
				}
				ctx, cancel := context.WithTimeout(r.Context(), limit)
				defer cancel()
				asked = r.WithContext(ctx)
			}
			if err := do(w, asked); err != nil {
				s.problem(w, r, err)
			}
		})
	}
	for pattern, do := range s.apiRoutes() {
		handle(pattern, do)
	}
	handle("/api/", func(w http.ResponseWriter, r *http.Request) error { return noRoute(mux, w, r) })
	mux.HandleFunc("GET /metrics", s.metrics())
}

// apiRoutes are the routes that openapi.yaml describes.
func (s *Server) apiRoutes() map[string]call {
	return map[string]call{
		"GET /api/v1/connections":                    s.apiConnections,
		"GET /api/v1/connections/{id}":               s.apiConnection,
		tokenRoute:                                   s.apiToken,
		apiRefreshRoute:                              s.apiRefresh,
		"GET /api/v1/merchants":                      s.apiMerchants,
		"POST /api/v1/merchants":                     s.apiAddMerchant,
		apiEraseRoute:                                s.apiErase,
		apiDisconnectRoute:                           s.apiDisconnect,
		"GET /api/v1/providers":                      s.apiProviders,
		"POST /api/v1/connect-links":                 s.apiAddLink,
		"GET /api/v1/connect-links":                  s.apiLinks,
		"GET /api/v1/connect-links/{id}":             s.apiConnectLink,
		"DELETE /api/v1/connect-links/{id}":          s.apiRevokeLink,
		"POST /api/v1/connect-links/{id}/confirm":    s.apiConfirmLink,
		"GET /api/v1/webhook-endpoints":              s.apiEndpoints,
		"POST /api/v1/webhook-endpoints":             s.apiAddEndpoint,
		"DELETE /api/v1/webhook-endpoints/{id}":      s.apiDeleteEndpoint,
		"POST /api/v1/webhook-endpoints/{id}/rotate": s.apiRotateEndpoint,
		"POST /api/v1/webhook-endpoints/{id}/test":   s.apiTestEndpoint,
		"GET /api/v1/openapi.yaml":                   s.apiDescription,
	}
}

// noRoute answers requests that no route matches: 405 if the path has a route of another method, else 404.
func noRoute(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) error {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		if _, pattern := mux.Handler(&http.Request{Method: method, URL: r.URL, Host: r.Host}); strings.HasPrefix(pattern, method+" /api/") {
			w.Header().Add("Allow", method)
		}
	}
	if w.Header().Get("Allow") == "" {
		return pg.ErrNotFound
	}
	return errMethod
}

// apiToken returns a token that is valid for at least min_valid seconds. Usually it sends Postgres one query and no write.
func (s *Server) apiToken(w http.ResponseWriter, r *http.Request) error {
	token, err := s.token(r)
	s.Refresh.Metrics.Read(problemType(err))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, token)
}

type apiTokenAnswer struct {
	AccessToken string           `json:"access_token"`
	TokenType   string           `json:"token_type"`
	ExpiresAt   *time.Time       `json:"expires_at"`
	Scope       string           `json:"scope"`
	Account     apiTokenAccount  `json:"account"`
	Send        *connectors.Sent `json:"send,omitempty"` // of a key: how it is sent
}

// apiTokenAccount is the account that a token is for, and what a program needs beside the token to use it. Both objects are as stored.
type apiTokenAccount struct {
	ID     string          `json:"id"`
	Values json.RawMessage `json:"values"`
	Input  json.RawMessage `json:"input"`
}

func (s *Server) token(r *http.Request) (apiTokenAnswer, error) {
	var none apiTokenAnswer
	secret, err := bearer(r)
	if err != nil {
		return none, err
	}
	id, idErr := pg.ParseID(r.PathValue("id")) // reported only if the key is valid
	ctx, cancel := context.WithTimeout(r.Context(), readLimit)
	defer cancel()
	h, ok, err := s.DB.ReadToken(ctx, secret, id)
	if err != nil && !errors.Is(err, pg.ErrNotFound) {
		return none, err
	}
	identify(r, audit.RoleKey, h.Key)
	if err := s.limits.key(h.Key, h.KeyMerchant); err != nil {
		return none, err
	}
	if !h.Allowed {
		return none, missingScope(db.ScopeTokens)
	}
	if err != nil || idErr != nil {
		return none, pg.ErrNotFound
	}
	minValid, err := minValid(r)
	if err != nil {
		return none, err
	}
	if !ok || !s.Refresh.Good(h, minValid) {
		reading, err := s.Refresh.Fresh(r.Context(), id, minValid, s.actorOf(r, audit.RoleKey, h.Key))
		if err != nil {
			return none, err
		}
		h.Token, h.ExpiresAt, h.Lifetime, h.Typed = reading.Token, reading.ExpiresAt, reading.Lifetime, reading.Typed
		h.Provider = reading.Provider
	}
	s.Refresh.RecordTokenRead(id, h.Key, h)
	t := h.Token
	answer := apiTokenAnswer{
		AccessToken: t.Access, TokenType: t.Type, ExpiresAt: resource.TimeOrNull(h.ExpiresAt), Scope: strings.Join(t.Scope, " "),
		Account: apiTokenAccount{h.AccountID, h.Values, h.Input},
	}
	if strings.EqualFold(t.Type, "bearer") || t.Type == "" {
		answer.TokenType = "Bearer"
	}
	if t.Type == connectors.KeyType {
		if provider, err := s.provider(h.Provider); err == nil {
			if key, ok := provider.Connector.(connectors.KeyConnector); ok {
				send := key.Send(h.Typed)
				answer.Send = &send
			}
		}
	}
	return answer, nil
}

// minValid parses min_valid, in seconds.
func minValid(r *http.Request) (time.Duration, error) {
	if r.URL.RawQuery == "" {
		return refresh.DefaultValidity, nil
	}
	text := r.URL.Query().Get("min_valid")
	if text == "" {
		return refresh.DefaultValidity, nil
	}
	seconds, err := strconv.ParseInt(text, 10, 32)
	if err != nil || seconds < 0 {
		return 0, invalid("min_valid is a whole number of seconds, 0 or more")
	}
	return time.Duration(seconds) * time.Second, nil
}

// apiConnections lists connections, newest first.
func (s *Server) apiConnections(w http.ResponseWriter, r *http.Request) error {
	key, err := s.key(r, db.ScopeConnections)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	f := search.Filter{Provider: q.Get("provider"), Health: status.Health(q.Get("health")), Merchant: key.MerchantID, Providers: s.statuses(r.Context())}
	if f.Health != "" && !slices.Contains(status.Healths(), f.Health) {
		return invalid("health is " + oneOf(status.Healths()))
	}
	limit, err := pageSize(q.Get("limit"))
	if err != nil {
		return err
	}
	empty := false
	if asked := q.Get("merchant"); asked != "" {
		m, err := s.merchantNamed(r, asked)
		switch {
		case errors.Is(err, pg.ErrNotFound), err == nil && key.MerchantID != (pg.ID{}) && m.ID != key.MerchantID:
			empty = true
		case err != nil:
			return err
		}
		f.Merchant = m.ID
	}
	if asked := q.Get("reference"); asked != "" {
		reference := db.Reference(asked)
		if reference == "" {
			return invalid("reference is eight letters and digits, such as K7M2-4QXD")
		}
		if f.Only, err = s.DB.ConnectionIDsByReference(r.Context(), reference); err != nil {
			return err
		}
		empty = empty || len(f.Only) == 0
	}
	answer := struct {
		Connections []resource.Connection `json:"connections"`
		Next        string                `json:"next"`
	}{Connections: []resource.Connection{}}
	if empty {
		return writeJSON(w, http.StatusOK, answer)
	}
	if !validCursor(q.Get("cursor")) {
		return errCursor
	}
	page, err := s.DB.Connections(listContext(r), f, nil, q.Get("cursor"), limit)
	if err != nil {
		return err
	}
	for _, c := range page.Rows {
		answer.Connections = append(answer.Connections, resource.ConnectionOf(status.Of(c.Row(), f.Providers[c.Provider]), c))
	}
	answer.Next = page.Next
	return writeJSON(w, http.StatusOK, answer)
}

// apiConnection shows one connection.
func (s *Server) apiConnection(w http.ResponseWriter, r *http.Request) error {
	_, c, err := s.connectionByKey(r, db.ScopeConnections)
	if err != nil {
		return err
	}
	return s.writeConnection(r.Context(), w, c)
}

// connectionByKey returns the connection in the path, if the request's key is for its merchant.
func (s *Server) connectionByKey(r *http.Request, scope string) (db.APIKey, db.ConnectionDetail, error) {
	secret, err := bearer(r)
	if err != nil {
		return db.APIKey{}, db.ConnectionDetail{}, err
	}
	id, idErr := pg.ParseID(r.PathValue("id")) // reported only if the key is valid
	key, c, err := s.DB.ConnectionByAPIKey(r.Context(), secret, id)
	if err != nil && !errors.Is(err, pg.ErrNotFound) {
		return key, c, err
	}
	s.Refresh.RecordKeyUse(key.ID)
	if err := s.authorizeKey(r, key, scope); err != nil {
		return key, c, err
	}
	return key, c, errors.Join(err, idErr)
}

func (s *Server) writeConnection(ctx context.Context, w http.ResponseWriter, c db.ConnectionDetail) error {
	return writeJSON(w, http.StatusOK, resource.ConnectionOf(s.statusOf(ctx, c.Connection), c.ConnectionRow))
}

// How often what a provider has refused is sent to it again: one that is shown the same token again and again sees an attack.
var (
	refusedByProgram = pg.Limit{Burst: 1, Every: 5 * time.Minute}
	refusedByPerson  = pg.Limit{Burst: 1, Every: time.Minute}
)

// apiRefresh refreshes a connection at once, regardless of its schedule, and returns it.
func (s *Server) apiRefresh(w http.ResponseWriter, r *http.Request) error {
	key, c, err := s.connectionByKey(r, db.ScopeRefresh)
	if err != nil {
		return err
	}
	if err := s.limits.refresh(c.ID); err != nil {
		return err
	}
	if current := s.statusOf(r.Context(), c.Connection); current.Health == status.ActionNeeded && current.Party == status.PartyMerchant {
		wait, err := s.DB.Allow(r.Context(), "refused "+c.ID.String(), refusedByProgram)
		if err == nil && wait > 0 {
			err = &refresh.ActionNeededError{Problem: current.Problem}
		}
		if err != nil {
			return err
		}
	}
	var out refresh.Result
	if c.LeasedUntil.IsZero() {
		grant := db.GrantState{Connection: c.ID, Provider: c.Provider, Environment: c.Environment, Disconnected: !c.DisconnectedAt.IsZero()}
		out, err = s.Refresh.RefreshGrant(r.Context(), grant, s.byKey(r, key))
	} else { // another refresh is or was under way
		out, err = s.Refresh.RefreshNow(r.Context(), c.ID, s.byKey(r, key))
	}
	switch {
	case err != nil:
		return err
	case out.Outcome == status.OK:
		c.Problem, c.ProblemSince, c.FailingSince = "", time.Time{}, time.Time{}
		c.RefreshedAt, c.ExpiresAt, c.RefreshAt = out.RefreshedAt, out.ExpiresAt, out.RefreshAt
		return s.writeConnection(r.Context(), w, c)
	case out.Outcome == status.Unrenewable: // the connection says so
		return s.writeConnection(r.Context(), w, c)
	}
	return out.Err()
}

// apiMerchants lists merchants by name, or returns the one with an external id.
func (s *Server) apiMerchants(w http.ResponseWriter, r *http.Request) error {
	key, err := s.key(r, db.ScopeConnections)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	limit, err := pageSize(q.Get("limit"))
	if err != nil {
		return err
	}
	answer := struct {
		Merchants []resource.Merchant `json:"merchants"`
		Next      string              `json:"next"`
	}{Merchants: []resource.Merchant{}}
	add := func(m db.Merchant) {
		if key.MerchantID == (pg.ID{}) || key.MerchantID == m.ID {
			answer.Merchants = append(answer.Merchants, resource.Merchant{ID: m.ID, ExternalID: m.ExternalID, Name: m.Name})
		}
	}
	switch external := q.Get("external_id"); {
	case external != "":
		m, err := s.DB.MerchantByExternalID(r.Context(), external)
		if err != nil && !errors.Is(err, pg.ErrNotFound) {
			return err
		}
		if err == nil {
			add(m)
		}
	case key.MerchantID != (pg.ID{}):
		m, err := s.DB.Merchant(r.Context(), key.MerchantID)
		if err != nil {
			return err
		}
		add(m)
	default:
		if !validCursor(q.Get("cursor")) {
			return errCursor
		}
		page, err := s.DB.ListMerchants(listContext(r), "", q.Get("cursor"), limit)
		if err != nil {
			return err
		}
		answer.Next = page.Next
		for _, m := range page.Rows {
			add(m.Merchant)
		}
	}
	return writeJSON(w, http.StatusOK, answer)
}

var errNoName = invalid("external_id and name are texts of 1 to 200 characters, one of them visible")

// apiAddMerchant adds a merchant with the platform's own id. If there is one with that id, it returns it.
func (s *Server) apiAddMerchant(w http.ResponseWriter, r *http.Request) error {
	key, err := s.key(r, db.ScopeMerchants)
	if err != nil {
		return err
	}
	if key.MerchantID != (pg.ID{}) {
		return errForbidden
	}
	var asked struct {
		ExternalID string `json:"external_id"`
		Name       string `json:"name"`
		Locale     string `json:"locale"`
	}
	if err := readJSON(r, &asked, "the body is a JSON object with external_id, name and optionally locale"); err != nil {
		return err
	}
	switch {
	case text.Name(asked.ExternalID) == "" || text.Name(asked.Name) == "":
		return errNoName
	case asked.Locale != "" && !views.KnownLocale(asked.Locale):
		return invalid("locale is " + oneOf(views.Languages()))
	}
	status := http.StatusCreated
	m, err := s.DB.AddMerchant(r.Context(), s.byKey(r, key), db.Merchant{ExternalID: asked.ExternalID, Name: asked.Name, Locale: asked.Locale})
	if errors.Is(err, text.ErrTooLong) {
		return errNoName
	}
	if errors.Is(err, db.ErrExternalIDTaken) {
		status = http.StatusOK
		m, err = s.DB.MerchantByExternalID(r.Context(), asked.ExternalID)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, status, resource.Merchant{ID: m.ID, ExternalID: m.ExternalID, Name: m.Name})
}

func (s *Server) apiDescription(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/yaml")
	_, err := w.Write(openapi)
	return err
}

// merchantNamed returns the merchant with an id or an external id.
func (s *Server) merchantNamed(r *http.Request, name string) (db.Merchant, error) {
	if id, err := pg.ParseID(name); err == nil {
		if m, err := s.DB.Merchant(r.Context(), id); !errors.Is(err, pg.ErrNotFound) {
			return m, err
		}
	}
	return s.DB.MerchantByExternalID(r.Context(), name)
}

func pageSize(text string) (int, error) {
	if text == "" {
		return 50, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 200 {
		return 0, invalid("limit is a number from 1 to 200")
	}
	return n, nil
}

func writeJSON(w http.ResponseWriter, status int, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // an error means that the client has gone
	return nil
}

// listContext returns the context for reading a list: pages after the first may be the replica's. The first is the primary's, since a
// program asks for it after a webhook has announced a change.
func listContext(r *http.Request) context.Context {
	if r.URL.Query().Get("cursor") == "" {
		return r.Context()
	}
	return pg.FromReplica(r.Context())
}

// oneOf lists values as a sentence does: "a, b or c".
func oneOf[T ~string](values []T) string {
	var listed strings.Builder
	for i, value := range values {
		switch i {
		case 0:
		case len(values) - 1:
			listed.WriteString(" or ")
		default:
			listed.WriteString(", ")
		}
		listed.WriteString(string(value))
	}
	return listed.String()
}

var errCursor = invalid("cursor is the next of an earlier answer")

// validCursor reports whether a cursor has the form of those in responses.
func validCursor(text string) bool {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && (len(raw) == 0 || json.Valid(raw))
}
