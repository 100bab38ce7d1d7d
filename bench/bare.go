package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/account"
	"patchbay/internal/connectors"
	"patchbay/internal/pg"
)

// bare is the floor of the pages: the statements that Patchbay makes, in the same tables, with nothing around them. It
// looks nothing up in a language, draws no page, signs no cookie, checks no origin, limits nothing and trusts everybody.
type bare struct {
	*floor
	public   string
	settings map[string]string
}

func newBare(ctx context.Context, database, keys, provider, public string) (*bare, error) {
	f, err := newFloor(ctx, database, keys, provider)
	if err != nil {
		return nil, err
	}
	return &bare{floor: f, public: public, settings: newSandbox(provider).Settings()}, nil
}

func (b *bare) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, do := range map[string]func(http.ResponseWriter, *http.Request, signedIn) error{
		"GET /{$}": b.home, "POST /connect/caminvoice": b.begin, "GET /connect/caminvoice/callback": b.callback, "GET /flows/{reference}": b.outcome,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			who, err := b.signedIn(r)
			if err == nil {
				err = do(w, r, who)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	return mux
}

type signedIn struct {
	user, merchant pg.ID
	name, company  string
}

func (b *bare) signedIn(r *http.Request) (who signedIn, err error) {
	cookie, err := r.Cookie("session")
	if err != nil {
		return who, err
	}
	now := time.Now()
	var hash []byte
	var address, agent, role, email, locale, merchantName, merchantLocale string
	var external *string
	var created, seen, userCreated, merchantCreated time.Time
	var locked *time.Time
	var invited bool
	err = b.pool.QueryRow(r.Context(), `
		SELECT s.id_hash, s.created_at, s.seen_at, s.address, s.agent, m.id, m.external_id, m.name, m.locale, m.created_at,
			u.id, u.role, u.email, u.name, u.locale, u.locked_at, u.created_at, u.password_hash = ''
		FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN merchants m ON m.id = u.merchant_id
		WHERE s.id_hash = $1 AND s.expires_at > $2 AND s.seen_at > $3 AND u.locked_at IS NULL`,
		pg.Secret(cookie.Value).Hash(), now, now.Add(-account.SessionIdle)).
		Scan(&hash, &created, &seen, &address, &agent, &who.merchant, &external, &merchantName, &merchantLocale, &merchantCreated,
			&who.user, &role, &email, &who.name, &locale, &locked, &userCreated, &invited)
	who.company = merchantName
	return who, err
}

func fixed(w http.ResponseWriter, title, body string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<!DOCTYPE html><html lang=en><head><meta charset=utf-8><title>%s</title></head><body><main><h1>%s</h1>%s</main></body></html>", title, title, body)
}

const bareConnection = `SELECT c.id, c.merchant_id, c.provider, c.environment, c.account_id, c.account_name, c.details, c.problem,
	c.problem_since, c.failing_since, c.connected_by, c.connected_at, c.disconnected_at`

// bareRow is a connection as the floor reads it.
type bareRow struct {
	id, merchant                                        pg.ID
	provider, environment, account, name, problem       string
	details                                             []byte
	problemSince, failingSince, disconnectedAt, refresh *time.Time
	by                                                  *pg.ID
	connectedAt                                         time.Time
	fixed                                               bool
}

func (c *bareRow) targets() []any {
	return []any{
		&c.id, &c.merchant, &c.provider, &c.environment, &c.account, &c.name, &c.details, &c.problem,
		&c.problemSince, &c.failingSince, &c.by, &c.connectedAt, &c.disconnectedAt,
	}
}

func (b *bare) home(w http.ResponseWriter, r *http.Request, who signedIn) error {
	rows, err := b.pool.Query(r.Context(), bareConnection+`, g.refresh_expires_at, coalesce(g.refresh_expiry_fixed, false)
		FROM connections c LEFT JOIN grants g ON g.connection_id = c.id
		WHERE c.merchant_id = $1 AND c.disconnected_at IS NULL ORDER BY c.connected_at, c.id`, who.merchant)
	if err != nil {
		return err
	}
	n := 0
	var c bareRow
	if _, err := pgx.ForEachRow(rows, append(c.targets(), &c.refresh, &c.fixed), func() error { n++; return nil }); err != nil {
		return err
	}
	fixed(w, "Connections", fmt.Sprintf("<p>%d</p>", n))
	return nil
}

const bareFlow = `f.id, f.reference, f.user_id, f.merchant_id, f.provider, f.environment, f.connection_id, f.stage, f.outcome, f.account_id,
	f.account_name, f.result_id, f.created_at, f.touched_at, f.expires_at, f.state_hash, f.browser_hash, f.answer_hash, f.sealed`

// bareAttempt is a flow as the floor reads it.
type bareAttempt struct {
	id, user, merchant                                            pg.ID
	reference, provider, environment, stage, outcome, account, as string
	pinned, result                                                *pg.ID
	created, touched, expires                                     time.Time
	state, browser, answer, sealed                                []byte
}

func (f *bareAttempt) targets() []any {
	return []any{
		&f.id, &f.reference, &f.user, &f.merchant, &f.provider, &f.environment, &f.pinned, &f.stage, &f.outcome, &f.account,
		&f.as, &f.result, &f.created, &f.touched, &f.expires, &f.state, &f.browser, &f.answer, &f.sealed,
	}
}

func event(batch *pgx.Batch, kind string, who signedIn, flow pg.ID, connection *pg.ID, class string, status int) {
	batch.Queue(`INSERT INTO events (id, at, kind, actor, actor_id, merchant_id, connection_id, flow_id, provider, outcome, status, code, millis, reference, address, note)
		VALUES ($1, $2, $3, 'merchant', $4, $5, $6, $7, 'caminvoice', $8, $9, '', 0, '', '127.0.0.1', '')`,
		pg.NewID(), time.Now(), kind, who.user, who.merchant, connection, flow, class, status)
}

func (b *bare) begin(w http.ResponseWriter, r *http.Request, who signedIn) error {
	id, state, browser, now := pg.NewID(), pg.NewSecret(), pg.NewSecret(), time.Now()
	sealed, err := b.aead.Encrypt([]byte(pg.NewSecret()), id[:])
	if err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue(`INSERT INTO flows (id, reference, state_hash, browser_hash, user_id, merchant_id, provider, environment, stage, sealed, created_at, touched_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, 'caminvoice', 'sandbox', 'begun', $7, $8, $8, $9)`,
		id, id.String(), state.Hash(), browser.Hash(), who.user, who.merchant, sealed, now, now.Add(10*time.Minute))
	event(batch, "flow.begun", who, id, nil, "", 0)
	if err := b.pool.SendBatch(r.Context(), batch).Close(); err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{Name: "flow-" + id.String(), Value: string(browser), Path: "/", HttpOnly: true})
	q := url.Values{
		"client_id": {b.settings["CAMINVOICE_CLIENT_ID"]}, "redirect_url": {b.public + "/connect/caminvoice/callback"}, "state": {string(state)},
	}
	w.Header().Set("Location", b.settings["CAMINVOICE_API_URL"]+"/connect?"+q.Encode())
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// exchanged is what CamInvoice answers.
type exchanged struct {
	Access   string         `json:"access_token"`
	Refresh  string         `json:"refresh_token"`
	Business map[string]any `json:"business_info"`
}

func (b *bare) exchange(ctx context.Context, answer string) (e exchanged, err error) {
	body, err := json.Marshal(map[string]string{"auth_token": answer})
	if err != nil {
		return e, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.settings["CAMINVOICE_API_URL"]+"/api/v1/auth/authorize/connect", bytes.NewReader(body))
	if err != nil {
		return e, err
	}
	r.SetBasicAuth(b.settings["CAMINVOICE_CLIENT_ID"], b.settings["CAMINVOICE_CLIENT_SECRET"])
	r.Header.Set("Content-Type", "application/json")
	response, err := b.client.Do(r)
	if err != nil {
		return e, err
	}
	defer response.Body.Close()
	return e, json.NewDecoder(response.Body).Decode(&e)
}

func (b *bare) callback(w http.ResponseWriter, r *http.Request, who signedIn) error {
	ctx := r.Context()
	answer, state := r.URL.Query().Get("authToken"), r.URL.Query().Get("state")
	var f bareAttempt
	hash := pg.Secret("caminvoice\x00" + answer).Hash()
	err := b.pool.QueryRow(ctx, `SELECT `+bareFlow+` FROM flows f
		WHERE (f.provider = 'caminvoice' AND f.answer_hash = $1) OR f.state_hash = $2
		ORDER BY (f.provider = 'caminvoice' AND f.answer_hash = $1) IS TRUE DESC LIMIT 1`, hash, pg.Secret(state).Hash()).Scan(f.targets()...)
	if err != nil {
		return err
	}
	now := time.Now()
	err = b.pool.QueryRow(ctx, `UPDATE flows f SET stage = 'exchanging', answer_hash = $2, touched_at = $3
		WHERE f.id = $1 AND f.stage = 'begun' AND f.expires_at > $3 RETURNING `+bareFlow, f.id, hash, now).Scan(f.targets()...)
	if err != nil {
		return err
	}
	e, err := b.exchange(ctx, answer)
	if err != nil {
		return err
	}
	account, _ := e.Business["endpoint_id"].(string)
	name, _ := e.Business["company_name_en"].(string)
	plain, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if f.sealed, err = b.aead.Encrypt(plain, f.id[:]); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue(`UPDATE flows SET stage = 'choosing', sealed = $2, account_id = $3, account_name = $4, touched_at = $5, expires_at = $6
		WHERE id = $1 AND stage = 'exchanging'`, f.id, f.sealed, account, name, now, now.Add(30*time.Minute))
	event(batch, "call.exchange", who, f.id, nil, "ok", 200)
	if err := b.pool.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	if err := b.save(ctx, who, f, e, account, name); err != nil {
		return err
	}
	http.Redirect(w, r, "/flows/"+f.reference, http.StatusSeeOther)
	return nil
}

// save is the one transaction that connects.
func (b *bare) save(ctx context.Context, who signedIn, f bareAttempt, e exchanged, account, name string) error {
	return pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		now := time.Now()
		there := false
		batch := &pgx.Batch{}
		batch.Queue(`SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))`, account)
		batch.Queue(`SELECT `+bareFlow+` FROM flows f WHERE f.id = $1 FOR UPDATE`, f.id).QueryRow(func(row pgx.Row) error { return row.Scan(f.targets()...) })
		batch.Queue(bareConnection+` FROM connections c
			WHERE c.merchant_id = $1 AND c.provider = 'caminvoice' AND c.environment = 'sandbox' AND c.disconnected_at IS NULL AND c.account_id = $2 FOR UPDATE`,
			who.merchant, account).Query(func(rows pgx.Rows) error {
			var c bareRow
			_, err := pgx.ForEachRow(rows, c.targets(), func() error { there = true; return nil })
			return err
		})
		batch.Queue(`SELECT until FROM revocations WHERE provider = 'caminvoice' AND environment = 'sandbox' AND account_id = $1`, account)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		if there {
			return errors.New("connected already")
		}
		plain, err := b.aead.Decrypt(f.sealed, f.id[:])
		if err != nil {
			return err
		}
		if err := json.Unmarshal(plain, &e); err != nil {
			return err
		}
		connection := pg.NewID()
		sealed, err := b.aead.Encrypt(plain, connection[:])
		if err != nil {
			return err
		}
		var details []connectors.Detail
		words := []string{account, name}
		for key, value := range e.Business {
			details = append(details, connectors.Detail{Key: key, Value: fmt.Sprint(value)})
			words = append(words, fmt.Sprint(value))
		}
		facts, err := json.Marshal(details)
		if err != nil {
			return err
		}
		batch = &pgx.Batch{}
		batch.Queue(`INSERT INTO connections (id, merchant_id, provider, environment, account_id, account_name, details, connected_by, connected_at)
			VALUES ($1, $2, 'caminvoice', 'sandbox', $3, $4, $5, $6, $7)`,
			connection, who.merchant, account, name, facts, who.user, now)
		batch.Queue(`INSERT INTO search_documents (id, merchant_id, provider, environment, connected_at, account_key, merchant_key, words)
			VALUES ($1, $2, 'caminvoice', 'sandbox', $3, $4, '', $5)`, connection, who.merchant, now, name, strings.ToLower(strings.Join(words, " ")))
		batch.Queue(`INSERT INTO grants (connection_id, provider, environment, sealed, lifetime_seconds, expires_at, refresh_at, last_outcome, refreshed_at)
			VALUES ($1, 'caminvoice', 'sandbox', $2, 900, $3, $4, 'ok', $5)`, connection, sealed, now.Add(15*time.Minute), now.Add(12*time.Minute), now)
		batch.Queue(`UPDATE flows SET stage = 'connected', outcome = 'connected', sealed = NULL, result_id = $2, touched_at = $3 WHERE id = $1`, f.id, connection, now)
		event(batch, "connection.connected", who, f.id, &connection, "", 0)
		return tx.SendBatch(ctx, batch).Close()
	})
}

func (b *bare) outcome(w http.ResponseWriter, r *http.Request, who signedIn) error {
	var f bareAttempt
	err := b.pool.QueryRow(r.Context(), `SELECT `+bareFlow+` FROM flows f WHERE f.reference = $1`, r.PathValue("reference")).Scan(f.targets()...)
	if err != nil {
		return err
	}
	var c bareRow
	var merchant string
	var expires *time.Time
	err = b.pool.QueryRow(r.Context(), bareConnection+`, m.name, g.expires_at
		FROM connections c JOIN merchants m ON m.id = c.merchant_id LEFT JOIN grants g ON g.connection_id = c.id
		WHERE c.id = $1 AND c.merchant_id = $2`, f.result, who.merchant).Scan(append(c.targets(), &merchant, &expires)...)
	if err != nil {
		return err
	}
	fixed(w, "Connected", "<p>"+c.name+"</p>")
	return nil
}
