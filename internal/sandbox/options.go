package sandbox

import (
	"cmp"
	"encoding/json"
	"time"
)

// CamInvoiceOptions say how the imitation of CamInvoice behaves where its documents leave room.
type CamInvoiceOptions struct {
	ClientID, ClientSecret string        // default "caminvoice-sandbox-client", "caminvoice-sandbox-secret"
	Callbacks              []string      // whitelisted from the start; empty by default, as at the provider
	AccessLifetime         time.Duration // default 900 s
	RefreshLifetime        time.Duration // default 0: none is documented, it lasts until revoked
	AuthTokenLifetime      time.Duration // default 24 h, as sampled
	EchoState              bool          // send state back to the callback; not documented, so not by default
	Rotate                 bool          // a refresh answers with a new refresh token and ends the old; not by default
	RefreshAtSeedPath      bool          // /api/v1/token instead of /api/v1/auth/token, which then is 404
	SecondQuestionMark     bool          // append "?authToken=" literally, whatever the callback holds already
	OwnRevokeHooks         bool          // our own revoke raises ENTITY.REVOKED too; unknown, so not by default
	RevokeKillsAccess      bool          // access tokens die with the revocation; unknown, by default they live on until exp
	Refresh                RefreshWording
	Exchange               ExchangeWording
	Errors                 ErrorWording
	Businesses             []Business // default SampleBusinesses
}

// RefreshWording is how CamInvoice words the answer to a refresh.
type RefreshWording string

// The wordings of a refresh found in CamInvoice's documents, its sample and third parties' code.
const (
	RefreshDocumented RefreshWording = ""              // token, token_type, expire_in: 900
	RefreshActual     RefreshWording = "actual"        // access_token, expireIn "15m", expire_at, expired_at as times
	RefreshSample     RefreshWording = "sample"        // access_token, expire_at
	RefreshExpiresAt  RefreshWording = "expires_at"    // access_token, expires_at
	RefreshExpiresIn  RefreshWording = "expires_in"    // access_token, expires_in as number
	RefreshNumeric    RefreshWording = "numeric"       // access_token, expires_in as a string of digits
	RefreshDuration   RefreshWording = "duration"      // access_token, expire_in "15m" (or "1d" where it is whole days)
	RefreshBare       RefreshWording = "bare"          // access_token alone: its exp is all there is
	RefreshOpaque     RefreshWording = "bare-opaque"   // access_token alone and not a JWT: 900 s are assumed
	RefreshWithToken  RefreshWording = "refresh_token" // the documented form plus the (same or rotated) refresh_token
)

// ExchangeWording is how CamInvoice words the answer to an exchange. Several are joined by commas.
type ExchangeWording string

// The wordings of an exchange. The zero value is the documented one: tokens and business_info, no expiry.
const (
	ExchangeDocumented  ExchangeWording = ""
	ExchangeDays        ExchangeWording = "days"        // expires_in as "15m", or "1d" where it is whole days
	ExchangeNumber      ExchangeWording = "number"      // expires_in as number
	ExchangeUserProfile ExchangeWording = "userProfile" // business_info under userProfile
	ExchangeData        ExchangeWording = "data"        // business_info under data
	ExchangeNoEndpoint  ExchangeWording = "no-endpoint" // business_info without endpoint_id, as in the guide's sample
	ExchangeNoInfo      ExchangeWording = "no-info"     // no business_info at all: the token's claim is all there is
	ExchangeExtra       ExchangeWording = "extra"       // business_info with fields that no document names
	ExchangeAnonymous   ExchangeWording = "anonymous"   // identifies no business: opaque tokens, no business_info
	ExchangeNoDate      ExchangeWording = "no-date"     // without date_of_incorporation, as a third party saw it
)

// ErrorWording is how CamInvoice words a 401.
type ErrorWording string

// The wordings of a 401 that its documents show.
const (
	ErrorsOAuth   ErrorWording = ""        // error and error_description
	ErrorsMessage ErrorWording = "message" // message
	ErrorsBare    ErrorWording = "bare"    // message "Unauthorized": says neither client nor grant
)

func (o *CamInvoiceOptions) defaults() {
	o.ClientID = cmp.Or(o.ClientID, "caminvoice-sandbox-client")
	o.ClientSecret = cmp.Or(o.ClientSecret, "caminvoice-sandbox-secret")
	o.AccessLifetime = cmp.Or(o.AccessLifetime, 900*time.Second)
	o.AuthTokenLifetime = cmp.Or(o.AuthTokenLifetime, 24*time.Hour)
	if o.Businesses == nil {
		o.Businesses = SampleBusinesses()
	}
}

// ELECQOptions say how the imitation of ELECQ behaves.
type ELECQOptions struct {
	ClientID, ClientSecret string        // the operator's; default "elecq-sandbox-client", "elecq-sandbox-secret"
	Callbacks              []string      // registered in advance, beside those of Options.AppURLs; matched exactly
	Authorize              string        // what Settings says of ELECQ_AUTHORIZE: "browser" (default), "server" or "credentials"
	Direct                 bool          // authorize with the operator's credentials answers with the callback at once, no merchant taking part
	AccessLifetime         time.Duration // default 86,400 s
	RefreshLifetime        time.Duration // default 604,800 s
	CodeLifetime           time.Duration // default 10 min; none is documented
	EchoState              bool          // send state back; ELECQ documents no state, so not by default
	KeepRefreshToken       bool          // refreshing answers with the same refresh token, so its exp stays too; by default it rotates
	OmitRefreshToken       bool          // refreshing answers without refreshToken; implies KeepRefreshToken
	FixedDeadline          bool          // refreshing does not extend the refresh token's life; by default it does
	CodeParam              string        // callback's parameter: "code" (default) or the seed's "authorizationCode"
	SuccessCode            string        // respCode of success: "200" (default) or "000000"
	HTTPErrors             bool          // failures carry their HTTP status; by default they come inside HTTP 200
	Merchants              []ELECQMerchant
	AnonymousTokens        bool // opaque tokens that name no USER_ID
}

func (o *ELECQOptions) defaults() {
	o.ClientID = cmp.Or(o.ClientID, "elecq-sandbox-client")
	o.ClientSecret = cmp.Or(o.ClientSecret, "elecq-sandbox-secret")
	o.Authorize = cmp.Or(o.Authorize, "browser")
	o.AccessLifetime = cmp.Or(o.AccessLifetime, 86400*time.Second)
	o.RefreshLifetime = cmp.Or(o.RefreshLifetime, 604800*time.Second)
	o.CodeLifetime = cmp.Or(o.CodeLifetime, 10*time.Minute)
	o.CodeParam = cmp.Or(o.CodeParam, "code")
	o.SuccessCode = cmp.Or(o.SuccessCode, "200")
	o.KeepRefreshToken = o.KeepRefreshToken || o.OmitRefreshToken
	o.FixedDeadline = o.FixedDeadline || o.KeepRefreshToken
	if o.Merchants == nil {
		o.Merchants = SampleELECQMerchants()
	}
}

// FlexitiOptions say how the imitation of Flexiti's POS API behaves.
type FlexitiOptions struct {
	AccessLifetime   time.Duration // default 1,200 s
	RefreshLifetime  time.Duration // default AccessLifetime: refreshing after expiry is refused
	KeepRefreshToken bool          // a refresh token works until it lapses; by default it rotates
	Merchants        []FlexitiMerchant
}

func (o *FlexitiOptions) defaults() {
	o.AccessLifetime = cmp.Or(o.AccessLifetime, 1200*time.Second)
	o.RefreshLifetime = cmp.Or(o.RefreshLifetime, o.AccessLifetime)
	if o.Merchants == nil {
		o.Merchants = SampleFlexitiMerchants()
	}
}

// BookingsOptions say how the imitation of the bookings partner behaves.
type BookingsOptions struct {
	Lifetime  time.Duration // default 3,600 s
	PerMinute int           // tokens per client and minute before 429; default 0: unlimited (stock Laravel has 60)
	KeyBits   int           // RSA key; default 2048 for speed (the provider's is 4096)
	Merchants []BookingsMerchant
}

func (o *BookingsOptions) defaults() {
	o.Lifetime = cmp.Or(o.Lifetime, 3600*time.Second)
	o.KeyBits = cmp.Or(o.KeyBits, 2048)
	if o.Merchants == nil {
		o.Merchants = SampleBookingsMerchants()
	}
}

// StandardOptions say how the standard OAuth 2.0 / OpenID Connect provider behaves.
type StandardOptions struct {
	Name                   string        // path, provider name and key of faults; default "acme"
	Title                  string        // default "Acme"
	ClientID, ClientSecret string        // default "acme-sandbox-client", "acme-sandbox-secret"
	Callbacks              []string      // registered in advance, beside those of Options.AppURLs; matched exactly
	ClientAuth             string        // what ConnectorsFile says: "basic" (default) or "post"; both are accepted
	Scopes                 []string      // what ConnectorsFile asks for; default openid profile email orders.read offline_access
	AccessLifetime         time.Duration // default 3,600 s
	RefreshLifetime        time.Duration // default 30 days, counted from each rotation
	CodeLifetime           time.Duration // default 60 s
	KeepRefreshToken       bool          // refresh tokens do not rotate; by default they do, and reuse ends the whole family
	NoIss                  bool          // do not send iss to the callback (RFC 9207)
	NoUserinfo             bool          // discovery names no userinfo endpoint
	NoRevoke               bool          // discovery names no revocation endpoint
	NoExpiresIn            bool          // leave expires_in out of token answers
	Users                  []User
}

func (o *StandardOptions) defaults() {
	o.Name = cmp.Or(o.Name, "acme")
	o.Title = cmp.Or(o.Title, "Acme")
	o.ClientID = cmp.Or(o.ClientID, "acme-sandbox-client")
	o.ClientSecret = cmp.Or(o.ClientSecret, "acme-sandbox-secret")
	o.ClientAuth = cmp.Or(o.ClientAuth, "basic")
	if o.Scopes == nil {
		o.Scopes = []string{"openid", "profile", "email", "orders.read", "offline_access"}
	}
	o.AccessLifetime = cmp.Or(o.AccessLifetime, 3600*time.Second)
	o.RefreshLifetime = cmp.Or(o.RefreshLifetime, 30*24*time.Hour)
	o.CodeLifetime = cmp.Or(o.CodeLifetime, 60*time.Second)
	if o.Users == nil {
		o.Users = SampleUsers()
	}
}

// ConnectorsFile is the content of CONNECTORS_FILE for the standard provider, whose secret is Settings()["ACME_SECRET"], and for known,
// which are entries of well-known providers: each is pointed to its imitation (see Local), and its secret is in KnownSettings.
func (s *Sandbox) ConnectorsFile(known ...[]byte) []byte {
	o := s.o.Standard
	list := []any{map[string]any{
		"name": o.Name, "title": o.Title, "issuer": s.o.BaseURL + "/" + o.Name,
		"client_id": o.ClientID, "client_secret_env": "ACME_SECRET", "client_auth": o.ClientAuth,
		"scopes": o.Scopes, "environment": "sandbox", "keep_alive": "168h",
	}}
	for _, entry := range known {
		list = append(list, json.RawMessage(s.Local(entry)))
	}
	file, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return nil // not reached: strings, and entries that are JSON
	}
	return append(file, '\n')
}
