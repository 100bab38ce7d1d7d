package pg_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

// TestDefaultsOfADatabase holds our connections to what statements are written for, whatever was set for the database.
func TestDefaultsOfADatabase(t *testing.T) {
	for _, set := range []string{
		"default_transaction_isolation = 'serializable'", "default_transaction_isolation = 'repeatable read'", "idle_session_timeout = '1s'", "jit = on", "timezone = 'Asia/Tokyo'",
	} {
		made := dbtest.Make(t)
		setForDatabase(t, made, set)
		d := made.Open(t)
		for name, want := range map[string]string{"default_transaction_isolation": "read committed", "idle_session_timeout": "0", "jit": "off", "timezone": "UTC"} {
			var is string
			if err := d.Pool.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&is); err != nil || is != want {
				t.Errorf("%s: %s is %q, want %q: %v", set, name, is, want, err)
			}
		}
	}
	t.Run("a connection of a pooler's, which Open did not see", func(t *testing.T) {
		d := dbtest.New(t, pg.Options{MaxConns: 1})
		if _, err := d.Pool.Exec(t.Context(), `SET default_transaction_isolation = 'serializable'`); err != nil {
			t.Fatal(err)
		}
		var is string
		err := d.Tx(t.Context(), func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(), `SHOW transaction_isolation`).Scan(&is)
		})
		if err != nil || is != "read committed" {
			t.Errorf("%q, %v", is, err)
		}
	})
	t.Run("a database that takes no writes is refused all the same", func(t *testing.T) {
		made := dbtest.Make(t)
		setForDatabase(t, made, "default_transaction_read_only = on")
		d, err := pg.Open(t.Context(), made.URL, pg.Options{})
		if err == nil {
			d.Close()
			t.Error("opened")
		}
	})
}

func setForDatabase(t *testing.T, made dbtest.Database, set string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), made.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `DO $do$ BEGIN EXECUTE format($$ALTER DATABASE %I SET `+set+`$$, current_database()); END $do$`); err != nil {
		t.Fatal(err)
	}
}

func TestTransactionsThatAreBrokenOff(t *testing.T) {
	d := dbtest.New(t)
	for code, want := range map[string]int{"40P01": 3, "40001": 3, "23505": 1, "57014": 1, "25006": 1} {
		tries := 0
		err := d.RetryOnDeadlock(t.Context(), func(pgx.Tx) error {
			tries++
			return &pgconn.PgError{Code: code}
		})
		var said *pgconn.PgError
		if tries != want || !errors.As(err, &said) {
			t.Errorf("%s: %d tries, want %d: %v", code, tries, want, err)
		}
	}
}

// TestEndedConnections ends all connections at once, and lets one request at most pay for it.
func TestEndedConnections(t *testing.T) {
	made := dbtest.Make(t)
	through := newRelay(t, made.URL)
	d, err := pg.Open(t.Context(), through.url, pg.Options{MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	terminate := func() {
		conn, err := pgx.Connect(t.Context(), made.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		if _, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
			t.Fatal(err)
		}
	}
	one := func() error { return d.Pool.QueryRow(t.Context(), `SELECT 1`).Scan(new(int)) }
	batch := func() error {
		b := &pgx.Batch{}
		b.Queue(`SELECT 1`)
		b.Queue(`SELECT 2`)
		return d.Pool.SendBatch(t.Context(), b).Close()
	}
	tx := func() error { return d.Tx(t.Context(), func(pgx.Tx) error { return nil }) }
	for _, c := range []struct {
		name  string
		end   func()
		first func() error
	}{
		{"the server ends them, seen by a query", terminate, one},
		{"the server ends them, seen by a batch", terminate, batch},
		{"the server ends them, seen by a transaction", terminate, tx},
		{"they are cut, seen by a query", through.cut, one},
		{"they are cut, seen by a batch", through.cut, batch},
		{"they are cut, seen by a transaction", through.cut, tx},
	} {
		t.Run(c.name, func(t *testing.T) {
			occupy(t, d, 8)
			c.end()
			_ = c.first() // it may fail
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					if err := one(); err != nil {
						t.Errorf("another request: %v", err)
					}
				})
			}
			dbtest.Wait(t, &all, "the queries")
		})
	}
}

// occupy makes the pool open n connections, and leaves them idle.
func occupy(t *testing.T, d *pg.DB, n int) {
	t.Helper()
	for range n {
		conn, err := d.Pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
	}
}

// relay stands between a pool and Postgres.
type relay struct {
	url string
	mu  sync.Mutex
	all []net.Conn
}

func newRelay(t *testing.T, address string) *relay {
	t.Helper()
	config, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	network, server := pgconn.NetworkAddress(config.Host, config.Port)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	through := url.URL{Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: listener.Addr().String(), Path: config.Database, RawQuery: "sslmode=disable"}
	r := &relay{url: through.String()}
	t.Cleanup(func() { listener.Close(); r.cut() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			behind, err := (&net.Dialer{}).DialContext(context.Background(), network, server)
			if err != nil {
				client.Close()
				continue
			}
			r.mu.Lock()
			r.all = append(r.all, client, behind)
			r.mu.Unlock()
			for _, pair := range [][2]net.Conn{{client, behind}, {behind, client}} {
				go func() {
					_, _ = io.Copy(pair[0], pair[1])
					pair[0].Close()
				}()
			}
		}
	}()
	return r
}

// cut closes every connection without a word.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range r.all {
		conn.Close()
	}
	r.all = nil
}

func TestAnAnswerWithoutARowEndsNoProcess(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	address := dbtest.Rowless(t)
	for _, address := range []string{address, strings.TrimSuffix(address, "&target_session_attrs=read-write")} {
		if _, err := pg.Open(ctx, address, pg.Options{}); !pg.Unavailable(err) || !strings.Contains(err.Error(), "no row") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
