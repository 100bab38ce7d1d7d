package handlers

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/status"
	"patchbay/internal/trace"
)

// fault is a problem with a text of its own.
type fault struct {
	kind, detail string
	retryAfter   time.Duration
}

func (f *fault) Error() string { return f.kind + ": " + f.detail }

func invalid(detail string) error { return &fault{kind: "invalid", detail: detail} }

// bearer returns the API key of a request (RFC 6750, 2.1).
func bearer(r *http.Request) (pg.Secret, error) {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if key = strings.TrimSpace(key); !strings.EqualFold(scheme, "Bearer") || key == "" {
		return "", db.ErrNoAPIKey
	}
	return pg.Secret(key), nil
}

// key returns the request's API key. It returns an error if the key is not valid, lacks the scope or is over its rate.
func (s *Server) key(r *http.Request, scope string) (db.APIKey, error) {
	secret, err := bearer(r)
	if err != nil {
		return db.APIKey{}, err
	}
	key, err := s.DB.APIKeyBySecret(r.Context(), secret)
	if err != nil {
		return key, err
	}
	s.Refresh.RecordKeyUse(key.ID)
	return key, s.authorizeKey(r, key, scope)
}

// authorizeKey checks a key's scopes and rate.
func (s *Server) authorizeKey(r *http.Request, key db.APIKey, scope string) error {
	identify(r, audit.RoleKey, key.ID)
	if err := s.limits.key(key.ID, key.MerchantID); err != nil {
		return err
	}
	if !slices.Contains(key.Scopes, scope) {
		return missingScope(scope)
	}
	return nil
}

func missingScope(scope string) error {
	return &fault{kind: "forbidden", detail: "the key lacks the scope " + scope}
}

func (s *Server) byKey(r *http.Request, key db.APIKey) audit.Actor {
	return s.actorOf(r, audit.RoleKey, key.ID)
}

// apiLimits are the rate limits of keys and of refreshes by programs, in this process.
type apiLimits struct {
	mu        sync.Mutex
	keys      map[pg.ID]*rate.Limiter
	refreshes map[pg.ID]*rate.Limiter
}

// The rates, a second, and bursts. A key of all merchants is the platform's, whose only one it may be: it is let do twice what a process
// on two cores reads (docs/benchmarks.md), so that it is refused in a loop gone wild and never in a busy hour. A key of one merchant may take a
// fiftieth of what a process reads, so that none keeps the others waiting.
const (
	keyRate, keyBurst                 = 20_000, 40_000
	merchantKeyRate, merchantKeyBurst = 200, 1_000
	refreshRate, refreshBurst         = 5, 100 // of one connection
)

// key takes a request of a key, whose merchant is zero if it is a key of all.
func (l *apiLimits) key(id, merchant pg.ID) error {
	if merchant != (pg.ID{}) {
		return l.take(&l.keys, id, merchantKeyRate, merchantKeyBurst)
	}
	return l.take(&l.keys, id, keyRate, keyBurst)
}

func (l *apiLimits) refresh(id pg.ID) error {
	return l.take(&l.refreshes, id, refreshRate, refreshBurst)
}

func (l *apiLimits) take(all *map[pg.ID]*rate.Limiter, id pg.ID, every rate.Limit, burst int) error {
	l.mu.Lock()
	one := (*all)[id]
	if one == nil {
		if *all == nil || len(*all) >= 10_000 { // bounds the memory; all limits start over
			*all = map[pg.ID]*rate.Limiter{}
		}
		one = rate.NewLimiter(every, burst)
		(*all)[id] = one
	}
	l.mu.Unlock()
	if one.Allow() {
		return nil
	}
	wait := time.Duration(float64(time.Second) / float64(every))
	return &fault{kind: "rate-limited", detail: "too many requests", retryAfter: wait}
}

// problem answers an error with problem details (RFC 9457). The text of an unknown error is logged and not sent.
func (s *Server) problem(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	p.RequestID = trace.Request(r.Context())
	if p.Status == http.StatusInternalServerError {
		if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
			return // the client has gone
		}
		s.Log.ErrorContext(r.Context(), "API call failed", "route", r.Pattern, "err", err)
	}
	h := w.Header()
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if err := writeJSON(problemWriter{w}, p.Status, p); err != nil {
		s.Log.ErrorContext(r.Context(), "problem not written", "err", err)
	}
}

// problemWriter gives what writeJSON writes the media type of problem details.
type problemWriter struct{ http.ResponseWriter }

func (w problemWriter) WriteHeader(status int) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.ResponseWriter.WriteHeader(status)
}

type apiProblem struct {
	Type       string       `json:"type"`
	Title      string       `json:"title"`
	Status     int          `json:"status"`
	Detail     string       `json:"detail,omitempty"`
	Problem    string       `json:"problem,omitempty"`
	WhoMustAct status.Party `json:"who_must_act,omitempty"`
	MostValid  int          `json:"most_valid,omitempty"`
	RetryAfter int          `json:"retry_after,omitempty"`
	RequestID  string       `json:"request_id"`
}

// problemType returns the stable name of an error, "ok" for nil.
func problemType(err error) string {
	if err == nil {
		return "ok"
	}
	return problemOf(err).Type
}

func problemOf(err error) apiProblem {
	var own *fault
	var needed *refresh.ActionNeededError
	var trouble *refresh.ProviderUnavailableError
	var platform *refresh.PlatformActionError
	var long *refresh.MinValidTooLongError
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, db.ErrNoAPIKey):
		return apiProblem{Type: "unauthorized", Title: "An API key is needed", Status: http.StatusUnauthorized, Detail: "Authorization: Bearer, and a key that has not been revoked"}
	case errors.As(err, &own) && own.kind == "forbidden":
		return apiProblem{Type: "forbidden", Title: "This key may not do that", Status: http.StatusForbidden, Detail: own.detail}
	case errors.As(err, &own) && own.kind == "rate-limited":
		return apiProblem{Type: "rate-limited", Title: "Too many requests", Status: http.StatusTooManyRequests, RetryAfter: seconds(own.retryAfter)}
	case errors.As(err, &own):
		return apiProblem{Type: "invalid", Title: "The request is not valid", Status: http.StatusBadRequest, Detail: own.detail}
	case errors.Is(err, db.ErrNotConfirmed):
		return apiProblem{Type: "not-confirmed", Title: "Nothing was connected", Status: http.StatusConflict, Detail: "the code is not the one that came back, or came after ten minutes"}
	case errors.Is(err, db.ErrRevoking):
		return apiProblem{Type: "provider-trouble", Title: "This account's access is just being ended", Status: http.StatusServiceUnavailable, WhoMustAct: status.PartyProvider, RetryAfter: unavailableFor}
	case errors.Is(err, errForbidden):
		return apiProblem{Type: "forbidden", Title: "This key may not do that", Status: http.StatusForbidden, Detail: "a key of one merchant's"}
	case errors.Is(err, errTooLarge), errors.As(err, &large):
		return apiProblem{Type: "invalid", Title: "The body is over 64 KB", Status: http.StatusRequestEntityTooLarge}
	case errors.Is(err, errMethod):
		return apiProblem{Type: "invalid", Title: "This address does not take that method", Status: http.StatusMethodNotAllowed}
	case errors.Is(err, pg.ErrNotFound), pg.ViolatesForeignKey(err):
		return apiProblem{Type: "not-found", Title: "There is no such thing", Status: http.StatusNotFound}
	case errors.As(err, &long):
		return apiProblem{
			Type: "min-valid-too-long", Title: "No token of this provider is good for that long", Status: http.StatusBadRequest,
			Detail: "most_valid is the largest min_valid, in seconds", MostValid: int(long.Most / time.Second),
		}
	case errors.As(err, &needed):
		return apiProblem{Type: "action-needed", Title: "The merchant must act", Status: http.StatusConflict, Problem: string(needed.Problem), WhoMustAct: status.PartyMerchant}
	case errors.As(err, &trouble):
		return apiProblem{
			Type: "provider-trouble", Title: "The provider gives no token just now", Status: http.StatusServiceUnavailable,
			Detail: "it is tried again by itself", Problem: string(trouble.Outcome), WhoMustAct: status.PartyProvider, RetryAfter: max(1, seconds(trouble.RetryAfter)),
		}
	case errors.As(err, &platform):
		return apiProblem{Type: "platform-action-needed", Title: "The platform must act", Status: http.StatusServiceUnavailable, Problem: string(platform.Problem), WhoMustAct: status.PartyPlatform}
	case unavailable(err):
		return apiProblem{Type: "platform-action-needed", Title: "The database cannot be used just now", Status: http.StatusServiceUnavailable, Problem: "broken", WhoMustAct: status.PartyPlatform, RetryAfter: unavailableFor}
	default:
		return apiProblem{Type: "platform-action-needed", Title: "Something is broken here", Status: http.StatusInternalServerError, Problem: "broken", WhoMustAct: status.PartyPlatform}
	}
}

// unavailableFor is the Retry-After, in seconds, of answers while the database cannot be used.
const unavailableFor = 5

func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
