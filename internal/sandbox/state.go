package sandbox

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// state is what the state file holds. Nothing in it is real, so it is kept in the clear.
type state struct {
	Key       []byte                   // signs CamInvoice's and ELECQ's tokens
	Grants    map[string]*grant        // by id
	Refresh   map[string]*refreshToken // by value
	Access    map[string]*accessToken  // by value; only tokens that are opaque
	Callbacks map[string][]string      // by provider
	Hooks     map[string]string        // CamInvoice's, by endpoint_id; "" is for all
}

// grant is one account's access for one client.
type grant struct {
	ID, Provider, Client, Account, Scope string
	Created                              time.Time
	Revoked                              bool
	Era                                  int       // raised to end the access tokens of before
	Deadline                             time.Time // of refresh tokens, where refreshing does not extend it
}

type refreshToken struct {
	Grant      string
	Scope      string
	Made       time.Time
	Expires    time.Time // zero: never
	Spent      time.Time // zero: not yet
	Unanswered bool      // the answer of the call that spent it never left, or its caller had gone
}

type accessToken struct {
	Grant   string
	Scope   string
	Expires time.Time
}

// code is what a callback carries: spent once, never kept across restarts.
type code struct {
	provider, client, callback, account string
	scopes                              []string
	nonce, challenge                    string
	offline                             bool // a refresh token comes with it, where that is asked for
	expires                             time.Time
	grant                               string // what it was spent for
}

// DoubleSpend is a rotating refresh token that was presented after it had been spent.
type DoubleSpend struct {
	Provider   string    `json:"provider"`
	Account    string    `json:"account"`
	First      time.Time `json:"first"`      // when it was spent
	At         time.Time `json:"at"`         // when it was presented again
	Unanswered bool      `json:"unanswered"` // the first answer never left: presenting it again is what a careful app may do
}

// DoubleSpends returns every presentation of a spent refresh token, at providers that rotate.
func (s *Sandbox) DoubleSpends() []DoubleSpend {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]DoubleSpend{}, s.spends...)
}

// GrantInfo describes a grant without its secrets.
type GrantInfo struct {
	ID             string    `json:"id"`
	Provider       string    `json:"provider"`
	Account        string    `json:"account"`
	Scope          string    `json:"scope,omitempty"`
	Created        time.Time `json:"created"`
	Revoked        bool      `json:"revoked"`
	RefreshTokens  int       `json:"refresh_tokens"`  // that still work
	RefreshExpires time.Time `json:"refresh_expires"` // the latest of these; zero: never, or none
}

// Grants lists what was issued, oldest first; of one provider, or of all when it is empty.
func (s *Sandbox) Grants(provider string) []GrantInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Now()
	infos := map[string]*GrantInfo{}
	all := []GrantInfo{}
	for id, g := range s.state.Grants {
		if provider == "" || g.Provider == provider {
			infos[id] = &GrantInfo{ID: id, Provider: g.Provider, Account: g.Account, Scope: g.Scope, Created: g.Created, Revoked: g.Revoked}
		}
	}
	for _, t := range s.state.Refresh {
		if info := infos[t.Grant]; info != nil && !info.Revoked && t.good(now) {
			info.RefreshTokens++
			if t.Expires.After(info.RefreshExpires) {
				info.RefreshExpires = t.Expires
			}
		}
	}
	for _, info := range infos {
		all = append(all, *info)
	}
	sortGrants(all)
	return all
}

func (t *refreshToken) good(now time.Time) bool {
	return t.Spent.IsZero() && (t.Expires.IsZero() || now.Before(t.Expires))
}

// Revoke ends an account's grants at a provider, as its owner would there; all accounts when account is empty. It
// returns how many ended. At CamInvoice it raises ENTITY.REVOKED, once an account, and waits for the deliveries. At the
// providers with typed credentials the account is the client id, and its credentials are refused from then on. A
// merchant's own credentials at ELECQ can still authorize again: to refuse these too, use the fault ClientRefused.
func (s *Sandbox) Revoke(provider, account string) int {
	if account != "" && (provider == Flexiti || provider == Bookings) {
		s.mu.Lock()
		s.credentialGrant(s.o.Now(), provider, account)
		s.mu.Unlock()
	}
	ended := s.endGrants(provider, account, "")
	told := map[string]bool{}
	for _, endpoint := range ended {
		if provider == CamInvoice && !told[endpoint] {
			told[endpoint] = true
			s.cam.deliver(map[string]any{"type": "ENTITY.REVOKED", "endpoint_id": endpoint})
		}
	}
	return len(ended)
}

// Restore undoes Revoke: every revoked grant of the account, or of all accounts when it is empty, works again.
func (s *Sandbox) Restore(provider, account string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, g := range s.state.Grants {
		if g.Provider == provider && g.Revoked && (account == "" || g.Account == account) {
			g.Revoked = false
			n++
		}
	}
	s.changed()
	return n
}

// credentialGrant is the one grant of a client at a provider with typed credentials. The caller holds the lock.
func (s *Sandbox) credentialGrant(now time.Time, provider, client string) *grant {
	id := provider + " " + client
	g := s.state.Grants[id]
	if g == nil {
		g = &grant{ID: id, Provider: provider, Client: client, Account: client, Created: now}
		s.state.Grants[id] = g
		s.changed()
	}
	return g
}

// endGrants revokes live grants and names their accounts, each grant once. An empty account or client means any.
func (s *Sandbox) endGrants(provider, account, client string) (accounts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.state.Grants {
		if g.Provider == provider && !g.Revoked && (account == "" || g.Account == account) && (client == "" || g.Client == client) {
			g.Revoked = true
			accounts = append(accounts, g.Account)
		}
	}
	s.changed()
	return accounts
}

// Expire ends what was issued to an account before its time: "access", "refresh" or "both". All accounts when account
// is empty. Grants stay; it returns how many were touched.
func (s *Sandbox) Expire(provider, account, what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, n := s.o.Now(), 0
	for _, g := range s.state.Grants {
		if g.Provider != provider || account != "" && g.Account != account {
			continue
		}
		n++
		if what != "refresh" {
			g.Era++
		}
		if what == "access" {
			continue
		}
		for _, t := range s.state.Refresh {
			if t.Grant == g.ID && t.good(now) {
				t.Expires = now
			}
		}
	}
	if what != "refresh" {
		for value, t := range s.state.Access {
			if g := s.state.Grants[t.Grant]; g != nil && g.Provider == provider && (account == "" || g.Account == account) {
				delete(s.state.Access, value)
			}
		}
	}
	s.changed()
	return n
}

// newGrant opens a grant. The caller holds the lock.
func (s *Sandbox) newGrant(now time.Time, provider, client, account, scope string) *grant {
	g := &grant{ID: token(8), Provider: provider, Client: client, Account: account, Scope: scope, Created: now}
	s.state.Grants[g.ID] = g
	return g
}

// newRefresh keeps a refresh token. lifetime 0 means that it never expires. The caller holds the lock.
func (s *Sandbox) newRefresh(now time.Time, g *grant, value, scope string, lifetime time.Duration) {
	t := &refreshToken{Grant: g.ID, Scope: scope, Made: now}
	if lifetime > 0 {
		t.Expires = now.Add(lifetime)
	}
	if !g.Deadline.IsZero() {
		t.Expires = g.Deadline
	}
	s.state.Refresh[value] = t
	s.remember(value)
	s.tidy(now)
}

// newAccess keeps an opaque access token. The caller holds the lock.
func (s *Sandbox) newAccess(now time.Time, g *grant, scope string, lifetime time.Duration) string {
	value := token(20)
	s.state.Access[value] = &accessToken{Grant: g.ID, Scope: scope, Expires: now.Add(lifetime)}
	s.remember(value)
	s.tidy(now)
	return value
}

// newCode makes what the callback will carry and keeps it.
func (s *Sandbox) newCode(value string, c code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[value] = &c
	s.remember(value)
	s.tidy(s.o.Now())
}

// present looks up a refresh token of a provider and client. With spend it is used up, once. A spent one is recorded as
// a double spend and comes back with its grant and an error, so that a provider may end the family. Holds the lock.
func (s *Sandbox) present(c *call, provider, client, value string, spend bool) (*grant, *refreshToken, error) {
	t := s.state.Refresh[value]
	if t == nil {
		if t = s.madeUp(c.now, provider, client, value); t == nil {
			return nil, nil, errUnknown
		}
	}
	g := s.state.Grants[t.Grant]
	if g == nil || g.Provider != provider || g.Client != client {
		return nil, nil, errUnknown
	}
	if !t.Spent.IsZero() {
		s.spends = append(s.spends, DoubleSpend{provider, g.Account, t.Spent, c.now, t.Unanswered})
		return g, t, errSpent
	}
	if g.Revoked {
		return nil, nil, errUnknown
	}
	if !t.good(c.now) {
		return nil, nil, errExpired
	}
	if spend {
		t.Spent = c.now
		c.spent = t
	}
	return g, t, nil
}

// madeUpMark is the prefix of accounts and secrets that sample data has made up, by the rule that the sandbox knows them: a refresh token is
// made-up-ACCOUNT-NONCE, and the secret of the client made-up-X is made-up-secret-of-made-up-X.
const madeUpMark = "made-up-"

// madeUp opens the grant of a refresh token that sample data has made up; nil if it is none. The caller holds the lock.
func (s *Sandbox) madeUp(now time.Time, provider, client, value string) *refreshToken {
	rest, ok := strings.CutPrefix(value, madeUpMark)
	end := strings.LastIndex(rest, "-")
	if !ok || end < 0 {
		return nil
	}
	s.newRefresh(now, s.newGrant(now, provider, client, rest[:end], ""), value, "", 0)
	return s.state.Refresh[value]
}

var (
	errUnknown = errors.New("unknown")
	errSpent   = errors.New("spent")
	errExpired = errors.New("expired")
)

// tidy drops what expired over an hour ago, once every few thousand tokens. The caller holds the lock.
func (s *Sandbox) tidy(now time.Time) {
	s.changed()
	if s.inserts++; s.inserts%8192 != 0 {
		return
	}
	old := now.Add(-time.Hour)
	for value, t := range s.state.Refresh {
		if !t.Expires.IsZero() && t.Expires.Before(old) {
			delete(s.state.Refresh, value)
		}
	}
	for value, t := range s.state.Access {
		if t.Expires.Before(old) {
			delete(s.state.Access, value)
		}
	}
	for value, one := range s.codes {
		if one.expires.Before(old) {
			delete(s.codes, value)
		}
	}
}

// changed schedules a write of the state file, within half a second. The caller holds the lock.
func (s *Sandbox) changed() {
	if s.o.StateFile == "" || s.saveTimer != nil || s.closed || s.stateErr != nil {
		return
	}
	s.saveTimer = time.AfterFunc(500*time.Millisecond, func() { s.save() })
}

// save writes the state beside its file and moves it into place.
func (s *Sandbox) save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.saveTimer != nil {
		s.saveTimer.Stop()
		s.saveTimer = nil
	}
	if s.o.StateFile == "" || s.stateErr != nil {
		return s.stateErr
	}
	raw, err := json.Marshal(s.state)
	if err == nil {
		err = os.WriteFile(s.o.StateFile+".new", raw, 0o600)
	}
	if err == nil {
		err = os.Rename(s.o.StateFile+".new", s.o.StateFile)
	}
	if err != nil {
		s.stateErr = fmt.Errorf("sandbox: write state: %w", err)
	}
	return s.stateErr
}

func (s *Sandbox) load() {
	if s.o.StateFile != "" {
		raw, err := os.ReadFile(s.o.StateFile)
		if errors.Is(err, fs.ErrNotExist) {
			err = os.MkdirAll(filepath.Dir(s.o.StateFile), 0o700)
		} else if err == nil {
			err = json.Unmarshal(raw, &s.state)
		}
		if err != nil {
			s.state = state{}
			s.stateErr = fmt.Errorf("sandbox: read state: %w", err)
		}
	}
	st := &s.state
	if len(st.Key) == 0 {
		st.Key = make([]byte, 32)
		rand.Read(st.Key)
	}
	st.Grants = made(st.Grants)
	st.Refresh = made(st.Refresh)
	st.Access = made(st.Access)
	st.Callbacks = made(st.Callbacks)
	st.Hooks = made(st.Hooks)
	for value := range st.Refresh {
		s.remember(value)
	}
	for value := range st.Access {
		s.remember(value)
	}
}

func made[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

// token returns n random bytes in hex.
func token(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
