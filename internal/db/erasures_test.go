package db_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// ofMerchant are rows of a merchant, of its people and accounts. {column} is a canary for that column. $1 is the merchant, $2 its user, $3 its
// connection, $4 an admin, $5 its flow, $6 its key, $7 its connect link, $8 another merchant.
var ofMerchant = []string{
	`INSERT INTO merchants (id, external_id, name, created_at) VALUES ($1, {external_id}, {name}, now())`,
	`INSERT INTO users (id, merchant_id, role, email, name, password_hash, created_at, mac) VALUES ($2, $1, 'merchant', {email}, {name}, {password_hash}, now(), {mac})`,
	`INSERT INTO sessions (id_hash, user_id, created_at, seen_at, expires_at, address, agent, mac) VALUES ({id_hash}, $2, now(), now(), now() + interval '1 day', {address}, {agent}, {mac})`,
	`INSERT INTO identities (id, user_id, issuer, subject, created_at, mac) VALUES (gen_random_uuid(), $2, {issuer}, {subject}, now(), {mac})`,
	`INSERT INTO second_factors (user_id, sealed) VALUES ($2, {sealed})`,
	`INSERT INTO passkey_challenges (hash, browser_hash, user_id, purpose, expires_at) VALUES ({hash}, {browser_hash}, $2, 'prove', now() + interval '1 hour')`,
	`INSERT INTO connections (id, merchant_id, merchant_key, provider, environment, account_id, account_name, nickname, details, account_values, account_input, scopes_granted, scopes_missing, connected_at, connected_by)
		VALUES ($3, $1, {merchant_key}, 'caminvoice', 'sandbox', {account_id}, {account_name}, {nickname}, jsonb_build_array(jsonb_build_object('key', 'tin', 'value', {details})), jsonb_build_object('realm', {account_values}),
			jsonb_build_object('shop', {account_input}), ARRAY[{scopes_granted}], ARRAY[{scopes_missing}], now(), $2)`,
	`INSERT INTO connections (id, merchant_id, merchant_key, provider, environment, account_id, account_name, connected_at, disconnected_at)
		VALUES (gen_random_uuid(), $1, {merchant_key}, 'caminvoice', 'sandbox', {account_id}, {account_name}, now(), now())`,
	`INSERT INTO notes (id, connection_id, author_id, created_at, text) VALUES (gen_random_uuid(), $3, $4, now(), {text})`,
	`INSERT INTO grants (connection_id, provider, environment, sealed, late_grant, late_generation, last_code) VALUES ($3, 'caminvoice', 'sandbox', {sealed}, {late_grant}, 1, {last_code})`,
	`INSERT INTO search_documents (id, merchant_id, provider, environment, connected_at, account_key, merchant_key, words) VALUES ($3, $1, 'caminvoice', 'sandbox', now(), {account_key}, {merchant_key}, {words} || ' sokdara shop')`,
	`INSERT INTO search_words (word) SELECT * FROM search_words_of('sokdara shop') ON CONFLICT DO NOTHING`,
	`INSERT INTO flows (id, reference, state_hash, browser_hash, user_id, merchant_id, provider, environment, connection_id, stage, answer_hash, sealed, account_id, account_name, created_at, touched_at, expires_at)
		VALUES ($5, {reference}, {state_hash}, {browser_hash}, $2, $1, 'caminvoice', 'sandbox', $3, 'choosing', {answer_hash}, {sealed}, {account_id}, {account_name}, now(), now(), now() + interval '1 hour')`,
	`INSERT INTO connect_links (id, secret_hash, merchant_id, connection_id, inputs, user_external_id, user_name, return_url, created_at, expires_at, browser_hash, code_hash, mac)
		VALUES ($7, {secret_hash}, $1, $3, jsonb_build_object('shop', {inputs}), {user_external_id}, {user_name}, {return_url}, now(), now() + interval '1 hour', {browser_hash}, {code_hash}, {mac})`,
	`INSERT INTO links (id, kind, secret_hash, user_id, created_at, expires_at, mac) VALUES (gen_random_uuid(), 'invitation', {secret_hash}, $2, now(), now() + interval '1 day', {mac})`,
	`INSERT INTO links (id, kind, secret_hash, connection_id, created_by, created_at, expires_at) VALUES (gen_random_uuid(), 'reconnect', {secret_hash} || '2', $3, $2, now(), now() + interval '1 day')`,
	`INSERT INTO api_keys (id, prefix, hash, name, merchant_id, scopes, created_at, mac) VALUES ($6, {prefix}, {hash}, {name}, $1, '{connections:read}', now(), {mac})`,
	`INSERT INTO outbox (id, at, recipient, subject, sealed, user_id) VALUES (gen_random_uuid(), now(), {recipient}, {subject}, {sealed}, $2)`,
	`INSERT INTO outbox (id, at, recipient, subject, sealed) VALUES (gen_random_uuid(), now(), (SELECT upper(email) FROM users WHERE id = $2), {subject}, {sealed})`,
	`INSERT INTO river_job (state, kind, max_attempts, args, errors, metadata) VALUES ('retryable', 'mail', 10, jsonb_build_object('mail', jsonb_build_object('user', $2::uuid, 'kind', {args})), ARRAY[jsonb_build_object('error', {errors})], jsonb_build_object('x', {metadata}))`,
	`INSERT INTO river_job (state, kind, max_attempts, args, errors, metadata) VALUES ('scheduled', 'revoke', 10, jsonb_build_object('connection', $3::uuid, 'account', {args}), ARRAY[jsonb_build_object('error', {errors})], jsonb_build_object('x', {metadata}))`,
	`INSERT INTO bulks (id, filter, state, created_by, created_at) SELECT gen_random_uuid(), jsonb_build_object('connections', jsonb_build_object('query', 'of ' || (SELECT email FROM users WHERE id = $2))), 'gathering', $4, now() WHERE {filter} <> ''`,
	`INSERT INTO events (id, at, kind, actor, actor_id, merchant_id, connection_id, code, address, note) VALUES (gen_random_uuid(), now(), 'user.signed-in', 'merchant', $2, $1, $3, {code}, {address}, {note})`,
	`INSERT INTO events (id, at, kind, actor, merchant_id, connection_id, code, address, note) VALUES (gen_random_uuid(), now(), 'refresh.trouble', 'key', $1, $3, {code}, {address}, {note})`,
	`INSERT INTO events (id, at, kind, actor, actor_id, code, address, note) VALUES (gen_random_uuid(), now(), 'user.sessions-ended', 'merchant', $2, {code}, {address}, {note})`,
	`INSERT INTO events (id, at, kind, actor, actor_id, merchant_id, note, code) VALUES (gen_random_uuid(), now(), 'link.foreign', 'link', $7, $1, {note}, {code})`,
	`INSERT INTO events (id, at, kind, actor, actor_id, note) SELECT gen_random_uuid(), now(), 'connection.searched', 'support', $4, 'where is ' || upper(name) FROM merchants WHERE id = $1`,
	`INSERT INTO events (id, at, kind, actor, actor_id, note) SELECT gen_random_uuid(), now(), 'user.second-factor-reset', 'admin', $4, email FROM users WHERE id = $2`,
}

// notOfMerchants are the columns of text, JSON and bytes that hold nothing that a merchant or its provider wrote: words of ours, what staff or the
// operator wrote, ids, hashes that lead nowhere.
var notOfMerchants = []string{
	"api_keys.scopes", "bulk_items.provider", "bulk_items.outcome", "bulks.state", "bulks.kind", "bulks.cursor", "connect_links.provider", "connect_links.locale",
	"connection_counts.provider", "connection_counts.environment", "connection_counts.health",
	"connections.provider", "connections.environment", "connections.problem", "connections.account_key", "connections.state",
	"erasure_revocations.provider", "erasure_revocations.environment", "erasure_revocations.outcome",
	"erasure_revocations.sealed", // its own test
	"erasures.actor", "erasures.counts", "erasures.external_hash", "erasures.subjects",
	"events.kind", "events.actor", "events.provider", "events.outcome", "events.reference", "events.request",
	"flows.provider", "flows.environment", "flows.stage", "flows.outcome", "grants.provider", "grants.environment", "grants.last_outcome",
	"hourly_refreshes.outcome", "hourly_stats.provider", "hourly_stats.environment", "hourly_stats.kind", "hourly_stats.outcome",
	"keyset_check.sealed", "links.kind", "merchants.locale", "merchants.words", "notices.kind", "notices.about", "passkey_challenges.purpose",
	"provider_slots.provider", "provider_slots.environment",
	"providers.name", "providers.environment", "providers.incident_by", "providers.incident_reason", "providers.incident_message", "providers.callback_address", "providers.check_result",
	"providers.check_reason", "providers.request_failed", "providers.request_reason",
	"rate_limits.key", "rechecks.provider", "rechecks.environment", "revocations.provider", "revocations.environment", "revocations.account_id",
	"search_documents.provider", "search_documents.environment", "settings.name", "settings.value",
	"users.role", "users.locale", "users.words", "warnings.kind",
	"webhook_deliveries.state", "webhook_deliveries.reason", "webhook_endpoints.url", "webhook_endpoints.types", "webhook_endpoints.sealed", "webhook_endpoints.failed_reason",
	"webhook_endpoints.off_reason", "webhook_events.type", "webhook_events.data", // ids and states: see webhooks
}

// fillWithCanaries writes ofMerchant and returns the canaries, each with the columns that have it.
func fillWithCanaries(t *testing.T, d *db.DB, ids []any) map[string]string {
	t.Helper()
	canaries := map[string]string{}
	table, column := regexp.MustCompile(`^INSERT INTO (\w+)`), regexp.MustCompile(`\{([a-z_]+)\}`)
	bytea := map[string]bool{}
	for _, name := range columnsOf(t, d, `data_type = 'bytea'`) {
		bytea[name] = true
	}
	for i, sql := range ofMerchant {
		in := table.FindStringSubmatch(sql)[1]
		sql = column.ReplaceAllStringFunc(sql, func(mark string) string {
			name := in + "." + strings.Trim(mark, "{}")
			if mark == "{connections:read}" {
				return mark
			}
			canary := fmt.Sprintf("canary%dq%s", i, strings.ReplaceAll(strings.ReplaceAll(name, ".", "z"), "_", "x"))
			canaries[name] += canary + " "
			if bytea[name] {
				return `convert_to('` + canary + `', 'UTF8')`
			}
			return `'` + canary + `'`
		})
		args := ids
		for len(args) > 0 && !strings.Contains(sql, fmt.Sprintf("$%d", len(args))) {
			args = args[:len(args)-1]
		}
		for n := range args { // Postgres wants to know the type of each
			sql = strings.ReplaceAll(sql, fmt.Sprintf("$%d", n+1), fmt.Sprintf("'%s'", args[n]))
		}
		if _, err := d.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	return canaries
}

func columnsOf(t *testing.T, d *db.DB, where string) []string {
	t.Helper()
	all, err := pg.Collect(t.Context(), d.Pool, "read columns", pgx.RowTo[string], `SELECT c.table_name || '.' || c.column_name FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
		WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.table_name !~ '^(events_\d|goose_|river_(leader|queue|migration|notification|client))' AND `+where)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestADumpAfterAnErasureHoldsNothingButIDs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := dbtest.New(t)
	admin := dbtest.User(t, d, audit.RoleAdmin, "admin@platform.example", "correct horse battery", "")
	other := dbtest.Merchant(t, d, "Other Shop")
	kept := dbtest.Connection(t, d, other.ID, "caminvoice", "KHUID0002", "Other Shop")
	run(t, d, `INSERT INTO search_documents (id, merchant_id, provider, environment, connected_at, account_key, merchant_key, words) VALUES ($1, $2, 'caminvoice', 'sandbox', now(), 'o', 'o', 'other shop')`, kept, other.ID)
	run(t, d, `INSERT INTO events (id, at, kind, merchant_id, note, address) VALUES (gen_random_uuid(), now(), 'merchant.added', $1, 'Other Shop', '10.0.0.9')`, other.ID)
	run(t, d, `INSERT INTO webhook_endpoints (id, url, sealed, created_at) VALUES (gen_random_uuid(), 'https://platform.example', '\x00', now())`)
	merchant, user, connection, flow, key, link := pg.NewID(), pg.NewID(), pg.NewID(), pg.NewID(), pg.NewID(), pg.NewID()
	canaries := fillWithCanaries(t, d, []any{merchant, user, connection, admin.ID, flow, key, link, other.ID})
	t.Run("every column is looked at", func(t *testing.T) {
		known := map[string]bool{"search_words.word": true, "search_words_left.word": true}
		for _, name := range notOfMerchants {
			known[name] = true
		}
		for name := range canaries {
			known[name] = true
		}
		for _, name := range columnsOf(t, d, `c.data_type IN ('text', 'jsonb', 'json', 'bytea', 'ARRAY', 'character varying')`) {
			if !known[name] && !strings.HasPrefix(name, "river_job.") {
				t.Errorf("%s: can it hold something of a merchant's? Then it belongs into ofMerchant, else into notOfMerchants", name)
			}
			delete(known, name)
		}
		for name := range known {
			t.Errorf("%s is no column", name)
		}
	})
	found := func(dump, canary string) bool {
		return strings.Contains(strings.ToLower(dump), strings.ToLower(canary)) || strings.Contains(dump, hex.EncodeToString([]byte(canary)))
	}
	before := dbtest.Dump(t, d)
	for name, all := range canaries {
		if name == "bulks.filter" {
			continue
		}
		for canary := range strings.FieldsSeq(all) {
			if !found(before, canary) {
				t.Fatalf("%s was not filled", name)
			}
		}
	}
	if err := d.EraseMerchant(ctx, audit.Actor{Role: audit.RoleAdmin, ID: admin.ID, Address: "10.0.0.1"}, merchant); err != nil {
		t.Fatal(err)
	}
	if err := d.EmptyEvents(ctx, merchant); err != nil {
		t.Fatal(err)
	}
	// The grant does not open: there is nothing by which the provider could be asked.
	owed, err := d.DueRevocations(ctx, merchant, 10)
	if err != nil || len(owed) != 1 || owed[0].Grant.Access != "" {
		t.Fatalf("%d are owed, %v", len(owed), err)
	}
	if err := d.RecordDueRevocation(ctx, owed[0], status.RevokedNotAsked, connectors.Call{Code: "canary of a provider"}); err != nil {
		t.Fatal(err)
	}
	after := dbtest.Dump(t, d)
	external := strings.Fields(canaries["merchants.external_id"])[0]
	for name, all := range canaries {
		for canary := range strings.FieldsSeq(all) {
			if found(after, canary) && canary != external {
				t.Errorf("%s: %s is still there", name, canary)
			}
		}
	}
	for line := range strings.Lines(after) {
		if strings.Contains(line, external) && !strings.Contains(line, "merchant.erased") {
			t.Errorf("the external id is in %s", line)
		}
	}
	if strings.Contains(after, "sokdara") || strings.Contains(after, "canary of a provider") {
		t.Error("a word is still there")
	}
	for _, still := range []string{"Other Shop", "10.0.0.9", "10.0.0.1", "admin@platform.example", merchant.String(), "(shop)"} {
		if !strings.Contains(after, still) {
			t.Errorf("%s is gone", still)
		}
	}
	receipt, err := d.ErasureByExternalID(ctx, external)
	want := db.ErasedCounts{Connections: 2, Flows: 1, ConnectLinks: 1, Users: 1, Sessions: 1, Links: 2, APIKeys: 1, Mail: 3}
	if err != nil || receipt.MerchantID != merchant || receipt.Counts != want || !receipt.Complete() || receipt.Revoked[status.RevokedNotAsked] != 1 || receipt.Emptied != 4 {
		t.Errorf("the receipt is %+v, %v", receipt, err)
	}
	if err := d.EraseMerchant(ctx, audit.System, merchant); !errors.Is(err, pg.ErrNotFound) {
		t.Errorf("erased again: %v", err)
	}
	t.Run("what is told later has no words", func(t *testing.T) {
		err := d.Audit.Record(ctx, audit.Event{
			Kind: "call.token", MerchantID: merchant, Note: "late canary", Code: "late canary", Actor: audit.Actor{Role: audit.RoleMerchant, ID: user, Address: "late canary"},
		})
		if err != nil || strings.Contains(dbtest.Dump(t, d), "late canary") {
			t.Errorf("an event of what was under way: %v", err)
		}
	})
	t.Run("the platform is told", func(t *testing.T) {
		kinds, err := pg.Collect(ctx, d.Pool, "read", pgx.RowTo[string], `SELECT type || ' ' || (data #>> '{merchant,external_id}' IS NOT NULL) FROM webhook_events JOIN webhook_deliveries w ON w.event_id = webhook_events.id ORDER BY webhook_events.at, type`)
		if err != nil || strings.Join(kinds, ", ") != "connection.disconnected false, merchant.erased true" {
			t.Errorf("webhooks: %v, %v", kinds, err)
		}
	})
	t.Run("without an external id it is found by its own id only", func(t *testing.T) {
		m := dbtest.Merchant(t, d, "Nameless")
		if err := d.EraseMerchant(ctx, audit.System, m.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Erasure(ctx, m.ID); err != nil {
			t.Error(err)
		}
		if _, err := d.ErasureByExternalID(ctx, ""); !errors.Is(err, pg.ErrNotFound) {
			t.Errorf("by no external id: %v", err)
		}
	})
}

// TestWhatWasCalledOtherwiseBeforeIsErased renames an account, its nickname and a person, and gives up an attempt. No word of theirs stays in
// the dictionary but those that others have, and words are forgotten without an erasure too.
func TestWhatWasCalledOtherwiseBeforeIsErased(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := dbtest.New(t)
	accounts := account.New(d)
	admin := dbtest.User(t, d, audit.RoleAdmin, "admin@platform.example", "correct horse battery", "")
	m, other := dbtest.Merchant(t, d, "Khmerhouse Shop"), dbtest.Merchant(t, d, "Otherplace Shop")
	u := dbtest.User(t, d, audit.RoleMerchant, "sokchea@khmerhouse.example", "correct horse battery", "Khmerhouse Shop")
	by := audit.Actor{Role: audit.RoleMerchant, ID: u.ID}
	info := connectors.Info{Name: "caminvoice", Environment: "sandbox"}
	connect := func(merchant, user, pinned pg.ID, id, name string) pg.ID {
		t.Helper()
		f, err := d.BeginFlow(ctx, db.NewFlow{ID: pg.NewID(), UserID: user, MerchantID: merchant, ConnectionID: pinned, Provider: "caminvoice", Environment: "sandbox", State: pg.NewSecret(), Browser: pg.NewSecret(), Keyed: true, By: by})
		if err != nil {
			t.Fatal(err)
		}
		g := connectors.Grant{Token: connectors.Token{Access: "a", Lifetime: time.Hour, Refresh: "r"}, Account: connectors.Account{ID: id, Name: name}}
		if f, err = d.KeepGrant(ctx, f, db.Exchange{Grant: g, Obtained: d.Now(), Proven: true}); err != nil || id == "" {
			t.Fatal(err)
		}
		if name == "Givenup Trading" {
			return pg.ID{}
		}
		made, err := d.Connect(ctx, f, db.ChooseConnect, by, info, nil)
		if err != nil {
			t.Fatal(err)
		}
		return made.Connection.ID
	}
	id := connect(m.ID, u.ID, pg.ID{}, "KHUID0001", "Formername Chea Trading")
	connect(m.ID, u.ID, id, "KHUID0001", "Presentname Trading")
	connect(m.ID, u.ID, pg.ID{}, "KHUID0009", "Givenup Trading")
	cheap := connect(other.ID, dbtest.User(t, d, audit.RoleMerchant, "dara@other.example", "correct horse battery", "Otherplace Shop").ID, pg.ID{}, "KHUID0002", "Cheaptrade Trading")
	for _, nickname := range []string{"Riverside counter", "Airport counter"} {
		if err := d.SetNickname(ctx, id, m.ID, nickname, by); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"Formerperson", "Presentperson"} {
		if err := accounts.SaveProfile(ctx, u.ID, name, "en"); err != nil {
			t.Fatal(err)
		}
	}
	for _, typed := range []string{"where is formername chea trading", "call GIVENUP TRADING", "airport counter?"} {
		if err := d.Audit.Record(ctx, audit.Event{Kind: status.ConnectionsSearched, Actor: audit.Actor{Role: audit.RoleAdmin, ID: admin.ID}, Note: typed}); err != nil {
			t.Fatal(err)
		}
	}
	words := func() string {
		t.Helper()
		all, err := pg.Collect(ctx, d.Pool, "read words", pgx.RowTo[string], `SELECT word FROM search_words ORDER BY 1`)
		if err != nil {
			t.Fatal(err)
		}
		return " " + strings.Join(all, " ") + " "
	}
	if all := words(); !strings.Contains(all, " formername ") || !strings.Contains(all, " riverside ") {
		t.Fatalf("the words are%s", all)
	}
	if err := d.PurgeSearchWords(ctx); err != nil {
		t.Fatal(err)
	}
	all := words()
	for _, gone := range []string{"formername", "riverside", "formerperson", "chea"} {
		if strings.Contains(all, " "+gone+" ") {
			t.Errorf("%q is not forgotten although nothing is called so any more", gone)
		}
	}
	for _, still := range []string{"presentname", "airport", "counter", "presentperson", "sokchea", "khmerhouse", "cheaptrade", "trading", "shop"} {
		if !strings.Contains(all, " "+still+" ") {
			t.Errorf("%q is forgotten:%s", still, all)
		}
	}
	if err := d.EraseMerchant(ctx, audit.System, m.ID); err != nil {
		t.Fatal(err)
	}
	if err := d.EmptyEvents(ctx, m.ID); err != nil {
		t.Fatal(err)
	}
	dump := strings.ToLower(dbtest.Dump(t, d))
	for _, gone := range []string{"formername", "presentname", "givenup", "riverside", "airport", "formerperson", "presentperson", "sokchea", "khmerhouse", "khuid0001", "khuid0009"} {
		if strings.Contains(dump, gone) {
			t.Errorf("%q is still there", gone)
		}
	}
	if all := words(); !strings.Contains(all, " trading ") || !strings.Contains(all, " shop ") || !strings.Contains(all, " cheaptrade ") {
		t.Errorf("words of others are gone:%s", all)
	}
	if err := d.SetNickname(ctx, cheap, other.ID, "Riverside", by); err != nil || !strings.Contains(words(), " riverside ") {
		t.Errorf("a word that was forgotten does not come back, %v", err)
	}
}

// TestWordsAreNotForgottenThatATextGets has texts lose and get the same words at once.
func TestWordsAreNotForgottenThatATextGets(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d := dbtest.New(t)
	accounts := account.New(d)
	dbtest.Merchant(t, d, "Shop")
	var users []pg.ID
	for i := range 4 {
		users = append(users, dbtest.User(t, d, audit.RoleMerchant, fmt.Sprintf("u%d@shop.example", i), "correct horse battery", "Shop").ID)
	}
	var renaming, forgetting sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		forgetting.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := d.PurgeSearchWords(ctx); err != nil {
					t.Errorf("forget: %v", err)
					return
				}
			}
		})
	}
	for i, id := range users {
		renaming.Go(func() {
			for n := range 40 {
				if err := accounts.SaveProfile(ctx, id, "shared "+string(rune('a'+(i+n)%3))+"name", "en"); err != nil {
					t.Errorf("rename: %v", err)
				}
			}
		})
	}
	dbtest.Wait(t, &renaming, "the changes of names")
	close(done)
	dbtest.Wait(t, &forgetting, "the purges")
	if err := d.PurgeSearchWords(ctx); err != nil {
		t.Fatal(err)
	}
	missing, err := pg.Collect(ctx, d.Pool, "compare", pgx.RowTo[string], `SELECT w FROM users, search_words_of(words) AS w EXCEPT SELECT word FROM search_words`)
	if err != nil || len(missing) > 0 {
		t.Errorf("the dictionary lacks %v, %v", missing, err)
	}
	over, err := pg.Collect(ctx, d.Pool, "compare", pgx.RowTo[string], `SELECT word FROM search_words EXCEPT SELECT w FROM users, search_words_of(words) AS w`)
	if err != nil || len(over) > 0 {
		t.Errorf("the dictionary has %v too many, %v", over, err)
	}
}

// TestOnlyEventsOfErasedMerchantsAreEmptied calls the functions for others.
func TestOnlyEventsOfErasedMerchantsAreEmptied(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := dbtest.New(t)
	there, gone, unsaid := dbtest.Merchant(t, d, "There"), dbtest.Merchant(t, d, "Gone"), dbtest.Merchant(t, d, "Unsaid")
	if err := d.EraseMerchant(ctx, audit.System, gone.ID); err != nil {
		t.Fatal(err)
	}
	run(t, d, `DELETE FROM merchants WHERE id = $1`, unsaid.ID)
	run(t, d, `INSERT INTO events (id, at, kind, actor, actor_id, note, address) VALUES (gen_random_uuid(), now(), 'key.added', 'admin', $1, 'of staff', '10.0.0.1')`, there.ID)
	for what, sql := range map[string]string{
		"a merchant that is there":             `SELECT events_erase('` + there.ID.String() + `', '{}', 100)`,
		"a merchant of whose end no event is":  `SELECT events_erase('` + unsaid.ID.String() + `', '{}', 100)`,
		"no merchant":                          `SELECT events_erase(NULL, '{}', 100)`,
		"names, for a merchant that is there":  `SELECT events_erase_names('` + there.ID.String() + `', '{There}')`,
		"by hand, though a merchant is erased": `UPDATE events SET note = '' WHERE merchant_id = '` + there.ID.String() + `'`,
		"of an erased merchant, by hand":       `UPDATE events SET note = 'other' WHERE merchant_id = '` + gone.ID.String() + `'`,
		"a deletion":                           `DELETE FROM events WHERE merchant_id = '` + gone.ID.String() + `'`,
	} {
		if _, err := d.Pool.Exec(ctx, sql); err == nil {
			t.Errorf("%s: allowed", what)
		}
	}
	// What staff did is theirs, also when somebody else's id is said to be one of the merchant's.
	run(t, d, `SELECT events_erase($1, ARRAY[$2]::uuid[], 100)`, gone.ID, there.ID)
	dump := dbtest.Dump(t, d)
	if !strings.Contains(dump, "of staff") || !strings.Contains(dump, "10.0.0.1") || !strings.Contains(dump, "There") || strings.Contains(dump, "Gone") {
		t.Error("the wrong events were emptied")
	}
}

// TestNothingComesBackAfterAnErasure erases while flows begin, links are made, users sign up and connections are written.
func TestNothingComesBackAfterAnErasure(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d := dbtest.New(t)
	m := dbtest.Merchant(t, d, "CH168 Shop")
	u := dbtest.User(t, d, audit.RoleMerchant, "sok@shop.example", "correct horse battery", "CH168 Shop")
	by := audit.Actor{Role: audit.RoleMerchant, ID: u.ID}
	accounts := account.New(d)
	const each = 30
	var group sync.WaitGroup
	begun := make(chan struct{}, 1000)
	try := func(do func(i int) error) {
		group.Go(func() {
			for i := range each {
				err := do(i)
				if err != nil && !pg.ViolatesForeignKey(err) && !errors.Is(err, pg.ErrNotFound) && !errors.Is(err, db.ErrWrongStage) && !errors.Is(err, account.ErrInvalidLink) {
					t.Errorf("under way: %v", err)
				}
				begun <- struct{}{}
			}
		})
	}
	try(func(i int) error { // a whole flow: it begins, is exchanged, kept and connected
		f, err := d.BeginFlow(ctx, db.NewFlow{ID: pg.NewID(), UserID: u.ID, MerchantID: m.ID, Provider: "caminvoice", Environment: "sandbox", State: pg.NewSecret(), Browser: pg.NewSecret(), Keyed: true, By: by})
		if err != nil {
			return err
		}
		g := connectors.Grant{Token: connectors.Token{Access: "canary", Lifetime: time.Hour, Refresh: "canary"}, Account: connectors.Account{ID: fmt.Sprintf("canary-%d", i), Name: "canary"}}
		if f, err = d.KeepGrant(ctx, f, db.Exchange{Grant: g, Obtained: d.Now(), Proven: true, Calls: []connectors.Call{{Name: "token", Detail: "canary"}}}); err != nil {
			return err
		}
		_, err = d.Connect(ctx, f, db.ChooseConnect, by, connectors.Info{Name: "caminvoice", Environment: "sandbox"}, nil)
		return err
	})
	try(func(int) error {
		_, _, err := d.AddConnectLink(ctx, audit.System, db.ConnectLink{Merchant: m, UserName: "canary", Provider: "caminvoice"}, time.Hour)
		return err
	})
	try(func(i int) error {
		_, err := accounts.AddUser(ctx, audit.System, account.NewUser{Role: audit.RoleMerchant, Email: fmt.Sprintf("canary-%d@shop.example", i), MerchantID: m.ID})
		return err
	})
	try(func(int) error {
		_, _, err := accounts.AddLink(ctx, audit.System, account.LinkPassword, u.ID, pg.ID{})
		return err
	})
	try(func(int) error {
		_, _, err := d.AddAPIKey(ctx, audit.System, db.APIKey{Name: "canary", MerchantID: m.ID, Scopes: db.Scopes()})
		return err
	})
	try(func(int) error {
		return notify.AddOutboxMail(ctx, d.Keyring, notify.OutboxMail{User: u.ID, Recipient: "sok@shop.example", Subject: "canary", Text: "canary"})
	})
	for range 3 * each { // half of it is done
		dbtest.Receive(t, begun, "half of it")
	}
	group.Go(func() { // two at once: one of them does it
		if err := d.EraseMerchant(ctx, audit.System, m.ID); err != nil && !errors.Is(err, pg.ErrNotFound) {
			t.Errorf("erase: %v", err)
		}
	})
	if err := d.EraseMerchant(ctx, audit.System, m.ID); err != nil && !errors.Is(err, pg.ErrNotFound) {
		t.Errorf("erase: %v", err)
	}
	dbtest.Wait(t, &group, "what is under way")
	if err := d.EmptyEvents(ctx, m.ID); err != nil {
		t.Fatal(err)
	}
	dump := dbtest.Dump(t, d)
	for line := range strings.Lines(dump) {
		if strings.Contains(line, "canary") || strings.Contains(line, "sok@") || strings.Contains(line, "CH168") {
			t.Errorf("came back: %s", line)
		}
	}
	if n := dbtest.Events(t, d, status.MerchantErased); n != 1 {
		t.Errorf("%d events", n)
	}
}

// TestAProviderThatIsAwayIsAskedForADay moves the clock over what is owed.
func TestAProviderThatIsAwayIsAskedForADay(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	clock := dbtest.NewClock(time.Now())
	d := dbtest.New(t, pg.Options{Clock: clock.Clock})
	m := dbtest.Merchant(t, d, "CH168 Shop")
	dbtest.Connection(t, d, m.ID, "caminvoice", "KHUID0001", "CH168")
	if err := d.EraseMerchant(ctx, audit.System, m.ID); err != nil {
		t.Fatal(err)
	}
	tries := 0
	for range 3 * 24 * 60 {
		owed, err := d.DueRevocations(ctx, m.ID, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range owed {
			tries++
			if one.Connection.Account.ID != "KHUID0001" {
				t.Errorf("account %q", one.Connection.Account.ID)
			}
			if err := d.RecordDueRevocation(ctx, one, status.RevokedLater, connectors.Call{}); err != nil {
				t.Fatal(err)
			}
		}
		if left, err := d.UnfinishedErasures(ctx); err != nil || len(left) == 0 {
			t.Fatalf("nothing is left to do before the events are looked through: %v", err)
		}
		if r, err := d.Erasure(ctx, m.ID); err != nil || r.Pending == 0 {
			break
		}
		clock.Advance(time.Minute)
	}
	r, err := d.Erasure(ctx, m.ID)
	if err != nil || r.Pending != 0 || r.Revoked[status.RevokedFailed] != 1 || tries < 20 || tries > 60 {
		t.Errorf("after %d tries the receipt is %+v, %v", tries, r, err)
	}
	if err := d.EmptyEvents(ctx, m.ID); err != nil {
		t.Fatal(err)
	}
	if left, err := d.UnfinishedErasures(ctx); err != nil || len(left) != 0 {
		t.Errorf("%v are left to do, %v", left, err)
	}
}

// TestAnEndedRevocationStaysEnded: a process that froze while it asked notes how that ended after another has asked and noted.
func TestAnEndedRevocationStaysEnded(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]status.Revocation{"it is to ask again": status.RevokedLater, "it was told as well": status.RevokedDone} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			clock := dbtest.NewClock(time.Now())
			d := dbtest.New(t, pg.Options{Clock: clock.Clock})
			m := dbtest.Merchant(t, d, "CH168 Shop")
			dbtest.Connection(t, d, m.ID, "caminvoice", "KHUID0001", "CH168")
			if err := d.EraseMerchant(ctx, audit.System, m.ID); err != nil {
				t.Fatal(err)
			}
			frozen, err := d.DueRevocations(ctx, m.ID, 10)
			if err != nil || len(frozen) != 1 {
				t.Fatalf("%v, %v", frozen, err)
			}
			clock.Advance(time.Hour)
			other, err := d.DueRevocations(ctx, m.ID, 10)
			if err != nil || len(other) != 1 {
				t.Fatalf("%v, %v", other, err)
			}
			if err := d.RecordDueRevocation(ctx, other[0], status.RevokedDone, connectors.Call{}); err != nil {
				t.Fatal(err)
			}
			if err := d.RecordDueRevocation(ctx, frozen[0], late, connectors.Call{}); err != nil {
				t.Fatal(err)
			}
			r, err := d.Erasure(ctx, m.ID)
			if n := dbtest.Events(t, d, status.RevokedDone.Kind()); err != nil || r.Revoked[status.RevokedDone] != 1 || r.Pending != 0 || n != 1 {
				t.Errorf("%+v with %d events, %v", r, n, err)
			}
		})
	}
}

func run(t *testing.T, d *db.DB, sql string, args ...any) {
	t.Helper()
	if _, err := d.Pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// TestWhatIsOwedIsSealedAnew turns the keyset over while a provider is owed a call.
func TestWhatIsOwedIsSealedAnew(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	base := dbtest.Make(t)
	d := base.Open(t)
	m, err := d.AddMerchant(ctx, audit.System, db.Merchant{ExternalID: "shop-17", Name: "CH168 Shop"})
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Connection(t, d, m.ID, "caminvoice", "KHUID0001", "CH168")
	if err := d.EraseMerchant(ctx, audit.System, m.ID); err != nil {
		t.Fatal(err)
	}
	base = base.Rotated(t)
	d = base.Open(t)
	if r, err := d.ErasureByExternalID(ctx, "shop-17"); err != nil || r.MerchantID != m.ID {
		t.Errorf("by an older key's hash: %v", err)
	}
	if _, err := d.Reseal(ctx, d.OlderKeys(), 0, nil); err != nil {
		t.Fatal(err)
	}
	last := base.Retired(t).Open(t)
	owed, err := last.DueRevocations(ctx, m.ID, 10)
	if err != nil || len(owed) != 1 || owed[0].Connection.Account.ID != "KHUID0001" {
		t.Errorf("%+v are owed, %v", owed, err)
	}
	if _, err := last.ErasureByExternalID(ctx, "shop-17"); !errors.Is(err, pg.ErrNotFound) {
		t.Errorf("by a retired key's hash: %v", err)
	}
}
