package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
)

// user adds a user. The password comes from the first line of standard input, where neither the process list nor the
// shell's history sees it.
func user(ctx context.Context, t terminal, args []string) error {
	f := t.flags("user", `add -email E -role merchant|support|admin [-merchant "Name" | -merchant-id ID] [-name N]  (the password is read from the first line of standard input)`)
	email := f.String("email", "", "e-mail `address`, to sign in with")
	role := f.String("role", "", "merchant, support or admin")
	name := f.String("name", "", "the person's `name`")
	merchant := f.String("merchant", "", "the merchant's `name`; it is added when there is none")
	merchantID := f.String("merchant-id", "", "the merchant's `id`")
	if err := parseVerb(f, "add", args); err != nil {
		return err
	}
	as := audit.Role(*role)
	switch {
	case *email == "":
		return misused(f, "-email is missing")
	case as != audit.RoleMerchant && !as.Staff():
		return misused(f, "-role is merchant, support or admin")
	case *merchant != "" && *merchantID != "":
		return misused(f, "-merchant and -merchant-id exclude each other")
	case as == audit.RoleMerchant && *merchant == "" && *merchantID == "":
		return misused(f, "a merchant's user needs -merchant or -merchant-id")
	case as != audit.RoleMerchant && *merchant+*merchantID != "":
		return misused(f, "support and admin belong to no merchant")
	}
	n := account.NewUser{Email: *email, Role: as, Name: *name}
	if *merchantID != "" {
		id, err := pg.ParseID(*merchantID)
		if err != nil {
			return misused(f, "-merchant-id is not an id")
		}
		n.MerchantID = id
	}
	var err error
	if n.Password, err = firstLine(t.in); err != nil {
		return err
	}
	if err := account.CheckPassword(n.Password, n.Email, n.Name); err != nil {
		return err
	}
	d, err := openDatabase(ctx, t.environ)
	if err != nil {
		return err
	}
	defer d.Close()
	added, err := addUser(ctx, d, account.New(d), n, *merchant)
	switch {
	case errors.Is(err, db.ErrAmbiguousName):
		return fmt.Errorf("several merchants are called %q: say which with -merchant-id", *merchant)
	case errors.Is(err, pg.ErrNotFound):
		return fmt.Errorf("there is no merchant %s", *merchantID)
	case err != nil:
		return err
	}
	_, err = fmt.Fprintln(t.out, added.ID)
	return err
}

// addUser adds a user, in one transaction with the merchant of this name when there is none; "" for staff, and where n names the
// merchant.
func addUser(ctx context.Context, d *db.DB, accounts *account.Store, n account.NewUser, merchant string) (added account.User, err error) {
	err = d.Tx(ctx, func(tx pgx.Tx) error {
		if merchant != "" {
			m, err := d.EnsureMerchant(ctx, tx, audit.System, merchant)
			if err != nil {
				return err
			}
			n.MerchantID = m.ID
		}
		added, err = accounts.AddUserTx(ctx, tx, audit.System, n)
		return err
	})
	return added, err
}

func firstLine(in io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", errors.New("the password is read from the first line of standard input, which is empty")
	}
	return line, nil
}
