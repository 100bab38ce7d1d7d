package keyring_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// TestWhatAnotherKeySealedIsLeft has one process seal with a new key while another does not have it yet. The latter changes nothing, and
// says that it does not know, of everything that is sealed.
func TestWhatAnotherKeySealedIsLeft(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	base := dbtest.Make(t)
	clock := dbtest.NewClock(time.Now())
	options := pg.Options{Clock: clock.Clock, MaxConns: 4}
	behind := base.Open(t, options)
	log := logged(behind)
	ahead := base.Rotated(t).Open(t, options)

	u := dbtest.User(t, ahead, audit.RoleMerchant, "sok@example.com", "", "sok")
	connected, err := ahead.Connect(ctx, dbtest.WaitingFlow(t, ahead, u, "account", ahead.Now(), pg.ID{}), "", audit.System, daily, nil)
	if err != nil {
		t.Fatal(err)
	}
	id := connected.Connection.ID
	unchosen := dbtest.WaitingFlow(t, ahead, u, "account", ahead.Now(), pg.ID{})
	begun, err := ahead.BeginFlow(ctx, db.NewFlow{
		ID: pg.NewID(), UserID: u.ID, MerchantID: u.MerchantID, Provider: "acme", Environment: "sandbox",
		State: pg.NewSecret(), Browser: pg.NewSecret(), Verifier: "a verifier", By: audit.System,
	})
	if err != nil {
		t.Fatal(err)
	}
	if begun, err = behind.FlowByID(ctx, begun.ID); err != nil {
		t.Fatal(err)
	}
	links := map[string]pg.ID{}
	for name, d := range map[string]*db.DB{"known": behind, "unknown": ahead} {
		m, err := ahead.Merchant(ctx, u.MerchantID)
		if err != nil {
			t.Fatal(err)
		}
		l, _, err := d.AddConnectLink(ctx, audit.System, db.ConnectLink{Merchant: m, Provider: "acme"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		links[name] = l.ID
	}
	if err := notify.AddOutboxMail(ctx, ahead.Keyring, notify.OutboxMail{User: u.ID, Recipient: "sok@example.com", Subject: "Hello", Text: "a secret link"}); err != nil {
		t.Fatal(err)
	}
	before := dbtest.Dump(t, behind)

	for what, do := range map[string]func() error{
		"a connection's grant is read": func() error { _, err := behind.ReadGrant(ctx, id); return err },
		"a connection is disconnected": func() error { _, _, err := behind.Disconnect(ctx, id, pg.ID{}, audit.System, nil); return err },
		"a flow is claimed":            func() error { _, err := behind.ClaimFlow(ctx, begun, "code"); return err },
		"a callback's answer is kept":  func() error { return behind.AnswerFlow(ctx, begun, "code", "code=code") },
		"a choice is shown":            func() error { _, err := behind.FlowOffer(ctx, unchosen); return err },
		"a choice is made": func() error {
			_, err := behind.Connect(ctx, unchosen, db.ChooseConnect, audit.System, daily, nil)
			return err
		},
		"a choice is cancelled":    func() error { _, err := behind.CancelFlow(ctx, unchosen, audit.System); return err },
		"a connect link is opened": func() error { _, err := behind.ConnectLink(ctx, links["unknown"], pg.ID{}); return err },
		"the outbox is read":       func() error { _, err := notify.OutboxMails(ctx, behind.Keyring, 10); return err },
		"what is sealed otherwise, as is": func() error {
			_, err := behind.Unseal(sealedBy(t, ahead), seal.Place{Table: "webhook_endpoints"})
			return err
		},
	} {
		if err := do(); !errors.Is(err, seal.ErrUnknownKey) || errors.Is(err, seal.ErrSealed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	page, err := behind.ConnectLinks(ctx, pg.ID{}, "", 10)
	if err != nil || len(page.Rows) != 1 || page.Rows[0].ID != links["known"] {
		t.Errorf("the list of connect links: %d rows, %v", len(page.Rows), err)
	}
	if after := dbtest.Dump(t, behind); after != before {
		t.Error("something was written")
	}

	clock.Advance(time.Hour) // every flow is over
	if _, err := behind.ExpireFlows(ctx); err != nil {
		t.Error(err)
	}
	if _, err := behind.FlowByID(ctx, unchosen.ID); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("a flow that is over: %v", err)
	}
	if after := dbtest.Dump(t, behind); after != before {
		t.Error("a flow was ended")
	}
	confirming := `ALTER TABLE flows DROP CONSTRAINT IF EXISTS flows_stage_check; UPDATE flows SET stage = 'confirming' WHERE id = '` + begun.ID.String() + `'`
	if _, err := behind.Pool.Exec(ctx, confirming); err != nil {
		t.Fatal(err)
	}
	before = dbtest.Dump(t, behind)
	if dropped, err := behind.DropUnconfirmed(ctx); err != nil || len(dropped) != 0 {
		t.Errorf("what is not confirmed: %d, %v", len(dropped), err)
	}
	if after := dbtest.Dump(t, behind); after != before {
		t.Error("an unconfirmed flow was ended")
	}
	if behind.LacksKey() == 0 || log.Count("key unknown") != 1 || log.Count("a verifier")+log.Count("token of account") > 0 {
		t.Errorf("key %d is lacking, %d lines", behind.LacksKey(), log.Count("key unknown"))
	}

	if _, err := ahead.DropUnconfirmed(ctx); err != nil {
		t.Error(err)
	}
	if n, err := ahead.ExpireFlows(ctx); err != nil || n != 1 {
		t.Errorf("where the key is known %d flows lapse, %v", n, err)
	}
	kept, err := pg.One(ctx, ahead.Pool, "read late grant", pgx.RowTo[bool], `SELECT late_grant IS NOT NULL FROM grants WHERE connection_id = $1`, id)
	if err != nil || !kept {
		t.Errorf("the grant that nobody chose is kept: %v, %v", kept, err)
	}
	if r, ended, err := ahead.Disconnect(ctx, id, pg.ID{}, audit.System, nil); err != nil || !ended || r.Grant.Access == "" {
		t.Errorf("disconnected: %v, %v", ended, err)
	}
}

func sealedBy(t *testing.T, d *db.DB) []byte {
	t.Helper()
	sealed, err := d.Keyset.Seal([]byte("secret"), seal.Place{Table: "webhook_endpoints"})
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// TestADamagedGrantIsNoUnknownKey: a grant that its key does not open is the platform's to look at, as before.
func TestADamagedGrantIsNoUnknownKey(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := dbtest.New(t)
	id, err := d.AddConnection(ctx, dbtest.Merchant(t, d, "Shop").ID, "acme", "sandbox", connectors.Grant{Token: connectors.Token{Access: "now"}, Account: connectors.Account{ID: "a"}}, d.Now(), connectors.Info{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, sql string }{ // each beside what was done before it
		{"a bit of its text", `UPDATE grants SET sealed = set_bit(sealed, 200, 1 - get_bit(sealed, 200)) WHERE connection_id = $1`},
		{"cut short", `UPDATE grants SET sealed = substring(sealed FROM 1 FOR 20) WHERE connection_id = $1`},
		{"a word", `UPDATE grants SET sealed = 'secret' WHERE connection_id = $1`},
		{"nothing", `UPDATE grants SET sealed = '' WHERE connection_id = $1`},
		{"another generation's", `UPDATE grants SET generation = generation + 1 WHERE connection_id = $1`},
	} {
		if _, err := d.Pool.Exec(ctx, c.sql, id); err != nil {
			t.Fatal(err)
		}
		if r, err := d.ReadGrant(ctx, id); err != nil || !r.Sealed {
			t.Errorf("%s: sealed %v, %v", c.what, r.Sealed, err)
		}
	}
	if d.LacksKey() != 0 || dbtest.Events(t, d, status.RowForged) != 0 {
		t.Error("a damaged grant is taken for another's")
	}
}
