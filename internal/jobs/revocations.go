package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/riverqueue/river"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// RevokeLimit is how long a provider may take to end access: less than the lock on the account is kept.
const RevokeLimit = 22 * time.Second

const (
	revokeAfter = 3 * time.Minute  // the process that ended the connection asks the provider at once: by then it has, or has died
	choiceOver  = 45 * time.Minute // a choice that was open about the account has been made or has lapsed by then
)

// errUnconfirmed has River try again.
var errUnconfirmed = errors.New("the provider has not confirmed that access has ended")

// revokeArgs asks a provider to end access, when it may not have been asked.
type revokeArgs struct {
	Connection pg.ID     `json:"connection"`
	Account    string    `json:"account"`
	At         time.Time `json:"at"`
}

// Kind names the job in River's table.
func (revokeArgs) Kind() string { return "revoke" }

// InsertOpts has it tried for about thirty hours, at longer and longer intervals.
func (revokeArgs) InsertOpts() river.InsertOpts { return river.InsertOpts{MaxAttempts: 14} }

// runRevocation asks the provider unless it has answered already. Access may have been kept because of a choice that a person
// had open about the account: it is looked at once more when that choice must be over.
func (j *Jobs) runRevocation(ctx context.Context, job *river.Job[revokeArgs]) error {
	d := j.DB
	before, err := d.RevocationStatus(ctx, job.Args.Connection, job.Args.At)
	if err != nil || before != "" && before != status.RevokedLater && before != status.RevokedKept {
		return err
	}
	c, err := d.ConnectionDetail(ctx, job.Args.Connection, pg.ID{})
	if errors.Is(err, pg.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	p := db.Revocation{Connection: c.Connection}
	p.Connection.Account.ID = job.Args.Account
	revoked, call, failed := j.Revoke(ctx, p)
	if revoked == status.RevokedLater && job.Attempt >= job.MaxAttempts {
		revoked = status.RevokedFailed
	}
	if revoked != status.RevokedKept || before != status.RevokedKept {
		failed = errors.Join(failed, d.RecordRevocation(ctx, p, revoked, call))
	}
	switch open := job.Args.At.Add(choiceOver).Sub(d.Now()); {
	case failed != nil:
		return failed
	case revoked == status.RevokedLater:
		return errUnconfirmed
	case revoked == status.RevokedKept && open > 0:
		return river.JobSnooze(open)
	}
	return nil
}

// RevokesByAccount says whether the provider ends access by the account's id, so that it can be asked again when the grant is gone.
func (j *Jobs) RevokesByAccount(provider, environment string) bool {
	p := j.provider(provider)
	_, ok := p.Connector.(connectors.Revoker)
	return ok && p.Is(provider, environment) && p.Connector.Info().RevokesByID
}

// Receipt returns the receipt of a disconnected connection, with what is to become of its access while the provider has not answered.
func (j *Jobs) Receipt(ctx context.Context, c db.Connection) (db.Receipt, error) {
	receipt, err := j.DB.ConnectionReceipt(ctx, c)
	switch {
	case err != nil || receipt.Revoked != "":
	case j.RevokesByAccount(c.Provider, c.Environment):
		receipt.Revoked = status.RevokedLater
	default:
		receipt.Revoked = status.RevokedNotAsked
	}
	return receipt, err
}

// Revoke asks the provider of a connection that has ended here to end its access too. It is done only while no merchant has the
// account connected or is about to: a provider may end with one token all access of the account (RFC 7009 section 2.1). It returns how the provider took it, and
// the call, for RecordRevocation. The error is the database's.
func (j *Jobs) Revoke(ctx context.Context, p db.Revocation) (status.Revocation, connectors.Call, error) {
	ctx, calls := connectors.WithCalls(ctx)
	revoked, err := j.revoke(ctx, p)
	return revoked, calls.Last(), err
}

func (j *Jobs) revoke(ctx context.Context, p db.Revocation) (status.Revocation, error) {
	c, provider := p.Connection, j.provider(p.Connection.Provider)
	if provider.Connector == nil || !provider.Is(c.Provider, c.Environment) {
		return status.RevokedNotAsked, nil
	}
	revoker, ok := provider.Connector.(connectors.Revoker)
	if !ok {
		return status.RevokedNotOffered, nil
	}
	unconfirmed, info := status.RevokedFailed, provider.Connector.Info()
	if info.RevokesByID {
		unconfirmed = status.RevokedLater
	} else if p.Grant.Access == "" {
		return status.RevokedNotAsked, nil
	}
	if info.RevokesAccount {
		begun, err := j.DB.BeginRevocation(ctx, c.Provider, c.Environment, c.Account.ID)
		if err != nil {
			return unconfirmed, err
		}
		if !begun {
			return status.RevokedKept, nil
		}
		p.Grant.Account.ID = c.Account.ID
	} else if connected, err := j.DB.AccountConnected(ctx, c.Provider, c.Environment, connectors.Account{ID: c.Account.ID, UserID: p.Grant.Account.UserID}); err != nil || connected {
		return status.RevokedKept, err
	}
	call, cancel := context.WithTimeout(ctx, RevokeLimit)
	defer cancel()
	failed := revoker.Revoke(call, p.Grant)
	var err error
	if info.RevokesAccount {
		var refusal *connectors.RejectedError
		err = j.DB.EndRevocation(ctx, c.Provider, c.Environment, c.Account.ID, !errors.As(failed, &refusal))
	}
	switch {
	case failed == nil:
		return status.RevokedDone, err
	case errors.Is(failed, connectors.ErrNotOffered):
		return status.RevokedNotOffered, err
	}
	return unconfirmed, err
}

// RevokeUnwanted asks the provider to end access that a merchant gave and nobody connects, where that ends nobody else's, and records how
// the provider took it. The error is the database's.
func (j *Jobs) RevokeUnwanted(ctx context.Context, u db.UnwantedGrant) error {
	f := u.Flow
	p := db.Revocation{Grant: u.Grant, Connection: db.Connection{MerchantID: f.MerchantID, Provider: f.Provider, Environment: f.Environment, Account: u.Grant.Account}}
	revoked, call, err := j.Revoke(context.WithoutCancel(ctx), p)
	j.Log.InfoContext(ctx, "unwanted access", "provider", f.Provider, "flow", f.ID, "revoked", revoked, "status", call.Status, "err", err)
	return errors.Join(err, j.DB.RecordRevocation(ctx, p, revoked, call))
}

// dropUnconfirmed ends what the platform has not confirmed in time.
func (j *Jobs) dropUnconfirmed(ctx context.Context) error {
	dropped, err := j.DB.DropUnconfirmed(ctx)
	for _, one := range dropped {
		err = errors.Join(err, j.RevokeUnwanted(ctx, one))
	}
	return err
}

// provider returns a provider by its name; one that is not set up has no connector.
func (j *Jobs) provider(name string) connectors.Provider {
	for _, provider := range j.Providers {
		if provider.Name == name {
			return provider
		}
	}
	return connectors.Provider{}
}
