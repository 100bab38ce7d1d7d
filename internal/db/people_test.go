package db_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

func opened(t *testing.T) (*db.DB, *dbtest.Clock) {
	t.Helper()
	clock := dbtest.NewClock(time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC))
	return dbtest.New(t, pg.Options{Clock: clock.Clock}), clock
}

func addUser(t *testing.T, d *db.DB, role, email string) db.User {
	t.Helper()
	n := db.NewUser{Role: role, Email: email, Password: "a long password"}
	if role == db.RoleMerchant {
		n.MerchantName = "CH168 Shop"
	}
	u, err := d.AddUser(context.Background(), audit.System, n)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestReserveQueuesAndNeverRefusesForGood(t *testing.T) {
	d, clock := opened(t)
	ctx := context.Background()
	limit := pg.Limit{Burst: 3, Every: 2 * time.Second}
	reserve := func(key string) (time.Duration, bool) {
		t.Helper()
		wait, ok, err := d.Wait(ctx, key, limit, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return wait, ok
	}
	for i, want := range []struct {
		wait time.Duration
		ok   bool
	}{
		{0, true},
		{0, true},
		{0, true},
		{2 * time.Second, true},
		{4 * time.Second, true},
		{time.Second, false},
		{time.Second, false}, // refusals take no place: however many there are, the wait stays
	} {
		if wait, ok := reserve("a"); wait != want.wait || ok != want.ok {
			t.Errorf("try %d: wait %v, ok %v; want %v, %v", i+1, wait, ok, want.wait, want.ok)
		}
	}
	if wait, ok := reserve("b"); wait != 0 || !ok {
		t.Errorf("another key waits %v, ok %v", wait, ok)
	}
	clock.Advance(time.Second)
	if wait, ok := reserve("a"); wait != 5*time.Second || !ok {
		t.Errorf("after the wait that was told: wait %v, ok %v; want 5s, true", wait, ok)
	}
	clock.Advance(time.Minute)
	if wait, ok := reserve("a"); wait != 0 || !ok {
		t.Errorf("after a minute's rest: wait %v, ok %v", wait, ok)
	}
}

func TestReserveGivesEachPlaceOnce(t *testing.T) {
	d, _ := opened(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	places := map[time.Duration]int{}
	for range 20 {
		wg.Go(func() {
			wait, ok, err := d.Wait(context.Background(), "crowd", pg.Limit{Burst: 1, Every: time.Second}, 9*time.Second)
			if err != nil {
				t.Error(err)
			}
			if ok {
				mu.Lock()
				places[wait]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for i := range 10 {
		if n := places[time.Duration(i)*time.Second]; n != 1 {
			t.Errorf("the place after %d s was given %d times: %v", i, n, places)
		}
	}
}

func TestAuthenticate(t *testing.T) {
	d, _ := opened(t)
	ctx := context.Background()
	u := addUser(t, d, db.RoleMerchant, "Sok@ch168.example")
	if got, err := d.Authenticate(ctx, " sok@CH168.example ", "a long password"); err != nil || got.ID != u.ID {
		t.Errorf("the right password: %v, %v", got.ID, err)
	}
	invited, err := d.AddUser(ctx, audit.System, db.NewUser{Role: db.RoleSupport, Email: "new@patchbay.example"})
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string][2]string{
		"wrong": {u.Email, "another password"}, "nobody": {"nobody@ch168.example", "a long password"},
		"invited, without one": {invited.Email, ""}, "empty": {u.Email, ""},
	} {
		if _, err := d.Authenticate(ctx, try[0], try[1]); !errors.Is(err, db.ErrPassword) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := d.LockUser(ctx, audit.System, u.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Authenticate(ctx, u.Email, "a long password"); !errors.Is(err, db.ErrPassword) {
		t.Errorf("locked: %v", err)
	}
}

func TestAuthenticateRenewsOldHashes(t *testing.T) {
	d, _ := opened(t)
	ctx := context.Background()
	u := addUser(t, d, db.RoleAdmin, "admin@patchbay.example")
	// "a long password" as 8 MiB, once over.
	const old = "$argon2id$v=19$m=8192,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$6mjSO2hB86okIVH7ExMK/MX/lQ0v4OCtUgSZMsrjWE8"
	hash := func() (h string) {
		t.Helper()
		if err := d.Pool.QueryRow(ctx, `SELECT password_hash FROM users WHERE id = $1`, u.ID).Scan(&h); err != nil {
			t.Fatal(err)
		}
		return h
	}
	if _, err := d.Pool.Exec(ctx, `UPDATE users SET password_hash = $2 WHERE id = $1`, u.ID, old); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Authenticate(ctx, u.Email, "a long password"); err != nil {
		t.Fatal(err)
	}
	if h := hash(); len(h) < 30 || h[:29] != "$argon2id$v=19$m=19456,t=2,p=" {
		t.Errorf("the hash was not renewed: %.30s", h)
	}
	if _, err := d.Authenticate(ctx, u.Email, "a long password"); err != nil {
		t.Errorf("after renewing: %v", err)
	}
}

func TestMerchantsOfOneName(t *testing.T) {
	d, _ := opened(t)
	ctx := context.Background()
	add := func(email string) (db.User, error) {
		return d.AddUser(ctx, audit.System, db.NewUser{Role: db.RoleMerchant, Email: email, MerchantName: "Sok Shop", Password: "a long password"})
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if _, err := add(fmt.Sprintf("u%d@sok.example", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	m, err := d.MerchantByName(ctx, "sok shop")
	if err != nil {
		t.Fatalf("four people at once made other than one merchant: %v", err)
	}
	if _, err := d.AddMerchant(ctx, audit.System, db.Merchant{Name: "SOK SHOP", ExternalID: "shop-17"}); err != nil {
		t.Fatal(err)
	}
	if _, err := add("late@sok.example"); !errors.Is(err, db.ErrAmbiguousName) {
		t.Errorf("a name that two have: %v", err)
	}
	if _, err := d.AddUser(ctx, audit.System, db.NewUser{Role: db.RoleMerchant, Email: "late@sok.example", MerchantID: m.ID}); err != nil {
		t.Errorf("by id: %v", err)
	}
	if _, err := d.AddMerchant(ctx, audit.System, db.Merchant{Name: "Other", ExternalID: "shop-17"}); !errors.Is(err, db.ErrExternalIDTaken) {
		t.Errorf("an external id twice: %v", err)
	}
	for name, n := range map[string]struct {
		new  db.NewUser
		want error
	}{
		"staff with a merchant":   {db.NewUser{Role: db.RoleAdmin, Email: "x@y.example", MerchantName: "Sok Shop"}, db.ErrRole},
		"a merchant's without":    {db.NewUser{Role: db.RoleMerchant, Email: "x@y.example"}, db.ErrRole},
		"no such role":            {db.NewUser{Role: "owner", Email: "x@y.example"}, db.ErrRole},
		"no such merchant":        {db.NewUser{Role: db.RoleMerchant, Email: "x@y.example", MerchantID: pg.NewID()}, pg.ErrNotFound},
		"no e-mail address":       {db.NewUser{Role: db.RoleAdmin, Email: "Sok <x@y.example>"}, db.ErrEmail},
		"an e-mail address twice": {db.NewUser{Role: db.RoleAdmin, Email: "LATE@sok.example"}, db.ErrEmailTaken},
	} {
		if _, err := d.AddUser(ctx, audit.System, n.new); !errors.Is(err, n.want) {
			t.Errorf("%s: %v, want %v", name, err, n.want)
		}
	}
}

func TestTheLastAdminStays(t *testing.T) {
	d, _ := opened(t)
	ctx := context.Background()
	a, b := addUser(t, d, db.RoleAdmin, "a@patchbay.example"), addUser(t, d, db.RoleAdmin, "b@patchbay.example")
	if _, err := d.AddUser(ctx, audit.System, db.NewUser{Role: db.RoleAdmin, Email: "invited@patchbay.example"}); err != nil {
		t.Fatal(err) // who cannot sign in yet does not count
	}
	// Two admins who put each other out at once, again and again: one of them must stay.
	for range 5 {
		var wg sync.WaitGroup
		errs := make([]error, 2)
		wg.Go(func() { errs[0] = d.SetRole(ctx, audit.System, b.ID, db.RoleSupport) })
		wg.Go(func() { errs[1] = d.LockUser(ctx, audit.System, a.ID) })
		wg.Wait()
		refused := 0
		for _, err := range errs {
			if errors.Is(err, db.ErrLastAdmin) {
				refused++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if refused != 1 {
			t.Fatalf("%d of 2 refused: %v", refused, errs)
		}
		if errs[0] == nil {
			if err := d.SetRole(ctx, audit.System, b.ID, db.RoleAdmin); err != nil {
				t.Fatal(err)
			}
		} else if err := d.UnlockUser(ctx, audit.System, a.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.SetRole(ctx, audit.System, addUser(t, d, db.RoleMerchant, "m@shop.example").ID, db.RoleAdmin); !errors.Is(err, db.ErrRole) {
		t.Errorf("a merchant's person became staff: %v", err)
	}
}

func TestSessionsEnd(t *testing.T) {
	d, clock := opened(t)
	ctx := context.Background()
	u := addUser(t, d, db.RoleMerchant, "sok@ch168.example")
	begin := func() pg.Secret {
		t.Helper()
		secret := pg.NewSecret()
		if err := d.AddSession(ctx, secret, u.ID, "192.0.2.7", "Mozilla/5.0"); err != nil {
			t.Fatal(err)
		}
		return secret
	}
	in := func(secret pg.Secret) bool {
		t.Helper()
		_, err := d.SignedInBy(ctx, secret)
		if err != nil && !errors.Is(err, pg.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}

	idle := begin()
	got, err := d.SignedInBy(ctx, idle)
	if err != nil || got.User.ID != u.ID || got.Merchant.Name != "CH168 Shop" || got.Merchant.ID != u.MerchantID {
		t.Fatalf("signed in as %+v, %v", got, err)
	}
	clock.Advance(db.SessionIdle - time.Second)
	if !in(idle) {
		t.Error("over before its idle time")
	}
	clock.Advance(time.Second)
	if in(idle) {
		t.Error("not over after its idle time")
	}

	busy := begin()
	for passed := time.Duration(0); passed < db.SessionLifetime-time.Hour; passed += time.Hour {
		if err := d.TouchSession(ctx, busy.Hash(), "192.0.2.8", "Mozilla/5.0"); err != nil {
			t.Fatal(err)
		}
		clock.Advance(time.Hour)
	}
	if !in(busy) {
		t.Error("over while it was used")
	}
	clock.Advance(time.Hour)
	if in(busy) {
		t.Error("not over after its whole lifetime")
	}

	one, two := begin(), begin()
	if err := d.EndSession(ctx, u.ID, one.Hash()); err != nil {
		t.Fatal(err)
	}
	if in(one) || !in(two) {
		t.Error("ending one session ended another, or not that one")
	}
	if err := d.EndSession(ctx, pg.NewID(), two.Hash()); err != nil || !in(two) {
		t.Error("somebody else ended a session")
	}
	if err := d.LockUser(ctx, audit.System, u.ID); err != nil {
		t.Fatal(err)
	}
	if err := d.UnlockUser(ctx, audit.System, u.ID); err != nil {
		t.Fatal(err)
	}
	if in(two) {
		t.Error("a session outlived its user's being locked")
	}
	if err := d.DropOld(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestLinksAreSpentOnce(t *testing.T) {
	d, clock := opened(t)
	ctx := context.Background()
	u, err := d.AddUser(ctx, audit.System, db.NewUser{Role: db.RoleMerchant, Email: "sok@ch168.example", MerchantName: "CH168 Shop"})
	if err != nil {
		t.Fatal(err)
	}
	link := func(kind string) pg.Secret {
		t.Helper()
		secret, _, err := d.AddLink(ctx, audit.System, kind, u.ID, pg.ID{})
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	first, second := link(db.LinkInvitation), link(db.LinkInvitation)
	for range 3 { // a mail scanner
		if l, err := d.Link(ctx, db.LinkInvitation, first); err != nil || l.User.Email != u.Email || l.Merchant.Name != "CH168 Shop" {
			t.Fatalf("reading a link: %+v, %v", l, err)
		}
	}
	if _, err := d.Link(ctx, db.LinkPassword, first); !errors.Is(err, db.ErrLink) {
		t.Errorf("a link of another kind: %v", err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { _, errs[i] = d.SetPassword(ctx, db.LinkInvitation, first, "Sok", "a long password", "") })
	}
	wg.Wait()
	spent := 0
	for _, err := range errs {
		if err == nil {
			spent++
		} else if !errors.Is(err, db.ErrLink) {
			t.Error(err)
		}
	}
	if spent != 1 {
		t.Errorf("spent %d times", spent)
	}
	if _, err := d.Link(ctx, db.LinkInvitation, second); !errors.Is(err, db.ErrLink) {
		t.Errorf("another link of the same person after it: %v", err)
	}
	forgotten := link(db.LinkPassword)
	clock.Advance(time.Hour)
	if _, err := d.SetPassword(ctx, db.LinkPassword, forgotten, "", "another password", ""); !errors.Is(err, db.ErrLink) {
		t.Errorf("after an hour: %v", err)
	}
	locked := link(db.LinkPassword)
	if err := d.LockUser(ctx, audit.System, u.ID); err != nil {
		t.Fatal(err)
	}
	if err := d.UnlockUser(ctx, audit.System, u.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Link(ctx, db.LinkPassword, locked); !errors.Is(err, db.ErrLink) {
		t.Errorf("a link outlived its person's being locked: %v", err)
	}
}

func TestChangePasswordEndsOtherSessions(t *testing.T) {
	d, _ := opened(t)
	ctx := context.Background()
	u := addUser(t, d, db.RoleSupport, "s@patchbay.example")
	here, there := pg.NewSecret(), pg.NewSecret()
	for _, secret := range []pg.Secret{here, there} {
		if err := d.AddSession(ctx, secret, u.ID, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	by := audit.Actor{Kind: u.Role, ID: u.ID}
	if err := d.ChangePassword(ctx, by, u.ID, "not the old one", "a longer password", here.Hash()); !errors.Is(err, db.ErrPassword) {
		t.Errorf("with a wrong old one: %v", err)
	}
	if err := d.ChangePassword(ctx, by, u.ID, "a long password", "a longer password", here.Hash()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.SignedInBy(ctx, here); err != nil {
		t.Errorf("this session: %v", err)
	}
	if _, err := d.SignedInBy(ctx, there); !errors.Is(err, pg.ErrNotFound) {
		t.Errorf("the other session: %v", err)
	}
	if _, err := d.Authenticate(ctx, u.Email, "a long password"); !errors.Is(err, db.ErrPassword) {
		t.Errorf("the old password: %v", err)
	}
}

func TestListsOfPeopleAndMerchants(t *testing.T) {
	d, _ := opened(t)
	ctx := context.Background()
	for i := range 7 {
		m, err := d.AddMerchant(ctx, audit.System, db.Merchant{Name: fmt.Sprintf("Shop %d", i), ExternalID: fmt.Sprintf("shop_%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.AddUser(ctx, audit.System, db.NewUser{Role: db.RoleMerchant, Email: fmt.Sprintf("p%d@shop.example", i), MerchantID: m.ID}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.AddMerchant(ctx, audit.System, db.Merchant{Name: "ក្រុមហ៊ុនស៊ីអេច១៦៨"}); err != nil {
		t.Fatal(err)
	}
	admin := addUser(t, d, db.RoleAdmin, "admin@patchbay.example")

	page, err := d.ListMerchants(ctx, "", pg.ID{}, pg.ID{}, 3)
	if err != nil || len(page) != 3 || page[0].Name != "Shop 0" || page[0].People != 1 {
		t.Fatalf("the first page: %+v, %v", page, err)
	}
	next, err := d.ListMerchants(ctx, "", page[2].ID, pg.ID{}, 3)
	if err != nil || len(next) != 3 || next[0].Name != "Shop 3" {
		t.Fatalf("the next page: %+v, %v", next, err)
	}
	back, err := d.ListMerchants(ctx, "", pg.ID{}, next[0].ID, 3)
	if err != nil || len(back) != 3 || back[0].ID != page[0].ID {
		t.Fatalf("back again: %+v, %v", back, err)
	}
	for search, want := range map[string]string{"shop_4": "Shop 4", "ស៊ីអេច": "ក្រុមហ៊ុនស៊ីអេច១៦៨", "SHOP 5": "Shop 5"} {
		if found, err := d.ListMerchants(ctx, search, pg.ID{}, pg.ID{}, 3); err != nil || len(found) != 1 || found[0].Name != want {
			t.Errorf("%q finds %+v, %v", search, found, err)
		}
	}
	if found, err := d.ListMerchants(ctx, "shop%", pg.ID{}, pg.ID{}, 3); err != nil || len(found) != 0 {
		t.Errorf("a wildcard finds %+v, %v", found, err)
	}

	people, err := d.People(ctx, db.People{Role: db.RoleMerchant, Limit: 3})
	if err != nil || len(people) != 3 || people[0].Email != "p0@shop.example" || people[0].Merchant != "Shop 0" || !people[0].Invited {
		t.Fatalf("people: %+v, %v", people, err)
	}
	people, err = d.People(ctx, db.People{Before: "p3@shop.example", Role: db.RoleMerchant, Limit: 2})
	if err != nil || len(people) != 2 || people[0].Email != "p1@shop.example" {
		t.Fatalf("people before: %+v, %v", people, err)
	}
	people, err = d.People(ctx, db.People{Search: "ADMIN@", Limit: 3})
	if err != nil || len(people) != 1 || people[0].ID != admin.ID || !people[0].LastAdmin {
		t.Fatalf("people found: %+v, %v", people, err)
	}
}

func TestNoSecretOfAPersonIsReadableInADump(t *testing.T) {
	clock := dbtest.NewClock(time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC))
	where := dbtest.Make(t)
	d := where.Open(t, pg.Options{Clock: clock.Clock})
	ctx := context.Background()
	u := addUser(t, d, db.RoleMerchant, "sok@ch168.example")
	session := pg.NewSecret()
	if err := d.AddSession(ctx, session, u.ID, "192.0.2.7", "Mozilla/5.0"); err != nil {
		t.Fatal(err)
	}
	link, _, err := d.AddLink(ctx, audit.System, db.LinkPassword, u.ID, pg.ID{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.AddOutboxMail(ctx, db.OutboxMail{Recipient: u.Email, Subject: "ជ្រើសរើសពាក្យសម្ងាត់ថ្មី", Text: "https://connect.example/password/" + string(link)}); err != nil {
		t.Fatal(err)
	}
	kept, err := d.OutboxMails(ctx, 5)
	if err != nil || len(kept) != 1 || !bytes.Contains([]byte(kept[0].Text), []byte(link)) {
		t.Fatalf("the outbox: %v, %v", kept, err)
	}
	dump, err := exec.Command("pg_dump", "--data-only", where.URL).Output()
	if err != nil {
		t.Fatalf("pg_dump: %v", err)
	}
	if !bytes.Contains(dump, []byte(u.Email)) {
		t.Fatal("the dump is not of this database")
	}
	for name, secret := range map[string]string{"session": string(session), "link": string(link), "password": "a long password"} {
		if bytes.Contains(dump, []byte(secret)) {
			t.Errorf("the %s's secret is readable in a dump", name)
		}
	}
}

// TestForgivingMeanwhile: whoever asks just as everything is forgiven gets a place, not an error.
func TestForgivingMeanwhile(t *testing.T) {
	d := dbtest.New(t)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 150 {
				if _, err := d.Allow(ctx, "crowd", pg.Limit{Burst: 1, Every: time.Hour}); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				if err := d.ResetLimit(ctx, "crowd"); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
