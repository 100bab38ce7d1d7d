package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/handlers"
	"patchbay/internal/jobs"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/sso"
	"patchbay/internal/trace"
	"patchbay/internal/webhooks"
	"patchbay/migrations"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/rivertype"
)

// stopping is how long requests and calls under way may take after a signal to stop; compose and Kubernetes must wait longer.
const stopping = 55 * time.Second

// serve reads the settings, applies migrations and answers until it is asked to stop.
func serve(ctx context.Context, t terminal, args []string) error {
	f := t.flags("serve", "(settings come from the environment: see docs/settings.md)")
	migrates := f.Bool("migrate", true, "apply the migrations that are missing; false: refuse to start where any is")
	if err := parse(f, args); err != nil {
		return err
	}
	s, err := readSettings(t.environ)
	if err != nil {
		return err
	}
	s.migrated = !*migrates
	listener, err := listenOn(s.listen)
	if err != nil {
		return err
	}
	return app(ctx, s, newLog(s, t), listener, func(*db.DB, *account.Store) error { return nil })
}

// app runs Patchbay on a listener, from the start to the orderly stop. It calls opened when the database is open, just
// before the first answer.
func app(ctx context.Context, s settings, log *slog.Logger, listener net.Listener, opened func(*db.DB, *account.Store) error) error {
	defer listener.Close()
	pooled, err := pg.Pooled(ctx, s.databaseURL)
	if err != nil {
		return err
	}
	applied := 0
	if s.migrated {
		err = migrations.Applied(ctx, s.databaseURL)
	} else {
		applied, err = migrateUp(ctx, s.databaseURL, s.migrateURL)
	}
	if err != nil {
		return fmt.Errorf("the schema: %w", err)
	}
	var tracer pgx.QueryTracer
	var eachJob []rivertype.Middleware
	if s.traced {
		stop, err := trace.Start(ctx, readBuild().version)
		if err != nil {
			return err
		}
		defer func() { stop(context.WithoutCancel(ctx)) }()
		tracer, eachJob = trace.Postgres(), append(eachJob, trace.Jobs())
	}
	d, err := db.Open(ctx, s.databaseURL, s.keyset, pg.Options{Tracer: tracer, Replica: s.readURL, Log: log})
	if err != nil {
		return err
	}
	defer d.Close()
	d.Log = log

	if err := refresh.TrySave(ctx, d); err != nil {
		return err
	}

	accounts := account.New(d, s.brand.Name, s.publicURL.Hostname())
	engine := refresh.New(refresh.Options{DB: d, Connectors: connected(s.providers), Log: log})
	hooks := webhooks.New(webhooks.Options{DB: d, Providers: connectors.Statuses(s.providers), Private: s.privateWebhooks, Log: log})
	later, err := jobs.New(jobs.Options{
		DB: d, Accounts: accounts, Refresh: engine, Webhooks: hooks, Log: log, Providers: s.providers, PublicURL: s.publicURL, SMTPURL: s.smtpURL, MailFrom: s.mailFrom, MailRoots: s.mailRoots, Brand: s.brand, Outbox: s.demo != nil, Middleware: eachJob, Pooled: pooled,
	})
	if err != nil {
		return err
	}
	// After a change of the settings: what another issuer said counts no more.
	issuer, platform := "", (*sso.Provider)(nil)
	if s.sso != nil {
		s.sso.Now = d.Now
		issuer, platform = s.sso.Issuer, sso.New(*s.sso)
	}
	if err := accounts.EndOtherIssuers(ctx, issuer); err != nil {
		return err
	}
	pages := handlers.New(handlers.Options{
		DB: d, Accounts: accounts, Providers: s.providers, Refresh: engine, Webhooks: hooks, Jobs: later, Log: log, PublicURL: s.publicURL, ReturnURLs: s.returnURLs, Brand: s.brand,
		TrustedProxies: s.trustedProxies, SessionKeys: s.sessionKeys, SSO: platform, SSOTitle: s.ssoTitle, Demo: s.demo, RequireFactor: s.requireFactor,
		Works: works{db: d, engine: engine}.now,
	})
	if err := opened(d, accounts); err != nil {
		return err
	}
	if _, err := engine.CheckRestore(ctx); err != nil {
		log.Warn("whether the database was restored is not known", "err", err)
	}
	for _, caution := range s.cautions() {
		log.Warn(caution)
	}
	for _, p := range s.providers {
		if p.Connector == nil && p.Environment != "" {
			log.Warn("a provider is not set up and not offered", "provider", p.Name, "lacks", strings.Join(p.Missing, ","))
		}
	}

	// Both are stopped below, in order, and not by ctx: calls under way must be saved.
	working := context.WithoutCancel(ctx)
	if err := later.Start(working); err != nil {
		return err
	}
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		engine.Run(working)
	}()
	sending, stopSending := context.WithCancel(working)
	defer stopSending()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		hooks.Run(sending, later)
	}()
	go d.WatchReplica(ctx)
	log.Info("serving", "listen", listener.Addr().String(), "public_url", s.publicURL.String(), "migrations_applied", applied)
	routes := pages.Routes()
	if s.traced {
		routes = trace.Handler(routes)
	}
	err = serveUntil(ctx, listener, routes, stopping)

	log.Info("stopping")
	grace, cancel := context.WithTimeout(working, stopping)
	defer cancel()
	stopSending()
	err = errors.Join(err, later.Stop(grace), engine.Stop(grace)) // jobs refresh: with an engine that stops they would find it busy
	<-swept
	<-sent
	return err
}

// works finds out whether the database is one that this program can work with. Its method is safe for concurrent use.
type works struct {
	db     *db.DB
	engine *refresh.Engine
}

// now returns an error if the schema is not the one this program was built for, or what is saved is not kept.
func (w works) now(ctx context.Context) error {
	pending, err := migrations.Pending(ctx, w.db.Pool)
	if err == nil && pending {
		err = errors.New("migrations are to be applied")
	}
	if err != nil {
		return err
	}
	return w.engine.CheckSaves(ctx)
}

// connected are the connectors of the providers that are set up.
func connected(setups []connectors.Provider) (all []connectors.Connector) {
	for _, setup := range setups {
		if setup.Connector != nil {
			all = append(all, setup.Connector)
		}
	}
	return all
}

// openDatabase is for commands that write a row and end: the database and the keyset are all the settings they need.
func openDatabase(ctx context.Context, environ []string) (*db.DB, error) {
	e := newEnv(environ)
	serving, migrating, keyset := readDatabase(e)
	if err := e.err(); err != nil {
		return nil, err
	}
	if _, err := migrateUp(ctx, serving, migrating); err != nil {
		return nil, fmt.Errorf("the schema: %w", err)
	}
	return db.Open(ctx, serving, keyset, pg.Options{MaxConns: 2})
}

func newLog(s settings, t terminal) *slog.Logger {
	o := &slog.HandlerOptions{Level: s.logLevel}
	if s.logFormat == "json" {
		return slog.New(trace.LogHandler(slog.NewJSONHandler(t.err, o)))
	}
	return slog.New(trace.LogHandler(slog.NewTextHandler(t.err, o)))
}
