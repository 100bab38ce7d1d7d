package account_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/alexedwards/argon2id"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/text"
)

// passwordPairs are one password on two keyboards.
var passwordPairs = map[string][2]string{
	"French":     {"Montre\u0301al cafe\u0301 2026", "Montréal café 2026"},
	"Vietnamese": {"mật khẩu rất dài", "ma\u0323\u0302t kha\u0302\u0309u ra\u0302\u0301t da\u0300i"},
	"Hangul":     {"\u1112\u1161\u11ab\u1100\u1173\u11af 2026 Sok", "한글 2026 Sok"},
	"fullwidth":  {"ｒａｔｈｅｒ　ｌｏｎｇ　ｓｅｎｔｅｎｃｅ", "rather long sentence"},
	"ligature":   {"oﬃce ﬁne 2026", "office fine 2026"},
	"space":      {"long\u00a0password\u2003here", "long password here"},
	"katakana":   {"ｶﾞｽｽﾀﾝﾄﾞ2026", "ガススタンド2026"},
}

func TestAPasswordIsTheSameOnEveryKeyboard(t *testing.T) {
	d, accounts, _ := opened(t)
	ctx := t.Context()
	u := addUser(t, d, accounts, audit.RoleAdmin, "admin@patchbay.example")
	present := "a long password"
	for what, pair := range passwordPairs {
		for _, set := range pair {
			if _, err := accounts.ChangePassword(ctx, audit.Actor{Role: audit.RoleAdmin, ID: u.ID}, u, present, set, account.Session{}, nil); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			for _, typed := range pair {
				if _, err := accounts.Authenticate(ctx, u.Email, typed, false); err != nil {
					t.Errorf("%s: set as %+q, typed as %+q: %v", what, set, typed, err)
				}
				if is, err := accounts.IsPassword(ctx, u.ID, typed); err != nil || !is {
					t.Errorf("%s: %+q is not known for the person's own: %v", what, typed, err)
				}
				present = typed
			}
		}
	}
}

func TestOldHashesStillOpen(t *testing.T) {
	d, accounts, _ := opened(t)
	ctx := t.Context()
	u := addUser(t, d, accounts, audit.RoleAdmin, "admin@patchbay.example")
	for what, pair := range passwordPairs {
		raw := pair[0]
		if text.Password(raw) == raw {
			raw = pair[1]
		}
		hash, err := argon2id.CreateHash(raw, &argon2id.Params{Memory: 19 << 10, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32})
		if err != nil {
			t.Fatal(err)
		}
		dbtest.ChangeSigned(t, d, `UPDATE users SET password_hash = $2, mac = NULL WHERE id = $1`, u.ID, hash)
		if _, err := accounts.Authenticate(ctx, u.Email, raw, false); err != nil {
			t.Errorf("%s: the hash of the password as it was typed does not open: %v", what, err)
		}
		if _, err := accounts.Authenticate(ctx, u.Email, text.Password(raw), false); err != nil {
			t.Errorf("%s: the hash was not made anew: %v", what, err)
		}
	}
}

func TestAddressesAreFoundHoweverTheyAreWritten(t *testing.T) {
	d, accounts, _ := opened(t)
	ctx := t.Context()
	for kept, typed := range map[string][]string{
		"sok@shop.example":      {"SOK@SHOP.EXAMPLE", " sok@shop.example\u200b", "\u202esok@shop.example", "\ufeffsok@Shop.example"},
		"rémi@shop.example":     {"re\u0301mi@shop.example", "RE\u0301MI@shop.example"},
		"Dara@shop.example":     {"dara@Shop.Example", "dara\u00ad@shop.example"},
		"សុខ@shop.example":      {"សុខ@SHOP.example", "\u2068សុខ@shop.example\u2069"},
		"vy@bücher.example":     {"vy@xn--bcher-kva.example", "vy@BÜCHER.example", "VY@XN--BCHER-KVA.example", "vy@bu\u0308cher.example"},
		"vy@ហាង.example":        {"vy@ហាង.EXAMPLE", "vy@xn--m2e9c4c.example"},
		"vy+books@shop.example": {"vy+books@shop.example\r\n", "\u3000vy+books@shop.example"},
	} {
		u := addUser(t, d, accounts, audit.RoleMerchant, typed[0])
		for _, address := range append(typed, kept) {
			if found, err := accounts.UserByEmail(ctx, address); err != nil || found.ID != u.ID {
				t.Errorf("%+q is not found as %+q: %v", typed[0], address, err)
			}
			if _, err := accounts.Authenticate(ctx, address, "a long password", false); err != nil {
				t.Errorf("%+q does not sign in as %+q: %v", typed[0], address, err)
			}
			if _, err := accounts.AddUser(ctx, audit.System, account.NewUser{Role: audit.RoleSupport, Email: address}); !errors.Is(err, account.ErrEmailTaken) {
				t.Errorf("%+q beside %+q: %v", address, typed[0], err)
			}
		}
	}
}

func TestNamesOfUsers(t *testing.T) {
	_, accounts, _ := opened(t)
	ctx := t.Context()
	for i, c := range []struct {
		given, kept string
		want        error
	}{
		{"\u202eSok", "Sok", nil},
		{"\u200b\u2060", "", nil},
		{"Re\u0301mi", "Rémi", nil},
		{strings.Repeat("ក", 200), strings.Repeat("ក", 200), nil},
		{strings.Repeat("ក", 201), "", text.ErrTooLong},
		{" Sok\u3000 Dara ", "Sok Dara", nil},
	} {
		email := string(rune('a'+i)) + "@patchbay.example"
		u, err := accounts.AddUser(ctx, audit.System, account.NewUser{Role: audit.RoleSupport, Email: email, Name: c.given})
		if !errors.Is(err, c.want) || err == nil && u.Name != c.kept {
			t.Errorf("%.20q is added as %.20q, %v", c.given, u.Name, err)
		}
		if err != nil {
			continue
		}
		if err := accounts.SaveProfile(ctx, u.ID, c.given, "km"); err != nil {
			t.Fatal(err)
		}
		if saved, err := accounts.User(ctx, u.ID); err != nil || saved.Name != c.kept {
			t.Errorf("%.20q is saved as %.20q, %v", c.given, saved.Name, err)
		}
	}
}
