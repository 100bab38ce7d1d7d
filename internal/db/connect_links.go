package db

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/keyring"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// ConnectLink is an address by which a platform's program leads its merchant's browser to one task here: to connect at one provider,
// at one of all, or to reconnect one connection. The first browser that begins has it for itself.
type ConnectLink struct {
	ID             pg.ID
	Merchant       Merchant
	Provider       string // "": the merchant picks one
	ConnectionID   pg.ID  // to reconnect; zero for a new one
	Inputs         map[string]string
	UserExternalID string // who acts, as the platform calls them; "" if it does not say
	UserName       string
	Locale         string // "": as the browser asks
	ReturnURL      string // "": there is no way back
	Redirects      bool   // to ReturnURL at once if it ended well
	Confirms       bool   // nothing is connected before the platform's program confirms
	CreatedBy      pg.ID  // the API key
	CreatedAt      time.Time
	ExpiresAt      time.Time
	BoundAt        time.Time // when a browser began; zero before
	RevokedAt      time.Time
	Flow           LinkFlow // its attempt: the latest, unless one before it connected or waits to be confirmed

	secretHash, browserHash, codeHash []byte
}

// LinkFlow is an attempt with a connect link; zero before the first.
type LinkFlow struct {
	ID        pg.ID
	Reference string
	Provider  string
	Stage     status.Stage
	Outcome   status.End
	ResultID  pg.ID
	TouchedAt time.Time
	ExpiresAt time.Time
}

// LinkState is how far a connect link's task has come, in one word. The API and the address of the way back have the same words.
type LinkState string

// The states of a connect link.
const (
	LinkOpen       LinkState = "open"
	LinkBegun      LinkState = "begun"
	LinkConnected  LinkState = "connected"
	LinkDenied     LinkState = "denied"
	LinkFailed     LinkState = "failed"
	LinkCancelled  LinkState = "cancelled"
	LinkConfirming LinkState = "confirming" // the platform's program is to confirm
	LinkExpired    LinkState = "expired"    // or revoked
)

// Errors of connect links.
var (
	ErrLinkOver         = errors.New("this connect link has expired or was revoked")
	ErrLinkOtherBrowser = errors.New("another browser has begun with this connect link")
	ErrNotConfirmed     = errors.New("the code is not that of a connect link that waits for it")
)

// confirmTimeout is how long the platform's program may take to confirm.
const confirmTimeout = 10 * time.Minute

// Actor returns the link's user as the actor of an event.
func (l ConnectLink) Actor(address, request string) audit.Actor {
	return audit.Actor{Role: audit.RoleLink, ID: l.ID, Address: address, Request: request}
}

// HasBrowser reports whether secret is that of the browser which began with the link.
func (l ConnectLink) HasBrowser(secret pg.Secret) bool {
	return len(l.browserHash) > 0 && subtle.ConstantTimeCompare(secret.Hash(), l.browserHash) == 1
}

// Ended reports whether nothing can be begun with the link any more.
func (l ConnectLink) Ended(now time.Time) bool {
	return !l.RevokedAt.IsZero() || !now.Before(l.ExpiresAt)
}

// State returns how far the link's task has come.
func (l ConnectLink) State(now time.Time) LinkState {
	f := Flow{Stage: l.Flow.Stage, TouchedAt: l.Flow.TouchedAt, ExpiresAt: l.Flow.ExpiresAt}
	switch f.Stage {
	case status.StageConnected:
		return LinkConnected
	case status.StageDenied:
		if l.Flow.Outcome == status.EndCancelled {
			return LinkCancelled
		}
		return LinkDenied
	case status.StageFailed:
		return LinkFailed
	case status.StageExpired:
		return LinkExpired
	case status.StageExchanging:
		if f.isOverdue(now) {
			return LinkFailed
		}
	}
	switch {
	case f.Stage == "" && l.Ended(now), f.isOverdue(now):
		return LinkExpired
	case f.Stage == status.StageConfirming:
		return LinkConfirming
	case f.Stage == "" && l.BoundAt.IsZero():
		return LinkOpen
	}
	return LinkBegun
}

// signedText writes what SignedConnectLinks.Text selects of a link that no browser has begun with.
func (l ConnectLink) signedText() string {
	connection := ""
	if l.ConnectionID != (pg.ID{}) {
		connection = l.ConnectionID.String()
	}
	yes := map[bool]string{true: "t", false: "f"}
	return l.ID.String() + "|" + l.Merchant.ID.String() + "|" + hex.EncodeToString(l.secretHash) + "|" + connection + "|" +
		strconv.FormatInt(l.ExpiresAt.UnixMicro(), 10) + "|" + yes[l.Redirects] + "|" + yes[l.Confirms] + "||f|" + l.Provider + "|" + l.ReturnURL
}

// AddConnectLink makes a link of the merchant, the task and the way back that are given. It returns its secret, which is stored
// nowhere.
func (d *DB) AddConnectLink(ctx context.Context, by audit.Actor, l ConnectLink, lasts time.Duration) (ConnectLink, pg.Secret, error) {
	secret := pg.NewSecret()
	l.ID, l.secretHash, l.CreatedBy, l.CreatedAt = pg.NewID(), secret.Hash(), by.ID, d.Now().Truncate(time.Microsecond)
	l.ExpiresAt = l.CreatedAt.Add(lasts)
	if l.Inputs == nil {
		l.Inputs = map[string]string{}
	}
	if _, err := d.links.Do(ctx, newLink{l, d.Audit.Values(l.event(status.LinkMade, by))}); err != nil {
		return l, "", err
	}
	return l, secret, nil
}

// newLink is a link to be stored, with its event.
type newLink struct {
	link  ConnectLink
	event []any // audit.Log.Values
}

var addLink = `
	WITH made AS (INSERT INTO events (` + audit.Columns + `) SELECT ` + audit.Columns + ` FROM ` + pg.Rows(17, 1, audit.ColumnTypes) + `)
	INSERT INTO connect_links (id, secret_hash, merchant_id, provider, connection_id, inputs, user_external_id, user_name, locale, return_url,
		redirects, confirms, created_by, created_at, expires_at, mac)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`

// addLinks stores links that are made at the same time by one commit.
func (d *DB) addLinks(ctx context.Context, made []newLink) ([]struct{}, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	var b pgx.Batch
	for _, m := range made {
		l := m.link
		b.Queue(addLink, append([]any{
			l.ID, l.secretHash, l.Merchant.ID, l.Provider, l.ConnectionID, l.Inputs, l.UserExternalID, l.UserName, l.Locale, l.ReturnURL,
			l.Redirects, l.Confirms, l.CreatedBy, l.CreatedAt, l.ExpiresAt, d.MAC(keyring.SignedConnectLinks, l.signedText()),
		}, m.event...)...)
	}
	if err := d.Pool.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("add connect links: %w", err)
	}
	return make([]struct{}, len(made)), nil
}

// event returns an event of this link.
func (l ConnectLink) event(kind status.Kind, by audit.Actor) audit.Event {
	return audit.Event{Kind: kind, Actor: by, MerchantID: l.Merchant.ID, ConnectionID: l.ConnectionID, Provider: l.Provider, Reference: l.ID.String()}
}

// By names who acts with the link, "" if the platform does not say.
func (l ConnectLink) By() string {
	switch {
	case l.UserName == "":
		return l.UserExternalID
	case l.UserExternalID == "":
		return l.UserName
	}
	return l.UserName + ", " + l.UserExternalID
}

// selectLink reads links with their merchant and their attempt: the one that connected or waits to be confirmed, which a browser's other
// tabs do not undo, or else the latest.
var selectLink = `SELECT l.id, l.provider, l.connection_id, l.inputs, l.user_external_id, l.user_name, l.locale, l.return_url, l.redirects, l.confirms, l.created_by,
		l.created_at, l.expires_at, l.bound_at, l.revoked_at, l.browser_hash, l.code_hash, ` + merchantColumns + `,
		f.id, coalesce(f.reference, ''), coalesce(f.provider, ''), coalesce(f.stage, ''), coalesce(f.outcome, ''), f.result_id, f.touched_at, f.expires_at,
		` + keyring.SignedConnectLinks.Text + `, l.mac
	FROM connect_links l JOIN merchants m ON m.id = l.merchant_id
		LEFT JOIN LATERAL (SELECT * FROM flows WHERE link_id = l.id
			ORDER BY stage = 'connected' DESC, stage = 'confirming' DESC, created_at DESC, id DESC LIMIT 1) f ON true `

// scanLink returns pgx.ErrNoRows with a link whose MAC is not valid: it gives nothing.
func (d *DB) scanLink(row pgx.CollectableRow) (ConnectLink, error) {
	var l ConnectLink
	var signed string
	var mac []byte
	err := row.Scan(&l.ID, &l.Provider, &l.ConnectionID, &l.Inputs, &l.UserExternalID, &l.UserName, &l.Locale, &l.ReturnURL, &l.Redirects, &l.Confirms, &l.CreatedBy,
		&l.CreatedAt, &l.ExpiresAt, &l.BoundAt, &l.RevokedAt, &l.browserHash, &l.codeHash, &l.Merchant.ID, &l.Merchant.ExternalID, &l.Merchant.Name, &l.Merchant.Locale, &l.Merchant.CreatedAt,
		&l.Flow.ID, &l.Flow.Reference, &l.Flow.Provider, &l.Flow.Stage, &l.Flow.Outcome, &l.Flow.ResultID, &l.Flow.TouchedAt, &l.Flow.ExpiresAt, &signed, &mac)
	if err == nil {
		err = d.Authenticate(keyring.SignedConnectLinks, signed, mac)
	}
	if errors.Is(err, seal.ErrForged) {
		err = pgx.ErrNoRows
	}
	return l, err
}

// ConnectLinkBySecret returns the link with a secret, also one that is over. It returns ErrNotFound if there is none.
func (d *DB) ConnectLinkBySecret(ctx context.Context, secret pg.Secret) (ConnectLink, error) {
	return pg.One(ctx, d.Pool, "read connect link", d.scanLink, selectLink+`WHERE l.secret_hash = $1`, secret.Hash())
}

// ConnectLink returns a link. merchant is that of the API key which asks; zero for all. It returns ErrNotFound if there is none.
func (d *DB) ConnectLink(ctx context.Context, id, merchant pg.ID) (ConnectLink, error) {
	return pg.One(ctx, d.Pool, "read connect link", d.scanLink, selectLink+`WHERE l.id = $1 AND ($2::uuid IS NULL OR l.merchant_id = $2)`, id, merchant)
}

// ConnectLinkOfBrowser returns the link with which a browser has begun last, within ReplayFor. It returns ErrNotFound if there is none.
func (d *DB) ConnectLinkOfBrowser(ctx context.Context, browser pg.Secret) (ConnectLink, error) {
	return pg.One(ctx, d.Pool, "read connect link", d.scanLink, selectLink+`WHERE l.browser_hash = $1 AND l.bound_at > $2 ORDER BY l.bound_at DESC LIMIT 1`,
		browser.Hash(), d.Now().Add(-ReplayFor))
}

// ConnectLinks returns one page of links, the latest first, of one merchant or, with the zero id, of all.
func (d *DB) ConnectLinks(ctx context.Context, merchant pg.ID, cursor string, limit int) (pg.Page[ConnectLink], error) {
	order := pg.Order{Name: "links", Key: "l.created_at", ID: "l.id", Type: "timestamptz", Descending: true}
	from := order.ParseCursor(cursor)
	args := pg.Args{limit + 1}
	where := "true"
	if merchant != (pg.ID{}) {
		where = "l.merchant_id = " + args.Add(merchant)
	}
	where += order.After(from, args.Add)
	refused := map[pg.ID]bool{} // forged, or signed by a key that the keyset lacks: they keep their places until the page is cut, and are not listed
	all, err := pg.Collect(ctx, d.Pool, "read connect links", func(row pgx.CollectableRow) (ConnectLink, error) {
		l, err := d.scanLink(row)
		if errors.Is(err, pgx.ErrNoRows) || errors.Is(err, seal.ErrUnknownKey) {
			refused[l.ID], err = true, nil
		}
		return l, err
	}, selectLink+`WHERE `+where+order.OrderBy(from)+` LIMIT $1`, args...)
	if err != nil {
		return pg.Page[ConnectLink]{}, err
	}
	page := pg.CutPage(order, all, from, limit, func(l ConnectLink) (string, pg.ID) { return pg.TimeKey(l.CreatedAt), l.ID })
	page.Rows = slices.DeleteFunc(page.Rows, func(l ConnectLink) bool { return refused[l.ID] })
	return page, nil
}

// BindConnectLink gives a link to the browser that begins with it. It returns ErrLinkOtherBrowser if another browser has it, and ErrLinkOver
// if it has expired or was revoked.
func (d *DB) BindConnectLink(ctx context.Context, l ConnectLink, browser pg.Secret, by audit.Actor) (ConnectLink, error) {
	now := d.Now()
	err := d.Tx(ctx, func(tx pgx.Tx) error {
		bound := false
		err := d.Change(ctx, tx, keyring.SignedConnectLinks, l.ID, func() error {
			err := tx.QueryRow(ctx, `SELECT browser_hash, bound_at, revoked_at FROM connect_links WHERE id = $1`, l.ID).Scan(&l.browserHash, &l.BoundAt, &l.RevokedAt)
			switch {
			case err != nil:
				return err
			case l.Ended(now):
				return ErrLinkOver
			case len(l.browserHash) > 0 && !l.HasBrowser(browser):
				return ErrLinkOtherBrowser
			case len(l.browserHash) > 0:
				return nil
			}
			bound, l.browserHash, l.BoundAt = true, browser.Hash(), now
			_, err = tx.Exec(ctx, `UPDATE connect_links SET browser_hash = $2, bound_at = $3 WHERE id = $1`, l.ID, l.browserHash, now)
			return err
		})
		if err != nil || !bound {
			return err
		}
		return d.Audit.Add(ctx, tx, l.event(status.LinkBegun, by))
	})
	if errors.Is(err, seal.ErrForged) {
		err = pg.ErrNotFound
	}
	return l, err
}

// RefuseConnectLink records that another browser than the one that began wanted to begin with a link.
func (d *DB) RefuseConnectLink(ctx context.Context, l ConnectLink, by audit.Actor) error {
	return d.Audit.Record(ctx, l.event(status.LinkOtherBrowser, by))
}

// UnwantedGrant is access that a merchant gave and that is not connected.
type UnwantedGrant struct {
	Flow  Flow
	Grant connectors.Grant
}

// RevokeConnectLink ends a link with its attempt, unless that has ended, and returns the access that had been given. It does nothing
// to a link that was revoked before. It returns ErrNotFound if there is no such link.
func (d *DB) RevokeConnectLink(ctx context.Context, l ConnectLink, by audit.Actor) (dropped []UnwantedGrant, err error) {
	err = d.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
		dropped = nil
		now := d.Now()
		open, err := pg.Collect(ctx, tx, "read a link's attempts", scanFlow, `SELECT `+flowColumns+` FROM flows f
			WHERE f.link_id = $1 AND f.stage IN ('begun', 'answered', 'choosing', 'confirming') FOR UPDATE`, l.ID)
		if err != nil {
			return err
		}
		revoked := false
		err = d.Change(ctx, tx, keyring.SignedConnectLinks, l.ID, func() error {
			n, err := pg.Exec(ctx, tx, "revoke connect link", `UPDATE connect_links SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL`, l.ID, now)
			revoked = n == 1
			return err
		})
		if err != nil || !revoked {
			return err
		}
		if dropped, err = d.endFlows(ctx, tx, open, status.EndLinkRevoked); err != nil {
			return err
		}
		return d.Audit.Add(ctx, tx, l.event(status.LinkRevoked, by))
	})
	if errors.Is(err, seal.ErrForged) {
		err = pg.ErrNotFound
	}
	return dropped, err
}

// endFlows ends flows whose rows the caller has locked, and returns the grants that were sealed in them.
func (d *DB) endFlows(ctx context.Context, tx pgx.Tx, flows []Flow, end status.End) ([]UnwantedGrant, error) {
	var dropped []UnwantedGrant
	b := &pgx.Batch{}
	for _, f := range flows {
		s, err := d.openFlow(f)
		if err != nil && !errors.Is(err, seal.ErrSealed) {
			return nil, err
		}
		if s.Grant != nil {
			dropped = append(dropped, UnwantedGrant{f, *s.Grant})
			if err := d.keepLate(ctx, tx, f, *s.Grant); err != nil {
				return nil, err
			}
		}
		b.Queue(`UPDATE flows SET stage = 'expired', outcome = $2, sealed = NULL, touched_at = $3 WHERE id = $1`, f.ID, end, d.Now())
		e := f.event(status.FlowExpired, audit.System)
		e.Code = string(end)
		d.Audit.Queue(b, e)
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return nil, fmt.Errorf("end flows: %w", err)
	}
	return dropped, nil
}

// DropUnconfirmed ends the attempts that the platform's program has not confirmed in time, at most 100, and returns the access that
// had been given, which is to be revoked. Those that a key has sealed which the keyset lacks are left to another process.
func (d *DB) DropUnconfirmed(ctx context.Context) (dropped []UnwantedGrant, err error) {
	err = d.Tx(ctx, func(tx pgx.Tx) error {
		late, err := pg.Collect(ctx, tx, "read unconfirmed flows", scanFlow, `SELECT `+flowColumns+` FROM flows f
			WHERE f.sealed IS NOT NULL AND f.stage = 'confirming' AND f.expires_at <= $1 AND NOT `+keyring.UnknownSeal("f.sealed", "$2")+`
			ORDER BY f.expires_at LIMIT 100 FOR UPDATE SKIP LOCKED`, d.Now(), d.KnownKeys())
		if err != nil {
			return err
		}
		dropped, err = d.endFlows(ctx, tx, late, status.EndUnconfirmed)
		return err
	})
	return dropped, err
}

// ConfirmCode returns the code that the platform's program is to send, while a flow waits for it.
func (d *DB) ConfirmCode(f Flow) (pg.Secret, error) {
	if f.Stage != status.StageConfirming {
		return "", ErrWrongStage
	}
	s, err := d.openFlow(f)
	return pg.Secret(s.Code), err
}

// awaitConfirmation has a flow that its merchant has ended with a choice wait for the platform's word, in the transaction of connect.
func (d *DB) awaitConfirmation(ctx context.Context, tx pgx.Tx, f Flow, s sealedFlow, choice Choice, by audit.Actor) error {
	code := pg.NewSecret()
	s.Proven, s.Choice, s.Code = false, choice, string(code)
	sealed, err := d.sealFlow(f, s)
	if err != nil {
		return err
	}
	now := d.Now()
	b := &pgx.Batch{}
	b.Queue(`UPDATE flows SET stage = 'confirming', sealed = $2, touched_at = $3, expires_at = $4 WHERE id = $1`, f.ID, sealed, now, now.Add(confirmTimeout))
	b.Queue(`UPDATE connect_links SET code_hash = $2 WHERE id = $1`, f.LinkID, code.Hash())
	d.Audit.Queue(b, f.event(status.LinkConfirming, by))
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("await confirmation: %w", err)
	}
	return nil
}

// linkOfFlow locks the link of a flow against its revocation. It returns ErrWrongStage if the link was revoked, its MAC is not valid, or it was
// done with another account: a link is for one.
func (d *DB) linkOfFlow(ctx context.Context, tx pgx.Tx, f Flow) (confirms bool, err error) {
	var signed string
	var mac []byte
	var revoked time.Time
	done := false
	b := &pgx.Batch{}
	b.Queue(`SELECT confirms, revoked_at, `+keyring.SignedConnectLinks.Text+`, mac FROM connect_links l WHERE id = $1 FOR UPDATE`, f.LinkID).QueryRow(func(row pgx.Row) error {
		return row.Scan(&confirms, &revoked, &signed, &mac)
	})
	b.Queue(`SELECT EXISTS (SELECT FROM flows WHERE link_id = $1 AND id <> $2 AND (provider, account_id) <> ($3, $4)
			AND (stage = 'connected' OR stage = 'confirming' AND expires_at > $5))`, f.LinkID, f.ID, f.Provider, f.Account.ID, d.Now()).QueryRow(func(row pgx.Row) error {
		return row.Scan(&done)
	})
	err = tx.SendBatch(ctx, b).Close()
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, ErrWrongStage
	case err != nil:
		return false, fmt.Errorf("read connect link: %w", err)
	case done, !revoked.IsZero():
		return false, ErrWrongStage
	}
	if err := d.Authenticate(keyring.SignedConnectLinks, signed, mac); errors.Is(err, seal.ErrForged) {
		return false, ErrWrongStage
	} else if err != nil {
		return false, err
	}
	return confirms, nil
}

// ConfirmConnectLink connects what a merchant gave access to with a link, once the platform's program has sent the code that came back
// to it. Sent again, it changes nothing. It returns ErrNotConfirmed if the code is not the one, or came too late, and ErrRevoking as Connect does.
// The actor by is the API key.
func (d *DB) ConfirmConnectLink(ctx context.Context, l ConnectLink, code pg.Secret, by audit.Actor, info connectors.Info, jobs Jobs) (ConnectResult, error) {
	if len(l.codeHash) == 0 || subtle.ConstantTimeCompare(code.Hash(), l.codeHash) != 1 {
		return ConnectResult{}, ErrNotConfirmed
	}
	switch l.State(d.Now()) {
	case LinkConnected:
		return ConnectResult{}, nil
	case LinkConfirming:
	default:
		return ConnectResult{}, ErrNotConfirmed
	}
	f, err := d.FlowByID(ctx, l.Flow.ID)
	if err != nil {
		return ConnectResult{}, err
	}
	s, err := d.openFlow(f)
	if err != nil || pg.Secret(s.Code) != code {
		return ConnectResult{}, errors.Join(err, ErrNotConfirmed)
	}
	var made ConnectResult
	err = d.RetryOnDeadlock(ctx, func(tx pgx.Tx) (err error) {
		made, err = d.connect(ctx, tx, f, s.Choice, l.Actor(by.Address, by.Request), info, true)
		if err != nil {
			return err
		}
		e := f.event(status.LinkConfirmed, by)
		e.ConnectionID = made.Connection.ID
		if err := d.Audit.Add(ctx, tx, e); err != nil {
			return err
		}
		return d.enqueueConnected(ctx, tx, made, jobs)
	})
	if errors.Is(err, ErrWrongStage) || errors.Is(err, ErrMustChoose) || errors.Is(err, ErrRevoked) {
		err = ErrNotConfirmed
	}
	return made, err
}
