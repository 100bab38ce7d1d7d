package connectors

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"patchbay/internal/text"
)

// identify finds out whose account it is: by the entry's account, else from the ID token, verified, with what that does not say from
// userinfo, and what is beside the token. Where the provider names no account, the account has no id. beside are the values that
// revoking needs, by name.
func (s *standard) identify(ctx context.Context, p *profile, f Flow, callback url.Values, t tokenResponse) (account Account, beside map[string]string, err error) {
	var claims object
	if t.idToken != "" && (p.keys != nil || p.issuer != "" && symmetric(t.idToken)) {
		if claims, err = p.verifyIDToken(ctx, f, t); err != nil {
			return Account{}, nil, err
		}
	}
	if p.Account == nil || p.Account.ID == "" {
		person, err := s.person(ctx, p, claims, t.Access)
		if err != nil {
			return Account{}, nil, err
		}
		from := sources{callback: callback, answer: t.root, idToken: claims, accessToken: unverifiedClaims(t.Access), input: f.Inputs}
		account = person.named(besideToken(callback, t.beside, t.Access))
		return p.Account.addedTo(account, s.askAccount(ctx, p, from, t.Token), from, t.Token), p.besides(from), nil
	}
	if claims == nil { // no keys are known to verify it with: it came from the token endpoint itself (OpenID Connect Core section 3.1.3.7)
		claims = unverifiedClaims(t.idToken)
	}
	from := sources{callback: callback, answer: t.root, idToken: claims, accessToken: unverifiedClaims(t.Access), input: f.Inputs}
	person := standardAccount(claims)
	if s.entry.UserinfoURL != "" {
		if info, err := s.person(ctx, p, claims, t.Access); err == nil {
			person = info
		}
	}
	from.account = s.askAccount(ctx, p, from, t.Token)
	return p.Account.read(from, person, t.Token), p.besides(from), nil
}

// read makes an account of what the provider said. person is the one who gave access, as far as is known. A value that is missing, or is
// not of the kind that it must be, is left out.
func (a *AccountSource) read(from sources, person Account, t Token) Account {
	account := Account{
		ID: accountID(from.text(a.ID)), Name: accountName(from.text(a.Name)), UserID: person.ID, Details: person.Details, Values: a.kept(from, t),
	}
	if account.UserID == account.ID {
		account.UserID = ""
	}
	if account.Name == "" {
		account.Name = account.ID
	}
	return account
}

// addedTo adds what the entry keeps, and its name, to an account that was identified without it. answered is what account.url answered.
func (a *AccountSource) addedTo(account Account, answered any, from sources, t Token) Account {
	if a == nil {
		return account
	}
	from.account = answered
	if kept := a.kept(from, t); kept != nil {
		account.Values = maps.Clone(account.Values)
		if account.Values == nil {
			account.Values = Values{}
		}
		maps.Copy(account.Values, kept)
	}
	account.Name = cmp.Or(accountName(from.text(a.Name)), account.Name)
	return account
}

// kept returns the values that the entry keeps: texts, numbers and booleans, as they came.
func (a *AccountSource) kept(from sources, t Token) Values {
	var kept Values
	for name, path := range a.Keep {
		value := from.at(path)
		shown := from.text(path)
		if shown == "" || utf8.RuneCountInString(shown) > maxValue || strings.Contains(shown, t.Access) || t.Refresh != "" && strings.Contains(shown, t.Refresh) {
			continue
		}
		if _, ok := value.(string); ok {
			value = text.Clean(shown)
		}
		if kept == nil {
			kept = Values{}
		}
		kept[name] = value
	}
	return kept
}

// besides returns the values of the paths that the entry's revocation names: they are not asked for again.
func (p *profile) besides(from sources) map[string]string {
	kept := map[string]string{}
	for _, template := range append(slices.Sorted(maps.Values(p.Entry.Revoke.Params)), p.Entry.Revoke.URL) {
		for _, name := range namesIn(template) {
			if value := from.text(Path(name)); value != "" && strings.Contains(name, ".") {
				kept[name] = value
			}
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return kept
}

// accountRetry is how long after it failed the account's address is asked once more.
const accountRetry = time.Second

// askAccount asks the entry's account.url for the account (RFC 6750 section 2.1). It returns nil if there is none, no answer, or if the
// address needs a value that is missing: access was obtained, and is not thrown away for a name.
func (s *standard) askAccount(ctx context.Context, p *profile, from sources, t Token) (answer any) {
	if p.Account == nil || p.Account.URL == "" {
		return nil
	}
	address := fillAddress(p.Account.URL, func(name string) string {
		if path, ok := p.Account.Keep[name]; ok {
			return from.text(path)
		}
		return from.text(Path(name))
	})
	if address == "" {
		return nil
	}
	q := request{name: "account", method: http.MethodGet, address: address, source: p.source(p.Account.URL), bearer: t.Access}
	for range 2 {
		err := s.client.do(ctx, q, func(r response) error {
			if answer = r.any(); r.saysNo() || answer == nil {
				answer = nil
				return r.unexpected("id")
			}
			return nil
		})
		if err == nil {
			break
		}
		select {
		case <-time.After(accountRetry):
		case <-ctx.Done():
			return nil
		}
	}
	return answer
}

// person finds out who gave access: from the claims of the ID token, and what these do not say from userinfo.
func (s *standard) person(ctx context.Context, p *profile, claims object, access string) (Account, error) {
	account := standardAccount(claims)
	if p.userinfoURL == "" || account.ID != "" && account.Name != account.ID {
		return account, nil
	}
	info, reached, err := s.userinfo(ctx, p, access)
	switch {
	case !reached:
		return account, nil
	case account.ID == "":
		return info, err
	case err == nil && info.ID == account.ID: // OpenID Connect Core section 5.3.2: another account's userinfo is not used
		return info, nil
	}
	return account, nil
}

// userinfo asks the userinfo endpoint (OpenID Connect Core section 5.3). The account has no id if the answer names none.
// reached is false if the token's scopes do not cover the endpoint (RFC 6750 section 3.1).
func (s *standard) userinfo(ctx context.Context, p *profile, access string) (account Account, reached bool, err error) {
	reached = true
	q := request{name: "userinfo", method: http.MethodGet, address: p.userinfoURL, source: p.source(p.userinfoURL), bearer: access}
	err = s.client.do(ctx, q, func(r response) (err error) {
		reached = r.status != http.StatusForbidden ||
			r.errorCode() != "insufficient_scope" && !strings.Contains(r.header.Get("WWW-Authenticate"), "insufficient_scope")
		if !r.ok() {
			return r.unexpected()
		}
		claims := r.object()
		if claims == nil {
			if claims, err = p.verifyUserinfo(ctx, r); err != nil {
				return err
			}
		}
		account = standardAccount(claims)
		return nil
	})
	return account, reached, err
}

// verifyUserinfo reads an answer in the form of a JWT (OpenID Connect Core section 5.3.2). Without keys of the provider's
// it is as good as one in JSON: it came from the provider's own address. An answer that is no JWT holds no claims.
func (p *profile) verifyUserinfo(ctx context.Context, r response) (object, error) {
	jwt := string(bytes.TrimSpace(r.body))
	claims := unverifiedClaims(jwt)
	if claims == nil {
		return nil, nil
	}
	if iss := claims.str("iss"); p.issuer != "" && iss != "" && !p.isIssuer(iss) {
		return nil, &UnreadableError{Reason: "userinfo", Detail: "userinfo: iss is another issuer"}
	}
	if p.keys == nil && !symmetric(jwt) {
		return claims, nil
	}
	keys := &keySet{keys: p.keys, secret: p.own.secret}
	_, err := keys.VerifySignature(ctx, jwt)
	switch {
	case keys.err != nil:
		return nil, keys.err
	case err != nil:
		return nil, &UnreadableError{Reason: "userinfo", Detail: "userinfo: its signature does not verify"}
	}
	return claims, nil
}

// standardAccount reads the claims of OpenID Connect Core section 5.1, or the id of a userinfo that does not know them.
func standardAccount(o object) Account {
	account := Account{ID: accountID(o.displayString("sub", "id", "user_id"))}
	account.Name = cmp.Or(
		accountName(o.displayString("name", "display_name", "displayName")), o.joinedName(),
		accountName(o.displayString("preferred_username", "nickname", "login", "email")), account.ID,
	)
	for _, key := range []string{"name", "preferred_username", "login", "email", "organization", "company"} {
		if value := o.displayString(key); value != "" {
			account.Details = append(account.Details, Detail{key, value})
		}
	}
	return account
}

// joinedName is the given and the family name where a provider does not join them in the claim name, as Entra ID and CAS.
func (o object) joinedName() string {
	given := accountName(o.displayString("given_name", "givenName", "first_name", "firstName"))
	family := accountName(o.displayString("family_name", "familyName", "last_name", "lastName", "surname"))
	return accountName(strings.TrimSpace(given + " " + family))
}
