package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/securecookie"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/localpg"
	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
	"patchbay/internal/seal"
	"patchbay/migrations"
)

// soak runs everything at once against two processes of the real program, under faults, and then proves from the provider's own
// books that no refresh token was spent twice but in flight, no access was lost, and no alarm was false. Which faults come, and when,
// follows from the seed; what they meet does not.
type soak struct {
	dir, public, program string
	keyset               string
	seed                 uint64
	server               *localpg.Server
	database             string
	db                   *db.DB
	sandbox              *sandbox.Sandbox
	processes            [2]*served
	merchants            []shop
	admin                string // the cookie of an admin's session
	key                  string // the header of a program's key
	tally                tally

	connections atomic.Pointer[[]held]
	faults      atomic.Int64
	away        atomic.Bool // Postgres is being restarted

	mu       sync.Mutex
	findings []string
	did      map[string]int  // faults by name
	cut      []cutOff        // what was in flight when a process died or froze
	ended    []ending        // access that the soak itself ended at a provider
	alarms   map[alarm]bool  // every problem that a connection was seen to have
	strange  map[string]bool // findings of the load, once each
}

// shop is a merchant whose user is signed in, with an account of its own at every provider.
type shop struct {
	id     pg.ID
	cookie string
	n      int
}

// shops is how many merchants there are. Each connects all of soakProviders.
const shops = 100

var soakProviders = []string{sandbox.CamInvoice, sandbox.ELECQ, sandbox.Flexiti, "acme"}

// accountOf returns the account of the nth merchant at a provider.
func accountOf(provider string, n int) string {
	switch provider {
	case sandbox.CamInvoice:
		return fmt.Sprintf("KHUID9%05d", n)
	case sandbox.ELECQ:
		return fmt.Sprintf("2%05d", n)
	case sandbox.Flexiti:
		return fmt.Sprintf("soak-shop-%d", n)
	default:
		return fmt.Sprintf("acme-soak-%d", n)
	}
}

func (b *bench) soak(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "patchbay-soak-")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	s := &soak{
		dir: dir, seed: b.seed, program: filepath.Join(dir, "patchbay"),
		did: map[string]int{}, alarms: map[alarm]bool{}, strange: map[string]bool{}, tally: tally{all: map[string]map[string]int{}},
	}
	if s.seed == 0 {
		s.seed = rand.Uint64()
	}
	fmt.Fprintf(os.Stderr, "soak of %s, seed %d, in %s\n", b.lasting, s.seed, dir)
	defer func() {
		if err == nil {
			os.RemoveAll(dir)
		} else {
			err = fmt.Errorf("seed %d, logs in %s: %w", s.seed, dir, err)
		}
	}()
	defer s.close()
	if err := s.build(ctx); err != nil {
		return err
	}
	balancer, err := s.start(ctx)
	if err != nil {
		return err
	}
	defer balancer.Close()
	running, stopProcesses := context.WithCancel(ctx)
	var supervised sync.WaitGroup
	defer supervised.Wait()
	defer stopProcesses()
	for _, p := range s.processes {
		supervised.Go(func() { s.supervise(running, p) })
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	if err := s.hook(ctx); err != nil {
		return err
	}

	began := time.Now()
	first := s.resident()
	loading, stopLoad := context.WithTimeout(ctx, b.lasting)
	defer stopLoad()
	var all sync.WaitGroup
	s.load(loading, &all)
	all.Go(func() { s.watch(loading) })
	all.Go(func() { s.misfortune(loading) })
	all.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	took := time.Since(began)
	fmt.Fprintf(os.Stderr, "the load has ended after %s; settling\n", took.Round(time.Second))
	s.sandbox.ClearFaults("")
	if err := s.settle(ctx); err != nil {
		return err
	}
	last := s.resident()
	if err := s.prove(ctx); err != nil {
		return err
	}
	s.print(took, first, last)
	if len(s.findings) > 0 {
		return fmt.Errorf("%d findings:\n%s", len(s.findings), strings.Join(s.findings, "\n"))
	}
	return nil
}

func (s *soak) close() {
	if s.sandbox != nil {
		s.sandbox.Close()
	}
	if s.db != nil {
		s.db.Close()
	}
	if s.server != nil {
		s.server.Stop()
	}
}

// build makes what the soak runs on: the program, Postgres, the providers, merchants and a key.
func (s *soak) build(ctx context.Context) (err error) {
	build := exec.CommandContext(ctx, "go", "build", "-o", s.program, "./cmd/web")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	if s.server, err = localpg.Start(ctx, localpg.Options{Dir: filepath.Join(s.dir, "pg")}); err != nil {
		return err
	}
	if s.database, err = s.server.EnsureDatabase(ctx, "soak"); err != nil {
		return err
	}
	if _, err := migrations.Up(ctx, s.database); err != nil {
		return err
	}
	if s.keyset, err = seal.NewKeyset(); err != nil {
		return err
	}
	if s.db, err = openDB(ctx, s.database, s.keyset, 4); err != nil {
		return err
	}
	accounts := account.New(s.db)
	signIn := func(u account.NewUser) (string, error) {
		user, err := accounts.AddUser(ctx, audit.System, u)
		if err != nil {
			return "", err
		}
		secret := pg.NewSecret()
		if err := accounts.AddSession(ctx, secret, user, "127.0.0.1", "soak"); err != nil {
			return "", err
		}
		return securecookie.New(sessionKey, nil).MaxAge(0).SetSerializer(securecookie.NopEncoder{}).Encode("session", []byte(secret))
	}
	for n := range shops {
		m, err := s.db.AddMerchant(ctx, audit.System, db.Merchant{Name: fmt.Sprintf("Soak Shop %d", n)})
		if err != nil {
			return err
		}
		cookie, err := signIn(account.NewUser{Role: audit.RoleMerchant, Email: fmt.Sprintf("shop%d@soak.example", n), Name: "Sok Dara", MerchantID: m.ID})
		if err != nil {
			return err
		}
		s.merchants = append(s.merchants, shop{m.ID, cookie, n})
	}
	if s.admin, err = signIn(account.NewUser{Role: audit.RoleAdmin, Email: "admin@soak.example", Name: "Admin"}); err != nil {
		return err
	}
	_, secret, err := s.db.AddAPIKey(ctx, audit.System, db.APIKey{Name: "soak", Scopes: db.Scopes()})
	s.key = "Bearer " + string(secret)
	return err
}

// served is one of the two processes. It is started again whenever it has ended, as a supervisor would.
type served struct {
	n       int
	address string
	cmd     atomic.Pointer[exec.Cmd]
	meant   atomic.Bool // its next end is the soak's doing
}

// start opens the balancer's port, and makes the providers and the settings of the processes.
func (s *soak) start(ctx context.Context) (io.Closer, error) {
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.public = "http://" + front.Addr().String()
	o := sandbox.Options{
		AppURLs: []string{s.public}, Remember: -1,
		CamInvoice: sandbox.CamInvoiceOptions{EchoState: true, AccessLifetime: time.Minute},
		ELECQ:      sandbox.ELECQOptions{EchoState: true, AccessLifetime: time.Minute, RefreshLifetime: 24 * time.Hour},
		Flexiti:    sandbox.FlexitiOptions{AccessLifetime: time.Minute},
		Standard:   sandbox.StandardOptions{AccessLifetime: time.Minute},
	}
	for n := range shops {
		o.ELECQ.Merchants = append(o.ELECQ.Merchants, sandbox.ELECQMerchant{UserID: accountOf(sandbox.ELECQ, n), Name: fmt.Sprintf("Charger %d", n)})
		o.Flexiti.Merchants = append(o.Flexiti.Merchants, sandbox.FlexitiMerchant{
			ClientID: accountOf(sandbox.Flexiti, n), ClientSecret: fmt.Sprintf("flexiti-secret-%d", n), MerchantName: fmt.Sprintf("Jeweller %d", n), MerchantID: fmt.Sprint(n),
		})
		o.Standard.Users = append(o.Standard.Users, sandbox.User{Sub: accountOf("acme", n), Name: fmt.Sprintf("User %d", n), Email: fmt.Sprintf("user%d@acme.example", n)})
	}
	if s.sandbox, err = sandbox.Start("127.0.0.1:0", o); err != nil {
		return nil, err
	}
	s.sandbox.Allow(sandbox.CamInvoice, s.public+"/connect/caminvoice/callback")
	if err := os.WriteFile(filepath.Join(s.dir, "connectors.json"), s.sandbox.ConnectorsFile(), 0o600); err != nil {
		return nil, err
	}
	for n := range s.processes {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		s.processes[n] = &served{n: n, address: listener.Addr().String()}
		listener.Close()
	}
	go s.balance(front)
	return front, nil
}

// balance hands each connection of a client to one of the processes that take it.
func (s *soak) balance(front net.Listener) {
	for {
		client, err := front.Accept()
		if err != nil {
			return
		}
		go func() {
			defer client.Close()
			first := rand.IntN(2)
			for _, n := range []int{first, 1 - first} {
				behind, err := net.DialTimeout("tcp", s.processes[n].address, time.Second)
				if err != nil {
					continue
				}
				defer behind.Close()
				go func() {
					io.Copy(behind, client)
					behind.Close()
				}()
				io.Copy(client, behind)
				return
			}
		}()
	}
}

func (s *soak) environment(p *served) []string {
	env := []string{
		"DATABASE_URL=" + s.database, "KEYSET=" + s.keyset, "LISTEN=" + p.address, "PUBLIC_URL=" + s.public, "LOG_FORMAT=json",
		"SESSION_KEYS=" + base64.StdEncoding.EncodeToString(sessionKey), "CAMINVOICE_HOOK_SECRET=" + hookSecret, "SECOND_FACTOR=optional",
		"CONNECTORS_FILE=" + filepath.Join(s.dir, "connectors.json"),
	}
	settings := s.sandbox.Settings()
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		env = append(env, name+"="+settings[name])
	}
	return env
}

const hookSecret = "soak-hook-secret-0123456789"

// supervise keeps one process running until ctx ends, then stops it in order.
func (s *soak) supervise(ctx context.Context, p *served) {
	log, err := os.OpenFile(filepath.Join(s.dir, fmt.Sprintf("serve%d.log", p.n)), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		s.finding("no log for a process: %v", err)
		return
	}
	defer log.Close()
	for ctx.Err() == nil {
		cmd := exec.Command(s.program, "serve")
		cmd.Env, cmd.Stdout, cmd.Stderr = s.environment(p), log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		began := time.Now()
		if err := cmd.Start(); err != nil {
			s.finding("a process does not start: %v", err)
			return
		}
		p.cmd.Store(cmd)
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case err = <-done:
			if !p.meant.Swap(false) && time.Since(began) > 20*time.Second {
				s.finding("process %d ended by itself after %s: %v", p.n, time.Since(began).Round(time.Second), err)
			}
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM) // it fails only when the process has ended already
			select {
			case err = <-done:
				if err != nil {
					s.finding("process %d did not stop in order: %v", p.n, err)
				}
			case <-time.After(time.Minute):
				s.finding("process %d did not stop within a minute", p.n)
				_ = cmd.Process.Kill() // see above
				<-done
			}
			return
		}
		pause(ctx, 500*time.Millisecond)
	}
}

// ready waits until both processes answer.
func (s *soak) ready(ctx context.Context) error {
	for _, p := range s.processes {
		for deadline := time.Now().Add(time.Minute); ; {
			response, err := http.Get("http://" + p.address + "/readyz")
			if err == nil {
				response.Body.Close()
				if response.StatusCode == http.StatusOK {
					break
				}
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d is not ready after a minute: %v", p.n, err)
			}
			if !pause(ctx, 100*time.Millisecond) {
				return ctx.Err()
			}
		}
	}
	return nil
}

// resident is the larger process's resident memory, in MB.
func (s *soak) resident() float64 {
	most := int64(0)
	for _, p := range s.processes {
		if size, err := (&process{cmd: p.cmd.Load()}).resident(); err == nil {
			most = max(most, size)
		}
	}
	return float64(most) / (1 << 20)
}

// misfortune has one fault follow the other until ctx ends.
func (s *soak) misfortune(ctx context.Context) {
	luck := rand.New(rand.NewPCG(s.seed, 0))
	between := func(low, high time.Duration) time.Duration { return low + time.Duration(luck.Int64N(int64(high-low))) }
	if !pause(ctx, 20*time.Second) { // the first connections are made in peace
		return
	}
	for {
		if !pause(ctx, between(2*time.Second, 10*time.Second)) {
			return
		}
		what := ""
		switch n := luck.IntN(100); {
		case n < 15:
			what = "kill -9"
			p := s.processes[luck.IntN(2)]
			p.meant.Store(true)
			_ = p.cmd.Load().Process.Kill() // it fails only when the process has ended already
			s.inFlight(ctx)
		case n < 20:
			what = "stopped in order"
			p := s.processes[luck.IntN(2)]
			p.meant.Store(true)
			_ = p.cmd.Load().Process.Signal(syscall.SIGTERM) // see above
		case n < 25:
			what = "frozen"
			cmd, lasts := s.processes[luck.IntN(2)].cmd.Load(), between(time.Second, 15*time.Second)
			_ = cmd.Process.Signal(syscall.SIGSTOP) // see above
			s.inFlight(ctx)
			pause(ctx, lasts)
			_ = cmd.Process.Signal(syscall.SIGCONT) // see above
		case n < 37:
			what = "Postgres restarted, fast"
			down := between(100*time.Millisecond, 4*time.Second)
			if luck.IntN(2) == 0 {
				what = "Postgres restarted, immediate"
			}
			if err := s.restart(ctx, what == "Postgres restarted, fast", down); err != nil {
				if ctx.Err() == nil {
					s.finding("Postgres did not come back: %v", err)
				}
				return
			}
		case n < 45:
			what = "access ended at the provider"
			provider := []string{sandbox.CamInvoice, sandbox.ELECQ, "acme"}[luck.IntN(3)]
			s.endAccess(provider, accountOf(provider, luck.IntN(shops)))
		default:
			mood, provider := s.mood(luck, between), soakProviders[luck.IntN(len(soakProviders))]
			what = "provider: " + string(mood.Kind)
			lasts := between(2*time.Second, 25*time.Second)
			if err := s.sandbox.SetFault(provider, mood); err != nil {
				s.finding("%v", err)
				return
			}
			time.AfterFunc(lasts, func() { s.sandbox.ClearFaults(provider) })
		}
		s.mu.Lock()
		s.did[what]++
		s.mu.Unlock()
		s.faults.Add(1)
	}
}

// moods are the ways in which providers fail here. A provider that refuses (Refused, ClientRefused, Forbidden) is left out: after it
// the books could not tell a false alarm.
var moods = []sandbox.FaultKind{
	sandbox.Slow, sandbox.Late, sandbox.Error500, sandbox.Unavailable, sandbox.TooMany, sandbox.HTML, sandbox.Empty, sandbox.Lost, sandbox.HangUp, sandbox.Redirect,
}

func (s *soak) mood(luck *rand.Rand, between func(low, high time.Duration) time.Duration) sandbox.Fault {
	f := sandbox.Fault{Kind: moods[luck.IntN(len(moods))], Probability: 0.1 + 0.9*luck.Float64(), RetryAfter: between(time.Second, 20*time.Second)}
	if f.Kind == sandbox.Slow || f.Kind == sandbox.Late {
		f.Delay = between(200*time.Millisecond, 8*time.Second)
	}
	if f.Kind == sandbox.Lost { // each ends a grant where refresh tokens rotate
		f.Probability = 0.1 * luck.Float64()
	}
	return f
}

// restart ends Postgres, leaves it down and starts it again.
func (s *soak) restart(ctx context.Context, fast bool, down time.Duration) error {
	s.away.Store(true)
	defer s.away.Store(false)
	if fast {
		s.server.Stop()
	} else {
		s.server.Kill()
	}
	pause(ctx, down)
	return s.server.Again(context.WithoutCancel(ctx))
}

// cutOff is a refresh whose process died or froze while it was under way.
type cutOff struct {
	provider, account string
	at                time.Time
}

// inFlight notes which refreshes are under way, by their leases.
func (s *soak) inFlight(ctx context.Context) {
	at := time.Now()
	var accounts []cutOff
	err := s.insist(ctx, func() error {
		accounts = nil
		rows, err := s.db.Pool.Query(ctx, `SELECT c.provider, c.account_id FROM grants g JOIN connections c ON c.id = g.connection_id WHERE g.lease_id IS NOT NULL`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			c := cutOff{at: at}
			if err := rows.Scan(&c.provider, &c.account); err != nil {
				return err
			}
			accounts = append(accounts, c)
		}
		return rows.Err()
	})
	if err != nil {
		if ctx.Err() == nil {
			s.finding("what was in flight is not known: %v", err)
		}
		return
	}
	s.mu.Lock()
	s.cut = append(s.cut, accounts...)
	s.mu.Unlock()
}

// ending is an access that was ended at the provider by its owner.
type ending struct {
	provider, account string
	at                time.Time
}

func (s *soak) endAccess(provider, account string) {
	s.mu.Lock()
	s.ended = append(s.ended, ending{provider, account, time.Now()})
	s.mu.Unlock()
	s.sandbox.Revoke(provider, account)
}

// insist repeats what the database is asked until it answers, for half a minute.
func (s *soak) insist(ctx context.Context, ask func() error) error {
	for deadline := time.Now().Add(30 * time.Second); ; {
		err := ask()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		if !pause(ctx, 100*time.Millisecond) {
			return errors.Join(err, ctx.Err())
		}
	}
}

func (s *soak) finding(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.findings = append(s.findings, fmt.Sprintf(format, args...))
}

// pause waits and says whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
