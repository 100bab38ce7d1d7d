package sso

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

const (
	callTimeout      = 8 * time.Second
	maxAnswer        = 256 << 10 // bytes
	maxModulus       = 8192      // bits of an RSA key: verifying with a greater one takes a minute and more
	metadataLifetime = time.Hour
	metadataRetry    = 30 * time.Second // after discovery failed and older metadata is in use
	failureLifetime  = 2 * time.Second  // that of a failure with nothing else known
)

// metadata is what the issuer publishes (OpenID Connect Discovery section 3).
type metadata struct {
	Issuer       string   `json:"issuer"`
	AuthorizeURL string   `json:"authorization_endpoint"`
	TokenURL     string   `json:"token_endpoint"`
	UserinfoURL  string   `json:"userinfo_endpoint"`
	KeysURL      string   `json:"jwks_uri"`
	Algorithms   []string `json:"id_token_signing_alg_values_supported"`
	Scopes       []string `json:"scopes_supported"`
	AuthMethods  []string `json:"token_endpoint_auth_methods_supported"`
	SendsIss     bool     `json:"authorization_response_iss_parameter_supported"`

	keys *oidc.RemoteKeySet
}

// asymmetric are the algorithms that a public key verifies: neither none nor HMAC, with which anybody who knows the client secret signs.
var asymmetric = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
}

// algorithms returns with which an ID token may be signed: of those that the issuer publishes, the asymmetric ones.
func (m *metadata) algorithms() []string {
	if len(m.Algorithms) == 0 {
		return []string{oidc.RS256}
	}
	return slices.DeleteFunc(slices.Clone(asymmetric), func(name string) bool { return !slices.Contains(m.Algorithms, name) })
}

// scopes returns what is asked for: who somebody is, and, where a scope has the name of a claim that is needed, that.
func (m *metadata) scopes(o Options) []string {
	all := []string{oidc.ScopeOpenID}
	for _, scope := range []string{"profile", "email"} {
		if len(m.Scopes) == 0 || slices.Contains(m.Scopes, scope) {
			all = append(all, scope)
		}
	}
	for _, claim := range []string{o.RoleClaim, o.MerchantClaim} {
		if slices.Contains(m.Scopes, claim) && !slices.Contains(all, claim) {
			all = append(all, claim)
		}
	}
	return all
}

// authStyle returns how the client secret is sent: HTTP Basic, unless the issuer takes it in the form only.
func (m *metadata) authStyle() oauth2.AuthStyle {
	if slices.Contains(m.AuthMethods, "client_secret_post") && !slices.Contains(m.AuthMethods, "client_secret_basic") {
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader
}

// Check discovers the provider now. It returns nil if a sign-in could begin.
func (p *Provider) Check(ctx context.Context) error {
	_, err := p.discover(ctx)
	return err
}

// metadata returns what the issuer publishes, discovered when it is first needed and from time to time. If that fails later, what is
// known stays in use.
func (p *Provider) metadata(ctx context.Context) (*metadata, error) {
	if m, err := p.fresh(); m != nil || err != nil {
		return m, err
	}
	select {
	case p.discovering <- struct{}{}:
		defer func() { <-p.discovering }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrAway, ctx.Err())
	}
	if m, err := p.fresh(); m != nil || err != nil {
		return m, err
	}
	m, err := p.discover(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		p.known, p.failed, p.freshUntil = m, nil, now.Add(metadataLifetime)
	case ctx.Err() != nil: // the browser has gone: it says nothing of the provider
		return nil, err
	case p.known != nil:
		p.freshUntil = now.Add(metadataRetry)
	default:
		p.failed, p.freshUntil = err, now.Add(failureLifetime)
		return nil, err
	}
	return p.known, nil
}

// fresh returns what is known, or the failure of a moment ago. Both are nil when it is time to discover.
func (p *Provider) fresh() (*metadata, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !time.Now().Before(p.freshUntil) {
		return nil, nil
	}
	return p.known, p.failed
}

func (p *Provider) discover(ctx context.Context) (*metadata, error) {
	all, err := p.fetch(ctx, strings.TrimSuffix(p.o.Issuer, "/")+"/.well-known/openid-configuration", "")
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	raw, err := json.Marshal(all)
	var m metadata
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: discovery is not readable", ErrInvalid)
	}
	if err := m.fault(p.o.Issuer); err != nil {
		return nil, err
	}
	// go-oidc keeps the context and fetches keys with it later, for any caller.
	m.keys = oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), newClient(checkKeys)), m.KeysURL)
	return &m, nil
}

// fault returns ErrInvalid for metadata that the issuer which was asked may not publish. No address of an https issuer is plain http.
func (m *metadata) fault(asked string) error {
	if strings.TrimSuffix(m.Issuer, "/") != strings.TrimSuffix(asked, "/") { // section 4.3
		return fmt.Errorf("%w: discovery names another issuer than SSO_ISSUER", ErrInvalid)
	}
	for _, one := range []struct{ name, address string }{
		{"authorization_endpoint", m.AuthorizeURL}, {"token_endpoint", m.TokenURL}, {"jwks_uri", m.KeysURL}, {"userinfo_endpoint", m.UserinfoURL},
	} {
		if one.address == "" && one.name == "userinfo_endpoint" {
			continue
		}
		u, err := url.Parse(one.address)
		if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || strings.HasPrefix(asked, "https:")) {
			return fmt.Errorf("%w: discovery has no %s that secrets may be sent to", ErrInvalid, one.name)
		}
	}
	if len(m.algorithms()) == 0 {
		return fmt.Errorf("%w: discovery names no algorithm of ID tokens that a public key verifies", ErrInvalid)
	}
	return nil
}

// fetch reads a JSON object.
func (p *Provider) fetch(ctx context.Context, address, authorization string) (claims, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: an address", ErrInvalid)
	}
	r.Header.Set("Accept", "application/json")
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	res, err := p.client.Do(r)
	if err != nil {
		return nil, callError(err, r.URL.Path)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return nil, callError(err, r.URL.Path)
	case mayRecover(res.StatusCode):
		return nil, fmt.Errorf("%w: HTTP %d of %s", ErrAway, res.StatusCode, r.URL.Path)
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: HTTP %d of %s", ErrInvalid, res.StatusCode, r.URL.Path)
	}
	all, err := parseObject(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %s has no JSON object", ErrInvalid, r.URL.Path)
	}
	return all, nil
}

// parseObject reads a JSON object, and numbers as they are written.
func parseObject(b []byte) (all map[string]any, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err = d.Decode(&all); err == nil && all == nil {
		err = errors.New("null")
	}
	return all, err
}

// Errors of the transport.
var (
	errTooLarge    = errors.New("an answer, or a key in it, is too large")
	errRedirect    = errors.New("a redirect, where none is followed")
	errUnavailable = errors.New("unavailable")
)

// callError returns ErrAway or ErrInvalid for a call to what that brought no answer, or none that may be read.
func callError(err error, what string) error {
	for _, fault := range []error{errTooLarge, errRedirect} {
		if errors.Is(err, fault) {
			return fmt.Errorf("%w: %s: %w", ErrInvalid, what, fault)
		}
	}
	return fmt.Errorf("%w: %s", ErrAway, what)
}

// called says whether an error of x/oauth2 or go-oidc is one of a call, and not of what was read.
func called(err error) bool {
	var call *url.Error
	return errors.As(err, &call) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// newClient returns a client that follows no redirect, with which secrets would go along, and limits every call in time and size.
func newClient(check func(*http.Response, []byte) error) *http.Client {
	return &http.Client{
		Transport: &transport{check}, Timeout: callTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect },
	}
}

// transport refuses answers that are too large, and those that check refuses.
type transport struct {
	check func(*http.Response, []byte) error // nil for none
}

// RoundTrip returns an answer that was read to its end.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = errTooLarge
	}
	if err == nil && t.check != nil {
		err = t.check(res, body)
	}
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

// checkKeys returns errUnavailable for an answer that may be another one later, and errTooLarge for keys that take too long to verify with.
func checkKeys(res *http.Response, body []byte) error {
	if mayRecover(res.StatusCode) {
		return errUnavailable
	}
	var set struct {
		Keys []struct{ N string }
	}
	if json.Unmarshal(body, &set) != nil {
		return nil // go-oidc says so
	}
	for _, key := range set.Keys {
		if base64.RawURLEncoding.DecodedLen(len(key.N)) > maxModulus/8+1 { // a leading zero is no bit
			return errTooLarge
		}
	}
	return nil
}

// mayRecover says whether a status is one of a provider in trouble.
func mayRecover(status int) bool {
	return status >= http.StatusInternalServerError || status == http.StatusTooManyRequests
}

// keySet keeps what a failure was: go-oidc reports one to fetch the keys and a wrong signature alike.
type keySet struct {
	*oidc.RemoteKeySet
	err error
}

// VerifySignature returns the payload of a JWT that one of the keys has signed.
func (k *keySet) VerifySignature(ctx context.Context, jwt string) (payload []byte, err error) {
	payload, k.err = k.RemoteKeySet.VerifySignature(ctx, jwt)
	return payload, k.err
}
