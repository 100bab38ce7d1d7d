package refresh_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/status"
)

// deaf stands before Postgres. While it is deaf, what is asked reaches Postgres and no answer comes back: the connection ends instead.
type deaf struct{ atomic.Bool }

// before returns the address of a database through d.
func (d *deaf) before(t *testing.T, address string) string {
	t.Helper()
	config, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	network, at := "tcp", net.JoinHostPort(config.Host, fmt.Sprint(config.Port))
	if strings.HasPrefix(config.Host, "/") {
		network, at = "unix", fmt.Sprintf("%s/.s.PGSQL.%d", config.Host, config.Port)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial(network, at)
			if err != nil {
				client.Close()
				continue
			}
			go func() {
				_, _ = io.Copy(server, client) // the client has gone
				server.Close()
			}()
			go func() {
				defer client.Close()
				part := make([]byte, 64<<10)
				for {
					n, err := server.Read(part)
					if err != nil {
						return
					}
					if d.Load() {
						// Until Postgres is ready for a query and in no transaction (ReadyForQuery), which is after the commit.
						for !bytes.HasSuffix(part[:n], []byte("Z\x00\x00\x00\x05I")) {
							if n, err = server.Read(part); err != nil {
								return
							}
						}
						return
					}
					if _, err := client.Write(part[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", config.User, config.Password, listener.Addr(), config.Database)
}

// TestAClaimWhoseAcknowledgementIsLostIsReleased: nothing was sent under such a lease, and nobody is to wait for it to lapse and settle.
func TestAClaimWhoseAcknowledgementIsLostIsReleased(t *testing.T) {
	for name, claim := range map[string]func(e *refresh.Engine, id pg.ID) error{
		"on demand": func(e *refresh.Engine, id pg.ID) error {
			_, err := e.Claim(t.Context(), "acme", id)
			return err
		},
		"by the sweep": func(e *refresh.Engine, _ pg.ID) error {
			_, err := e.ClaimDue(t.Context(), "acme", 3)
			return err
		},
		"by a probe": func(e *refresh.Engine, _ pg.ID) error {
			_, err := e.ClaimProbe(t.Context(), "acme")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := dbtest.Make(t)
			var d deaf
			far := dbtest.Database{URL: d.before(t, base.URL), Keyset: base.Keyset}.Open(t, pg.Options{MaxConns: 1})
			near := base.Open(t)
			p := newPartner("acme")
			var owner db.Merchant
			e := refresh.New(refresh.Options{DB: far, Connectors: []connectors.Connector{p}, Log: slog.New(slog.DiscardHandler)})
			if err := claim(e, pg.NewID()); err != nil { // there is none yet: makes the slots, and Postgres knows the statements
				t.Fatal(err)
			}
			id := connect(t, near, p, "a", 48*time.Hour, &owner)
			d.Store(true)
			if err := claim(e, id); err == nil {
				t.Fatal("an answer was heard")
			}
			if r, err := near.ReadGrant(t.Context(), id); err != nil || r.LeasedUntil.IsZero() {
				t.Fatalf("no lease was committed: %v", err)
			}
			d.Store(false)
			dbtest.Eventually(t, "the release", func() bool {
				var slots int
				if err := near.Pool.QueryRow(t.Context(), `SELECT count(*) FROM provider_slots WHERE lease_id IS NOT NULL`).Scan(&slots); err != nil {
					t.Fatal(err)
				}
				r, err := near.ReadGrant(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				return r.LeasedUntil.IsZero() && slots == 0
			})
			if out, err := e.RefreshNow(t.Context(), id, audit.System); err != nil || out.Outcome != status.OK {
				t.Errorf("afterwards: %s, %v", out.Outcome, err)
			}
			if err := e.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
