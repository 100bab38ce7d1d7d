package db_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/text"
)

// sameNames are pairs that people would call one name, otherNames those that they would not.
var (
	sameNames = map[string][2]string{
		"case":                 {"SOK Shop", "sok shop"},
		"composition":          {"Montréal", "Montre\u0301al"},
		"width":                {"Ｓｏｋ Ｓｔｏｒｅ", "Sok Store"},
		"space":                {" Sok \u00a0 House ", "Sok House"},
		"invisible":            {"D\u200bara\u202e Shop\ufeff", "Dara Shop"},
		"Khmer between words":  {"ហាង\u200bលក់", "ហាងលក់"},
		"Arabic joiner":        {"می\u200cخواهم", "میخواهم"},
		"ligature":             {"ﬁne oﬃce", "fine office"},
		"sharp s":              {"Straße", "STRASSE"},
		"final sigma":          {"ΟΔΟΣ", "οδος"},
		"halfwidth katakana":   {"ｶﾞｽ", "ガス"},
		"Hangul":               {"\u1112\u1161\u11ab", "한"},
		"emoji with its shape": {"❤\ufe0f Shop", "❤ Shop"},
	}
	otherNames = map[string][2]string{
		"accent": {"Cafe", "Café"}, "digit": {"Shop 1", "Shop 2"}, "words": {"Vy Shop", "VyShop"}, "coeng": {"កត", "ក្ត"}, "script": {"ខ", "kh"},
	}
)

func TestMerchantsAreFoundHoweverTheirNameIsWritten(t *testing.T) {
	d := dbtest.New(t)
	ctx := t.Context()
	ensure := func(name string) (m db.Merchant) {
		t.Helper()
		err := d.Tx(ctx, func(tx pgx.Tx) (err error) {
			m, err = d.EnsureMerchant(ctx, tx, audit.System, name)
			return err
		})
		if err != nil {
			t.Fatalf("%+q: %v", name, err)
		}
		return m
	}
	for what, pair := range sameNames {
		first := ensure(pair[0])
		if second := ensure(pair[1]); second.ID != first.ID {
			t.Errorf("%s: %+q and %+q are two merchants", what, pair[0], pair[1])
		}
		if found, err := d.MerchantByName(ctx, pair[1]); err != nil || found.ID != first.ID {
			t.Errorf("%s: %+q is not found: %v", what, pair[1], err)
		}
	}
	for what, pair := range otherNames {
		if ensure(pair[0]).ID == ensure(pair[1]).ID {
			t.Errorf("%s: %q and %q are one merchant", what, pair[0], pair[1])
		}
	}
}

func TestKeysOfOneNameAreRefusedHoweverItIsWritten(t *testing.T) {
	d := dbtest.New(t)
	admin := audit.Actor{Role: audit.RoleAdmin, ID: dbtest.User(t, d, audit.RoleAdmin, "admin@patchbay.example", "a long password", "").ID}
	add := func(name string) error {
		_, _, err := d.AddAPIKey(t.Context(), admin, db.APIKey{Name: name, Scopes: db.Scopes()})
		return err
	}
	for what, pair := range sameNames {
		if err := add(pair[0]); err != nil {
			t.Fatal(err)
		}
		if err := add(pair[1]); !errors.Is(err, db.ErrKeyNameTaken) {
			t.Errorf("%s: %+q beside %+q: %v", what, pair[1], pair[0], err)
		}
	}
}

func TestNamesOfMerchantsAndKeys(t *testing.T) {
	d := dbtest.New(t)
	for what, c := range map[string]struct {
		name string
		want error
	}{
		"none":                       {"", db.ErrNoName},
		"a zero-width space":         {"\u200b", db.ErrNoName},
		"a Hangul filler":            {"\u3164", db.ErrNoName},
		"an override":                {"\u202e", db.ErrNoName},
		"a Braille blank":            {"\u2800 \u2800", db.ErrNoName},
		"200 Khmer letters":          {strings.Repeat("ក", 200), nil},
		"201 Khmer letters":          {strings.Repeat("ក", 201), text.ErrTooLong},
		"200 emoji":                  {strings.Repeat("🙂", 200), nil},
		"200 decomposed letters":     {strings.Repeat("e\u0301", 200), nil},
		"200 that become two in NFC": {strings.Repeat("\u0958", 200), nil},
		"201 Latin letters":          {strings.Repeat("x", 201), text.ErrTooLong},
	} {
		if _, err := d.AddMerchant(t.Context(), audit.System, db.Merchant{Name: c.name}); !errors.Is(err, c.want) {
			t.Errorf("a merchant with %s: %v", what, err)
		}
		if _, _, err := d.AddAPIKey(t.Context(), audit.System, db.APIKey{Name: c.name, Scopes: db.Scopes()}); !errors.Is(err, c.want) {
			t.Errorf("a key with %s: %v", what, err)
		}
	}
}

func TestExternalIDsAreFoundHoweverTheyAreWritten(t *testing.T) {
	d := dbtest.New(t)
	ctx := t.Context()
	for stored, asked := range map[string]string{
		"shop-1": " shop-1\u200b", "caf\u00e9": "cafe\u0301", "Shop 2": "Shop  2", "\u202eshop-3": "shop-3", "ហាង\u200bលក់": "ហាង\u200bលក់",
	} {
		m, err := d.AddMerchant(ctx, audit.System, db.Merchant{Name: "Shop", ExternalID: stored})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{stored, asked} {
			if found, err := d.MerchantByExternalID(ctx, id); err != nil || found.ID != m.ID {
				t.Errorf("%+q is not found as %+q: %v", stored, id, err)
			}
		}
	}
	if _, err := d.Pool.Exec(ctx, `INSERT INTO merchants (id, external_id, name, created_at) VALUES ($1, $2, 'Old', now())`, pg.NewID(), "old  \u200bid"); err != nil {
		t.Fatal(err)
	}
	if m, err := d.MerchantByExternalID(ctx, "old  \u200bid"); err != nil || m.Name != "Old" {
		t.Errorf("an id that was kept as it was sent is not found: %v", err)
	}
}

func TestInvisibleLettersDoNotKeepASearchFromFinding(t *testing.T) {
	d := dbtest.New(t)
	m := dbtest.Merchant(t, d, "ហាង\u200bលក់ Montréal Supply")
	for _, typed := range []string{"ហាងលក់", "montreal", "Mon\u00adtre\u0301al", "\u202eSUPPLY\u202c", "Ｓｕｐｐｌｙ", "su\u2066pply", "ហាង\u200bលក់"} {
		if found, err := d.MerchantsNamed(t.Context(), typed); err != nil || len(found) != 1 || found[0] != m.ID {
			t.Errorf("%+q finds %v, %v", typed, found, err)
		}
	}
}

// TestWhatIsKeptOfANameIsTheSameName tries names made of letters that Unicode and Postgres treat in ways of their own.
func TestWhatIsKeptOfANameIsTheSameName(t *testing.T) {
	d := dbtest.New(t)
	letters := []rune("aZß\u1e9eςΣİıſﬁＡ가\u1112\u1161\u11ab\u0301\u0323\u0345\u1fb3កា\u17d2\u200b\u200d\u200c\u202e\u2069\u00a0\u3000 \u2800\ufe0f❤👨🏽\u13e5\uab70ｶﾞ\u0958\ufb2cشمی\u3164\u00ad½№")
	random := rand.New(rand.NewPCG(9, 8))
	var all []string
	for range 3000 {
		s := make([]rune, 1+random.IntN(8))
		for i := range s {
			s[i] = letters[random.IntN(len(letters))]
		}
		if name := text.Name(string(s)); name != "" {
			all = append(all, name)
		}
	}
	rows, err := d.Pool.Query(t.Context(), `SELECT n, name_fold(n), name_fold(name_fold(n)), name_fold(E'\u202e \u00a0' || replace(n, ' ', E' \u3000') || E'\u200b') FROM unnest($1::text[]) n`, all)
	if err != nil {
		t.Fatal(err)
	}
	var name, once, twice, spaced string
	if _, err := pgx.ForEachRow(rows, []any{&name, &once, &twice, &spaced}, func() error {
		if once != twice || once != spaced {
			t.Errorf("%+q: %+q, again %+q, with space %+q", name, once, twice, spaced)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
