// Package connectors speaks the providers' protocols: how access is asked for, exchanged, renewed and ended.
// It knows no database, no page and no setting of the environment; it turns an answer from the wire into a Grant
// or into an error whose class says who must act.
package connectors

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"time"
)

// A Connector speaks one provider's protocol. Each is also a Redirector or Keyed: how access is first obtained.
type Connector interface {
	Info() Info
	// Refresh returns a new token by whatever means the provider offers. *Refusal: only a person can restore
	// access. *Later: the provider asks us to wait. Anything else is trouble and worth another try.
	Refresh(ctx context.Context, g Grant) (Token, error)
}

// A Redirector obtains access by sending the merchant's browser to the provider (RFC 6749 section 4.1 and its kin).
type Redirector interface {
	Connector
	// Begin returns the address the browser is sent to. It may call the provider first.
	AuthorizationURL(ctx context.Context, f Flow) (location string, err error)
	// Finish turns the callback's query into a grant. *Denied: the person said no. *Refusal: the provider did.
	Exchange(ctx context.Context, f Flow, callback url.Values) (Grant, error)
	// Answer is the part of the callback that may be spent once (code, authToken), empty when there is none.
	// Its hash tells a second hit on the callback from a new one.
	Code(callback url.Values) string
}

// Keyed obtains access with credentials that the merchant types.
type CredentialConnector interface {
	Connector
	Fields() []Field
	// Open proves the typed credentials with the provider and returns the grant. *InputError names a field whose
	// mistake was recognised before anything was sent.
	Authenticate(ctx context.Context, f Flow, inputs map[string]string) (Grant, error)
}

// A Revoker can end access at the provider (CamInvoice's revoke, RFC 7009).
type Revoker interface {
	Revoke(ctx context.Context, g Grant) error
}

// A Prober can ask cheaply whether a grant is alive.
type Prober interface {
	Probe(ctx context.Context, g Grant) error
}

// A Registrar can tell the provider our callback address (CamInvoice's whitelist).
type CallbackRegistrar interface {
	RegisterCallback(ctx context.Context, callback string) error
}

// Hooked providers send webhooks (CamInvoice).
type WebhookReceiver interface {
	// WebhookSecret is the unguessable part of the address to which deliveries are sent. Without one, "", none is received.
	WebhookSecret() string
	// RegisterWebhook asks for events of every account at address.
	RegisterWebhook(ctx context.Context, address string) error
	RemoveWebhook(ctx context.Context, accountID string) error
	// ParseHook reads one delivery. A hint proves nothing: it is checked with the provider before it is believed.
	ParseWebhook(body []byte) (WebhookEvent, error)
}

// Checker can say whether a provider answers where refreshing asks it, for the live check and the doctor: one request
// that can only be refused. It carries no credential, spends nothing and is no attempt on anybody's grant.
type Checker interface {
	Check(ctx context.Context) (CheckResult, error)
}

// Checked is what a live check found.
type CheckResult struct {
	Address string        // what was asked, without query or credentials
	Skew    time.Duration // provider's clock minus ours, from its Date header; 0 when it sent none
	Took    time.Duration // of the request, in whole milliseconds, at least one
}

// Info is what a connector declares. The zero values of its flags are the safe ones.
type Info struct {
	Name, Title, Environment string
	NoState                  bool          // state may not come back: the browser's cookie finds the flow
	ReplaySafe               bool          // a refresh whose answer was lost may be sent again at once
	RevokesAccount           bool          // Revoke ends the whole account's access, not one token's
	KeepAlive                time.Duration // an unused grant is refreshed this often
	Color                    string        // the monogram's colour, #rrggbb
	HomeURL                  string        // where people see and end access at the provider itself; "" when unknown
}

// Flow is one attempt to connect, as a connector sees it. Made by the handler, never by a connector.
type Flow struct {
	State, Verifier, CallbackURL, Locale string
}

// Token is access as the provider gave it. Durations, not clock times: they are counted from when the answer was
// made, by the answer's own Date header where there is one.
type Token struct {
	Access, Type    string
	Lifetime        time.Duration
	Refresh         string
	RefreshLifetime time.Duration
	Scope           []string
}

// Grant is what gives access: the token and all that is needed to renew it. Always sealed at rest.
type Grant struct {
	Token
	Inputs  map[string]string // what the merchant typed, for Keyed providers
	Account Account
}

// Account says whose access it is. Shown to people; none of it is secret. ID is empty when the provider names
// nothing: then the connection's own id stands in and the merchant is asked.
type Account struct {
	ID, Name string
	Details  []Detail
}

// Detail is one fact about an account. Key is the provider's own name for it (`company_name_kh`); Value is text,
// or compact JSON where the provider sent a structure.
type Detail struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Field is one input of a Keyed provider's form. Labels and help are found by the page under the field's name.
type Field struct {
	Name     string
	Secret   bool
	Optional bool
	Options  []string // a choice when not empty; the first is the default
	MaxLen   int      // in characters; 0 means 200
}

// Hint is what a webhook says happened.
type WebhookEvent struct {
	Type      string
	AccountID string
	Revoked   bool // the account's access is said to have ended
}

// Refusal is the provider's "no" that only a person can mend.
type RejectedError struct {
	Reason      string // a Reason… of this package, another stable code, or the provider's error code; never its prose
	ClientFault bool   // our own client was refused; never blame the merchant
	Unsent      bool   // nobody was asked: the grant holds nothing that could renew it
}

func (r *RejectedError) Error() string { return "refused: " + r.Reason }

// Reasons of RejectedError and TemporaryError that callers tell apart.
const (
	ReasonNoAccount   = "no-account"            // the provider does not say whose account it is
	ReasonNoMerchant  = "no-merchant-took-part" // it answered without the merchant having signed in there
	ReasonWrongIssuer = "wrong-issuer"          // the answer is another authorization server's (RFC 9207)
)

// RateLimitedError means that the provider asks us to wait (429). What a 5xx asks is in Trouble.
type RateLimitedError struct{ RetryAfter time.Duration }

func (l *RateLimitedError) Error() string { return "asked to wait " + l.RetryAfter.String() }

// Denied means that the person said no at the provider. A calm outcome, not a failure.
type AccessDeniedError struct{}

func (*AccessDeniedError) Error() string { return "denied by the person" }

// InputError is a mistake in a typed value, recognised before or after asking the provider. Code is one of the
// InputError codes below; pages hold the words for it.
type InputError struct{ Field, Code string }

func (e *InputError) Error() string { return e.Field + ": " + e.Code }

// Codes of InputError.
const (
	InputMissing     = "missing"     // nothing was typed
	InputTooLong     = "too-long"    // over the field's MaxLen
	InputNotASCII    = "not-ascii"   // characters that no key has
	InputSwapped     = "swapped"     // the secret stands in the id's field, or both hold the same
	InputEnvironment = "environment" // a sandbox key at a production address, or the reverse
	InputRefused     = "refused"     // the provider does not know these credentials
	InputNotAllowed  = "not-allowed" // known, but not set up for this (Flexiti's invalid_role)
	InputNotOffered  = "not-offered" // not one of the choices
)

// Call is what one exchange with a provider looked like, for timelines and figures. It never holds a body, a query
// or a header of ours.
type Call struct {
	Name      string // "exchange", "refresh", "revoke", "userinfo" …
	Status    int    // HTTP status, 0 when no answer came
	Code      string // the provider's own error code, cut to what codes look like; empty when none
	Reference string // the x-reference-id we sent, where the provider wants one
	Sent      bool   // the request may have reached the provider
	Took      time.Duration
	Class     string // "ok", "refused", "later", "trouble"
}

// Calls collects the exchanges made under a context. Safe for use by one goroutine at a time.
type Calls struct{ All []Call }

type callsKey struct{}

// WithCalls returns a context under which every exchange with a provider is recorded in the Calls returned.
func WithCalls(ctx context.Context) (context.Context, *Calls) {
	c := &Calls{}
	return context.WithValue(ctx, callsKey{}, c), c
}

// Last is the latest exchange, or a zero Call.
func (c *Calls) Last() Call {
	if c == nil || len(c.All) == 0 {
		return Call{}
	}
	return c.All[len(c.All)-1]
}

// Sent says whether any request may have reached the provider.
func (c *Calls) Sent() bool {
	for _, one := range c.All {
		if one.Sent {
			return true
		}
	}
	return false
}

// Class names the outcome that err stands for: "ok", "refused", "ours", "later", "denied", "input" or "trouble".
func Class(err error) string {
	var refusal *RejectedError
	var later *RateLimitedError
	var denied *AccessDeniedError
	var input *InputError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &refusal) && refusal.ClientFault:
		return "ours"
	case errors.As(err, &refusal):
		return "refused"
	case errors.As(err, &later):
		return "later"
	case errors.As(err, &denied):
		return "denied"
	case errors.As(err, &input):
		return "input"
	default:
		return "trouble"
	}
}

const hidden = "•••"

// String, GoString and LogValue keep what a token holds out of prints and logs.
func (Token) String() string { return hidden }

// GoString keeps %#v from printing what a token holds.
func (Token) GoString() string { return hidden }

// LogValue keeps slog from printing what a token holds.
func (Token) LogValue() slog.Value { return slog.StringValue(hidden) }

// String keeps %v from printing what a grant holds.
func (Grant) String() string { return hidden }

// GoString keeps %#v from printing what a grant holds.
func (Grant) GoString() string { return hidden }

// LogValue keeps slog from printing what a grant holds.
func (Grant) LogValue() slog.Value { return slog.StringValue(hidden) }

// String keeps %v from printing state and verifier.
func (Flow) String() string { return hidden }

// GoString keeps %#v from printing state and verifier.
func (Flow) GoString() string { return hidden }

// LogValue keeps slog from printing state and verifier.
func (Flow) LogValue() slog.Value { return slog.StringValue(hidden) }

// Detail returns the value of the detail with that key, or "".
func (a Account) Detail(key string) string {
	for _, d := range a.Details {
		if strings.EqualFold(d.Key, key) {
			return d.Value
		}
	}
	return ""
}

// Setup is a provider as the settings leave it.
type Provider struct {
	Name, Title, Environment string
	Connector                Connector // nil when it is not set up: then merchants are not offered it
	Missing                  []string  // names of the settings that are missing
	AccountKeys              AccountKeys
	Settings                 []Setting // every one that it reads, set or not; none for a standard provider
}

// AccountKeys names the details of an account that pages and exports treat apart. An empty key stands for none.
type AccountKeys struct {
	OtherName  string   // the account's name in another script, shown beside its name
	Identifier string   // its official number, such as a tax number: shown first, and easy to copy
	Export     []string // details with a column of their own in exports, in this order
}

// Environments is each provider's present environment.
func Environments(setups []Provider) map[string]string {
	present := map[string]string{}
	for _, setup := range setups {
		present[setup.Name] = setup.Environment
	}
	return present
}
