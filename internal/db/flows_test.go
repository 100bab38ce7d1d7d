package db_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// someone is a merchant's user.
func someone(t *testing.T, d *db.DB, name string) account.User {
	t.Helper()
	return dbtest.User(t, d, audit.RoleMerchant, name+"@example.com", "", name)
}

var daily = connectors.Info{KeepAlive: 24 * time.Hour}

func TestOneFlowIsClaimedOnce(t *testing.T) {
	d := dbtest.New(t)
	ctx := context.Background()
	u := someone(t, d, "one")
	f, err := d.BeginFlow(ctx, db.NewFlow{
		ID: pg.NewID(), UserID: u.ID, MerchantID: u.MerchantID, Provider: "acme", Environment: "sandbox", State: pg.NewSecret(), Browser: pg.NewSecret(), By: audit.System,
	})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 8 {
		all.Go(func() {
			_, err := d.ClaimFlow(ctx, f, "the code")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, db.ErrWrongStage) {
				t.Error(err)
			}
		})
	}
	dbtest.Wait(t, &all, "the callers")
	if won != 1 {
		t.Errorf("%d claimed the flow, want 1", won)
	}
	second, err := d.BeginFlow(ctx, db.NewFlow{
		ID: pg.NewID(), UserID: u.ID, MerchantID: u.MerchantID, Provider: "acme", Environment: "sandbox", State: pg.NewSecret(), Browser: pg.NewSecret(), By: audit.System,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.ClaimFlow(ctx, second, "the code"); !errors.Is(err, db.ErrWrongStage) {
		t.Errorf("the same code for another flow: %v, want ErrWrongStage", err)
	}
	if replay, err := d.FlowOfCallback(ctx, db.Callback{Provider: "acme", Code: "the code"}); err != nil || replay.ID != f.ID {
		t.Errorf("the code leads to %v %v, want the flow that was claimed with it", replay.Reference, err)
	}
	if _, err := d.FlowOfCallback(ctx, db.Callback{Provider: "other", Code: "the code"}); !errors.Is(err, pg.ErrNotFound) {
		t.Errorf("another provider's same code: %v, want ErrNotFound", err)
	}
}

func TestACallbackWithoutStateFindsItsFlowByTheBrowserUntilAStateCameBack(t *testing.T) {
	d := dbtest.New(t)
	ctx := context.Background()
	u := someone(t, d, "stateless")
	state, browser := pg.NewSecret(), pg.NewSecret()
	f, err := d.BeginFlow(ctx, db.NewFlow{
		ID: pg.NewID(), UserID: u.ID, MerchantID: u.MerchantID, Provider: "acme", Environment: "sandbox", State: state, Browser: browser, By: audit.System,
	})
	if err != nil {
		t.Fatal(err)
	}
	bare := db.Callback{Provider: "acme", Environment: "sandbox", Code: "the code", Browser: browser}
	if found, err := d.FlowOfCallback(ctx, bare); err != nil || found.ID != f.ID {
		t.Errorf("the browser leads to %v %v, want its flow", found.Reference, err)
	}
	if _, err := d.FlowOfCallback(ctx, db.Callback{Provider: "acme", Environment: "sandbox", Code: "the code"}); !errors.Is(err, pg.ErrNotFound) {
		t.Errorf("neither state nor browser: %v, want ErrNotFound", err)
	}
	claimed, err := d.ClaimFlow(ctx, f, "another code")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.KeepGrant(ctx, claimed.Flow, db.Exchange{Obtained: d.Now(), Proven: true, Echoed: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.FlowOfCallback(ctx, bare); !errors.Is(err, pg.ErrNotFound) {
		t.Errorf("a state has come back since: %v, want ErrNotFound", err)
	}
	if found, err := d.FlowOfCallback(ctx, db.Callback{Provider: "acme", Environment: "sandbox", State: string(state)}); err != nil || found.ID != f.ID {
		t.Errorf("the state leads to %v %v, want its flow", found.Reference, err)
	}
}

func TestManyTabsMakeOneConnection(t *testing.T) {
	d := dbtest.New(t)
	ctx := context.Background()
	u := someone(t, d, "many")
	var all sync.WaitGroup
	for range 6 {
		f := dbtest.WaitingFlow(t, d, u, "account-1", d.Now(), pg.ID{})
		all.Go(func() {
			_, err := d.Connect(ctx, f, "", audit.System, daily, nil)
			if errors.Is(err, db.ErrMustChoose) {
				_, err = d.Connect(ctx, f, db.ChooseConnect, audit.System, daily, nil)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	dbtest.Wait(t, &all, "the callers")
	list, err := d.MerchantConnections(ctx, u.MerchantID, nil)
	if err != nil || len(list) != 1 {
		t.Errorf("%d connections, want 1 (%v)", len(list), err)
	}
}

func TestConnectingAndRevokingExcludeEachOther(t *testing.T) {
	d := dbtest.New(t)
	ctx := context.Background()
	a, b := someone(t, d, "a"), someone(t, d, "b")
	made, err := d.Connect(ctx, dbtest.WaitingFlow(t, d, a, "shared", d.Now(), pg.ID{}), "", audit.System, daily, nil)
	if err != nil {
		t.Fatal(err)
	}
	parting, ended, err := d.Disconnect(ctx, made.Connection.ID, a.MerchantID, audit.System, nil)
	if err != nil || !ended || parting.Grant.Access != "token of shared" {
		t.Fatalf("disconnect: %v %v, grant there: %v", ended, err, parting.Grant.Access != "")
	}
	before := d.Now()
	if begun, err := d.BeginRevocation(ctx, "acme", "sandbox", "shared"); err != nil || !begun {
		t.Fatalf("begin: %v %v", begun, err)
	}
	late := dbtest.WaitingFlow(t, d, b, "shared", before, pg.ID{}) // obtained before the revocation, which ended its access too
	if _, err := d.Connect(ctx, late, db.ChooseConnect, audit.System, daily, nil); !errors.Is(err, db.ErrRevoking) {
		t.Errorf("while revoking: %v, want ErrRevoking", err)
	}
	if err := d.EndRevocation(ctx, "acme", "sandbox", "shared", true); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Connect(ctx, late, db.ChooseConnect, audit.System, daily, nil); !errors.Is(err, db.ErrRevoked) {
		t.Errorf("with access that was revoked: %v, want ErrRevoked", err)
	}
	if f, err := d.FlowByID(ctx, late.ID); err != nil || f.Outcome != status.EndInterrupted {
		t.Errorf("it ended as %q (%v), want %q", f.Outcome, err, status.EndInterrupted)
	}
	newer := dbtest.WaitingFlow(t, d, b, "shared", d.Now(), pg.ID{})
	if begun, err := d.BeginRevocation(ctx, "acme", "sandbox", "shared"); err != nil || begun {
		t.Errorf("revoking while somebody chooses: %v %v, want false", begun, err)
	}
	if _, err := d.Connect(ctx, newer, db.ChooseConnect, audit.System, daily, nil); err != nil {
		t.Errorf("with newer access: %v", err)
	}
}

func TestAProviderThatNamesNothing(t *testing.T) {
	d := dbtest.New(t)
	ctx := context.Background()
	u := someone(t, d, "nameless")
	f := dbtest.WaitingFlow(t, d, u, "", d.Now(), pg.ID{})
	if _, err := d.Connect(ctx, f, "", audit.System, daily, nil); !errors.Is(err, db.ErrMustChoose) {
		t.Fatalf("connected without asking: %v", err)
	}
	first, err := d.Connect(ctx, f, db.ChooseConnect, audit.System, daily, nil)
	if err != nil || first.Connection.Account.ID != first.Connection.ID.String() {
		t.Fatalf("%v: account %q", err, first.Connection.Account.ID)
	}
	again, err := d.Connect(ctx, dbtest.WaitingFlow(t, d, u, "", d.Now(), first.Connection.ID), db.ChooseConnect, audit.System, daily, nil)
	if err != nil || again.Connection.ID != first.Connection.ID {
		t.Errorf("reconnecting: %v, the id changed", err)
	}
}

func TestReferences(t *testing.T) {
	for typed, want := range map[string]string{
		"K7M2-4QXD": "K7M2-4QXD", " k7m24qxd ": "K7M2-4QXD", "k7m2 4qxd": "K7M2-4QXD", "OIL0-0000": "0110-0000", "K7M2-4QX": "", "K7M2-4QXU": "", "": "",
	} {
		if got := db.Reference(typed); got != want {
			t.Errorf("Reference(%q) = %q, want %q", typed, got, want)
		}
	}
}
