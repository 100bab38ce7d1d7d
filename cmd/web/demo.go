package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"patchbay/docs/providers"
	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/localpg"
	"patchbay/internal/pg"
	"patchbay/internal/sample"
	"patchbay/internal/sandbox"
	"patchbay/internal/sandbox/platform"
	"patchbay/internal/seal"
	"patchbay/views"
)

// demoUser is a sample user, and the name of their merchant; "" for staff.
type demoUser struct {
	account.NewUser
	merchant string
}

// demoUsers are the users added at the first start. The demo prints their passwords.
func demoUsers() []demoUser {
	return []demoUser{
		{account.NewUser{Email: "merchant@example.com", Role: audit.RoleMerchant, Name: "Sok Dara", Password: "merchant demo"}, "CH168 Shop"},
		{account.NewUser{Email: "support@example.com", Role: audit.RoleSupport, Name: "Lin Sopheap", Password: "support demo"}, ""},
		{account.NewUser{Email: "admin@example.com", Role: audit.RoleAdmin, Name: "Chan Vanna", Password: "admin demo"}, ""},
	}
}

// worldUsers are the people of the other merchants of the demo's world.
func worldUsers() []demoUser {
	return []demoUser{
		{account.NewUser{Email: "mekong@example.com", Role: audit.RoleMerchant, Name: "Keo Bopha", Password: "mekong demo"}, "Mekong Rice Trading"},
		{account.NewUser{Email: "angkor@example.com", Role: audit.RoleMerchant, Name: "Chea Rithy", Password: "angkor demo"}, "Angkor Night Guesthouse"},
	}
}

// demo serves with its own Postgres, the providers' sandboxes and a sample platform on another site, and sample users. It keeps all its data in
// one folder.
func demo(ctx context.Context, t terminal, args []string) error {
	f := t.flags("demo", "[flags]")
	listen := f.String("listen", "127.0.0.1:8080", "`host:port` of the app; the providers' sandboxes listen on the port after it")
	data := f.String("data", ".data", "`folder` that keeps everything between runs")
	scale := f.Int("scale", 0, "at the first start, fill the database with `N` connections of made-up merchants and their history")
	empty := f.Bool("empty", false, "at the first start, add the sample users and nothing else: no connections and no history")
	fresh := f.Bool("fresh", false, "start over: what the folder keeps is deleted first")
	known := f.Bool("known", true, "offer imitations of the well-known providers of docs/providers too")
	if err := parse(f, args); err != nil {
		return err
	}
	began := time.Now()
	said := progress(t.out)
	listener, err := listenOn(*listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	beside, err := listenOn(sandboxAddress(listener, *listen))
	if err != nil {
		return fmt.Errorf("for the sandboxes, on the port after the app's: %w", err)
	}
	defer beside.Close()

	dir, err := openFolder(*data, *fresh)
	if err != nil {
		return err
	}
	defer dir.Close()
	pg, err := localpg.Start(ctx, localpg.Options{Dir: filepath.Join(*data, "postgres")})
	if err != nil {
		return err
	}
	defer pg.Stop()
	said("Postgres is up")
	if pg.Moved != "" {
		fmt.Fprintf(t.out, "Postgres keeps its data in %s: its user may not enter %s\n", pg.Moved, *data)
	}
	address, err := pg.EnsureDatabase(ctx, "patchbay")
	if err != nil {
		return err
	}

	publicURL, besideURL := "http://"+browserAddress(listener), "http://localhost:"+port(beside)
	box := sandbox.New(sandbox.Options{
		BaseURL: besideURL, AppURLs: []string{publicURL}, StateFile: filepath.Join(*data, "sandbox.json"), PlatformURL: besideURL + platformPath,
		// At the provider an admin registers it by one click; here the first connect works without.
		CamInvoice: sandbox.CamInvoiceOptions{Callbacks: []string{publicURL + "/connect/caminvoice/callback"}},
	})
	if err := box.Err(); err != nil {
		return err
	}
	environ, err := demoSettings(*data, publicURL, address, box, *known)
	if err != nil {
		return err
	}
	s, err := readSettings(append(environ, logSettings(t.environ)...))
	if err != nil {
		return err
	}
	for _, u := range demoUsers() {
		s.demo = append(s.demo, views.DemoSignIn{Role: u.Role, Email: u.Email, Password: u.Password})
	}

	// The first part to end ends the others. The sandboxes stop just before Postgres, so that calls under way are answered.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		<-pg.Done()
		cancel()
	}()
	sandboxes, stopSandboxes := context.WithCancel(context.WithoutCancel(ctx))
	pages := http.NewServeMux()
	pages.Handle("/", box)
	ended := make(chan error, 1)
	go func() {
		err := serveUntil(sandboxes, beside, pages, time.Second)
		cancel()
		ended <- err
	}()
	log := newLog(s, t)
	var subscribing sync.WaitGroup
	err = app(ctx, s, log, listener, func(d *db.DB, accounts *account.Store) error {
		said("the app is up")
		if err := seed(ctx, t, d, accounts, s, box, *scale, *empty, said); err != nil {
			return err
		}
		kept, err := keepPlatform(ctx, d, filepath.Join(*data, platformFile))
		if err != nil {
			return err
		}
		shop, err := platform.New(platform.Options{URL: besideURL + platformPath, API: publicURL + "/api/v1", Key: kept.Key, Log: log})
		if err != nil {
			return err
		}
		pages.Handle(platformPath, shop)
		pages.Handle(platformPath+"/", shop)
		subscribing.Go(func() { // the app answers it once it serves
			if err := kept.subscribe(ctx, shop); err != nil && ctx.Err() == nil {
				log.WarnContext(ctx, "the sample platform gets no webhooks", "err", err)
			}
		})
		welcome(t, publicURL, besideURL, !*empty, time.Since(began))
		return nil
	})
	cancel()
	subscribing.Wait()
	stopSandboxes()
	return errors.Join(err, <-ended, box.Close())
}

// progress returns what prints a line for each step that is done, with how long it took.
func progress(out io.Writer) func(done string) {
	last := time.Now()
	return func(done string) {
		now := time.Now()
		fmt.Fprintf(out, "  %5.1f s  %s\n", now.Sub(last).Seconds(), done)
		last = now
	}
}

// seed fills the demo at its first start: with the sample connections asked for, and with its world, or with the sample users alone.
func seed(ctx context.Context, t terminal, d *db.DB, accounts *account.Store, s settings, box *sandbox.Sandbox, scale int, empty bool, said func(string)) error {
	_, err := accounts.UserByEmail(ctx, demoUsers()[0].Email)
	switch {
	case err == nil && scale > 0:
		fmt.Fprintln(t.out, "There is a demo here already, which -scale leaves as it is: start over with -fresh")
		return nil
	case !errors.Is(err, pg.ErrNotFound):
		return err
	}
	if scale > 0 {
		counted := func(what string, n int) { fmt.Fprintf(t.out, "\r  filling: %d %s        ", n, what) }
		if err := sample.Fill(ctx, d, sample.Scale{Connections: scale, Environment: "sandbox", Events: 50, Progress: counted}); err != nil {
			return err
		}
		fmt.Fprint(t.out, "\r")
		said(fmt.Sprintf("%d sample connections with their history", scale))
	}
	if !empty {
		if err := makeWorld(ctx, s, box, d.Now()); err != nil {
			return err
		}
		said(worldSize())
		return nil
	}
	for _, u := range demoUsers() {
		if _, err := addUser(ctx, d, accounts, u.NewUser, u.merchant); err != nil {
			return err
		}
	}
	return nil
}

func welcome(t terminal, app, providers string, world bool, took time.Duration) {
	fmt.Fprintf(t.out, "\n  Patchbay is at  %s   (ready after %.1f s)\n\n", app, took.Seconds())
	users := demoUsers()
	if world {
		users = append(users, worldUsers()...)
	}
	for _, u := range users {
		fmt.Fprintf(t.out, "  %-9s %-22s password: %-15s %s\n", u.Role, u.Email, u.Password, u.merchant)
	}
	fmt.Fprintf(t.out, "\n  The providers' sandboxes, with the credentials to type: %s\n  A sample platform whose merchants connect by links: %s\n  Mail that was written: %s/outbox\n  Ctrl-C stops everything.\n\n", providers, providers+platformPath, app)
}

// openFolder makes the demo's folder and locks it until the returned file is closed. With fresh it deletes the data of
// earlier runs.
func openFolder(data string, fresh bool) (*os.File, error) {
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(data, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("another demo uses the folder %s: stop it, or choose another folder with -data", data)
	}
	if !fresh {
		return lock, nil
	}
	err = localpg.Remove(filepath.Join(data, "postgres"))
	for _, name := range []string{"keyset", "session-keys", "sandbox.json", "connectors.json", platformFile} {
		if e := os.Remove(filepath.Join(data, name)); !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// demoSettings are the settings an operator would write, so that the demo starts as serve does. With known they offer the providers of
// docs/providers too.
func demoSettings(data, publicURL, databaseURL string, box *sandbox.Sandbox, known bool) ([]string, error) {
	keyset := filepath.Join(data, "keyset")
	if err := keep(keyset, seal.NewKeyset); err != nil {
		return nil, err
	}
	sessionKeys := filepath.Join(data, "session-keys")
	if err := keep(sessionKeys, func() (string, error) {
		key := make([]byte, 32)
		rand.Read(key) // never fails: it ends the program instead
		return base64.StdEncoding.EncodeToString(key), nil
	}); err != nil {
		return nil, err
	}
	standard := filepath.Join(data, "connectors.json")
	settings := box.Settings()
	var entries [][]byte
	if known {
		var err error
		if entries, err = providers.Entries(); err != nil {
			return nil, err
		}
		maps.Copy(settings, box.KnownSettings())
	}
	if err := os.WriteFile(standard, box.ConnectorsFile(entries...), 0o644); err != nil {
		return nil, err
	}
	environ := []string{
		"DATABASE_URL=" + databaseURL, "PUBLIC_URL=" + publicURL, "KEYSET_FILE=" + keyset, "SESSION_KEYS_FILE=" + sessionKeys,
		"CONNECTORS_FILE=" + standard, "LOG_LEVEL=warn", "CAMINVOICE_HOOK_SECRET=demo", "WEBHOOK_PRIVATE=true",
		"RETURN_URLS=" + box.BaseURL() + platformPath, "SECOND_FACTOR=optional",
	}
	for name, value := range settings {
		environ = append(environ, name+"="+value)
	}
	return environ, nil
}

// keep writes the result of fresh to path, readable by this user only, unless the file has contents already.
func keep(path string, fresh func() (string, error)) error {
	if info, err := os.Stat(path); err == nil && info.Size() > 0 {
		return nil
	}
	text, err := fresh()
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text+"\n"), 0o600)
}

// logSettings are the only settings that the demo takes from the environment: of the log and of traces.
func logSettings(environ []string) (log []string) {
	for _, one := range environ {
		if strings.HasPrefix(one, "LOG_LEVEL=") || strings.HasPrefix(one, "LOG_FORMAT=") || strings.HasPrefix(one, "OTEL_") {
			log = append(log, one)
		}
	}
	return log
}

// browserAddress is the app's host and port for browsers: an IP address, because the sandboxes are on localhost and
// must be another site.
func browserAddress(l net.Listener) string {
	at := netip.MustParseAddrPort(l.Addr().String())
	if at.Addr().IsUnspecified() {
		return "127.0.0.1:" + port(l)
	}
	return at.String()
}

// sandboxAddress is the port after the app's; any, when any was asked for.
func sandboxAddress(l net.Listener, asked string) string {
	at := netip.MustParseAddrPort(l.Addr().String())
	next := int(at.Port()) + 1
	if strings.HasSuffix(asked, ":0") {
		next = 0
	}
	return net.JoinHostPort(at.Addr().String(), strconv.Itoa(next))
}
