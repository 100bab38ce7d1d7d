package account_test

import (
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

// TestASecondFactorIsSealedAnew: after a rotation the old key can be taken out of the keyset, and nobody is locked out.
func TestASecondFactorIsSealedAnew(t *testing.T) {
	t.Parallel()
	database := dbtest.Make(t)
	d := database.Open(t)
	accounts := account.New(d)
	dbtest.User(t, d, audit.RoleAdmin, "boss@platform.example", "a long password", "")
	in := signedIn(t, accounts)
	secret := accounts.NewSetup(in.User, in.Session, "Patchbay").Secret
	code, err := totp.GenerateCode(secret, d.Now())
	if err != nil {
		t.Fatal(err)
	}
	recovery, err := accounts.TurnOnCodes(t.Context(), audit.System, in.User, in.Session, pg.NewSecret(), code, nil)
	if err != nil {
		t.Fatal(err)
	}

	database = database.Rotated(t)
	rotated := database.Open(t)
	if _, err := rotated.Reseal(t.Context(), rotated.OlderKeys(), 0, nil); err != nil {
		t.Fatal(err)
	}
	last := database.Retired(t).Open(t)
	accounts = account.New(last)
	in = signedIn(t, accounts)
	if !in.Session.FactorPending {
		t.Error("the password alone signs in")
	}
	next, err := totp.GenerateCode(secret, last.Now().Add(30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for what, typed := range map[string]string{"a code": next, "a recovery code": recovery[0]} {
		fresh := pg.NewSecret()
		if err := accounts.Prove(t.Context(), audit.System, in.User, in.Session.Hash, fresh, typed, nil); err != nil {
			t.Errorf("%s after the rotation: %v", what, err)
		}
		in.Session.Hash = fresh.Hash()
	}
}

func signedIn(t *testing.T, accounts *account.Store) account.SignedIn {
	t.Helper()
	u, err := accounts.Authenticate(t.Context(), "boss@platform.example", "a long password", false)
	if err != nil {
		t.Fatal(err)
	}
	session := pg.NewSecret()
	if err := accounts.AddSession(t.Context(), session, u, "", ""); err != nil {
		t.Fatal(err)
	}
	in, err := accounts.SignedInBy(t.Context(), session)
	if err != nil {
		t.Fatal(err)
	}
	return in
}
