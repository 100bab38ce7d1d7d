package connectors

import (
	"errors"
	"time"
)

// ErrNotOffered means that the provider has no endpoint for what was asked, which its discovery shows only when asked.
var ErrNotOffered = errors.New("not offered by the provider")

// Reasons of RejectedError, TemporaryError and UnreadableError that callers tell apart.
const (
	ReasonNoAccount   = "no-account"              // the provider does not say whose account it is
	ReasonNoMerchant  = "no-merchant-took-part"   // it answered without the merchant having signed in there
	ReasonIDToken     = "id-token"                // the ID token cannot be believed
	ReasonWrongIssuer = "wrong-issuer"            // the answer is another authorization server's (RFC 9207)
	ReasonCutOff      = "cut-off"                 // the request was sent, and the connection ended before an answer came
	ReasonNoCode      = "no-code"                 // the callback carries neither a code nor an error
	ReasonBusy        = "busy"                    // it says that another request is under way, or that there were too many
	ReasonUnreadable  = "unreadable"              // the answer is not of the kind that was asked for, as a page of HTML is not
	ReasonStatus      = "status"                  // the HTTP status says that it failed, and nothing says why
	ReasonCallback    = "callback-not-registered" // our callback address is not registered with the provider
)

// RejectedError means that the provider said no, and that only a person can restore access.
type RejectedError struct {
	Reason      string // a Reason… of this package, another stable code, or the provider's error code; never its prose
	Detail      string // for staff, as in UnreadableError
	ClientFault bool   // our own client was rejected: the platform must act, not the merchant
	Unsent      bool   // no request was made: the grant holds nothing that could renew it
}

func (e *RejectedError) Error() string { return withDetail("refused: "+e.Reason, e.Detail) }

// RateLimitedError means that the provider asked us to wait: HTTP 429. What a 5xx asks for is in TemporaryError.
type RateLimitedError struct{ RetryAfter time.Duration }

func (e *RateLimitedError) Error() string { return "asked to wait " + e.RetryAfter.String() }

// AccessDeniedError means that the person declined at the provider. It is an outcome and no failure.
type AccessDeniedError struct{}

func (*AccessDeniedError) Error() string { return "denied by the person" }

// TemporaryError means that a call failed in a way that may pass: it is worth another try, and no person needs to act.
// Reason is a stable code: unreachable, unknown-host, private-address, certificate, timeout, cancelled, cut-off, redirected, status,
// busy, wrong-issuer.
type TemporaryError struct {
	Reason     string
	Detail     string        // for staff, such as "HTTP 503"; never what the provider sent
	RetryAfter time.Duration // how long a 5xx, or a provider that is busy, asked to wait (RFC 9110 section 10.2.3), at most a day; 0 when it did not
	cause      error         // a context's error only: any other may quote what the provider sent
}

func (e *TemporaryError) Error() string { return withDetail("trouble: "+e.Reason, e.Detail) }

// UnreadableError means that the provider answered, but not so that the answer can be read or believed. Another try is
// worth it, but the platform must look into it: the provider works as it means to. Reason is a stable code: status,
// unreadable, too-large, no-token, no-code, no-account, wrong-issuer, id-token.
type UnreadableError struct {
	Reason string
	Detail string // for staff: status, content type, which member is missing or of which type it is; never a value
}

func (e *UnreadableError) Error() string { return withDetail("not understood: "+e.Reason, e.Detail) }

func withDetail(s, detail string) string {
	if detail == "" {
		return s
	}
	return s + " (" + detail + ")"
}

// ReasonOf returns what an error says to staff beyond its outcome, or "".
func ReasonOf(err error) string {
	var temporary *TemporaryError
	var unreadable *UnreadableError
	var rejected *RejectedError
	switch {
	case errors.As(err, &unreadable):
		return withDetail(unreadable.Reason, unreadable.Detail)
	case errors.As(err, &temporary):
		return withDetail(temporary.Reason, temporary.Detail)
	case errors.As(err, &rejected):
		return withDetail(rejected.Reason, rejected.Detail)
	}
	return ""
}

// Unwrap lets errors.Is see that a context was cancelled or reached its deadline.
func (e *TemporaryError) Unwrap() error { return e.cause }

// InputError is a mistake in a typed value, recognised before or after the provider was asked. Code is one of the
// Input… constants; pages hold the words for it.
type InputError struct{ Field, Code string }

func (e *InputError) Error() string { return e.Field + ": " + e.Code }

// Codes of InputError.
const (
	InputMissing     = "missing"     // the field is empty
	InputTooLong     = "too-long"    // the value is longer than the field's MaxLen
	InputNotASCII    = "not-ascii"   // it holds characters that no key has
	InputSwapped     = "swapped"     // the secret is in the id's field, or both hold the same
	InputEnvironment = "environment" // it is a sandbox key at a production address, or the reverse
	InputRefused     = "refused"     // the provider does not know these credentials
	InputNotAllowed  = "not-allowed" // the provider knows them, but they may not do this (Flexiti's invalid_role)
	InputNotOffered  = "not-offered" // the value is not one of the field's Options
	InputMalformed   = "malformed"   // it is not written as the provider writes it
)
