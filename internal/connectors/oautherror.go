package connectors

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// fault is whom a provider's "no" is about.
type fault int

const (
	unknownFault fault = iota // the provider does not say
	grantFault                // the merchant's grant: a person must connect again
	clientFault               // our own registration with the provider
)

// faultCodes are the error codes of RFC 6749 section 5.2 and those that providers use in their place.
var faultCodes = map[string]fault{
	"invalid_grant": grantFault, "bad_refresh_token": grantFault, "invalid_refresh_token": grantFault,
	"refresh_token_expired": grantFault, "refresh_token_revoked": grantFault, "invalid_token": grantFault,
	"expired_token": grantFault, "token_expired": grantFault, "token_revoked": grantFault,
	"bad_verification_code": grantFault, "invalid_code": grantFault, "invalid_auth_token": grantFault,
	"interaction_required": grantFault, "login_required": grantFault, "consent_required": grantFault,

	"invalid_client": clientFault, "unauthorized_client": clientFault, "incorrect_client_credentials": clientFault,
	"invalid_client_id": clientFault, "bad_client_secret": clientFault,
}

var codeSpelling = strings.NewReplacer("-", "_", " ", "_")

// faultOf reads whom an error is about from the provider's code, else from the words of its message, which must be in
// lower case and is never kept.
func faultOf(code, message string) fault {
	if f := faultCodes[codeSpelling.Replace(strings.ToLower(code))]; f != unknownFault {
		return f
	}
	says := func(words ...string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(message, word) })
	}
	switch {
	case says("refresh token", "refresh_token", "refreshtoken", "auth token", "auth_token", "authtoken", "authorization code",
		"authorizationcode", "authorization_code"):
		return grantFault
	case says("client", "credential"):
		return clientFault
	case says("expired", "revoked"), says("token", "grant", "code") && says("invalid", "used", "not found", "unknown", "not valid"):
		return grantFault
	}
	return unknownFault
}

// callbackError returns the outcome that a callback's error parameter stands for (RFC 6749 section 4.1.2.1), or nil if
// it has none. Providers that document no denial spell it in many ways.
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

// callbackParams are the parameters that a callback may carry.
var callbackParams = []string{"authToken", "authorizationCode", "code", "state", "error", "error_description", "iss"}

// FixDoubledQuery undoes a second "?": a provider that appends "?authToken=…" to an address with a query makes it part
// of the last value (…?a=b?authToken=…). Other callbacks come back as they are.
func FixDoubledQuery(callback url.Values) url.Values {
	out, doubled := make(url.Values, len(callback)), make(url.Values)
	for _, key := range slices.Sorted(maps.Keys(callback)) {
		for _, value := range callback[key] {
			if head, name, ok := cutDoubled(key + "="); ok && head == "" {
				doubled.Set(name, value)
			} else if head, name, ok := cutDoubled(value); ok {
				out.Add(key, head)
				doubled.Set(name, value[len(head)+len("?")+len(name)+len("="):])
			} else {
				out.Add(key, value)
			}
		}
	}
	for name := range doubled {
		if !out.Has(name) {
			out.Set(name, doubled.Get(name))
		}
	}
	return out
}

// cutDoubled finds "?name=" in s, for one of callbackParams, and returns what is before it.
func cutDoubled(s string) (head, name string, ok bool) {
	for _, name := range callbackParams {
		if i := strings.Index(s, "?"+name+"="); i >= 0 {
			return s[:i], name, true
		}
	}
	return "", "", false
}
