package handlers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-webauthn/webauthn/protocol/webauthncbor"

	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/jobs"
	"patchbay/internal/status"
)

// newPasskeyServer starts a Patchbay under a name, since no passkey belongs to an IP address.
func newPasskeyServer(t *testing.T, options ...serverOption) *testServer {
	t.Helper()
	var asked serverOptions
	for _, option := range options {
		option(&asked)
	}
	h := newTestServer(t, append(options, withOptions(func(o *Options, work *jobs.Options) {
		if asked.change != nil {
			asked.change(o, work)
		}
		named := &url.URL{Scheme: "http", Host: "localhost:" + o.PublicURL.Port()}
		o.PublicURL, work.PublicURL = named, named
	}))...)
	h.url = h.server.PublicURL.String()
	return h
}

// authenticator is one with a passkey (WebAuthn section 6), and the browser before it.
type authenticator struct {
	t       *testing.T
	key     *ecdsa.PrivateKey
	id      []byte
	user    []byte // the user handle
	rpID    string
	origin  string
	flags   byte
	counter uint32
}

// Flags of WebAuthn section 6.1.
const (
	userPresent  = 0x01
	userVerified = 0x04
	attested     = 0x40
)

func newAuthenticator(h *testServer) *authenticator {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	a := &authenticator{t: h.t, key: key, id: make([]byte, 32), rpID: "localhost", origin: h.url, flags: userPresent | userVerified}
	rand.Read(a.id)
	return a
}

// askedFor are those parts of a challenge that the authenticator reads.
type askedFor struct {
	PublicKey struct {
		Challenge string
		User      struct{ ID string }
		RP        struct{ ID string }
		RPID      string
		Allow     []struct{ ID string } `json:"allowCredentials"`
		Verify    string                `json:"userVerification"`
		Select    struct {
			Verify   string `json:"userVerification"`
			Resident string `json:"residentKey"`
		} `json:"authenticatorSelection"`
	}
}

// challenge has the server give this browser a challenge.
func (p *person) challenge(purpose string) askedFor {
	p.t.Helper()
	got := p.post("/passkey-challenges", "purpose", purpose)
	if got.status != http.StatusOK {
		p.t.Fatalf("challenge for %s: %d %s", purpose, got.status, got.h1())
	}
	var o askedFor
	if err := json.Unmarshal([]byte(got.body), &o); err != nil {
		p.t.Fatal(err)
	}
	return o
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (a *authenticator) json(value any) []byte {
	a.t.Helper()
	b, err := json.Marshal(value)
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

func (a *authenticator) cbor(value any) []byte {
	a.t.Helper()
	b, err := webauthncbor.Marshal(value)
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

func (a *authenticator) data(flags byte) []byte {
	rp := sha256.Sum256([]byte(a.rpID))
	return binary.BigEndian.AppendUint32(append(rp[:], flags), a.counter)
}

func (a *authenticator) client(kind string, o askedFor) []byte {
	return a.json(map[string]any{"type": kind, "challenge": o.PublicKey.Challenge, "origin": a.origin, "crossOrigin": false})
}

func (a *authenticator) answer(response map[string]any) string {
	return string(a.json(map[string]any{"id": encode(a.id), "rawId": encode(a.id), "type": "public-key", "response": response, "clientExtensionResults": map[string]any{}}))
}

// create answers a challenge for "add".
func (a *authenticator) create(o askedFor) string {
	a.t.Helper()
	var err error
	if a.user, err = base64.RawURLEncoding.DecodeString(o.PublicKey.User.ID); err != nil {
		a.t.Fatal(err)
	}
	public, err := a.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		a.t.Fatal(err)
	}
	data := append(a.data(a.flags|attested), make([]byte, 16)...)
	data = binary.BigEndian.AppendUint16(data, uint16(len(a.id)))
	data = append(append(data, a.id...), a.cbor(map[int]any{1: 2, 3: -7, -1: 1, -2: public[1:33], -3: public[33:]})...)
	object := a.cbor(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data})
	return a.answer(map[string]any{"clientDataJSON": encode(a.client("webauthn.create", o)), "attestationObject": encode(object)})
}

// get answers a challenge for "proof" or "sign-in".
func (a *authenticator) get(o askedFor) string {
	a.t.Helper()
	a.counter++
	client, data := a.client("webauthn.get", o), a.data(a.flags)
	hash := sha256.Sum256(client)
	signed := sha256.Sum256(append(data[:len(data):len(data)], hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, signed[:])
	if err != nil {
		a.t.Fatal(err)
	}
	return a.answer(map[string]any{
		"clientDataJSON": encode(client), "authenticatorData": encode(data), "signature": encode(signature), "userHandle": encode(a.user),
	})
}

// addPasskey adds a passkey, and returns its authenticator and the answer.
func (p *person) addPasskey(h *testServer, name string) (*authenticator, answer) {
	p.t.Helper()
	a := newAuthenticator(h)
	return a, p.post("/account/second-factor", "do", "add-passkey", "name", name, "passkey", a.create(p.challenge("add")))
}

func TestAPasskeyIsASecondFactorAProofAndASignIn(t *testing.T) {
	t.Parallel()
	h := newPasskeyServer(t, required())
	h.startJobs()
	boss := h.staff(audit.RoleAdmin)
	if got := boss.get("/account/second-factor"); !got.has(`form[data-passkey=add][hidden] input[name=passkey]`) {
		t.Errorf("no passkey can be added: %d %s", got.status, got.h1())
	}
	asked := boss.challenge("add").PublicKey
	if asked.RP.ID != "localhost" || asked.Select.Verify != "required" || asked.Select.Resident != "required" {
		t.Errorf("the browser is asked for %+v", asked)
	}
	key, got := boss.addPasskey(h, "Work <laptop>")
	got = boss.follow(got)
	if got.status != http.StatusOK || len(recoveryShown.FindAllString(got.body, -1)) < 10 {
		t.Fatalf("the first second factor shows no recovery codes: %d %s", got.status, got.h1())
	}
	recovery := recoveryShown.FindString(got.body)
	h.mailTo(boss.email, "A second factor was set up")
	if got := boss.get("/admin"); got.status != http.StatusOK {
		t.Errorf("the session that added it: %d %s", got.status, got.location)
	}
	if got := boss.get("/account/second-factor"); !strings.Contains(got.body, "Work &lt;laptop&gt;") || !got.says("factor.left", "Count", 10) {
		t.Error("the page does not list the passkey, or count recovery codes")
	}

	second := h.visitor(boss.email)
	second.signIn("")
	if got := second.get("/admin"); !strings.HasPrefix(got.location, "/login/second-factor") {
		t.Fatalf("the password alone leads to %q (%d)", got.location, got.status)
	}
	if got := second.get("/login/second-factor"); !got.has("form[data-passkey=proof]") || got.has("input[name=code]") {
		t.Error("the page asks for another second factor than the user has")
	}
	if got := second.post("/login/second-factor", "passkey", key.get(second.challenge("proof")), "next", "/admin/keys"); got.location != "/admin/keys" {
		t.Fatalf("after the passkey: %d %q", got.status, got.location)
	}

	alone := h.visitor(boss.email)
	if got := alone.get("/login?next=/admin/users"); got.attribute("form[data-passkey=sign-in] input[name=next]", "value") != "/admin/users" {
		t.Error("the sign-in page offers no passkey")
	}
	o := alone.challenge("sign-in")
	if len(o.PublicKey.Allow) != 0 || o.PublicKey.Verify != "required" {
		t.Errorf("a challenge for nobody in particular: %+v", o)
	}
	before := h.events(status.UserSignedIn)
	if got := alone.post("/login/passkey", "passkey", key.get(o), "next", "/admin/users"); got.location != "/admin/users" {
		t.Fatalf("a passkey alone leads to %q (%d)", got.location, got.status)
	}
	if got := alone.get("/admin/users"); got.status != http.StatusOK {
		t.Errorf("after the passkey alone: %d %s", got.status, got.location)
	}
	if n := h.events(status.UserSignedIn) - before; n != 1 {
		t.Errorf("%d sign-ins are noted, want 1", n)
	}

	h.clock.Advance(16 * time.Minute)
	page := alone.post("/admin/keys", "name", "billing", "scope", "tokens:read")
	wantH1(t, page, words("proof.title"))
	if refused := alone.submit(page, "input[name=proof-passkey]", "proof-passkey", key.get(h.visitor(boss.email).challenge("sign-in"))); refused.status != http.StatusForbidden {
		t.Errorf("a proof by another browser's challenge: %d", refused.status)
	}
	made := alone.submit(page, "input[name=proof-passkey]", "proof-passkey", key.get(alone.challenge("proof")))
	if page := alone.follow(made); !strings.Contains(page.body, "billing") {
		t.Fatalf("after the proof: %d %s", made.status, made.h1())
	}
	if n := h.events(status.UserProved); n != 1 {
		t.Errorf("%d proofs are noted, want 1", n)
	}

	if _, got := alone.addPasskey(h, "Security key"); got.location != "/account/second-factor" {
		t.Fatalf("another passkey: %d %s", got.status, got.h1())
	}
	if got := alone.post("/account/second-factor", "do", "remove-passkey", "id", encode(key.id)); got.location != "/account/second-factor" {
		t.Fatalf("remove: %d %s", got.status, got.h1())
	}
	if got := alone.post("/account/second-factor", "do", "remove-passkey", "id", encode(key.id)); got.status != http.StatusBadRequest {
		t.Errorf("remove twice: %d %s", got.status, got.h1())
	}
	h.mailTo(boss.email, "A second factor of your account was turned off")
	if got := alone.get("/account/second-factor"); strings.Contains(got.body, "Work &lt;") || !strings.Contains(got.body, "Security key") {
		t.Error("another passkey than the removed one is gone")
	}
	if on, off := h.events(status.UserFactorOn), h.events(status.UserFactorOff); on != 2 || off != 1 {
		t.Errorf("%d additions and %d removals are noted, want 2 and 1", on, off)
	}
	lost := h.visitor(boss.email)
	lost.signIn("")
	if got := lost.post("/login/second-factor", "recovery", recovery); got.location != "/admin" {
		t.Errorf("a recovery code instead of a passkey leads to %q (%d)", got.location, got.status)
	}
}

func TestAPasskeyIsRefused(t *testing.T) {
	t.Parallel()
	h := newPasskeyServer(t)
	boss, other := h.staff(audit.RoleAdmin), h.staff(audit.RoleSupport)
	good, _ := boss.addPasskey(h, "Laptop")
	others, _ := other.addPasskey(h, "Laptop")
	removed, _ := boss.addPasskey(h, "Old laptop")
	if got := boss.post("/account/second-factor", "do", "remove-passkey", "id", encode(removed.id)); got.status != http.StatusSeeOther {
		t.Fatalf("remove: %d", got.status)
	}
	// with returns the good authenticator with a change, which does not last.
	with := func(change func(*authenticator)) func(*person, string) string {
		return func(p *person, purpose string) string {
			changed := *good
			change(&changed)
			defer func() { good.counter = max(good.counter, changed.counter) }()
			return changed.get(p.challenge(purpose))
		}
	}
	cases := map[string]func(p *person, purpose string) string{
		"an answer that is none": func(*person, string) string { return "{}" },
		"a replayed answer": func(p *person, purpose string) string {
			answer := good.get(p.challenge(purpose))
			if purpose == "sign-in" {
				p.post("/login/passkey", "passkey", answer)
				p.post("/logout")
			} else {
				p.post("/login/second-factor", "passkey", answer)
				p.post("/logout")
				p.signIn("")
			}
			return answer
		},
		"another browser's challenge": func(_ *person, purpose string) string {
			q := h.visitor(boss.email)
			if purpose == "proof" {
				q.signIn("")
			}
			return good.get(q.challenge(purpose))
		},
		"a challenge for another purpose": func(p *person, purpose string) string {
			if purpose == "proof" {
				q := h.visitor(boss.email)
				q.client = p.client
				q.post("/logout")
				o := q.challenge("sign-in")
				q.signIn("")
				return good.get(o)
			}
			p.signIn("")
			o := p.challenge("proof")
			p.post("/logout")
			return good.get(o)
		},
		"a challenge of its own making": func(*person, string) string {
			var o askedFor
			o.PublicKey.Challenge = encode(make([]byte, 32))
			return good.get(o)
		},
		"a challenge that is over": func(p *person, purpose string) string {
			o := p.challenge(purpose)
			h.clock.Advance(5*time.Minute + time.Second)
			return good.get(o)
		},
		"another origin":        with(func(a *authenticator) { a.origin = "https://localhost.example" }),
		"another port":          with(func(a *authenticator) { a.origin = "http://localhost:1" }),
		"another RP ID":         with(func(a *authenticator) { a.rpID = "localhost.example" }),
		"no user verification":  with(func(a *authenticator) { a.flags = userPresent }),
		"no user presence":      with(func(a *authenticator) { a.flags = userVerified }),
		"another key":           with(func(a *authenticator) { a.key = others.key }),
		"another user's handle": with(func(a *authenticator) { a.user = others.user }),
		"a handle of no user":   with(func(a *authenticator) { a.user = make([]byte, 16) }),
		"a handle that is none": with(func(a *authenticator) { a.user = []byte("boss") }),
		"a removed passkey":     func(p *person, purpose string) string { return removed.get(p.challenge(purpose)) },
	}
	for name, answer := range cases {
		for _, purpose := range []string{"sign-in", "proof"} {
			p := h.visitor(boss.email)
			path := "/login/passkey"
			if purpose == "proof" {
				path = "/login/second-factor"
				p.signIn("")
			}
			got := p.post(path, "passkey", answer(p, purpose))
			if got.status != http.StatusUnauthorized || !got.says("error.passkey") {
				t.Errorf("%s, %s: %d %s %s", purpose, name, got.status, got.h1(), got.location)
			}
			if got := p.get("/admin"); got.status == http.StatusOK {
				t.Errorf("%s, %s: it is let in", purpose, name)
			}
		}
	}
	if h.events(status.UserFactorFailed) == 0 || h.events(status.UserSignInFailed) == 0 {
		t.Error("refused passkeys are not noted")
	}
	if n := h.events(status.UserPasskeyCloned); n != 0 {
		t.Errorf("%d clones are noted before there is one", n)
	}
	clone := *good
	p := h.visitor(boss.email)
	if got := p.post("/login/passkey", "passkey", good.get(p.challenge("sign-in"))); got.location != "/admin" {
		t.Fatalf("the good passkey: %d %s", got.status, got.h1())
	}
	p = h.visitor(boss.email)
	if got := p.post("/login/passkey", "passkey", clone.get(p.challenge("sign-in"))); got.status != http.StatusUnauthorized {
		t.Errorf("a clone, whose counter is behind: %d %s", got.status, got.location)
	}
	if n := h.events(status.UserPasskeyCloned); n != 1 {
		t.Errorf("%d clones are noted, want 1", n)
	}

	for name, change := range map[string]func(*authenticator, *person) askedFor{
		"another origin": func(a *authenticator, p *person) askedFor {
			a.origin = "https://localhost.example"
			return p.challenge("add")
		},
		"another RP ID": func(a *authenticator, p *person) askedFor {
			a.rpID = "localhost.example"
			return p.challenge("add")
		},
		"no user verification": func(a *authenticator, p *person) askedFor {
			a.flags = userPresent
			return p.challenge("add")
		},
		"a passkey that is there": func(a *authenticator, p *person) askedFor {
			a.id = good.id
			return p.challenge("add")
		},
		"another user's challenge": func(_ *authenticator, _ *person) askedFor { return other.challenge("add") },
		"a challenge for a proof":  func(_ *authenticator, p *person) askedFor { return p.challenge("proof") },
	} {
		a := newAuthenticator(h)
		o := change(a, boss)
		o.PublicKey.User.ID = encode(good.user)
		boss.fresh(h, good)
		got := boss.post("/account/second-factor", "do", "add-passkey", "name", name, "passkey", a.create(o))
		if got.status != http.StatusUnprocessableEntity || !got.says("error.passkey") {
			t.Errorf("adding with %s: %d %s", name, got.status, got.h1())
		}
	}
}

// fresh proves who the person is, if the last proof is too old.
func (p *person) fresh(h *testServer, a *authenticator) {
	p.t.Helper()
	asked := p.post("/admin/keys")
	if asked.has("input[name=proof-passkey]") {
		p.submit(asked, "input[name=proof-passkey]", "proof-passkey", a.get(p.challenge("proof")))
	}
}

func TestPasskeysAreForStaffWithAPasswordWhoMaySignIn(t *testing.T) {
	t.Parallel()
	h := newPasskeyServer(t)
	boss, helper, shop := h.staff(audit.RoleAdmin), h.staff(audit.RoleSupport), h.merchant("CH168 Shop")
	key, _ := helper.addPasskey(h, "Laptop")
	half := h.visitor(helper.email)
	half.signIn("")
	for name, one := range map[string]struct {
		by      *person
		purpose string
	}{
		"a merchant adds":                    {shop, "add"},
		"a merchant proves":                  {shop, "proof"},
		"a half session adds":                {half, "add"},
		"a half session signs in":            {half, "sign-in"},
		"an admin without passkeys proves":   {boss, "proof"},
		"an admin who is signed in signs in": {boss, "sign-in"},
		"a stranger adds":                    {h.visitor(helper.email), "add"},
		"a stranger proves":                  {h.visitor(helper.email), "proof"},
		"no purpose":                         {boss, ""},
	} {
		if got := one.by.post("/passkey-challenges", "purpose", one.purpose); got.status != http.StatusForbidden {
			t.Errorf("%s: %d", name, got.status)
		}
	}
	if got := half.post("/account/second-factor", "do", "add-passkey", "name", "Mine", "passkey", "{}"); got.location != "/login/second-factor" {
		t.Errorf("a half session adds a passkey: %d %s", got.status, got.location)
	}
	p := h.visitor(helper.email)
	o := p.challenge("sign-in")
	u, err := h.accounts.UserByEmail(t.Context(), helper.email)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.accounts.LockUser(t.Context(), audit.System, u.ID); err != nil {
		t.Fatal(err)
	}
	if got := p.post("/login/passkey", "passkey", key.get(o)); got.status != http.StatusUnauthorized {
		t.Errorf("a locked user: %d %s", got.status, got.location)
	}
	if err := h.accounts.UnlockUser(t.Context(), audit.System, u.ID); err != nil {
		t.Fatal(err)
	}
	dbtest.ChangeSigned(t, h.db, `UPDATE users SET password_hash = 'sso' WHERE id = $1`, u.ID)
	if got := p.post("/login/passkey", "passkey", key.get(p.challenge("sign-in"))); got.status != http.StatusUnauthorized {
		t.Errorf("a user of the platform's sign-in: %d %s", got.status, got.location)
	}
}

func TestPasskeysAreNotOfferedAtAnIPAddress(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	boss := h.staff(audit.RoleAdmin)
	for path, p := range map[string]*person{"/login": h.visitor(boss.email), "/account/second-factor": boss} {
		if got := p.get(path); got.status != http.StatusOK || got.has("form[data-passkey]") {
			t.Errorf("%s: %d", path, got.status)
		}
	}
}
