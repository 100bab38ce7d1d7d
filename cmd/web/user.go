package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/jobs"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
)

// user adds a user, or resets the second factor of one.
func user(ctx context.Context, t terminal, args []string) error {
	if len(args) > 0 && args[0] == "reset-second-factor" {
		return resetSecondFactor(ctx, t, args)
	}
	return addUserCommand(ctx, t, args)
}

// resetSecondFactor takes the second factor from a user who has lost it.
func resetSecondFactor(ctx context.Context, t terminal, args []string) error {
	f := t.flags("user", "reset-second-factor -email E")
	email := f.String("email", "", "e-mail `address` of the user")
	if err := parseVerb(f, "reset-second-factor", args); err != nil {
		return err
	}
	if *email == "" {
		return misused(f, "-email is missing")
	}
	d, err := openDatabase(ctx, t.environ)
	if err != nil {
		return err
	}
	defer d.Close()
	accounts := account.New(d)
	var mail notify.Queue // nil where no mail is sent
	if newEnv(t.environ).secret("SMTP_URL") != "" {
		if mail, err = jobs.New(jobs.Options{DB: d, Accounts: accounts, Log: slog.New(slog.DiscardHandler)}); err != nil {
			return err
		}
	}
	u, err := accounts.UserByEmail(ctx, *email)
	if err == nil {
		err = accounts.ResetFactor(ctx, audit.System, u.ID, mail)
	}
	switch {
	case errors.Is(err, pg.ErrNotFound):
		return fmt.Errorf("there is no user %s", *email)
	case errors.Is(err, account.ErrNoFactor):
		return fmt.Errorf("%s has no second factor", u.Email)
	case err != nil:
		return err
	}
	_, err = fmt.Fprintf(t.out, "%s signs in with the password alone now, and is signed out everywhere\n", u.Email)
	return err
}

// addUserCommand adds a user. The password comes from the first line of standard input, where neither the process list nor the
// shell's history sees it.
func addUserCommand(ctx context.Context, t terminal, args []string) error {
	f := t.flags("user", `add -email E -role merchant|support|admin [-merchant "Name" | -merchant-id ID] [-name N]  (the password is read from the first line of standard input)`)
	email := f.String("email", "", "e-mail `address`, to sign in with")
	role := f.String("role", "", "merchant, support or admin")
	name := f.String("name", "", "the person's `name`")
	merchant := f.String("merchant", "", "the merchant's `name`; it is added when there is none")
	merchantID := f.String("merchant-id", "", "the merchant's `id`")
	if err := parseVerb(f, "add", args); err != nil { // also for a verb that there is not
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
	d, err := openDatabase(ctx, t.environ)
	if err != nil {
		return err
	}
	defer d.Close()
	e := newEnv(t.environ)
	accounts := account.New(d, e.get("BRAND_NAME"), e.get("PUBLIC_URL"))
	if err := accounts.CheckPassword(n.Password, n.Email, n.Name); err != nil {
		return err
	}
	added, err := addUser(ctx, d, accounts, n, *merchant)
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
