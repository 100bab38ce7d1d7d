package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/sandbox"
)

// previous is the version before, which must run on the schema of this one (docs/upgrading.md): the commit of the last release, or
// until there is one the first whose migrations promise that. A release names itself here when it is made.
const previous = "147b2b2c6fb5c778489d2f8f5463849155ed98fd"

// buildPrevious builds the version before from this repository's history, once for all runs of this user.
func buildPrevious(t *testing.T) (program string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	if err := exec.CommandContext(ctx, "git", "cat-file", "-e", previous+"^{commit}").Run(); err != nil {
		t.Skipf("the version before cannot be built: this clone has no commit %s. A clone with its history has it: git fetch --unshallow", previous)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(cache, "patchbay", previous)
	if _, err := os.Stat(program); err == nil {
		return program
	}
	if err := os.MkdirAll(filepath.Dir(program), 0o700); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	archive := exec.CommandContext(ctx, "git", "archive", previous)
	archive.Dir = "../.."
	unpack := exec.CommandContext(ctx, "tar", "-x", "-C", dir)
	if unpack.Stdin, err = archive.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := unpack.Start(); err != nil {
		t.Fatal(err)
	}
	if err := archive.Run(); err != nil {
		t.Fatalf("git archive: %v", err)
	}
	if err := unpack.Wait(); err != nil {
		t.Fatalf("tar: %v", err)
	}
	half := fmt.Sprintf("%s.%d", program, os.Getpid())
	build := exec.CommandContext(ctx, "go", "build", "-o", half, "./cmd/web")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v: %s", previous, err, out)
	}
	if err := os.Rename(half, program); err != nil {
		t.Fatal(err)
	}
	return program
}

// startPrevious runs serve of the version before until the test ends. log has what it logs, once stop has returned.
func startPrevious(t *testing.T, program string, environ []string, flags ...string) (stop func(), log *bytes.Buffer) {
	t.Helper()
	log = &bytes.Buffer{}
	cmd := exec.Command(program, append([]string{"serve"}, flags...)...)
	cmd.Env, cmd.Stderr = environ, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Errorf("the version before ended by itself: %v", err)
			}
			defer time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() }).Stop()
			if err := cmd.Wait(); err != nil {
				t.Errorf("the version before: %v\n%s", err, log)
			}
		})
	}
	t.Cleanup(stop)
	return stop, log
}

// visitor is a merchant's user with a browser, at one process.
type visitor struct {
	*testing.T
	http.Client
	address, provider string
}

func newVisitor(t *testing.T, address, provider string) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t, http.Client{Jar: jar, Timeout: 30 * time.Second}, address, provider}
}

func (v *visitor) post(address string, form url.Values) (at *url.URL, body string) {
	v.Helper()
	answer, err := v.PostForm(address, form)
	if err != nil {
		v.Fatal(err)
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		v.Fatalf("POST %s: %d at %s, %v", address, answer.StatusCode, answer.Request.URL, err)
	}
	return answer.Request.URL, string(page)
}

func (v *visitor) signIn(email, password string) {
	v.Helper()
	if at, _ := v.post(v.address+"/login", url.Values{"email": {email}, "password": {password}}); at.Path != "/" {
		v.Fatalf("signing in led to %s", at)
	}
}

// connect goes to Acme, says yes as one of its users, and comes back.
func (v *visitor) connect(account string) {
	v.Helper()
	at, _ := v.post(v.address+"/connect/acme", nil)
	form := at.Query()
	form.Set("account", account)
	form.Set("decision", "allow")
	if at, page := v.post(v.provider+"/acme/authorize", form); !strings.HasPrefix(at.Path, "/flows/") || !strings.Contains(page, "Acme") {
		v.Fatalf("connecting led to %s", at)
	}
}

// program asks the API of one process with a key.
type program struct {
	http.Client
	address, key string
}

func (p *program) ask(method, path string, into any) (status int, err error) {
	request, err := http.NewRequest(method, p.address+path, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+p.key)
	answer, err := p.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode == http.StatusOK && into != nil {
		err = json.Unmarshal(body, into)
	}
	return answer.StatusCode, err
}

// connections lists the ids of all connections.
func (p *program) connections() (ids []string, err error) {
	var page struct{ Connections []struct{ ID string } }
	status, err := p.ask(http.MethodGet, "/api/v1/connections", &page)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the list of connections: %d", status)
	}
	for _, c := range page.Connections {
		ids = append(ids, c.ID)
	}
	return ids, err
}

// load is requests that are made over and over until it is stopped, and counts their answers.
type load struct {
	*testing.T
	ctx     context.Context
	cancel  context.CancelFunc
	asking  sync.WaitGroup
	mu      sync.Mutex
	answers map[string]int
}

// newLoad returns a load without requests. It is stopped when the test ends.
func newLoad(t *testing.T) *load {
	l := &load{T: t, answers: map[string]int{}}
	l.ctx, l.cancel = context.WithCancel(t.Context())
	t.Cleanup(l.stop)
	return l
}

// add calls ask with 0, 1, 2 … and counts what it returns, with a pause after each call.
func (l *load) add(pause time.Duration, ask func(i int) (answer string)) {
	l.asking.Go(func() {
		for i := 0; l.ctx.Err() == nil; i++ {
			answer := ask(i)
			l.mu.Lock()
			l.answers[answer]++
			l.mu.Unlock()
			time.Sleep(pause)
		}
	})
}

// await waits until an answer has come more times.
func (l *load) await(answer string, more int) {
	l.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.answers[answer]
	}
	before := count()
	dbtest.Eventually(l.T, fmt.Sprintf("%d more times %q", more, answer), func() bool { return count() >= before+more })
}

// stop returns when no request is under way. The answers may be read then.
func (l *load) stop() {
	l.cancel()
	l.asking.Wait()
}

// freeAddresses returns addresses at which nothing listens.
func freeAddresses(t *testing.T, n int) (addresses []string) {
	t.Helper()
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close() // at the end, so that they differ
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses
}

// twoAddresses returns addresses for two processes that share a sandbox, whose standard provider gives tokens of ten seconds, and the settings
// for it beside environ.
func twoAddresses(t *testing.T, environ []string) ([]string, *sandbox.Sandbox, []string) {
	t.Helper()
	addresses := freeAddresses(t, 2)
	provider, err := sandbox.Start("127.0.0.1:0", sandbox.Options{
		AppURLs: []string{"http://" + addresses[0], "http://" + addresses[1]}, Standard: sandbox.StandardOptions{AccessLifetime: 10 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { provider.Close() })
	entries := filepath.Join(t.TempDir(), "connectors.json")
	if err := os.WriteFile(entries, provider.ConnectorsFile(), 0o600); err != nil {
		t.Fatal(err)
	}
	return addresses, provider, append(environ, "CONNECTORS_FILE="+entries, "ACME_SECRET="+provider.Settings()["ACME_SECRET"])
}

// TestThePreviousVersionRunsOnThisSchema serves with the version before, upgrades the database under its load, and serves with both.
// Refresh tokens rotate, and tokens last ten seconds, so that both refresh all the time.
func TestThePreviousVersionRunsOnThisSchema(t *testing.T) {
	old := buildPrevious(t)
	database, environ := operator(t)
	execSQL(t, database.URL, `DROP SCHEMA public CASCADE`)
	execSQL(t, database.URL, `CREATE SCHEMA public`)

	addresses, provider, environ := twoAddresses(t, environ) // of the version before, and of this one
	of := func(n int) []string {
		return append(environ[:len(environ):len(environ)], "LISTEN="+addresses[n], "PUBLIC_URL=http://"+addresses[n])
	}
	client := http.Client{Timeout: 30 * time.Second}
	wantReady := func(n int) {
		t.Helper()
		dbtest.Eventually(t, "a process that is ready", func() bool {
			answer, err := client.Get("http://" + addresses[n] + "/readyz")
			if err != nil {
				return false
			}
			answer.Body.Close()
			return answer.StatusCode == http.StatusOK
		})
	}

	// The version before by itself, on its own schema.
	const email, password = "sok@shop.example", "correct horse battery"
	stopFirst, _ := startPrevious(t, old, of(0))
	wantReady(0)
	command := func(in string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), old, args...)
		cmd.Env, cmd.Stdin = environ, strings.NewReader(in)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	command(password, "user", "add", "-email", email, "-role", "merchant", "-merchant", "CH168 Shop")
	made := strings.Split(command("", "apikey", "add", "-name", "worker"), "\n")
	key := made[len(made)-1]
	users := sandbox.SampleUsers()
	before := newVisitor(t, "http://"+addresses[0], provider.BaseURL())
	before.signIn(email, password)
	before.connect(users[0].Sub)
	asked := []*program{{client, "http://" + addresses[0], key}, {client, "http://" + addresses[1], key}}

	// Load on the processes that serve, from here to the end.
	keepAsking := func(l *load, n int) {
		for method, path := range map[string]string{http.MethodGet: "/token", http.MethodPost: "/refresh"} {
			l.add(20*time.Millisecond, func(i int) string {
				status := 0
				ids, err := asked[n].connections()
				if err == nil && len(ids) == 0 {
					err = errors.New("no connections are listed")
				}
				if err == nil {
					status, err = asked[n].ask(method, "/api/v1/connections/"+ids[i%len(ids)]+path, nil)
				}
				return fmt.Sprintf("%s %s of %d: %d, %v", method, path, n, status, err)
			})
		}
	}
	token := func(n int) string { return fmt.Sprintf("GET /token of %d: 200, <nil>", n) }
	refreshed := func(n int) string { return fmt.Sprintf("POST /refresh of %d: 200, <nil>", n) }
	first := newLoad(t)
	keepAsking(first, 0)
	first.await(token(0), 20)

	// The upgrade, under that load; then both serve.
	if code, out, faults := said(t, environ, "", "migrate"); code != 0 {
		t.Fatalf("%s%s", out, faults)
	}
	_, stopNew := startServe(t, of(1), "-migrate=false")
	keepAsking(first, 1)
	first.await(token(0), 20)
	first.await(token(1), 20)
	first.stop()

	// The version before started again on the new schema, as when an upgrade is taken back.
	stopFirst()
	stop, log := startPrevious(t, old, of(0), "-migrate=false")
	wantReady(0)
	second := newLoad(t)
	keepAsking(second, 0)
	keepAsking(second, 1)
	again := newVisitor(t, "http://"+addresses[0], provider.BaseURL())
	again.signIn(email, password)
	again.connect(users[1].Sub)
	after := newVisitor(t, "http://"+addresses[1], provider.BaseURL())
	after.signIn(email, password)
	after.connect(users[2].Sub)
	for n := range asked {
		second.await(token(n), 100)
		second.await(refreshed(n), 10)
	}
	second.stop()

	for n, p := range asked {
		ids, err := p.connections()
		if err != nil || len(ids) != 3 {
			t.Errorf("process %d shows %d connections, want 3; %v", n, len(ids), err)
		}
		for _, id := range ids {
			if status, err := p.ask(http.MethodPost, "/api/v1/connections/"+id+"/refresh", nil); err != nil || status != http.StatusOK {
				t.Errorf("process %d cannot refresh %s: %d, %v", n, id, status, err)
			}
			var token struct {
				AccessToken string `json:"access_token"`
			}
			if status, err := p.ask(http.MethodGet, "/api/v1/connections/"+id+"/token", &token); err != nil || status != http.StatusOK || token.AccessToken == "" {
				t.Errorf("process %d gives no token of %s: %d, %v", n, id, status, err)
			}
		}
	}
	for _, l := range []*load{first, second} {
		for answer, times := range l.answers {
			if !strings.HasSuffix(answer, ": 200, <nil>") && !strings.HasSuffix(answer, ": 429, <nil>") {
				t.Errorf("%s, %d times", answer, times)
			}
		}
	}
	if code := stopNew(); code != 0 {
		t.Errorf("this version stopped with %d", code)
	}
	stop()
	if twice := provider.DoubleSpends(); len(twice) > 0 {
		t.Errorf("spent twice: %v", twice)
	}
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "level=ERROR") {
			t.Errorf("the version before: %s", line)
		}
	}
}
