package connectors

import (
	"cmp"
	"time"
)

//go:generate go test -run TestSchemaIsTheEntry . -update

// Entry is one entry of CONNECTORS_FILE: what a provider is like that needs no code. The JSON names of its fields are the keys that an
// operator writes, and docs/connectors.md explains each. An enum tag lists the values that a text may have, "|" between them. What is
// left out has the zero value, and means what the RFCs say.
type Entry struct {
	Name        string `json:"name"` // in addresses: ^[a-z][a-z0-9-]{0,31}$
	Kind        Kind   `json:"kind" enum:"oauth2|client_credentials|key"`
	Title       string `json:"title"`
	Environment string `json:"environment" enum:"sandbox|production"`

	// What people read.
	Description Words  `json:"description"`
	Category    Words  `json:"category"`
	Color       string `json:"color"`     // #rrggbb, of the provider's mark
	LogoFile    string `json:"logo_file"` // path of a PNG or SVG
	PortalURL   Words  `json:"portal_url"`
	HelpURL     Words  `json:"help_url"`

	// Where it is asked.
	Issuer       string `json:"issuer"` // where discovery begins
	AuthorizeURL string `json:"authorize_url"`
	TokenURL     string `json:"token_url"`
	RefreshURL   string `json:"refresh_url"` // token_url without it
	RevokeURL    string `json:"revoke_url"`  // RFC 7009; the short form of revoke.url
	UserinfoURL  string `json:"userinfo_url"`

	// Our registration with the provider.
	ClientID        string `json:"client_id"`
	ClientSecretEnv string `json:"client_secret_env"` // the name of the setting that holds the secret
	ClientKeyEnv    string `json:"client_key_env"`    // the name of the setting that holds the private key (PEM), for private_key_jwt
	ClientAuth      string `json:"client_auth" enum:"basic|post|none|private_key_jwt"`

	// How it is asked.
	Scopes          []string          `json:"scopes"`
	ScopeSeparator  string            `json:"scope_separator" enum:" |,"`
	ResponseType    string            `json:"response_type"` // code without it
	Prompt          string            `json:"prompt"`        // sent as it is written, with the authorization request
	PKCE            *bool             `json:"pkce"`          // true without it (RFC 7636)
	AuthorizeParams map[string]string `json:"authorize_params"`
	TokenParams     map[string]string `json:"token_params"`
	RefreshParams   map[string]string `json:"refresh_params"`
	Body            string            `json:"body" enum:"form|json"` // of token, refresh and revocation requests, and of checks
	Inputs          Inputs            `json:"inputs"`
	Send            *Send             `json:"send"`  // kind key: how a program sends what the merchant typed
	Check           *Check            `json:"check"` // kind key: how it is proved

	// What it answers.
	CodeParam string         `json:"code_param"` // the callback's parameter that holds the code; code without it
	Answer    string         `json:"answer"`     // dotted path of the object that holds the token; the whole answer without it
	Account   *AccountSource `json:"account"`
	Revoke    Revocation     `json:"revoke"`

	// How long it lasts.
	KeepAlive   Duration `json:"keep_alive"`   // an unused grant is refreshed this often
	RefreshLife Duration `json:"refresh_life"` // an unused refresh token ends then, if the answer does not say
	GrantLife   Duration `json:"grant_life"`   // consent ends then, whatever tokens say
	ReplaySafe  bool     `json:"replay_safe"`
}

// Kind is how access is first obtained.
type Kind string

// The kinds of an entry.
const (
	OAuth2            Kind = "oauth2"             // the browser goes to the provider (RFC 6749 section 4.1); also ""
	ClientCredentials Kind = "client_credentials" // the merchant types the client's id and secret (RFC 6749 section 4.4)
	KeyTyped          Kind = "key"                // what the merchant types is the access itself
)

// Path says where a value is found: a source, and below it the names of members and the numbers of a list's elements, with dots between
// them, as in account.0.tenantId. The sources are
//
//	callback.      the query of the callback
//	answer.        the token endpoint's answer, from its root
//	id_token.      the claims of the ID token
//	access_token.  the claims of an access token that is a JWT
//	account.       what account.url answered
//	input.         what the merchant typed
type Path string

// AccountSource says whose account it is, and what else a program needs to know of it. A value that is missing from an answer leaves the
// account without it, and fails nothing.
type AccountSource struct {
	ID   Path            `json:"id"`
	Name Path            `json:"name"`
	URL  string          `json:"url"` // asked by GET, with the access token
	Keep map[string]Path `json:"keep"`
}

// Revocation says how access is ended at the provider. In URL and Params, the names {token}, {account} and {client} may stand, and what
// account.keep keeps.
type Revocation struct {
	Never  bool              `json:"-"` // "revoke": false
	URL    string            `json:"url"`
	Method string            `json:"method" enum:"POST|DELETE"`
	As     string            `json:"as" enum:"client|token|secret"` // who asks: our client as in client_auth, the access token as Bearer, or "Authorization: Client SECRET"
	Ends   string            `json:"ends" enum:"token|account"`     // what it ends
	Params map[string]string `json:"params"`                        // the whole body, in place of RFC 7009's
}

// Inputs are what the merchant is asked, in the order of the file. In addresses and parameters a name in braces stands for one.
type Inputs []Input

// Input is one of Inputs.
type Input struct {
	Name     string  `json:"-"` // its key in inputs
	Title    Words   `json:"title"`
	Help     Words   `json:"help"`
	Secret   bool    `json:"secret"`  // it is sealed, never shown again, and never part of an address
	Pattern  string  `json:"pattern"` // RE2
	Example  string  `json:"example"`
	Kind     string  `json:"kind" enum:"label|segment|host"`
	Suffix   string  `json:"suffix"`  // of a label: what follows it in the host, such as .myshopify.com
	Options  Options `json:"options"` // what it may be
	Optional bool    `json:"optional"`
	From     Path    `json:"from"` // where it comes from, if the merchant is not asked: callback.…
}

// Options are the values that an input may have, in the order of the file.
type Options []Option

// Option is one of Options: what the merchant chooses, and what stands for it.
type Option struct{ Key, Value string }

// Send is how a program sends what the merchant typed: one of Header, Basic, Query, Body and Path says where the token goes, and Headers
// and Params what else goes with it. In all texts the name of an input may stand in braces.
type Send struct {
	Header  string            `json:"header"`
	Value   string            `json:"value"`   // of the header or the parameter
	Basic   []string          `json:"basic"`   // user and password: the names of two inputs, or texts
	Query   string            `json:"query"`   // a parameter of the query
	Body    string            `json:"body"`    // a parameter of the body, a form or JSON as the entry's body says
	Path    string            `json:"path"`    // what the path of each address begins with
	Headers map[string]string `json:"headers"` // further headers
	Params  map[string]string `json:"params"`  // further parameters: of the body with Body, else of the query
}

// Check is the request that proves what the merchant typed.
type Check struct {
	URL    string            `json:"url"`
	Method string            `json:"method"` // GET without it
	Params map[string]string `json:"params"` // what it sends besides: in the body of a POST, else in the query
}

// Words are a text for people: one for all languages under "", or one for each.
type Words map[string]string

// In returns the text in a language, else in English, else in any.
func (w Words) In(locale string) string {
	text := cmp.Or(w[locale], w[""], w["en"])
	for _, one := range languages {
		text = cmp.Or(text, w[one])
	}
	return text
}

// languages are those in which Words may be written.
var languages = []string{"en", "km", "fr"}

// Duration is a length of time, written as 168h.
type Duration time.Duration
