package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/jobs"
	"patchbay/internal/keyring"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/restore"
	"patchbay/internal/webhooks"
	"patchbay/migrations"
)

// maxSkew is the difference between clocks above which the doctor reports a fault. Tokens' times do not depend on it.
const maxSkew = 30 * time.Second

// doctor checks everything that can be checked without changing anything. It prints a line for each check, with the remedy
// for each fault.
func doctor(ctx context.Context, t terminal, args []string) error {
	f := t.flags("doctor", "[flags] (settings come from the environment)")
	to := f.String("mail", "", "`address` to send a test letter to")
	if err := parse(f, args); err != nil {
		return err
	}
	x := &examination{t: t}
	e := newEnv(t.environ)
	s := readAll(e)
	x.list("settings", "every setting is understood", e.faults)
	for _, caution := range s.cautions() {
		x.wrong("proxy", caution)
	}
	if s.databaseURL != "" {
		x.database(ctx, s)
		x.replica(ctx, s)
	}
	x.mail(ctx, s, *to)
	x.signIn(ctx, s)
	for _, p := range s.providers {
		x.provider(ctx, p, given(e, p))
	}
	if len(connected(s.providers)) == 0 {
		x.wrong("providers", "none is set up, so that merchants have nothing to connect: see docs/settings.md")
	}
	if x.faults > 0 {
		return fmt.Errorf("%d to mend", x.faults)
	}
	return nil
}

// examination prints findings and counts the faults.
type examination struct {
	t      terminal
	faults int
}

func (x *examination) fine(what, finding string) {
	fmt.Fprintf(x.t.out, "ok     %-11s %s\n", what, finding)
}

// note prints a finding that is neither good nor a fault.
func (x *examination) note(what, finding string) {
	fmt.Fprintf(x.t.out, "-      %-11s %s\n", what, finding)
}

func (x *examination) wrong(what, finding string) {
	x.faults++
	fmt.Fprintf(x.t.out, "WRONG  %-11s %s\n", what, finding)
}

func (x *examination) list(what, allFine string, faults []string) {
	for _, fault := range faults {
		x.wrong(what, fault)
	}
	if len(faults) == 0 {
		x.fine(what, allFine)
	}
}

func (x *examination) database(ctx context.Context, s settings) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	config, err := pg.ParseAddress(s.databaseURL)
	if err != nil {
		return // told among the settings
	}
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // in the address's own mode nothing might be answered: pooler reports that
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		x.wrong("database", explain(err))
		return
	}
	defer conn.Close(ctx)
	var readOnly bool
	if err := conn.QueryRow(ctx, `SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean`).Scan(&readOnly); err == nil && readOnly {
		x.wrong("database", explain(pg.ErrReadOnly))
		return
	}
	var version string
	var major int
	var now time.Time
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num')::integer / 10000, clock_timestamp()`).Scan(&version, &major, &now); err != nil {
		x.wrong("database", reason(err))
		return
	}
	if major < migrations.OldestPostgres {
		x.wrong("database", fmt.Sprintf("Postgres %s is too old: %d or newer is needed", version, migrations.OldestPostgres))
	} else {
		x.fine("database", "Postgres "+version+" answers")
	}
	x.clock("clock", "Postgres's", time.Until(now))
	x.pooler(ctx, s)
	if err := migrations.Suitable(ctx, s.migrateURL); err != nil {
		x.wrong("encoding", cmp.Or(explain(err), err.Error()))
	} else {
		x.fine("encoding", "UTF-8, with Khmer letters and the usual capitals")
	}
	var available, khmer bool
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm')`).Scan(&available)
	switch {
	case err != nil:
		x.wrong("search", reason(err))
	case !available:
		x.wrong("search", "the extension pg_trgm is not there: install the package postgresql-contrib on the database's host")
	case conn.QueryRow(ctx, `SELECT cardinality(show_trgm('ក្រុមហ៊ុន')) > 0`).Scan(&khmer) == nil && !khmer:
		x.wrong("search", "pg_trgm finds nothing in Khmer here: move to a database with LOCALE 'C.UTF-8'")
	default:
		x.fine("search", "pg_trgm")
	}
	if x.schema(ctx, s) {
		x.keyset(ctx, s)
	}
}

// pooler reports whether connections share Postgres's sessions, and whether the addresses allow for it.
func (x *examination) pooler(ctx context.Context, s settings) {
	shared, err := pg.Pooled(ctx, s.databaseURL)
	switch {
	case err != nil:
		x.wrong("pooler", cmp.Or(explain(err), reason(err)))
	case shared:
		x.fine("pooler", "one in transaction mode stands between; statements are sent as it wants them")
	default:
		x.fine("pooler", "each connection has a session of Postgres's to itself")
	}
	if s.migrateURL == s.databaseURL {
		if shared {
			x.note("pooler", "nothing is migrated through it: give MIGRATE_DATABASE_URL without the pooler, or serve with -migrate=false")
		}
		return
	}
	if err := migratesAlone(ctx, s.migrateURL); err != nil {
		x.wrong("pooler", cmp.Or(explain(err), reason(err)))
	}
}

// replica compares the replica with the primary as serving does, for a few seconds since one that follows is a moment behind.
func (x *examination) replica(ctx context.Context, s settings) {
	if s.readURL == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	d, err := pg.Open(ctx, s.databaseURL, pg.Options{MaxConns: 2, Replica: s.readURL})
	if err != nil {
		return // told of the database, or among the settings
	}
	defer d.Close()
	for range 3 {
		state, err := d.CompareReplica(ctx)
		switch said := strings.ReplaceAll(explain(err), "DATABASE_URL", "READ_DATABASE_URL"); {
		case state == pg.ReplicaUsed:
			if _, err := pg.Pooled(ctx, s.readURL); errors.Is(err, pg.ErrStatementsLost) {
				x.wrong("replica", pg.ErrStatementsLost.Error()+" of READ_DATABASE_URL. Lists are read from the primary now and then")
				return
			}
			x.fine("replica", "follows the primary; lists are read from it")
			return
		case state == pg.ReplicaNotStandby:
			x.wrong("replica", "READ_DATABASE_URL leads to no standby of this database: it is another's, or it was promoted, or it has not yet followed the primary's last failover. Lists are read from the primary")
			return
		case said != "":
			x.wrong("replica", said)
			return
		case state == pg.ReplicaUnreachable:
			x.wrong("replica", "does not answer. Lists are read from the primary")
			return
		}
		time.Sleep(time.Second)
	}
	x.wrong("replica", "is behind the primary by more than three seconds; above ten, lists are read from the primary")
}

func (x *examination) schema(ctx context.Context, s settings) bool {
	all, err := migrations.Status(ctx, s.migrateURL)
	if err != nil {
		x.wrong("schema", cmp.Or(explain(err), reason(err)))
		return false
	}
	pending := 0
	for _, m := range all {
		if !m.Applied {
			pending++
		}
	}
	if pending > 0 {
		x.wrong("schema", fmt.Sprintf("%d of %d migrations are to be applied: patchbay migrate up (serve does it too)", pending, len(all)))
		return false
	}
	x.fine("schema", fmt.Sprintf("all %d migrations are applied", len(all)))
	return true
}

func (x *examination) keyset(ctx context.Context, s settings) {
	if s.keyset == nil {
		return // reported among the settings
	}
	d, err := db.Open(ctx, s.databaseURL, s.keyset, pg.Options{MaxConns: 2})
	if err != nil {
		x.wrong("keyset", cmp.Or(explain(err), err.Error()))
		return
	}
	defer d.Close()
	x.fine("keyset", fmt.Sprintf("opens what this database sealed; key %d seals", s.keyset.Primary()))
	x.signed(ctx, d)
	if err := refresh.TrySave(ctx, d); err != nil {
		x.wrong("saving", cmp.Or(explain(err), err.Error())+" (a connection and a refresh were tried, and rolled back)")
	} else {
		x.fine("saving", "a connection and a refresh of it can be saved")
	}
	switch months, err := d.Audit.MonthsAhead(ctx); {
	case err != nil:
		x.wrong("events", cmp.Or(explain(err), err.Error()))
	case months == 0:
		x.wrong("events", "the next month has no partition of events, and nothing can be saved once this one is over: serve makes three ahead every minute and logs why it cannot. "+
			"By hand, as the tables' owner: SELECT events_make_month((now() + interval '1 month')::date)")
	default:
		x.fine("events", fmt.Sprintf("%d of the next 3 months have a partition", months))
	}
	x.restore(ctx, d)
	x.webhooks(ctx, d)
	for _, p := range s.providers {
		if s.publicURL != nil && p.Connector != nil {
			x.callback(ctx, d, p, s.publicURL.String()+"/connect/"+p.Name+"/callback")
		}
	}
}

// restore says what is known of restores, and of pauses in which one may have gone unnoticed.
func (x *examination) restore(ctx context.Context, d *db.DB) {
	r, err := restore.Last(ctx, d.Pool)
	if err != nil {
		x.wrong("restore", reason(err))
		return
	}
	age := d.Now().Add(-restore.ShowFor)
	var rejected int64
	if r.Suspected() && r.PauseUntil.After(age) {
		if rejected, err = restore.RejectedAfterPause(ctx, d.Pool, r); err != nil {
			x.wrong("restore", reason(err))
			return
		}
	}
	if rejected > 0 {
		x.wrong("restore", fmt.Sprintf("nothing served from %s until %s, and %d connections last refreshed before that are rejected since: if the database was put back to then, run patchbay restored",
			r.PauseFrom.UTC().Format(time.RFC3339), r.PauseUntil.UTC().Format(time.RFC3339), rejected))
	}
	if !r.At.After(age) {
		if rejected == 0 {
			x.fine("restore", "no sign that this database was brought back from a backup lately")
		}
		return
	}
	n, err := restore.Count(ctx, d.Pool, r)
	if err != nil {
		x.wrong("restore", reason(err))
		return
	}
	found := fmt.Sprintf("%s; %d of %d connections have been refreshed since, %d are interrupted", r.At.UTC().Format(time.RFC3339), n.Since, n.All, n.Interrupted)
	switch {
	case r.Declared:
		x.note("restore", "brought back on "+found)
	case r.Lost():
		x.wrong("restore", "a copy of an earlier state, which knows what happened until "+r.AsOf.UTC().Format(time.RFC3339)+", was noticed on "+found+". If it was brought back from a backup, run patchbay restored; docs/restore.md has the rest")
	default:
		x.note("restore", "a restore, or a standby that took over, was noticed on "+found+". If it was brought back from a backup, run patchbay restored")
	}
}

// signed verifies the rows that give authority.
func (x *examination) signed(ctx context.Context, d *db.DB) {
	counts, err := d.CheckSigned(ctx)
	if err != nil {
		x.wrong("signatures", reason(err))
		return
	}
	rows, faults := 0, x.faults
	var signed []string
	for _, c := range counts {
		rows, signed = rows+c.Rows, append(signed, c.Table)
		if c.Forged > 0 {
			x.wrong("signatures", fmt.Sprintf("%d of %s have no valid MAC and give no access: whoever may write rows wrote them without the keyset; see the events row.forged, find out who, and delete them", c.Forged, c.Table))
		}
		if c.Unknown > 0 {
			x.wrong("signatures", fmt.Sprintf("%d of %s are signed by a key that the keyset lacks: start with a keyset that has it", c.Unknown, c.Table))
		}
	}
	if x.faults == faults {
		x.fine("signatures", fmt.Sprintf("%d rows that give access are signed", rows))
	}
	x.keys(ctx, d, signed)
}

// keys counts what hangs on each key. signed are the tables of signed rows, of which those that give access have been looked at.
func (x *examination) keys(ctx context.Context, d *db.DB, signed []string) {
	uses, err := d.KeyUses(ctx)
	if err != nil {
		x.wrong("keys", reason(err))
		return
	}
	for _, u := range uses {
		if !d.Keyset.Has(u.Key) && !slices.Contains(signed, u.Table) {
			x.wrong("keys", fmt.Sprintf("%d of %s are sealed by key %d, which the keyset lacks, and are left as they are: start with a keyset that has it", u.Rows, u.Table, u.Key))
		}
	}
	for _, id := range d.OtherKeys() {
		n, older := keyring.RowsOf(uses, []uint32{id}), slices.Contains(d.OlderKeys(), id)
		switch {
		case older && n > 0:
			x.note("keys", fmt.Sprintf("key %d is older, and %d rows need it: serve seals them anew by itself, patchbay reseal at once", id, n))
		case older:
			x.note("keys", fmt.Sprintf("key %d is older, and nothing needs it: patchbay keys retire %d", id, id))
		case n > 0:
			x.note("keys", fmt.Sprintf("key %d is newer than the one that seals, and %d rows need it: processes have different keysets, or an older key seals again", id, n))
		default:
			x.note("keys", fmt.Sprintf("key %d is new and does not seal yet: once every process has it, patchbay keys promote", id))
		}
	}
}

// webhooks looks at the endpoints of webhooks to the platform.
func (x *examination) webhooks(ctx context.Context, d *db.DB) {
	all, err := webhooks.New(webhooks.Options{DB: d}).Endpoints(ctx)
	switch {
	case err != nil:
		x.wrong("webhooks", reason(err))
		return
	case len(all) == 0:
		x.note("webhooks", "no program of the platform is told of anything: endpoints are made on /admin/webhooks or by the API")
		return
	}
	troubled := false
	for _, e := range all {
		switch e.State() {
		case webhooks.Unreadable:
			troubled = true
			x.wrong("webhooks", e.Shown+" does not open: the keyset lacks the key that sealed it, or it is damaged. With the right keyset it is sent what waits; a damaged one is to be made anew")
		case webhooks.Off:
			troubled = true
			x.wrong("webhooks", fmt.Sprintf("%s is switched off (%s): once its program works, switch it on at /admin/webhooks and send again what failed", e.Shown, e.OffReason))
		case webhooks.Failing:
			troubled = true
			x.wrong("webhooks", fmt.Sprintf("%s has taken nothing since %s: /admin/webhooks says how it answers", e.Shown, e.FailingSince.Format(time.RFC3339)))
		}
	}
	if !troubled {
		x.fine("webhooks", fmt.Sprintf("%d endpoints, none of which fails", len(all)))
	}
}

// callback checks whether a provider knows our callback address. For a provider that only its own staff can tell, it says so.
func (x *examination) callback(ctx context.Context, d *db.DB, p connectors.Provider, address string) {
	if _, redirects := p.Connector.(connectors.Redirector); !redirects {
		return
	}
	if _, ok := p.Connector.(connectors.CallbackRegistrar); !ok {
		x.note(p.Name, "its people must know the callback address "+address)
		return
	}
	records, err := d.ProviderRecords(ctx, map[string]string{p.Name: p.Environment})
	record := records[p.Name]
	switch {
	case err != nil:
		x.wrong(p.Name, reason(err))
	case record.CallbackRegisteredAt.IsZero():
		x.note(p.Name, "the callback address "+address+" was not registered from here: unless somebody did it by hand, an admin does it by one click on /admin/providers/"+p.Name)
	case record.CallbackAddress != address:
		x.wrong(p.Name, "the callback address registered is "+record.CallbackAddress+", but PUBLIC_URL makes it "+address+": register it on /admin/providers/"+p.Name)
	default:
		x.fine(p.Name, "the callback address is registered")
	}
}

// given reports whether any setting of a provider is set.
func given(e *env, p connectors.Provider) bool {
	return slices.ContainsFunc(p.Settings, func(s connectors.Setting) bool {
		return s.Flags&connectors.Required != 0 && e.secret(s.Name) != ""
	})
}

func (x *examination) provider(ctx context.Context, p connectors.Provider, given bool) {
	if p.Connector == nil {
		if lacks := "not offered to merchants: it lacks " + strings.Join(p.Missing, ", "); given && len(p.Missing) > 0 {
			x.wrong(p.Name, lacks)
		} else if len(p.Missing) > 0 {
			x.note(p.Name, lacks)
		}
		return
	}
	checker, ok := p.Connector.(connectors.Checker)
	if !ok {
		x.fine(p.Name, "set up ("+p.Environment+"); it has no address to try")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	found, err := checker.Check(ctx)
	if errors.Is(err, connectors.ErrNotOffered) {
		x.fine(p.Name, "set up ("+p.Environment+"); it cannot be tried without a merchant, who types part of what it takes")
		return
	}
	if err != nil {
		x.wrong(p.Name, fmt.Sprintf("%s does not answer as it should (%s): is the address right, and may this host reach it?", found.Address, connectors.ReasonOf(err)))
		return
	}
	x.fine(p.Name, fmt.Sprintf("%s answers after %d ms (%s)", found.Address, found.Took.Milliseconds(), p.Environment))
	x.clock(p.Name, p.Title+"'s", found.Skew)
}

func (x *examination) clock(what, whose string, skew time.Duration) {
	if skew.Abs() > maxSkew {
		x.wrong(what, fmt.Sprintf("%s clock and this host's are %s apart: which of them is not set by NTP?", whose, skew.Abs().Round(time.Second)))
		return
	}
	x.fine(what, whose+" clock and this host's agree")
}

// reason is the text of a Postgres error without the address, which may hold a password.
func reason(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, ": "); i >= 0 {
		text = text[i+2:]
	}
	return text
}

// healthcheck asks the server that listens at LISTEN whether it is ready, for containers that have no other program.
func healthcheck(ctx context.Context, t terminal, args []string) error {
	if err := parse(t.flags("healthcheck", "(asks the server at LISTEN)"), args); err != nil {
		return err
	}
	address := newEnv(t.environ).get("LISTEN")
	if address == "" {
		address = defaultListen
	}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+strings.Replace(address, "0.0.0.0", "127.0.0.1", 1)+"/readyz", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", answer.Status)
	}
	return nil
}

// mail signs in to the mail server as a letter would, and sends one to an address if asked.
func (x *examination) mail(ctx context.Context, s settings, to string) {
	if s.smtpURL == "" || s.publicURL == nil {
		x.note("mail", "SMTP_URL is not set: nothing is sent, and links are shown to staff")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 25*time.Second)
	defer cancel()
	if err := jobs.CheckMail(ctx, jobs.Options{SMTPURL: s.smtpURL, MailFrom: s.mailFrom, MailRoots: s.mailRoots, PublicURL: s.publicURL}, to); err != nil {
		x.wrong("mail", "the server of SMTP_URL: "+err.Error())
		return
	}
	if to != "" {
		x.fine("mail", "the server took a test letter")
		return
	}
	x.fine("mail", "the server lets us in")
}
