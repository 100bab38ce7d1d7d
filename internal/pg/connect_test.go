package pg

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestParseAddress holds refusals of addresses to words that mend them and quote nothing (bytebase#20336, kimai2#10).
func TestParseAddress(t *testing.T) {
	const base = "postgres://patchbay@127.0.0.1/patchbay"
	for address, says := range map[string]string{
		base: "", base + "?pool_max_conns=4": "", base + "?default_query_exec_mode=cache_describe": "", base + "?default_query_exec_mode=describe_exec": "",
		"postgres://patchbay:p%40ss@127.0.0.1/patchbay":                               "",
		"host=127.0.0.1 user=patchbay password='Zx8/Q#t+b2?c=='":                      "",
		base + "?default_query_exec_mode=exec":                                        "cache_describe",
		base + "?default_query_exec_mode=simple_protocol":                             "cache_describe",
		"host=127.0.0.1 default_query_exec_mode=simple_protocol":                      "cache_describe",
		base + "?default_query_exec_mode=rubbish":                                     "default_query_exec_mode",
		base + "?statement_cache_capacity=0":                                          "statement_cache_capacity",
		base + "?description_cache_capacity=0":                                        "description_cache_capacity=0: leave it out",
		base + "?default_query_exec_mode=cache_describe&description_cache_capacity=0": "description_cache_capacity=0: leave it out",
		base + "?default_query_exec_mode=describe_exec&description_cache_capacity=0":  "description_cache_capacity=0: leave it out",
		base + "?pool_max_conns=2":                                                    "at least 4",
		base + "?target_session_attrs=sometimes":                                      "target_session_attrs",
		"postgres://patchbay:Zx8/Q#t+b2?c==@127.0.0.1/patchbay":                       "percent-encoded",
		"postgres://patchbay:100%sure@127.0.0.1/patchbay":                             "percent-encoded",
		"postgres://patchbay:sp ace@127.0.0.1/patchbay":                               "percent-encoded",
		"postgres://patchbay:Xy/secret@127.0.0.1/patchbay":                            "percent-encoded",
		"mysql://root:secret@host/x":                                                  "percent-encoded",
	} {
		_, err := ParseAddress(address)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", address, err, says)
		}
		for _, secret := range []string{"Zx8", "b2?c", "100%sure", "sp ace", "secret"} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the password is quoted: %v", address, err)
			}
		}
	}
}

func TestUnavailable(t *testing.T) {
	for _, err := range []error{ErrReadOnly, io.ErrUnexpectedEOF, &pgconn.ConnectError{}, &pgconn.PgError{Code: "25006"}, &pgconn.PgError{Code: "57P01"}, &pgconn.PgError{Code: "53300"}, &pgconn.PgError{Code: "08006"}, &pgconn.PgError{Code: "40001"}, &pgconn.PgError{Code: "40P01"}} {
		if !Unavailable(fmt.Errorf("read: %w", err)) {
			t.Errorf("%v is not for now", err)
		}
	}
	for _, err := range []error{nil, ErrNotFound, errors.New("x"), &pgconn.PgError{Code: "23505"}, &pgconn.PgError{Code: "57014"}, &pgconn.PgError{}} {
		if Unavailable(err) {
			t.Errorf("%v is for now", err)
		}
	}
}

func TestWithPasswordTakesAnySigns(t *testing.T) {
	for _, password := range []string{"Zx8/Q#t+b2?c==", "p@ss", "100%sure", "a:b/c@d", "sp ace", `quote's"`, "[brackets]", `back\slash\`, "ពាក្យ", "dollar$1&x=y"} {
		for _, address := range []string{
			"postgres://owner@127.0.0.1:5433/patchbay?sslmode=disable", "postgresql://owner:old@127.0.0.1:5433/patchbay", "host=127.0.0.1 port=5433 user=owner dbname=patchbay",
			"host=127.0.0.1 port=5433 user=owner dbname=patchbay password=old",
		} {
			config, err := ParseAddress(WithPassword(address, password))
			if err != nil {
				t.Errorf("%q in %s: %v", password, address, err)
				continue
			}
			if c := config.ConnConfig; c.Password != password || c.User != "owner" || c.Host != "127.0.0.1" || c.Port != 5433 || c.Database != "patchbay" {
				t.Errorf("%q in %s is read as %q", password, address, c.Password)
			}
		}
	}
	if _, err := ParseAddress(WithPassword("postgres://%zz", "secret")); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("an address that is none: %v", err)
	}
}
