package connectors

import (
	"net/url"
	"strings"
)

// blame is whom a provider's "no" is about.
type blame int

const (
	nobody blame = iota // it does not say
	grant               // the merchant's grant: a person must connect again
	client              // our own registration with the provider
)

// blameOf reads who is meant from the provider's code (RFC 6749 section 5.2 and what providers made of it), else
// from the words of its prose, which is never kept.
func blameOf(code, prose string) blame {
	switch strings.NewReplacer("-", "_", " ", "_").Replace(strings.ToLower(code)) {
	case "invalid_grant", "bad_refresh_token", "invalid_refresh_token", "refresh_token_expired", "refresh_token_revoked",
		"invalid_token", "expired_token", "token_expired", "token_revoked", "bad_verification_code", "invalid_code",
		"invalid_auth_token", "interaction_required", "login_required", "consent_required":
		return grant
	case "invalid_client", "unauthorized_client", "incorrect_client_credentials", "invalid_client_id", "bad_client_secret":
		return client
	}
	says := func(words ...string) bool {
		for _, word := range words {
			if strings.Contains(prose, word) {
				return true
			}
		}
		return false
	}
	switch {
	case says("refresh token", "refresh_token", "refreshtoken", "auth token", "auth_token", "authtoken", "authorization code",
		"authorizationcode", "authorization_code"):
		return grant
	case says("client", "credential"):
		return client
	case says("expired", "revoked"), says("token", "grant", "code") && says("invalid", "used", "not found", "unknown", "not valid"):
		return grant
	}
	return nobody
}

// callbackError is the outcome that a callback's error parameter stands for, nil when it has none (RFC 6749 section
// 4.1.2.1; for providers that document no denial at all, the common spellings of one).
func callbackError(callback url.Values) error {
	code := strings.ToLower(strings.TrimSpace(callback.Get("error")))
	if code == "" {
		return nil
	}
	for _, word := range []string{"denied", "cancel", "declin", "reject"} {
		if strings.Contains(code, word) {
			return &AccessDeniedError{}
		}
	}
	switch code {
	case "server_error", "temporarily_unavailable":
		return &TemporaryError{Reason: "status"}
	case "invalid_client", "unauthorized_client", "invalid_request", "invalid_scope", "unsupported_response_type":
		return &RejectedError{Reason: code, ClientFault: true}
	case "login_required", "interaction_required", "consent_required", "account_selection_required", "invalid_grant":
		return &RejectedError{Reason: code}
	}
	return &RejectedError{Reason: "callback-error"}
}

// Unfold undoes a second "?": a provider that appends "?authToken=…" to an address which has a query already makes it
// part of the last value (`…?a=b?authToken=…`). Other callbacks come back as they are.
func FixDoubledQuery(callback url.Values) url.Values {
	out, folded := make(url.Values, len(callback)), make(url.Values)
	for _, key := range sortedKeys(callback) {
		for _, value := range callback[key] {
			if head, name, ok := cutName(key + "="); ok && head == "" {
				folded.Set(name, value)
			} else if head, name, ok := cutName(value); ok {
				out.Add(key, head)
				folded.Set(name, value[len(head)+len("?")+len(name)+len("="):])
			} else {
				out.Add(key, value)
			}
		}
	}
	for name := range folded {
		if !out.Has(name) {
			out.Set(name, folded.Get(name))
		}
	}
	return out
}

// cutName finds "?name=" in s, for the names that callbacks use.
func cutName(s string) (head, name string, ok bool) {
	for _, name := range []string{"authToken", "authorizationCode", "code", "state", "error", "error_description", "iss"} {
		if i := strings.Index(s, "?"+name+"="); i >= 0 {
			return s[:i], name, true
		}
	}
	return "", "", false
}
