package account_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/status"
	"patchbay/internal/text"
)

const issuer = "https://id.platform.example"

// person is one of the platform's staff.
func person(subject string, role audit.Role) account.Person {
	return account.Person{Issuer: issuer, Subject: subject, Name: "Dara " + subject, Email: subject + "@platform.example", Role: role}
}

// enter signs a person in and opens a session.
func enter(t *testing.T, accounts *account.Store, p account.Person) (account.User, pg.Secret) {
	t.Helper()
	u, err := accounts.SignInPerson(t.Context(), p, audit.Actor{})
	if err != nil {
		t.Fatal(err)
	}
	secret := pg.NewSecret()
	if err := accounts.AddSession(t.Context(), secret, u, "", ""); err != nil {
		t.Fatal(err)
	}
	return u, secret
}

func isOpen(t *testing.T, accounts *account.Store, secret pg.Secret) bool {
	t.Helper()
	_, err := accounts.SignedInBy(t.Context(), secret)
	if err != nil && !errors.Is(err, pg.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func TestAPersonIsTheirIssuerAndSubject(t *testing.T) {
	_, accounts, _ := opened(t)
	first, _ := enter(t, accounts, person("42", audit.RoleAdmin))
	renamed := person("42", audit.RoleAdmin)
	renamed.Name, renamed.Email = "Dara Sok", "dara@elsewhere.example"
	u, err := accounts.SignInPerson(t.Context(), renamed, audit.Actor{})
	if err != nil || u.ID != first.ID || u.Name != "Dara Sok" || u.Email != "dara@elsewhere.example" {
		t.Errorf("the same subject with another address is %+v %v, want the user of before", u, err)
	}
	for name, change := range map[string]func(*account.Person){
		"another subject":             func(p *account.Person) { p.Subject = "43" },
		"the subject in other case":   func(p *account.Person) { p.Subject = "A42" },
		"the subject at another one":  func(p *account.Person) { p.Issuer = "https://id.other.example" },
		"the issuer with a path":      func(p *account.Person) { p.Issuer += "/realm" },
		"a subject with the issuer's": func(p *account.Person) { p.Issuer, p.Subject = "https://id", ".platform.example42" },
	} {
		p := renamed // the same name and address
		change(&p)
		if other, err := accounts.SignInPerson(t.Context(), p, audit.Actor{}); err != nil || other.ID == first.ID {
			t.Errorf("%s: %v %v, want another user", name, other.ID, err)
		}
	}
}

func TestAnAddressTakesNoAccountOver(t *testing.T) {
	d, accounts, _ := opened(t)
	local := addUser(t, d, accounts, audit.RoleAdmin, "boss@platform.example")
	p := person("boss", audit.RoleSupport)
	for _, address := range []string{"boss@platform.example", "BOSS@platform.example", " boss@platform.example "} {
		p.Email = address
		if u, err := accounts.SignInPerson(t.Context(), p, audit.Actor{}); err != nil || u.ID == local.ID || u.Role != audit.RoleSupport {
			t.Errorf("%q is %+v %v, want another user than the local one", address, u, err)
		}
	}
	if u, err := accounts.UserByEmail(t.Context(), "boss@platform.example"); err != nil || u.ID != local.ID || u.SSO {
		t.Errorf("the address leads to %+v %v", u, err)
	}
	if u, err := accounts.Authenticate(t.Context(), "boss@platform.example", "a long password", true); err != nil || u.ID != local.ID {
		t.Errorf("the password leads to %+v %v", u, err)
	}
	// The other way round: a local user may be added whose address the platform's sign-in has named.
	enter(t, accounts, person("late", audit.RoleSupport))
	if _, err := accounts.AddUser(t.Context(), audit.System, account.NewUser{Role: audit.RoleSupport, Email: "late@platform.example"}); err != nil {
		t.Error(err)
	}
}

func TestAPersonHasNoPasswordAndGetsNone(t *testing.T) {
	_, accounts, _ := opened(t)
	u, _ := enter(t, accounts, person("42", audit.RoleAdmin))
	if u.Invited {
		t.Error("they are shown as invited")
	}
	for _, password := range []string{"", "sso", "a long password"} {
		if _, err := accounts.Authenticate(t.Context(), u.Email, password, true); !errors.Is(err, account.ErrWrongPassword) {
			t.Errorf("the password %q: %v", password, err)
		}
		if is, err := accounts.IsPassword(t.Context(), u.ID, password); is || err != nil {
			t.Errorf("%q is their password: %v", password, err)
		}
		if _, err := accounts.ChangePassword(t.Context(), audit.System, u, password, "another long password", account.Session{}, nil); !errors.Is(err, account.ErrWrongPassword) {
			t.Errorf("changing from %q: %v", password, err)
		}
	}
	if _, err := accounts.UserByEmail(t.Context(), u.Email); !errors.Is(err, pg.ErrNotFound) {
		t.Errorf("the address is one to send a password link to: %v", err)
	}
	for _, kind := range []account.LinkKind{account.LinkPassword, account.LinkInvitation} {
		secret, _, err := accounts.AddLink(t.Context(), audit.System, kind, u.ID, pg.ID{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := accounts.SetPassword(t.Context(), kind, secret, "", "another long password", "", nil); !errors.Is(err, account.ErrInvalidLink) {
			t.Errorf("a link of the kind %s: %v", kind, err)
		}
	}
	if err := accounts.SetRole(t.Context(), audit.System, u.ID, audit.RoleSupport); !errors.Is(err, account.ErrInvalidRole) {
		t.Errorf("their role is set here: %v", err)
	}
}

func TestRolesAreJudgedAtEverySignIn(t *testing.T) {
	d, accounts, _ := opened(t)
	shop, other := dbtest.Merchant(t, d, "Sok Shop").ID, dbtest.Merchant(t, d, "Other Shop").ID
	steps := []struct {
		what     string
		role     audit.Role
		merchant pg.ID
		ends     bool // the sessions of before
	}{
		{"an admin", audit.RoleAdmin, pg.ID{}, false},
		{"the same again", audit.RoleAdmin, pg.ID{}, false},
		{"demoted", audit.RoleSupport, pg.ID{}, true},
		{"a merchant's", audit.RoleMerchant, shop, true},
		{"another merchant's", audit.RoleMerchant, other, true},
		{"promoted", audit.RoleAdmin, pg.ID{}, true},
	}
	var before pg.Secret
	for i, step := range steps {
		p := person("42", step.role)
		p.MerchantID = step.merchant
		u, secret := enter(t, accounts, p)
		if u.Role != step.role || u.MerchantID != step.merchant {
			t.Errorf("%s: %+v", step.what, u)
		}
		in, err := accounts.SignedInBy(t.Context(), secret)
		if err != nil || in.User.Role != step.role || in.Merchant.ID != step.merchant {
			t.Errorf("%s: the session is %+v %v", step.what, in, err)
		}
		if i > 0 && isOpen(t, accounts, before) == step.ends {
			t.Errorf("%s: the session of before is open: %v", step.what, !step.ends)
		}
		before = secret
	}
	if got := dbtest.Events(t, d, status.UserRoleChanged); got != 4 {
		t.Errorf("%d events of changed roles, want 4", got)
	}
	if got := dbtest.Events(t, d, status.UserAdded); got != 1 {
		t.Errorf("%d users were added, want 1", got)
	}
}

func TestWhoIsTurnedAwayLosesTheirSessions(t *testing.T) {
	d, accounts, _ := opened(t)
	_, secret := enter(t, accounts, person("42", audit.RoleAdmin))
	_, kept := enter(t, accounts, person("43", audit.RoleAdmin))
	for _, subject := range []string{"42", "a stranger"} {
		if err := accounts.RejectPerson(t.Context(), person(subject, ""), "no-role", audit.Actor{}); err != nil {
			t.Fatal(err)
		}
	}
	if isOpen(t, accounts, secret) || !isOpen(t, accounts, kept) {
		t.Error("not the sessions of the person who was turned away were ended")
	}
	if got := dbtest.Events(t, d, status.UserTurnedAway); got != 2 {
		t.Errorf("%d events, want 2", got)
	}
}

func TestWhoIsLockedHereStaysLocked(t *testing.T) {
	_, accounts, _ := opened(t)
	u, secret := enter(t, accounts, person("42", audit.RoleSupport))
	if err := accounts.LockUser(t.Context(), audit.System, u.ID); err != nil {
		t.Fatal(err)
	}
	if isOpen(t, accounts, secret) {
		t.Error("the session outlives the lock")
	}
	for _, role := range []audit.Role{audit.RoleSupport, audit.RoleAdmin} {
		if _, err := accounts.SignInPerson(t.Context(), person("42", role), audit.Actor{}); !errors.Is(err, account.ErrLocked) {
			t.Errorf("as %s: %v", role, err)
		}
	}
	if err := accounts.UnlockUser(t.Context(), audit.System, u.ID); err != nil {
		t.Fatal(err)
	}
	enter(t, accounts, person("42", audit.RoleSupport))
}

func TestTheLastAdminWithAPasswordStays(t *testing.T) {
	d, accounts, _ := opened(t)
	local := addUser(t, d, accounts, audit.RoleAdmin, "boss@platform.example")
	enter(t, accounts, person("42", audit.RoleAdmin))
	if err := accounts.LockUser(t.Context(), audit.System, local.ID); !errors.Is(err, account.ErrLastAdmin) {
		t.Errorf("%v: only the platform's provider knows whether the other can sign in", err)
	}
}

func TestTwoFirstSignInsAtOnceMakeOneUser(t *testing.T) {
	d, accounts, _ := opened(t)
	var all sync.WaitGroup
	users := make([]account.User, 6)
	for i := range users {
		all.Go(func() {
			var err error
			if users[i], err = accounts.SignInPerson(context.WithoutCancel(t.Context()), person("42", audit.RoleSupport), audit.Actor{}); err != nil {
				t.Error(err)
			}
		})
	}
	dbtest.Wait(t, &all, "the sign-ins")
	for _, u := range users {
		if u.ID != users[0].ID {
			t.Errorf("%v and %v", u.ID, users[0].ID)
		}
	}
	if got := dbtest.Events(t, d, status.UserAdded); got != 1 {
		t.Errorf("%d users were added", got)
	}
}

func TestSessionsOfAnotherIssuerEndAtTheStart(t *testing.T) {
	d, accounts, _ := opened(t)
	local := addUser(t, d, accounts, audit.RoleAdmin, "boss@platform.example")
	password := pg.NewSecret()
	if err := accounts.AddSession(t.Context(), password, local, "", ""); err != nil {
		t.Fatal(err)
	}
	_, secret := enter(t, accounts, person("42", audit.RoleAdmin))
	for _, step := range []struct {
		issuer string
		open   bool
	}{{issuer, true}, {issuer + "/", true}, {"https://id.other.example", false}} {
		if err := accounts.EndOtherIssuers(t.Context(), step.issuer); err != nil {
			t.Fatal(err)
		}
		if isOpen(t, accounts, secret) != step.open {
			t.Errorf("%s: the session is open: %v", step.issuer, !step.open)
		}
	}
	_, secret = enter(t, accounts, person("42", audit.RoleAdmin))
	if err := accounts.EndOtherIssuers(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if isOpen(t, accounts, secret) || !isOpen(t, accounts, password) {
		t.Error("without an issuer, not the sessions of the platform's sign-in were ended")
	}
}

// TestAnIdentityWrittenWithoutTheKeysetIsNobodys writes rows as the serving role can, to sign in as the admin.
func TestAnIdentityWrittenWithoutTheKeysetIsNobodys(t *testing.T) {
	for what, sql := range map[string]string{ // $1 the thief's user, $2 the admin's
		"the thief's identity is pointed at the admin": `UPDATE identities SET user_id = CASE user_id WHEN $1::uuid THEN $2::uuid ELSE $1::uuid END`,
		"the admin's identity has the thief's subject": `UPDATE identities SET subject = CASE user_id WHEN $1::uuid THEN 'x' WHEN $2::uuid THEN 'thief' END`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d, accounts, _ := opened(t)
			thief, _ := enter(t, accounts, person("thief", audit.RoleSupport))
			admin, _ := enter(t, accounts, person("admin", audit.RoleAdmin))
			if _, err := d.Pool.Exec(t.Context(), `ALTER TABLE identities DROP CONSTRAINT identities_user_id_key, DROP CONSTRAINT identities_issuer_subject_key`); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Pool.Exec(t.Context(), sql, thief.ID, admin.ID); err != nil {
				t.Fatal(err)
			}
			if u, err := accounts.SignInPerson(t.Context(), person("thief", audit.RoleAdmin), audit.Actor{}); err == nil && u.ID == admin.ID {
				t.Error("the thief is the admin")
			}
		})
	}
}

func TestWhatAProviderSaysOfAPersonIsBounded(t *testing.T) {
	_, accounts, _ := opened(t)
	for what, c := range map[string]struct{ name, email, wantName, wantEmail string }{
		"an ordinary name":             {"Dara Sok", "dara@sok.example", "Dara Sok", "dara@sok.example"},
		"no name":                      {"", "dara@sok.example", "dara@sok.example", "dara@sok.example"},
		"neither name nor address":     {"", "", "subject", ""},
		"what is no address":           {"Dara", "not an address", "Dara", ""},
		"a name within the address":    {"Dara", "Boss <boss@sok.example>", "Dara", ""},
		"a long name":                  {strings.Repeat("ក", 5000), "", strings.Repeat("ក", text.MaxName), ""},
		"a long address":               {"Dara", strings.Repeat("a", 250) + "@sok.example", "Dara", ""},
		"a name that turns text round": {"Dara\u202eSok\x00", "", "DaraSok", ""},
		"lines":                        {"Dara\r\nBcc: all", "dara@sok.example\r\nBcc: all@sok.example", "Dara Bcc: all", ""},
	} {
		u, err := accounts.SignInPerson(t.Context(), account.Person{Issuer: issuer, Subject: "subject", Name: c.name, Email: c.email, Role: audit.RoleSupport}, audit.Actor{})
		if err != nil || u.Name != c.wantName || u.Email != c.wantEmail {
			t.Errorf("%s: %q %q %v, want %q %q", what, u.Name, u.Email, err, c.wantName, c.wantEmail)
		}
	}
}
