package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/db"
	"patchbay/internal/keyring"
	"patchbay/internal/kms"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
)

// keys prints a keyset, alone on its line, so that it can be written straight to a file or a secret store: a fresh one, or the present one
// changed. It changes nothing else. What it has to say goes to standard error.
func keys(ctx context.Context, t terminal, args []string) error {
	f := t.flags("keys", "new|add|promote [ID]|retire ID|lost ID [-wrap URI]")
	wrap := f.String("wrap", "", "print the keyset wrapped by this key: aws-kms://ARN or hcvault://HOST/transit/keys/NAME")
	var words []string
	for rest := args; ; {
		if err := parseSome(f, rest); err != nil {
			return err
		}
		if rest = f.Args(); len(rest) == 0 {
			break
		}
		words, rest = append(words, rest[0]), rest[1:]
	}
	verb := ""
	if len(words) > 0 {
		verb, words = words[0], words[1:]
	}
	var id uint32
	if len(words) > 0 && (verb == "promote" || verb == "retire" || verb == "lost") {
		n, err := strconv.ParseUint(words[0], 10, 32)
		if err != nil || n == 0 {
			return misused(f, fmt.Sprintf("%q is no key's id: `patchbay doctor` lists them", words[0]))
		}
		id, words = uint32(n), words[1:]
	}
	switch {
	case len(words) > 0:
		return misused(f, fmt.Sprintf("%q is one word too many", words[0]))
	case (verb == "retire" || verb == "lost") && id == 0:
		return misused(f, fmt.Sprintf("say which key: keys %s ID", verb))
	}
	if verb == "lost" {
		return giveUpKey(ctx, t, id)
	}
	var wrapping kms.Key
	e := newEnv(t.environ)
	if *wrap != "" {
		var err error
		if wrapping, err = readKMS(e, *wrap); err != nil {
			return misused(f, "-wrap: "+err.Error())
		}
	}

	var k *seal.Keyset
	var err error
	switch verb {
	case "new":
		k, err = newKeyset()
	case "add":
		k, err = addKey(e, t)
	case "promote":
		k, err = promoteKey(e, t, id)
	case "retire":
		k, err = retireKey(ctx, e, t, id)
	default:
		return misused(f, "say keys new, add, promote, retire or lost")
	}
	if err != nil {
		return err
	}
	text, err := k.Text()
	if err != nil {
		return err
	}
	if wrapping != nil {
		if text, err = kms.Wrap(ctx, wrapping, text); err != nil {
			return err
		}
	} else if e.get("KEYSET_KMS") != "" {
		fmt.Fprintln(t.err, "this keyset is not wrapped, and KEYSET_KMS is set: print it with -wrap URI")
	}
	_, err = fmt.Fprintln(t.out, text)
	return err
}

func newKeyset() (*seal.Keyset, error) {
	text, err := seal.NewKeyset()
	if err != nil {
		return nil, err
	}
	return seal.Parse(text)
}

// presentKeyset reads the keyset that is to be changed.
func presentKeyset(e *env) (*seal.Keyset, error) {
	k := readKeyset(e)
	return k, e.err()
}

func addKey(e *env, t terminal) (*seal.Keyset, error) {
	k, err := presentKeyset(e)
	if err != nil {
		return nil, err
	}
	more, id, err := k.Add()
	if err == nil {
		fmt.Fprintf(t.err, "key %d is new; key %d seals still. Give this keyset to every process, and then have the new key seal: patchbay keys promote\n", id, k.Primary())
	}
	return more, err
}

func promoteKey(e *env, t terminal, id uint32) (*seal.Keyset, error) {
	k, err := presentKeyset(e)
	if err != nil {
		return nil, err
	}
	if ids := k.IDs(); id == 0 {
		id = ids[len(ids)-1]
	}
	promoted, err := k.Promote(id)
	switch {
	case errors.Is(err, seal.ErrNoKey):
		return nil, fmt.Errorf("the keyset has no key %d, but %s", id, listOf(k.IDs()))
	case err != nil:
		return nil, err
	case id == k.Primary():
		fmt.Fprintf(t.err, "key %d seals already: the keyset is as it was\n", id)
	default:
		fmt.Fprintf(t.err, "key %d seals from now on, and key %d opens. Give this keyset to every process, and then: patchbay reseal\n", id, k.Primary())
	}
	return promoted, nil
}

// retireKey takes a key out of the keyset, unless it would take something along.
func retireKey(ctx context.Context, e *env, t terminal, id uint32) (*seal.Keyset, error) {
	address, _, k := readDatabase(e)
	if err := e.err(); err != nil {
		return nil, err
	}
	left, err := k.Retire(id)
	switch {
	case errors.Is(err, seal.ErrNoKey):
		return nil, fmt.Errorf("the keyset has no key %d, but %s", id, listOf(k.IDs()))
	case errors.Is(err, seal.ErrSealing):
		return nil, fmt.Errorf("key %d seals: have another one seal first (patchbay keys promote)", id)
	case err != nil:
		return nil, err
	}
	d, err := db.Open(ctx, address, k, pg.Options{MaxConns: 2})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	held, dead, err := d.RowsLostWith(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(held) > 0 {
		var tables []string
		for _, u := range held {
			tables = append(tables, fmt.Sprintf("%s %d", u.Table, u.Rows))
		}
		return nil, fmt.Errorf("key %d is needed: it has sealed or signed %s. Seal them anew first (patchbay reseal), with a keyset in which another key seals", id, strings.Join(tables, ", "))
	}
	fmt.Fprintf(t.err, "nothing is sealed or signed by key %d any more. Give this keyset to every process\n", id)
	if dead > 0 {
		fmt.Fprintf(t.err, "%d rows name it and do not open: they are damaged or forged, and give nothing with it either\n", dead)
	}
	return left, nil
}

// giveUpKey has the merchants reconnect whose grants a lost key has sealed.
func giveUpKey(ctx context.Context, t terminal, id uint32) error {
	d, err := openDatabase(ctx, t.environ)
	if err != nil {
		return err
	}
	defer d.Close()
	n, err := d.AbandonKey(ctx, id)
	if errors.Is(err, db.ErrKeyHeld) {
		return fmt.Errorf("key %d is not lost: this keyset has it, or a process that does has served within the last hour. Give every process that keyset", id)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "%d connections that key %d had sealed are given up: their merchants are asked to reconnect\n", n, id)
	return err
}

func listOf(ids []uint32) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = strconv.FormatUint(uint64(id), 10)
	}
	return strings.Join(texts, ", ")
}

// reseal seals and signs anew, by the key that seals, what the other keys of the keyset have made, while processes serve.
func reseal(ctx context.Context, t terminal, args []string) error {
	if err := parse(t.flags("reseal", ""), args); err != nil {
		return err
	}
	e := newEnv(t.environ)
	address, _, k := readDatabase(e)
	if err := e.err(); err != nil {
		return err
	}
	d, err := db.Open(ctx, address, k, pg.Options{MaxConns: 2})
	if err != nil {
		return err
	}
	defer d.Close()
	others := d.OtherKeys()
	if len(others) == 0 {
		fmt.Fprintf(t.out, "the keyset has one key, %d, which seals: there is nothing to do\n", k.Primary())
		return nil
	}
	uses, err := d.KeyUses(ctx)
	if err != nil {
		return err
	}
	total := keyring.RowsOf(uses, others)
	fmt.Fprintf(t.out, "%d rows are sealed or signed by other keys than %d\n", total, k.Primary())
	done, last := 0, time.Now()
	said := func(table string, rows int) {
		if done += rows; time.Since(last) > time.Second {
			last = time.Now()
			fmt.Fprintf(t.out, "%d of %d rows are sealed anew, now of %s\n", done, total, table)
		}
	}
	// What others had locked, or have sealed since by an older keyset, is left to the next pass.
	for n := 1; n > 0; {
		if n, err = d.Reseal(ctx, others, resealPause, said); err != nil {
			return err
		}
	}
	fmt.Fprintf(t.out, "%d rows were sealed anew by key %d\n", done, k.Primary())
	left := false
	for _, id := range others {
		held, dead, err := d.RowsLostWith(ctx, id)
		if err != nil {
			return err
		}
		for _, u := range held {
			left = true
			fmt.Fprintf(t.out, "key %d: %d of %s are in use just now\n", id, u.Rows, u.Table)
		}
		if dead > 0 {
			fmt.Fprintf(t.out, "key %d: %d rows do not open: they are damaged or forged, and stay as they are\n", id, dead)
		}
	}
	if left {
		return errors.New("not all could be sealed anew: repeat it in a minute")
	}
	return nil
}

// resealPause is how long reseal leaves the database to others after each batch.
const resealPause = 10 * time.Millisecond
