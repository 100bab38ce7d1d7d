package search_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/sample"
	"patchbay/internal/search"
	"patchbay/internal/status"
	"patchbay/internal/text"
)

// testDB is a database with a few merchants and connections, found by the words the tests use.
type testDB struct {
	t *testing.T
	d *db.DB
}

func newTestDB(t *testing.T) testDB { return testDB{t, dbtest.New(t)} }

func (l testDB) merchant(name, externalID string, emails ...string) pg.ID {
	l.t.Helper()
	m, err := l.d.AddMerchant(context.Background(), audit.System, db.Merchant{Name: name, ExternalID: externalID})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, email := range emails {
		if _, err := account.New(l.d).AddUser(context.Background(), audit.System, account.NewUser{Email: email, Role: audit.RoleMerchant, MerchantID: m.ID, Name: "Somebody"}); err != nil {
			l.t.Fatal(err)
		}
	}
	return m.ID
}

func (l testDB) connection(merchant pg.ID, provider, environment string, a connectors.Account, change ...string) pg.ID {
	l.t.Helper()
	id := pg.NewID()
	details, err := json.Marshal(a.Details)
	if err != nil {
		l.t.Fatal(err)
	}
	l.exec(`INSERT INTO connections (id, merchant_id, provider, environment, account_id, account_name, details, connected_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		id, merchant, provider, environment, a.ID, a.Name, details, l.d.Now())
	l.document(id, a)
	l.exec(`INSERT INTO grants (connection_id, provider, environment) VALUES ($1, $2, $3)`, id, provider, environment)
	for _, set := range change {
		l.exec(`UPDATE connections SET `+set+` WHERE id = $1`, id)
	}
	return id
}

func (l testDB) document(id pg.ID, a connectors.Account) {
	l.t.Helper()
	b := &pgx.Batch{}
	search.QueueDocument(b, id, db.SearchText(a))
	if err := l.d.Pool.SendBatch(context.Background(), b).Close(); err != nil {
		l.t.Fatal(err)
	}
}

func (l testDB) exec(sql string, args ...any) {
	l.t.Helper()
	if _, err := l.d.Pool.Exec(context.Background(), sql, args...); err != nil {
		l.t.Fatal(err)
	}
}

func (l testDB) list(f search.Filter) []pg.ID {
	l.t.Helper()
	page, err := l.d.Connections(context.Background(), f, nil, "", 50)
	if err != nil {
		l.t.Fatal(err)
	}
	var ids []pg.ID
	for _, line := range page.Rows {
		ids = append(ids, line.ID)
	}
	return ids
}

func TestSearchFindsWhatAMerchantReadsOut(t *testing.T) {
	l := newTestDB(t)
	shop := l.merchant("Riverside Bakery", "shop-17", "sokha.chan@riverside.example")
	other := l.merchant("Other Shop", "", "someone@elsewhere.example")
	ch168 := l.connection(shop, "caminvoice", "sandbox", connectors.Account{ID: "KHUID00001234", Name: "CH168 Co., Ltd", Details: []connectors.Detail{
		{Key: "moc_id", Value: "00098765"},
		{Key: "company_name_en", Value: "CH168 Co., Ltd"},
		{Key: "company_name_kh", Value: "ក្រុមហ៊ុនស៊ីអេច១៦៨"},
		{Key: "tin", Value: "1234567890"},
		{Key: "date_of_incorporation", Value: "2015-03-09"},
		{Key: "email", Value: "info@ch168.example"},
		{Key: "phone_number", Value: "+85512345678"},
	}})
	second := l.connection(other, "caminvoice", "sandbox", connectors.Account{ID: "KHUID00007777", Name: "Spoken Ltd", Details: []connectors.Detail{
		{Key: "tin", Value: "K009-8887771"}, {Key: "phone_number", Value: "+855 23 998 877"},
	}})
	for _, query := range []string{"K009-8887771", "K0098887771", "8887771", "023 998 877", "023998877", "+855 23 998 877", "+85523998877", "00855 23 998-877", "023-998-877", "០២៣ ៩៩៨ ៨៧៧", "23998877"} {
		if got := l.list(search.Filter{Query: query}); !slices.Equal(got, []pg.ID{second}) {
			t.Errorf("%q finds %d, not the one", query, len(got))
		}
	}
	l.connection(other, "caminvoice", "sandbox", connectors.Account{ID: "KHUID00009999", Name: "Épicerie Mékong SARL", Details: []connectors.Detail{
		{Key: "company_name_kh", Value: "ក្រុមហ៊ុនមេគង្គពាណិជ្ជកម្ម"}, {Key: "tin", Value: "9876501234"},
	}})
	for _, query := range []string{
		"Riverside", "riverside bak", "bakery ch168", "shop-17", "CH168", "ch168 co ltd", "Co., Ltd CH168", "ស៊ីអេច", "ក្រុមហ៊ុនស៊ីអេច១៦៨", "ស៊ី អេច",
		"1234567890", "12345", "67890", "១២៣៤៥៦៧៨៩០", "KHUID00001234", "khuid00001234", "0001234", "012 345 678", "(012) 345-678", "+855-12-345-678", "123-4567-890", "00098765", "sokha.chan@riverside.example", "SOKHA", "sokha riverside", "bakery chan", "info@ch168.example",
		"2015-03-09", ch168.String(), shop.String(), "  CH168  ",
		// with slips
		"Riverisde", "Riversid", "Rivverside", "bakrey", "ch186", "sokah chan", "riversyde bakkery", "សីអេជ១៦៨",
	} {
		if got := l.list(search.Filter{Query: query}); !slices.Equal(got, []pg.ID{ch168}) {
			t.Errorf("%q finds %d, not the one", query, len(got))
		}
	}
	for _, query := range []string{"nobody at all", "%%%", "___", "55555", "khuid9", "ch168 mekong", "\\", "zzz"} {
		if got := l.list(search.Filter{Query: query}); len(got) > 0 && !strings.Contains(query, "khuid9") {
			t.Errorf("%q finds %d, not nothing", query, len(got))
		}
	}
	if got := l.list(search.Filter{Query: "epicerie"}); len(got) != 1 {
		t.Errorf("without its accent: %d", len(got))
	}
	page, err := l.d.Connections(context.Background(), search.Filter{Query: "Riverisde"}, nil, "", 50)
	if err != nil || !slices.Equal(page.Similar, []string{"riverside"}) {
		t.Errorf("looked for %q instead, %v", page.Similar, err)
	}
}

// TestInvitingRewritesNoConnection: what people are found by stands with them, or a merchant with ten thousand connections
// would wait for ten thousand rows.
func TestInvitingRewritesNoConnection(t *testing.T) {
	l := newTestDB(t)
	shop := l.merchant("Shop", "")
	c := l.connection(shop, "caminvoice", "sandbox", connectors.Account{ID: "KHUID1"})
	written := func() (by uint32) {
		if err := l.d.Pool.QueryRow(context.Background(), `SELECT xmin FROM search_documents WHERE id = $1`, c).Scan(&by); err != nil {
			t.Fatal(err)
		}
		return by
	}
	before := written()
	if _, err := account.New(l.d).AddUser(context.Background(), audit.System, account.NewUser{Email: "late@shop.example", Role: audit.RoleMerchant, MerchantID: shop}); err != nil {
		t.Fatal(err)
	}
	if written() != before {
		t.Error("the connection's words were written again")
	}
	if !slices.Equal(l.list(search.Filter{Query: "late@shop"}), []pg.ID{c}) {
		t.Error("not found by its merchant's new user")
	}
}

func TestSearchFollowsChanges(t *testing.T) {
	l := newTestDB(t)
	ctx := context.Background()
	shop := l.merchant("Shop", "")
	c := l.connection(shop, "caminvoice", "sandbox", connectors.Account{ID: "KHUID1", Name: "Before Ltd"})
	found := func(query string) bool { return len(l.list(search.Filter{Query: query})) == 1 }
	if found("late@shop.example") {
		t.Fatal("found before it was there")
	}
	if _, err := account.New(l.d).AddUser(ctx, audit.System, account.NewUser{Email: "late@shop.example", Role: audit.RoleMerchant, MerchantID: shop}); err != nil {
		t.Fatal(err)
	}
	l.document(c, connectors.Account{ID: "KHUID1", Name: "After Ltd"})
	for _, query := range []string{"late@shop.example", "after ltd"} {
		if !found(query) {
			t.Errorf("%q is not found", query)
		}
	}
	if found("before ltd") {
		t.Error("the old name is still found")
	}
	if got := l.list(search.Filter{Sort: search.SortMerchant}); len(got) != 1 {
		t.Error("not listed by merchant")
	}
}

func TestFiltersKeepWhatTheySay(t *testing.T) {
	l := newTestDB(t)
	shop, other := l.merchant("Shop", ""), l.merchant("Other", "")
	account := func(id string) connectors.Account { return connectors.Account{ID: id, Name: id} }
	names := map[pg.ID]string{
		l.connection(shop, "caminvoice", "production", account("fine")):                                                     "fine",
		l.connection(shop, "caminvoice", "production", account("retrying"), "failing_since = now()"):                        "retrying",
		l.connection(shop, "caminvoice", "production", account("refused"), "problem = 'refused', problem_since = now()"):    "refused",
		l.connection(other, "flexiti", "production", account("ours"), "problem = 'client-rejected', problem_since = now()"): "ours",
		l.connection(other, "flexiti", "sandbox", account("elsewhere")):                                                     "elsewhere",
		l.connection(other, "flexiti", "production", account("gone"), "disconnected_at = now(), problem = 'lapsed'"):        "gone",
		l.connection(other, "caminvoice", "production", account("old"), "connected_at = now() - interval '90 days'"):        "old",
		l.connection(shop, "elecq", "production", account("lapsing")):                                                       "lapsing",
	}
	id := func(name string) pg.ID {
		for id, n := range names {
			if n == name {
				return id
			}
		}
		t.Fatal(name)
		return pg.ID{}
	}
	l.exec(`UPDATE connections SET used_on = (now() AT TIME ZONE 'UTC' - interval '3 hours')::date WHERE id = $1`, id("fine"))
	l.exec(`UPDATE connections SET used_on = (now() AT TIME ZONE 'UTC' - interval '20 days')::date WHERE id = $1`, id("ours"))
	l.exec(`UPDATE grants SET refresh_expiry_fixed = true, refresh_expires_at = now() + interval '3 days' WHERE connection_id = $1`, id("lapsing"))
	there := status.Provider{SetUp: true, Environment: "production"}
	present := status.Providers{"caminvoice": there, "flexiti": there, "elecq": there}
	for _, one := range []struct {
		f    search.Filter
		want string
	}{
		{search.Filter{}, "elsewhere fine gone lapsing old ours refused retrying"},
		{search.Filter{Provider: "flexiti"}, "elsewhere gone ours"},
		{search.Filter{Health: status.Fine}, "fine lapsing old"},
		{search.Filter{Health: status.Retrying}, "retrying"},
		{search.Filter{Health: status.ActionNeeded}, "elsewhere ours refused"},
		{search.Filter{Health: status.Disconnected}, "gone"},
		{search.Filter{Party: status.PartyMerchant}, "refused"},
		{search.Filter{Party: status.PartyProvider}, "retrying"},
		{search.Filter{Party: status.PartyPlatform}, "elsewhere ours"},
		{search.Filter{Problem: status.ProblemRejected}, "refused"},
		{search.Filter{Problem: status.ProblemEnvironment}, "elsewhere"},
		{search.Filter{Problem: "no-such"}, ""},
		{search.Filter{Environment: "sandbox"}, "elsewhere"},
		{search.Filter{Merchant: shop}, "fine lapsing refused retrying"},
		{search.Filter{Merchant: shop, Health: status.Fine, Sort: search.SortAccount}, "fine lapsing"},
		{search.Filter{Used: search.UsedDay}, "fine"},
		{search.Filter{Used: search.UsedMonth}, "fine ours"},
		{search.Filter{Used: search.UsedNever, Provider: "caminvoice"}, "old refused retrying"},
		{search.Filter{Since: time.Now().AddDate(0, 0, -7), Provider: "caminvoice"}, "fine refused retrying"},
		{search.Filter{Since: time.Now().AddDate(0, 0, -7), Provider: "caminvoice", Sort: search.SortHealth}, "fine refused retrying"},
		{search.Filter{Since: time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), Provider: "flexiti"}, "elsewhere gone ours"},
		{search.Filter{Lapsing: true}, "lapsing"},
		{search.Filter{Query: "fine", Health: status.Fine}, "fine"},
		{search.Filter{Query: "fine", Health: status.Disconnected}, ""},
		{search.Filter{Query: "other", Provider: "flexiti", Sort: search.SortUsed}, "elsewhere gone ours"},
	} {
		one.f.Providers = present
		var got []string
		for _, id := range l.list(one.f) {
			got = append(got, names[id])
		}
		slices.Sort(got)
		if all := strings.Join(got, " "); all != one.want {
			t.Errorf("%+v keeps %q, not %q", one.f, all, one.want)
		}
	}
	page, err := l.d.Connections(context.Background(), search.Filter{Providers: present, Sort: search.SortHealth}, nil, "", 3)
	if err != nil || page.About != 8 {
		t.Errorf("about %d, %v", page.About, err)
	}
	if line := page.Rows[0]; status.Of(line.Row(), there).Health != status.ActionNeeded || line.MerchantName == "" {
		t.Errorf("the worst is not first: %+v", line)
	}
}

func TestNothingShowsNothing(t *testing.T) {
	l := newTestDB(t)
	l.connection(l.merchant("Shop", ""), "caminvoice", "production", connectors.Account{ID: "KHUID1"})
	if got := l.list(search.Filter{Nothing: true}); len(got) != 0 {
		t.Errorf("%d connections", len(got))
	}
}

// TestALogoIsNotSearched: what a provider sends may be long, and neither holds up a connect nor hides other words.
func TestALogoIsNotSearched(t *testing.T) {
	l := newTestDB(t)
	account := connectors.Account{ID: "KHUID1", Details: []connectors.Detail{{Key: "logo", Value: strings.Repeat("aGVsbG8", 20_000)}, {Key: "city", Value: "Battambang"}}}
	grant := connectors.Grant{Token: connectors.Token{Access: "made up"}, Account: account}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := l.d.AddConnection(ctx, l.merchant("Shop", ""), "caminvoice", "production", grant, l.d.Now(), connectors.Info{KeepAlive: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if len(l.list(search.Filter{Query: "battambang"})) != 1 || len(l.list(search.Filter{Query: "aGVsbG8aGVsbG8"})) != 0 {
		t.Error("not found by its city, or found by its logo")
	}
}

// TestPagesMeetEveryLineOnce walks each order forwards and back, with filters and words, and compares with all at once. A walk that ends early
// leaves the rest to be gathered.
func TestPagesMeetEveryLineOnce(t *testing.T) {
	d := dbtest.New(t)
	ctx := context.Background()
	if err := sample.Fill(ctx, d, sample.Scale{Connections: 400, Merchants: 12}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Pool.Exec(ctx, `UPDATE grants SET refresh_expiry_fixed = true, refresh_expires_at = date_trunc('hour', now()) + (1 + ascii(connection_id::text) % 5) * interval '1 day'`); err != nil {
		t.Fatal(err)
	}
	there := status.Provider{SetUp: true, Environment: "production"}
	present := status.Providers{"caminvoice": there, "flexiti": there, "elecq": there, "bookings": there}
	some, err := d.Connections(ctx, search.Filter{Health: status.Fine, Providers: present}, nil, "", 1)
	if err != nil || len(some.Rows) != 1 {
		t.Fatal(len(some.Rows), err)
	}
	one := some.Rows[0]
	// Somebody whose given name others have too, and companies.
	var person, given string
	var named pg.ID
	if err := d.Pool.QueryRow(ctx, `SELECT email, lower(split_part(name, ' ', 1)), merchant_id FROM users u
		ORDER BY (SELECT count(DISTINCT merchant_id) FROM users o WHERE split_part(o.name, ' ', 1) = split_part(u.name, ' ', 1)) DESC, email LIMIT 1`).Scan(&person, &given, &named); err != nil {
		t.Fatal(err)
	}
	slipped := given[:1] + given[2:3] + given[1:2] + given[3:]
	filters := []search.Filter{
		{},
		{Lapsing: true},
		{Lapsing: true, Provider: "caminvoice", Query: "ltd"},
		{Lapsing: true, Query: one.ID.String()},
		{Lapsing: true, Merchant: one.MerchantID},
		{Sort: "merchant", Query: one.MerchantID.String()},
		{Sort: "connected"},
		{Sort: "account"},
		{Sort: "-account"},
		{Sort: "merchant"},
		{Sort: "-merchant"},
		{Sort: "health"},
		{Sort: "-health"},
		{Sort: "used"},
		{Sort: "-used"},
		{Provider: "caminvoice"},
		{Health: status.Fine, Sort: "-used"},
		{Environment: "production", Sort: "merchant"},
		{Query: "ltd"},
		{Query: "ltd", Sort: "account"},
		{Query: "trading", Provider: "caminvoice"},
		{Used: search.UsedNever, Sort: "health"},
		{Query: "tradign"},
		{Query: person},
		{Query: person, Sort: "merchant"},
		{Query: person, Sort: "-account", Provider: "caminvoice"},
		{Query: given},
		{Query: given, Sort: "merchant"},
		{Query: given, Sort: "-merchant"},
		{Query: given, Sort: "account"},
		{Query: given, Sort: "health", Environment: "production"},
		{Query: given, Used: search.UsedNever, Sort: "-used"},
		{Query: given, Merchant: named},
		{Query: given, Lapsing: true},
		{Query: slipped},
	}
	meets := func(t *testing.T, f search.Filter) {
		f.Providers = present
		var all []pg.ID
		if err := d.EachConnection(ctx, f, nil, func(l db.ConnectionRow) error {
			if f.Merchant != (pg.ID{}) && l.MerchantID != f.Merchant {
				t.Errorf("%+v: a line of another merchant", f)
			}
			all = append(all, l.ID)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(all) == 0 {
			t.Errorf("%+v: nothing", f)
		}
		if word := f.Query; word != "" && word != "tradign" && word != slipped && len(word) < 30 {
			where := "true"
			for condition, on := range map[string]bool{
				"c.provider = 'caminvoice'": f.Provider != "", "c.environment = 'production'": f.Environment != "", "c.used_on = '1970-01-01'": f.Used != "",
				"c.merchant_id = '" + named.String() + "'": f.Merchant == named, "g.refresh_expires_at < now() + interval '7 days' AND c.environment = 'production' AND c.disconnected_at IS NULL AND c.problem = ''": f.Lapsing,
			} {
				if on {
					where += " AND " + condition
				}
			}
			var there int
			if err := d.Pool.QueryRow(ctx, `SELECT count(*) FROM connections c JOIN merchants m ON m.id = c.merchant_id JOIN grants g ON g.connection_id = c.id
				WHERE `+where+` AND (strpos(search_fold(c.account_id || ' ' || c.account_name || ' ' || (SELECT coalesce(string_agg(x->>'value', ' '), '') FROM jsonb_array_elements(c.details) x) || ' ' || m.name || ' ' || coalesce(m.external_id, '')), $1) > 0
				OR EXISTS (SELECT FROM users u WHERE u.merchant_id = m.id AND strpos(lower(u.email || ' ' || u.name), $1) > 0))`, word).Scan(&there); err != nil {
				t.Fatal(err)
			}
			if there != len(all) {
				t.Errorf("%+v: %d of %d", f, len(all), there)
			}
		}
		var forwards []pg.ID
		var last db.ConnectionPage
		for cursor := ""; ; cursor = last.Next {
			page, err := d.Connections(ctx, f, nil, cursor, 7)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range page.Rows {
				forwards = append(forwards, line.ID)
			}
			if last = page; page.Next == "" {
				break
			}
		}
		if !slices.Equal(forwards, all) {
			t.Errorf("%+v: %d forwards, %d at once", f, len(forwards), len(all))
		}
		var backwards []pg.ID
		for page := last; ; {
			var ids []pg.ID
			for _, line := range page.Rows {
				ids = append(ids, line.ID)
			}
			backwards = append(ids, backwards...)
			if page.Prev == "" {
				break
			}
			var err error
			if page, err = d.Connections(ctx, f, nil, page.Prev, 7); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(backwards, all) {
			t.Errorf("%+v: %d backwards, %d at once", f, len(backwards), len(all))
		}
	}
	for _, walked := range []int{8000, 20, 3} {
		t.Run(fmt.Sprint(walked), func(t *testing.T) {
			search.WalkAtMost(t, walked)
			for _, f := range filters {
				meets(t, f)
			}
		})
	}
	for _, cursor := range []string{"!", "bm90IGpzb24", "eyJzIjoiIiwiayI6IngiLCJpIjoiMDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwIn0"} {
		if page, err := d.Connections(ctx, search.Filter{}, nil, cursor, 7); err != nil || len(page.Rows) != 7 {
			t.Errorf("a cursor that is none: %d, %v", len(page.Rows), err)
		}
	}
}

// TestCombinationsFindWhatIsThere holds the walk and the gathering of an index to what a plain query finds, for the named
// combinations that search. The time they take is the bench's to judge.
func TestCombinationsFindWhatIsThere(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	ctx := context.Background()
	if err := sample.Fill(ctx, d, sample.Scale{Connections: 12_000}); err != nil {
		t.Fatal(err)
	}
	combinations, err := sample.Combinations(ctx, d, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range combinations {
		_, rows, err := c.Run(ctx, d)
		if err != nil || rows == 0 && c.Filter.Query == "" {
			t.Errorf("%s: %d rows, %v", c.Name, rows, err)
		}
		if c.Filter.Query == "" || strings.Contains(c.Name, "mistyped") {
			continue
		}
		seen := map[pg.ID]bool{}
		if err := d.EachConnection(ctx, c.Filter, nil, func(r db.ConnectionRow) error { seen[r.ID] = true; return nil }); err != nil {
			t.Fatal(err)
		}
		var words []string
		for word := range strings.FieldsSeq(c.Filter.Query) {
			if word = strings.Trim(word, ".,&"); word != "" {
				words = append(words, word)
			}
		}
		found := 0
		if err := d.Pool.QueryRow(ctx, `SELECT count(*) FROM connections c JOIN search_documents s ON s.id = c.id WHERE ($1 = '' OR c.state = $1 AND c.environment = 'production')
			AND (NOT EXISTS (SELECT FROM unnest($2::text[]) w WHERE strpos(s.words, search_fold(w)) = 0)
			OR EXISTS (SELECT FROM users u JOIN merchants m ON m.id = u.merchant_id WHERE u.merchant_id = c.merchant_id
				AND EXISTS (SELECT FROM unnest($2::text[]) w WHERE strpos(u.words, search_fold(w)) > 0)
				AND NOT EXISTS (SELECT FROM unnest($2::text[]) w WHERE strpos(u.words || ' ' || m.words, search_fold(w)) = 0)))`,
			string(c.Filter.Health), words).Scan(&found); err != nil {
			t.Fatal(err)
		}
		if found != len(seen) {
			t.Errorf("%s, %q: found %d of %d", c.Name, c.Filter.Query, len(seen), found)
		}
	}
}

// TestWhatIsMarkedIsFoldedAsTheDatabaseDoes: else a row would be found, and not say why.
func TestWhatIsMarkedIsFoldedAsTheDatabaseDoes(t *testing.T) {
	d := dbtest.New(t)
	for _, typed := range []string{"CH168 Shop", "Boulangerie de l’Étoile", "ក្រុមហ៊ុនស៊ីអេច១៦៨", "ក្រុម\u200bហ៊ុន", "ＡＢＣ ﬁn ²", "İstanbul Straße ΣΑΣ", "Nguyễn Thị Ánh", "sokha@shop.example", "so\u00adft\u2060", "ಕನ್ನಡ हिन्दी ไทย"} {
		var folded string
		if err := d.Pool.QueryRow(t.Context(), `SELECT search_fold($1)`, typed).Scan(&folded); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(text.NewFinder(typed).Words(), " "); got != folded {
			t.Errorf("%q is %q, in the database %q", typed, got, folded)
		}
	}
}
