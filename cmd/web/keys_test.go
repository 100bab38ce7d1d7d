package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/kms/kmstest"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// keysetOf runs a command of keys with a keyset and returns the one that it printed, alone.
func keysetOf(t *testing.T, environ []string, args ...string) (text string, k *seal.Keyset, words string) {
	t.Helper()
	code, out, words := said(t, environ, "", append([]string{"keys"}, args...)...)
	if code != 0 || strings.Count(out, "\n") != 1 {
		t.Fatalf("keys %s: code %d, %d lines, %s", strings.Join(args, " "), code, strings.Count(out, "\n"), words)
	}
	text = strings.TrimSpace(out)
	if strings.Contains(words, text) {
		t.Error("the keyset is on standard error too")
	}
	k, err := seal.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return text, k, words
}

// TestAKeyIsAddedPromotedAndRetired turns a keyset over by the commands, as docs/operating.md has it.
func TestAKeyIsAddedPromotedAndRetired(t *testing.T) {
	d, environ := operator(t)
	with := func(keyset string) []string { return append(environ[:len(environ):len(environ)], "KEYSET="+keyset) }
	before := d.Open(t)
	m := dbtest.Merchant(t, before, "Shop")
	g := connectors.Grant{Token: connectors.Token{Access: "a token"}, Account: connectors.Account{ID: "a"}}
	id, err := before.AddConnection(t.Context(), m.ID, "elecq", "sandbox", g, before.Now(), connectors.Info{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := before.AddAPIKey(t.Context(), audit.System, db.APIKey{Name: "erp", Scopes: []string{db.ScopeTokens}}); err != nil {
		t.Fatal(err)
	}
	first, err := seal.Parse(d.Keyset)
	if err != nil {
		t.Fatal(err)
	}
	old := fmt.Sprint(first.Primary())

	added, k, words := keysetOf(t, environ, "add")
	if k.Len() != 2 || k.Primary() != first.Primary() || !strings.Contains(words, "promote") {
		t.Errorf("added: %d of %v seals; %s", k.Primary(), k.IDs(), words)
	}
	fresh := k.IDs()[1]
	if code, out, words := said(t, with(added), "", "keys", "retire", old); code != 1 || out != "" || !strings.Contains(words, "seals") {
		t.Errorf("the key that seals, retired: code %d, %q, %s", code, out, words)
	}
	promoted, k, words := keysetOf(t, with(added), "promote")
	if k.Len() != 2 || k.Primary() != fresh || !strings.Contains(words, "reseal") {
		t.Errorf("promoted: %d of %v seals; %s", k.Primary(), k.IDs(), words)
	}
	if again, _, words := keysetOf(t, with(promoted), "promote"); again != promoted || !strings.Contains(words, "already") {
		t.Errorf("promoted twice: %s", words)
	}
	if back, k, _ := keysetOf(t, with(promoted), "promote", old); back == promoted || k.Primary() != first.Primary() {
		t.Error("the old key does not seal again where it was named")
	}
	code, out, words := said(t, with(promoted), "", "keys", "retire", old)
	if code != 1 || out != "" || !strings.Contains(words, "api_keys 1, grants 1, keyset_check 1") {
		t.Errorf("a key that is needed, retired: code %d, %q, %s", code, out, words)
	}
	if code, out, words := said(t, with(promoted), "", "reseal"); code != 0 || !strings.Contains(out, "3 rows were sealed anew by key "+fmt.Sprint(fresh)) {
		t.Errorf("reseal: code %d, %s%s", code, out, words)
	}
	if code, out, words := said(t, with(promoted), "", "reseal"); code != 0 || !strings.Contains(out, "0 rows were sealed anew") {
		t.Errorf("reseal once more: code %d, %s%s", code, out, words)
	}
	retired, k, _ := keysetOf(t, with(promoted), "retire", old)
	if k.Len() != 1 || k.Primary() != fresh {
		t.Errorf("retired: %d of %v seals", k.Primary(), k.IDs())
	}
	if code, out, _ := said(t, with(retired), "", "reseal"); code != 0 || !strings.Contains(out, "one key") {
		t.Errorf("reseal with one key: code %d, %s", code, out)
	}
	d.Keyset = retired
	if r, err := d.Open(t).ReadGrant(t.Context(), id); err != nil || r.Token.Access != "a token" {
		t.Errorf("the token: %v", err)
	}
	if code, _, words := said(t, environ, "", "reseal"); code != 1 || !strings.Contains(words, "sealed by key "+fmt.Sprint(fresh)) {
		t.Errorf("with the keyset of before: code %d, %s", code, words)
	}

	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"keys", "retire"}, 2, "which key"},
		{[]string{"keys", "retire", "old"}, 2, "no key's id"},
		{[]string{"keys", "retire", "0"}, 2, "no key's id"},
		{[]string{"keys", "retire", "17"}, 1, "no key 17"},
		{[]string{"keys", "promote", "17"}, 1, "no key 17"},
		{[]string{"keys", "add", "17"}, 2, "one word too many"},
		{[]string{"keys", "rotate"}, 2, "add, promote, retire or lost"},
		{[]string{"keys", "new", "-wrap", "vault"}, 2, "hcvault://"},
		{[]string{"reseal", "now"}, 2, "one word too many"},
	} {
		if code, out, words := said(t, with(promoted), "", c.args...); code != c.code || out != "" || !strings.Contains(words, c.says) {
			t.Errorf("%v: code %d, want %d; %q, %s", c.args, code, c.code, out, words)
		}
	}
	for _, verb := range []string{"add", "promote", "retire"} {
		if code, out, words := said(t, nil, "", "keys", verb, old); verb != "add" && (code != 1 || out != "" || !strings.Contains(words, "KEYSET")) {
			t.Errorf("%s without a keyset: code %d, %q, %s", verb, code, out, words)
		}
	}
}

// TestAKeysetThatIsWrapped is made, changed and read with each service, and nothing of it is said in the clear.
func TestAKeysetThatIsWrapped(t *testing.T) {
	vault, aws := kmstest.NewVault(t), kmstest.NewAWS(t)
	for uri, s := range map[string]*kmstest.Service{vault.URI(): vault, "aws-kms://" + kmstest.ARN: aws} {
		_, environ := operator(t)
		environ = append(environ, "VAULT_TOKEN="+kmstest.Token)
		wrapped := func(environ []string, args ...string) string {
			t.Helper()
			code, out, words := said(t, environ, "", append([]string{"keys"}, args...)...)
			if code != 0 || strings.Count(out, "\n") != 1 {
				t.Fatalf("%v: code %d, %d lines, %s", args, code, strings.Count(out, "\n"), words)
			}
			if _, err := seal.Parse(strings.TrimSpace(out)); err == nil {
				t.Errorf("%v is in the clear", args)
			}
			return strings.TrimSpace(out)
		}
		first := wrapped(environ, "new", "-wrap", uri)
		with := append(environ[:len(environ):len(environ)], "KEYSET="+first, "KEYSET_KMS="+uri)
		read, err := readSettings(with)
		if err != nil || read.keyset == nil || read.keyset.Len() != 1 {
			t.Fatalf("%s: %v", uri, err)
		}
		with = append(with, "KEYSET="+wrapped(with, "-wrap", uri, "add"))
		with = append(with, "KEYSET="+wrapped(with, "promote", "-wrap="+uri))
		if read, err = readSettings(with); err != nil || read.keyset.Len() != 2 || read.keyset.Primary() != read.keyset.IDs()[1] {
			t.Errorf("%s: %v", uri, err)
		}
		text, _, words := keysetOf(t, with, "add") // in the clear, as it is asked for
		if !strings.Contains(words, "not wrapped") {
			t.Errorf("a keyset in the clear: %s", words)
		}

		for what, environ := range map[string][]string{
			"a keyset in the clear": append(with[:len(with):len(with)], "KEYSET="+text),
			"a URI that is none":    append(with[:len(with):len(with)], "KEYSET_KMS=vault://x"),
			"another key":           append(with[:len(with):len(with)], "KEYSET_KMS="+uri+"2"),
		} {
			code := run(context.Background(), terminal{nil, &strings.Builder{}, &strings.Builder{}, environ}, []string{"serve"})
			_, err := readSettings(environ)
			if code != 1 || err == nil || !strings.Contains(err.Error(), "KEYSET_KMS") {
				t.Errorf("%s, %s: code %d, %v", uri, what, code, err)
				continue
			}
			for _, secret := range []string{text, first, kmstest.Token, kmstest.AWSSecret} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%s, %s: the fault quotes a secret", uri, what)
				}
			}
		}
		if len(s.Calls()) == 0 {
			t.Errorf("%s was not asked", uri)
		}
	}
}

// TestKeysLost refuses for a key that is there, and gives up what one that no process has sealed.
func TestKeysLost(t *testing.T) {
	d, environ := operator(t)
	opened := d.Open(t)
	m := dbtest.Merchant(t, opened, "CH168 Shop")
	id, err := opened.AddConnection(t.Context(), m.ID, "caminvoice", "sandbox", connectors.Grant{Token: connectors.Token{Access: "a"}, Account: connectors.Account{ID: "KHUID0001"}}, opened.Now(), connectors.Info{Name: "caminvoice"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opened.Pool.Exec(t.Context(), `UPDATE grants SET sealed = '\x01deadbeef' || substring(sealed FROM 6) WHERE connection_id = $1`, id); err != nil {
		t.Fatal(err)
	}
	keyset, err := seal.Parse(d.Keyset)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		args []string
		code int
		says string
	}{
		{nil, 2, "say which key"},
		{[]string{"x"}, 2, "no key's id"},
		{[]string{strconv.FormatUint(uint64(keyset.Primary()), 10)}, 1, "is not lost"},
		{[]string{"3735928559"}, 0, "1 connections that key 3735928559 had sealed are given up"},
		{[]string{"3735928559"}, 0, "0 connections"},
	} {
		if code, out, faults := said(t, environ, "", append([]string{"keys", "lost"}, one.args...)...); code != one.code || !strings.Contains(out+faults, one.says) {
			t.Errorf("keys lost %v: code %d, %s%s", one.args, code, out, faults)
		}
	}
	if c, err := opened.ConnectionDetail(t.Context(), id, m.ID); err != nil || c.Problem != status.ProblemInterrupted {
		t.Errorf("its problem is %q, %v", c.Problem, err)
	}
}
