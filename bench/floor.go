package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// floor is the least: one table, one statement for a read, one transaction around a refresh. It knows no keys, no merchants, no
// events, no replicas, and forgets what it cannot save.
type floor struct {
	pool     *pgxpool.Pool
	aead     tink.AEAD
	provider string
	client   *http.Client
}

const floorTable = `CREATE TABLE IF NOT EXISTS floor (id uuid PRIMARY KEY, sealed bytea NOT NULL, expires_at timestamptz NOT NULL);
	CREATE TABLE IF NOT EXISTS floor_links (id uuid PRIMARY KEY, secret_hash bytea NOT NULL UNIQUE, merchant text NOT NULL, provider text NOT NULL,
		return_url text NOT NULL, expires_at timestamptz NOT NULL)`

// floorGrant is what the floor seals: as much as ours.
type floorGrant struct {
	Access  string `json:"access"`
	Refresh string `json:"refresh"`
}

func newFloor(ctx context.Context, database, keys, provider string) (*floor, error) {
	config, err := pgxpool.ParseConfig(database)
	if err != nil {
		return nil, err
	}
	config.MaxConns = poolSize
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(keys)
	if err != nil {
		return nil, err
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(raw)))
	if err != nil {
		return nil, err
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, err
	}
	return &floor{pool: pool, aead: primitive, provider: provider, client: &http.Client{Transport: &http.Transport{MaxIdleConns: 64, MaxIdleConnsPerHost: 64}}}, nil
}

func (f *floor) routes() http.Handler {
	mux := http.NewServeMux()
	answer := func(do func(context.Context, uuid.UUID) (floorGrant, time.Time, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			id, err := uuid.Parse(r.PathValue("id"))
			if err != nil {
				http.Error(w, "id", http.StatusNotFound)
				return
			}
			g, expires, err := do(r.Context(), id)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(map[string]any{"access_token": g.Access, "token_type": "Bearer", "expires_at": expires})
		}
	}
	mux.HandleFunc("GET /token/{id}", answer(f.read))
	mux.HandleFunc("POST /refresh/{id}", answer(f.refresh))
	mux.HandleFunc("POST /links", f.link)
	mux.HandleFunc("POST /sweep", f.sweep)
	return mux
}

func (f *floor) read(ctx context.Context, id uuid.UUID) (g floorGrant, expires time.Time, err error) {
	var sealed []byte
	if err := f.pool.QueryRow(ctx, `SELECT sealed, expires_at FROM floor WHERE id = $1`, id).Scan(&sealed, &expires); err != nil {
		return g, expires, err
	}
	return g, expires, f.open(sealed, &g)
}

// link makes a connect link: one INSERT. It asks for no key, looks for no merchant, checks nothing and writes no event.
func (f *floor) link(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Merchant struct {
			ExternalID string `json:"external_id"`
		} `json:"merchant"`
		Provider  string `json:"provider"`
		ReturnURL string `json:"return_url"`
	}
	err := json.NewDecoder(r.Body).Decode(&asked)
	id, secret, expires := uuid.Must(uuid.NewV7()), rand.Text(), time.Now().Add(30*time.Minute)
	if err == nil {
		hash := sha256.Sum256([]byte(secret))
		_, err = f.pool.Exec(r.Context(), `INSERT INTO floor_links VALUES ($1, $2, $3, $4, $5, $6)`, id, hash[:], asked.Merchant.ExternalID, asked.Provider, asked.ReturnURL, expires)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(map[string]any{"id": id, "url": "http://" + r.Host + "/links/" + secret, "expires_at": expires})
}

func (f *floor) open(sealed []byte, g *floorGrant) error {
	plain, err := f.aead.Decrypt(sealed, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, g)
}

func (f *floor) seal(g floorGrant) ([]byte, error) {
	plain, err := json.Marshal(g)
	if err != nil {
		return nil, err
	}
	return f.aead.Encrypt(plain, nil)
}

func (f *floor) refresh(ctx context.Context, id uuid.UUID) (g floorGrant, expires time.Time, err error) {
	err = pgx.BeginFunc(ctx, f.pool, func(tx pgx.Tx) error {
		var sealed []byte
		if err := tx.QueryRow(ctx, `SELECT sealed FROM floor WHERE id = $1 FOR UPDATE`, id).Scan(&sealed); err != nil {
			return err
		}
		if err := f.open(sealed, &g); err != nil {
			return err
		}
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {g.Refresh}}.Encode()
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.provider+"/token", strings.NewReader(form))
		if err != nil {
			return err
		}
		r.SetBasicAuth("bench", "secret")
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		response, err := f.client.Do(r)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		var answered struct {
			Access  string `json:"access_token"`
			Refresh string `json:"refresh_token"`
			Expires int    `json:"expires_in"`
		}
		if err := json.Unmarshal(body, &answered); err != nil {
			return err
		}
		g, expires = floorGrant{Access: answered.Access, Refresh: answered.Refresh}, time.Now().Add(time.Duration(answered.Expires)*time.Second)
		if sealed, err = f.seal(g); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE floor SET sealed = $2, expires_at = $3 WHERE id = $1`, id, sealed, expires)
		return err
	})
	return g, expires, err
}

// sweep refreshes everything with as many workers as asked and answers with how long that took.
func (f *floor) sweep(w http.ResponseWriter, r *http.Request) {
	workers, err := strconv.Atoi(r.URL.Query().Get("workers"))
	if err != nil {
		http.Error(w, "workers", http.StatusBadRequest)
		return
	}
	rows, err := f.pool.Query(r.Context(), `SELECT id FROM floor`)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	began := time.Now()
	var next, failed atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= int64(len(ids)) {
					return
				}
				if _, _, err := f.refresh(r.Context(), ids[n]); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	if n := failed.Load(); n > 0 {
		http.Error(w, errors.New(strconv.FormatInt(n, 10)+" failed").Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, time.Since(began).Nanoseconds())
}
