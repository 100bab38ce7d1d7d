package refresh_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

var kills = flag.Int("kills", 12, "how often TestKilledAtAnyMoment kills a process; docs/benchmarks.md used 200")

// Other processes are this test binary, run again with PATCHBAY_TEST_CHILD set: real replicas, that can be killed.
func TestMain(m *testing.M) {
	if what := os.Getenv("PATCHBAY_TEST_CHILD"); what != "" {
		if err := child(what); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// strict is a provider behind HTTP whose refresh tokens rotate: each is good once, and it remembers what was spent twice.
type strict struct {
	*httptest.Server
	delay atomic.Int64 // nanoseconds
	life  atomic.Int64 // seconds

	mu     sync.Mutex
	live   map[string]string // account: the refresh token it may spend
	spent  map[string]int    // refresh token: how often it was shown
	twice  map[string]bool   // accounts
	calls  int
	serial int
}

func newStrict(t *testing.T) *strict {
	t.Helper()
	s := &strict{live: map[string]string{}, spent: map[string]int{}, twice: map[string]bool{}}
	s.life.Store(3600)
	s.Server = httptest.NewServer(http.HandlerFunc(s.token))
	t.Cleanup(s.Close)
	return s
}

func (s *strict) token(w http.ResponseWriter, r *http.Request) {
	shown := r.PostFormValue("refresh_token")
	account, _, _ := strings.Cut(shown, "/")
	s.mu.Lock()
	s.calls++
	if s.spent[shown]++; s.spent[shown] > 1 {
		s.twice[account] = true
	}
	good := s.live[account] == shown
	var next string
	if good {
		s.serial++
		next = fmt.Sprintf("%s/%d", account, s.serial)
		s.live[account] = next
	}
	s.mu.Unlock()
	time.Sleep(time.Duration(s.delay.Load()))
	w.Header().Set("Content-Type", "application/json")
	if !good {
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error":"invalid_grant"}`)
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"access_token": "access-" + next, "token_type": "Bearer", "expires_in": s.life.Load(), "refresh_token": next})
}

func standard(address string) (connectors.Connector, error) {
	entry := fmt.Sprintf(`[{"name":"acme","title":"Acme","authorize_url":"%[1]s/authorize","token_url":"%[1]s/token","userinfo_url":"%[1]s/userinfo",
		"client_id":"patchbay","client_secret_env":"ACME_SECRET","client_auth":"basic","scopes":["all"],"environment":"sandbox","keep_alive":"24h"}]`, address)
	setups, err := connectors.Load(func(name string) string {
		if name == "ACME_SECRET" {
			return "secret"
		}
		return ""
	}, []byte(entry), connectors.NewClient(nil, nil))
	if err != nil {
		return nil, err
	}
	return setups[len(setups)-1].Connector, nil
}

// times are those of the tests with real processes: a tenth of life's and less.
func times(o refresh.Options) refresh.Options {
	o.Term, o.Deadline, o.Settle, o.Tick, o.Slots = 3*time.Second, 1200*time.Millisecond, time.Second, 50*time.Millisecond, 6
	return o
}

// child is a replica: it says "ready", begins at a line on its input, and says "done" when it has done what it is told.
func child(what string) error {
	ctx := context.Background()
	keyset, err := seal.Parse(os.Getenv("PATCHBAY_TEST_KEYSET"))
	if err != nil {
		return err
	}
	d, err := db.Open(ctx, os.Getenv("PATCHBAY_TEST_URL"), keyset, pg.Options{MaxConns: 12})
	if err != nil {
		return err
	}
	c, err := standard(os.Getenv("PATCHBAY_TEST_PROVIDER"))
	if err != nil {
		return err
	}
	o := refresh.Options{DB: d, Connectors: []connectors.Connector{c}, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))}
	if what != "readers" {
		o = times(o)
	}
	e := refresh.New(o)
	var ids []pg.ID
	if err := json.Unmarshal([]byte(os.Getenv("PATCHBAY_TEST_IDS")), &ids); err != nil {
		return err
	}
	terminate := make(chan os.Signal, 1)
	onTerminate(terminate)
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	switch what {
	case "readers": // a hundred of them, each asking for every grant in an order of its own
		var failed atomic.Int32
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				for _, n := range rand.Perm(len(ids)) {
					if r, err := e.Fresh(ctx, ids[n], refresh.DefaultValidity, audit.System); err != nil || r.Token.Access == "" {
						failed.Add(1)
						fmt.Fprintln(os.Stderr, "reader:", err)
					}
				}
			})
		}
		all.Wait()
		fmt.Println("done", failed.Load())
	case "sweeper": // until it is killed, or told to stop
		go e.Run(ctx)
		<-terminate
		stop, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		err := e.Stop(stop)
		fmt.Println("done", err == nil)
		return err
	}
	return nil
}

// replica is a running child.
type replica struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startReplica(t *testing.T, what string, base dbtest.Database, provider string, ids []pg.ID) *replica {
	t.Helper()
	list, err := json.Marshal(ids)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // whatever it does not say then, it never will
	t.Cleanup(cancel)
	r := &replica{Cmd: exec.CommandContext(ctx, os.Args[0], "-test.run=^$")}
	r.Env = append(os.Environ(), "PATCHBAY_TEST_CHILD="+what, "PATCHBAY_TEST_URL="+base.URL, "PATCHBAY_TEST_KEYSET="+base.Keyset,
		"PATCHBAY_TEST_PROVIDER="+provider, "PATCHBAY_TEST_IDS="+string(list))
	r.Stderr = os.Stderr
	if r.in, err = r.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := r.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.out = bufio.NewReader(out)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := r.out.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the replica said %q, %v", line, err)
	}
	return r
}

func (r *replica) begin(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(r.in, "go\n"); err != nil {
		t.Fatal(err)
	}
}

func (r *replica) said(t *testing.T) string {
	t.Helper()
	line, err := r.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the replica ended: %v", err)
	}
	return strings.TrimSpace(line)
}

// testReplicas is a database with connections at a strict provider.
type testReplicas struct {
	*testing.T
	base     dbtest.Database
	db       *db.DB
	provider *strict
	owner    db.Merchant
}

func newTestReplicas(t *testing.T, base dbtest.Database) *testReplicas {
	t.Helper()
	w := &testReplicas{T: t, base: base, db: base.Open(t), provider: newStrict(t)}
	var err error
	if w.owner, err = w.db.AddMerchant(t.Context(), audit.System, db.Merchant{Name: "CH168 Shop"}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *testReplicas) connect(account string, age time.Duration) pg.ID {
	w.Helper()
	first := account + "/0"
	w.provider.mu.Lock()
	w.provider.live[account] = first
	w.provider.mu.Unlock()
	g := connectors.Grant{
		Token:   connectors.Token{Access: "access-" + first, Type: "Bearer", Lifetime: time.Hour, Refresh: first},
		Account: connectors.Account{ID: account, Name: account},
	}
	id, err := w.db.AddConnection(w.Context(), w.owner.ID, "acme", "sandbox", g, w.db.Now().Add(-age), connectors.Info{KeepAlive: 24 * time.Hour})
	if err != nil {
		w.Fatal(err)
	}
	return id
}

func TestThreeProcessesRefreshOnceForThreeHundredReaders(t *testing.T) {
	w := newTestReplicas(t, dbtest.Make(t))
	w.provider.delay.Store(int64(20 * time.Millisecond))
	var ids []pg.ID
	for n := range 50 {
		ids = append(ids, w.connect(fmt.Sprint("account", n), 2*time.Hour))
	}
	var all []*replica
	for range 3 {
		all = append(all, startReplica(t, "readers", w.base, w.provider.URL, ids))
	}
	for _, r := range all {
		r.begin(t)
	}
	for _, r := range all {
		if said := r.said(t); said != "done 0" {
			t.Errorf("a process: %s", said)
		}
		if err := r.Wait(); err != nil {
			t.Error(err)
		}
	}
	w.provider.mu.Lock()
	defer w.provider.mu.Unlock()
	if w.provider.calls != 50 || len(w.provider.twice) != 0 {
		t.Errorf("%d calls for 50 needs; spent twice: %v", w.provider.calls, w.provider.twice)
	}
}

// leased are the accounts whose refresh is under way, or was when its process died.
func (w *testReplicas) leased() map[string]bool {
	w.Helper()
	rows, err := w.db.Pool.Query(w.Context(), `SELECT c.account_id FROM grants g JOIN connections c ON c.id = g.connection_id WHERE g.lease_id IS NOT NULL`)
	if err != nil {
		w.Fatal(err)
	}
	defer rows.Close()
	all := map[string]bool{}
	for rows.Next() {
		var account string
		if err := rows.Scan(&account); err != nil {
			w.Fatal(err)
		}
		all[account] = true
	}
	return all
}

func TestKilledAtAnyMoment(t *testing.T) {
	w := newTestReplicas(t, dbtest.Make(t))
	w.provider.delay.Store(int64(200 * time.Millisecond))
	w.provider.life.Store(2) // always something due
	const population = 40
	accounts := map[string]pg.ID{}
	gone := map[string]bool{}
	populate := func() {
		alive := 0
		for account, id := range accounts {
			if gone[account] {
				continue
			}
			r, err := w.db.ReadGrant(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if gone[account] = r.Problem != ""; !gone[account] {
				alive++
			}
		}
		for ; alive < population; alive++ {
			account := fmt.Sprint("account", len(accounts))
			accounts[account] = w.connect(account, 48*time.Hour)
		}
	}
	populate()
	run := func() *replica {
		r := startReplica(t, "sweeper", w.base, w.provider.URL, nil)
		r.begin(t)
		return r
	}
	both := []*replica{run(), run()}
	inFlight := map[string]bool{}
	for n := range *kills {
		time.Sleep(100*time.Millisecond + rand.N(400*time.Millisecond))
		victim := both[n%2]
		if err := victim.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = victim.Wait() // killed
		for account := range w.leased() {
			inFlight[account] = true
		}
		w.keepUsed(accounts)
		populate()
		both[n%2] = run()
	}
	for account := range w.leased() {
		inFlight[account] = true
	}
	w.settle(accounts)
	for _, r := range both {
		if err := r.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if said := r.said(t); said != "done true" {
			t.Errorf("a replica stopped badly: %s", said)
		}
		_ = r.Wait() // it has said how it ended
	}
	interrupted := 0
	for account, id := range accounts {
		r, err := w.db.ReadGrant(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case r.Problem == status.ProblemInterrupted && inFlight[account]:
			interrupted++
		case r.Problem != "":
			t.Errorf("%s says %s, in flight when a process died: %t", account, r.Problem, inFlight[account])
		case r.LastOutcome != status.OK:
			t.Errorf("%s is neither well nor says why: %s", account, r.LastOutcome)
		}
	}
	w.provider.mu.Lock()
	defer w.provider.mu.Unlock()
	for account := range w.provider.twice {
		if !inFlight[account] {
			t.Errorf("%s spent a token twice, and its call was not in flight", account)
		}
	}
	t.Logf("%d kills: %d connections, %d calls, %d interrupted", *kills, len(accounts), w.provider.calls, interrupted)
}

// keepUsed has somebody use every connection, so that it is kept warm.
func (w *testReplicas) keepUsed(accounts map[string]pg.ID) {
	w.Helper()
	var uses []refresh.Use
	for _, id := range accounts {
		uses = append(uses, refresh.Use{Connection: id, At: w.db.Now(), RefreshAt: w.db.Now()})
	}
	if err := refresh.New(refresh.Options{DB: w.db}).MarkUsed(w.Context(), uses); err != nil {
		w.Fatal(err)
	}
}

// settle waits until every connection is well or says why.
func (w *testReplicas) settle(accounts map[string]pg.ID) {
	w.Helper()
	dbtest.Eventually(w, "every connection to be well or to say why", func() bool {
		for _, id := range accounts {
			r, err := w.db.ReadGrant(w.Context(), id)
			if err != nil {
				w.Fatal(err)
			}
			if r.Problem == "" && (r.LastOutcome != status.OK || !r.LeasedUntil.IsZero() && !r.LeasedUntil.After(w.db.Now())) {
				return false
			}
		}
		return true
	})
}

func TestTerminatedInMidCall(t *testing.T) {
	w := newTestReplicas(t, dbtest.Make(t))
	w.provider.delay.Store(int64(500 * time.Millisecond))
	id := w.connect("account", 48*time.Hour)
	r := startReplica(t, "sweeper", w.base, w.provider.URL, nil)
	r.begin(t)
	dbtest.Eventually(t, "a call", func() bool {
		w.provider.mu.Lock()
		defer w.provider.mu.Unlock()
		return w.provider.calls > 0
	})
	if err := r.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if said := r.said(t); said != "done true" {
		t.Errorf("stopped badly: %s", said)
	}
	_ = r.Wait() // it has said how it ended
	if grant, err := w.db.ReadGrant(t.Context(), id); err != nil || grant.Token.Access != "access-account/1" || !grant.LeasedUntil.IsZero() {
		t.Errorf("what was under way is not saved: %q, %v", grant.Token.Access, err)
	}
}

func TestPostgresGoneInMidFlow(t *testing.T) {
	base, server := dbtest.Own(t)
	w := newTestReplicas(t, base)
	w.provider.delay.Store(int64(300 * time.Millisecond))
	id := w.connect("account", 48*time.Hour)
	c, err := standard(w.provider.URL)
	if err != nil {
		t.Fatal(err)
	}
	e := refresh.New(refresh.Options{DB: w.db, Connectors: []connectors.Connector{c}, Log: slog.New(slog.DiscardHandler)})
	done := make(chan refresh.Result, 1)
	go func() {
		out, err := e.RefreshNow(context.Background(), id, audit.System)
		if err != nil {
			t.Error(err)
		}
		done <- out
	}()
	dbtest.Eventually(t, "a lease", func() bool { return len(w.leased()) > 0 })
	server.Kill() // as by a crash: what was not durable is gone
	dbtest.Eventually(t, "an answer that cannot be saved", func() bool { return unsaved(t, e) == 1 })
	if err := server.Again(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := dbtest.Receive(t, done, "the end of the refresh"); out.Outcome != status.OK {
		t.Errorf("outcome %s", out.Outcome)
	}
	if r, err := w.db.ReadGrant(t.Context(), id); err != nil || r.Token.Access != "access-account/1" {
		t.Errorf("the answer that came while Postgres was away is lost: %q, %v", r.Token.Access, err)
	}
	if err := e.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
