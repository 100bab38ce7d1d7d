package connectors

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"patchbay/internal/status"
)

// A Connector speaks one provider's protocol. Each is also a Redirector or a CredentialConnector: how access is first
// obtained.
type Connector interface {
	Info() Info
	// Refresh returns a new token by whatever means the provider offers. It returns *RejectedError if only a person can
	// restore access and *RateLimitedError if the provider asks us to wait. Any other error is worth another try.
	Refresh(ctx context.Context, g Grant) (Token, error)
}

// A Redirector obtains access by sending the merchant's browser to the provider: the authorization code grant (RFC 6749
// section 4.1) and its relatives.
type Redirector interface {
	Connector
	// AuthorizationURL returns the address to which the browser is sent. It may call the provider first.
	AuthorizationURL(ctx context.Context, f Flow) (string, error)
	// Exchange turns the callback's query into a grant. It returns *AccessDeniedError if the person declined and
	// *RejectedError if the provider did.
	Exchange(ctx context.Context, f Flow, callback url.Values) (Grant, error)
	// Code returns the part of the callback that can be spent once (code, authToken), or "" if it has none. By its hash
	// a repeated callback is told from a new one.
	Code(callback url.Values) string
}

// A CredentialConnector obtains access with credentials that the merchant types.
type CredentialConnector interface {
	Connector
	Fields() []Field
	// Authenticate proves the typed credentials to the provider and returns the grant. It returns *InputError if a
	// field's mistake was recognised, before or after the provider was asked.
	Authenticate(ctx context.Context, f Flow, inputs map[string]string) (Grant, error)
}

// An Asker has to know something of the merchant's before the browser leaves: a Redirector with fields.
type Asker interface {
	Redirector
	Fields() []Field
	// CheckInputs returns what is kept of what the merchant typed. It returns *InputError for the first field with a mistake.
	CheckInputs(typed map[string]string) (map[string]string, error)
}

// A Revoker can end access at the provider (RFC 7009, or a call of the provider's own).
type Revoker interface {
	// Revoke returns ErrNotOffered if the provider turns out to have no endpoint for it.
	Revoke(ctx context.Context, g Grant) error
}

// A Prober can ask cheaply whether a grant is alive.
type Prober interface {
	// Probe returns *RejectedError if the access token is refused. Whether the grant is dead only Refresh can tell.
	Probe(ctx context.Context, g Grant) error
}

// A CallbackRegistrar can register our callback address with the provider.
type CallbackRegistrar interface {
	RegisterCallback(ctx context.Context, callback string) error
}

// A CallbackChecker can be asked whether our callback address is registered with its provider, as a browser would find out.
type CallbackChecker interface {
	// CheckCallback returns *RejectedError with ClientFault if it is not. Any other error says nothing about it.
	CheckCallback(ctx context.Context, callback string) error
}

// A WebhookReceiver belongs to a provider that sends webhooks.
type WebhookReceiver interface {
	// WebhookSecret returns the unguessable part of the address that deliveries are sent to. If it is "", none are received.
	WebhookSecret() string
	// RegisterWebhook asks the provider to deliver the events of every account to address.
	RegisterWebhook(ctx context.Context, address string) error
	// RemoveWebhook asks the provider to deliver no more events of one account.
	RemoveWebhook(ctx context.Context, accountID string) error
	// ParseWebhook reads one delivery. It proves nothing: what it says is verified with the provider before it counts.
	ParseWebhook(body []byte) (WebhookEvent, error)
}

// A Checker can say whether a provider answers at the address where refreshing asks it, for the live check and the
// doctor. Its one request can only be refused: it carries no credential and spends no grant.
type Checker interface {
	Check(ctx context.Context) (CheckResult, error)
}

// CheckResult is what a live check found.
type CheckResult struct {
	Address string        // what was asked, without query or credentials
	Skew    time.Duration // the provider's clock minus ours, by its Date header; 0 if it sent none
	Took    time.Duration // how long the request took, in whole milliseconds, at least one
}

// Info is what a connector declares about its provider. The zero values of its flags are the safe ones.
type Info struct {
	Name, Title    string
	Environment    string        // "sandbox" or "production"
	NoState        bool          // state may not come back: the browser's cookie finds the flow
	ReplaySafe     bool          // a refresh whose answer was lost may be sent again at once
	RevokesAccount bool          // Revoke ends the access of the whole account, not of one grant
	Mints          bool          // what the merchant typed gives new access whenever it is needed
	RevokesByID    bool          // Revoke needs the account's id alone, and no token
	KeepAlive      time.Duration // an unused grant is refreshed this often
	GrantLife      time.Duration // consent ends so long after it was given, whatever tokens say; 0 if no end is known
	Color          string        // of the provider's mark, #rrggbb
	HomeURL        string        // the provider's own page, where access can be seen and ended; "" if unknown
	About          About
}

// Flow is one attempt to connect, as a connector sees it. A caller makes it, never a connector.
type Flow struct {
	State       string // RFC 6749 section 10.12
	Verifier    string // code_verifier of RFC 7636
	CallbackURL string
	Locale      string            // the language in which the merchant reads, such as "km"
	Another     bool              // the merchant has an account there and wants to connect another
	Inputs      map[string]string // what the merchant typed for an Asker
}

// Token is access as the provider gave it. It holds durations, counted from when the answer was made, and no times: the
// provider's clock may be wrong.
type Token struct {
	Access, Type    string
	Lifetime        time.Duration // 0 if unknown
	Refresh         string
	RefreshLifetime time.Duration // 0 if unknown
	Scope           []string
}

// Grant is what gives access: the token and all that is needed to renew it. It is always sealed at rest.
type Grant struct {
	Token
	Inputs  map[string]string // what the merchant typed: credentials, or what the provider's addresses need
	Account Account
	Missing []string          // the scopes that were asked for and not granted, when access was obtained
	Beside  map[string]string // what ending the access needs besides, by name
	Ends    time.Time         // when the consent ends, by our clock; zero if no end is known
}

// Typed says whether the merchant typed credentials that give new access whenever it is needed.
func (i Info) Typed(g Grant) bool { return i.Mints && len(g.Inputs) > 0 }

// Renewable says whether a grant holds anything that gives new access. One that does not is good until its token ends,
// or until it is refused if no end is known.
func (i Info) Renewable(g Grant) bool { return g.Refresh != "" || i.Typed(g) }

// Account says whose access it is. It is shown to people, and none of it is secret. ID is "" if the provider names no
// account: then the connection's own id takes its place, and the merchant is asked.
type Account struct {
	ID, Name string
	Details  []Detail
	UserID   string // the person's id, if ID names the place beside it that they chose at the provider; known of a grant only
	Values   Values
	Input    map[string]string // what the merchant typed that is no secret, such as a shop's name
	Own      bool              // the merchant typed the access itself: whose it is need not be asked
}

// Detail is one fact about an account. Key is the provider's own name for it (company_name_kh). Value is text, or
// compact JSON where the provider sent a structure.
type Detail struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Detail returns the value of the detail with that key, in any case, or "".
func (a Account) Detail(key string) string {
	for _, d := range a.Details {
		if strings.EqualFold(d.Key, key) {
			return d.Value
		}
	}
	return ""
}

// What is kept of an account's details and values: the first so many, and so many bytes of each and of all. Providers send what they
// like, and lists read it.
const (
	maxDetails     = 100
	maxDetailBytes = 4 << 10
	maxDetailsSize = 32 << 10
	maxValues      = 50
	maxValueName   = 100
	maxValuesSize  = 16 << 10
)

// Bounded returns the account with no more details and values than are kept. A detail that is too long ends with "…".
func (a Account) Bounded() Account {
	var kept []Detail
	size := 0
	for _, d := range a.Details {
		if len(d.Value) > maxDetailBytes {
			d.Value = strings.ToValidUTF8(d.Value[:maxDetailBytes-len("…")], "") + "…"
		}
		if len(d.Key) > maxDetailBytes || size+len(d.Key)+len(d.Value) > maxDetailsSize {
			continue
		}
		if kept = append(kept, d); len(kept) == maxDetails {
			break
		}
		size += len(d.Key) + len(d.Value)
	}
	a.Details = kept
	var values Values
	size = 0
	for _, name := range slices.Sorted(maps.Keys(a.Values)) {
		bytes := len(name) + len(displayText(a.Values[name]))
		if len(name) > maxValueName || size+bytes > maxValuesSize || len(values) == maxValues {
			continue
		}
		if values == nil {
			values = Values{}
		}
		values[name], size = a.Values[name], size+bytes
	}
	a.Values = values
	return a
}

// Field is one input of a form. Pages look up its label and help under its name, where it has none of its own.
type Field struct {
	Name        string
	Secret      bool
	Optional    bool
	Options     []string // the permitted values, if not empty; the first is the default
	MaxLen      int      // in characters; 0 means 200
	Title, Help Words
	Example     string
	Suffix      string // what follows the value in the provider's addresses, such as .myshopify.com
}

// WebhookEvent is what a webhook says happened.
type WebhookEvent struct {
	Type      string
	AccountID string
	Revoked   bool // the access of the account is said to have ended
}

// OutcomeOf returns the outcome that err stands for: OK, Rejected, ClientRejected, RateLimited, AccessDenied, InvalidInput or
// Temporary.
func OutcomeOf(err error) status.Outcome {
	var rejected *RejectedError
	var limited *RateLimitedError
	var denied *AccessDeniedError
	var input *InputError
	switch {
	case err == nil:
		return status.OK
	case errors.As(err, &rejected) && rejected.ClientFault:
		return status.ClientRejected
	case errors.As(err, &rejected):
		return status.Rejected
	case errors.As(err, &limited):
		return status.RateLimited
	case errors.As(err, &denied):
		return status.AccessDenied
	case errors.As(err, &input):
		return status.InvalidInput
	default:
		return status.Temporary
	}
}

const hidden = "•••"

// String keeps the token out of %v and %s.
func (Token) String() string { return hidden }

// GoString keeps the token out of %#v.
func (Token) GoString() string { return hidden }

// LogValue keeps the token out of logs.
func (Token) LogValue() slog.Value { return slog.StringValue(hidden) }

// String keeps the grant out of %v and %s.
func (Grant) String() string { return hidden }

// GoString keeps the grant out of %#v.
func (Grant) GoString() string { return hidden }

// LogValue keeps the grant out of logs.
func (Grant) LogValue() slog.Value { return slog.StringValue(hidden) }

// String keeps state and verifier out of %v and %s.
func (Flow) String() string { return hidden }

// GoString keeps state and verifier out of %#v.
func (Flow) GoString() string { return hidden }

// LogValue keeps state and verifier out of logs.
func (Flow) LogValue() slog.Value { return slog.StringValue(hidden) }
