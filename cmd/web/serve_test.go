package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/internal/db/dbtest"
)

// printed collects what a command prints, and sends the first group of the line that it watches for, once.
type printed struct {
	mu   sync.Mutex
	text strings.Builder
	line *regexp.Regexp // nil once it was found
	sent chan string    // of capacity one
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Write(b)
	if p.line != nil {
		if match := p.line.FindStringSubmatch(p.text.String()); match != nil {
			p.line = nil
			p.sent <- match[1]
		}
	}
	return len(b), nil
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// start runs a command that serves until the test ends. It returns the first group of the line that says where, and what stops the
// command and returns its exit code.
func start(t *testing.T, environ []string, line string, args ...string) (where string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out := &printed{line: regexp.MustCompile(line), sent: make(chan string, 1)}
	ended := make(chan struct{})
	var code int
	go func() {
		defer close(ended)
		code = run(ctx, terminal{strings.NewReader(""), out, out, environ}, args)
	}()
	stop = func() int {
		t.Helper()
		cancel()
		dbtest.Receive(t, ended, args[0]+" to stop")
		return code
	}
	t.Cleanup(func() { stop() })
	select {
	case where = <-out.sent:
	case <-ended:
		t.Fatalf("%s ended with %d:\n%s", args[0], code, out)
	case <-time.After(3 * time.Minute):
		t.Fatalf("%s does not serve after three minutes:\n%s", args[0], out)
	}
	return where, stop
}

// startServe runs serve, on a free port unless environ names one.
func startServe(t *testing.T, environ []string, flags ...string) (address string, stop func() int) {
	t.Helper()
	listens, stop := start(t, append([]string{"LISTEN=127.0.0.1:0"}, environ...), `msg=serving listen=(\S+)`, append([]string{"serve"}, flags...)...)
	return "http://" + listens, stop
}

func TestReadyOnlyOnTheSchemaThisProgramKnows(t *testing.T) {
	_, environ := operator(t)
	address, stop := startServe(t, environ)
	client := http.Client{Timeout: 10 * time.Second}
	status := func(path string) int {
		answer, err := client.Get(address + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	if status("/livez") != http.StatusOK || status("/readyz") != http.StatusOK {
		t.Errorf("livez %d, readyz %d after the start", status("/livez"), status("/readyz"))
	}
	if code, _, faults := said(t, environ, "", "migrate", "down"); code != 0 {
		t.Fatal(faults)
	}
	if status("/livez") != http.StatusOK || status("/readyz") != http.StatusServiceUnavailable {
		t.Errorf("livez %d, readyz %d on an older schema", status("/livez"), status("/readyz"))
	}
	if code := stop(); code != 0 {
		t.Errorf("stopped with %d", code)
	}
}

func TestServeWithoutMigrations(t *testing.T) {
	_, environ := operator(t)
	if code, _, faults := said(t, environ, "", "migrate", "down"); code != 0 {
		t.Fatal(faults)
	}
	if code, _, faults := said(t, append(environ, "LISTEN=127.0.0.1:0"), "", "serve", "-migrate=false"); code != 1 || !strings.Contains(faults, "run patchbay migrate up first") {
		t.Errorf("with a migration to be applied: code %d, %s", code, faults)
	}
	if code, out, faults := said(t, environ, "", "migrate"); code != 0 || !strings.HasPrefix(out, "1 applied") {
		t.Fatalf("serve applied it all the same: %s%s", out, faults)
	}
	address, stop := startServe(t, environ, "-migrate=false")
	answer, err := (&http.Client{Timeout: 10 * time.Second}).Get(address + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("readyz: %d", answer.StatusCode)
	}
	if code := stop(); code != 0 {
		t.Errorf("stopped with %d", code)
	}
}

func TestAnotherKeysetStopsTheStart(t *testing.T) {
	_, environ := operator(t)
	_, stop := startServe(t, environ)
	stop()
	_, other, _ := said(t, nil, "", "keys", "new")
	code, _, faults := said(t, append(environ, "LISTEN=127.0.0.1:0", "KEYSET="+strings.TrimSpace(other)), "", "serve")
	if code != 1 || !strings.Contains(faults, "KEYSET") || strings.Contains(faults, "msg=serving") {
		t.Errorf("code %d: %s", code, faults)
	}
}

// Whoever reads the answer must find the setting to look at, and no password.
func TestPostgresThatIsNotThere(t *testing.T) {
	environ := append(complete(t), "DATABASE_URL=postgres://patchbay:canary-password@127.0.0.1:1/patchbay")
	code, _, complaint := said(t, environ, "", "migrate")
	if code != 1 || !strings.Contains(complaint, "DATABASE_URL") || !strings.Contains(complaint, "connection refused") || strings.Contains(complaint, "canary") {
		t.Errorf("%d: %s", code, complaint)
	}
}

// TestAnAnswerThatNobodyReadsEnds has clients that send half a request, or read nothing of a large answer. The limits are shortened in
// proportion: a minute of them is half a second.
func TestAnAnswerThatNobodyReadsEnds(t *testing.T) {
	ended := make(chan error, 1)
	server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 4_096 { // 256 MB: more than the kernel takes
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}))
	for _, limit := range []*time.Duration{&server.ReadHeaderTimeout, &server.ReadTimeout, &server.WriteTimeout, &server.IdleTimeout} {
		if *limit <= 0 || *limit > 3*time.Minute {
			t.Fatalf("a connection may be held for %v", *limit)
		}
		*limit /= 120
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	defer server.Close()
	for name, sent := range map[string]string{"half a request": "GET / HTTP/1.1\r\nHost: x\r\n", "nothing": "", "a request": "GET / HTTP/1.1\r\nHost: x\r\n\r\n"} {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(sent)); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if name == "a request" {
			select {
			case err := <-ended:
				if err == nil {
					t.Error("an answer that nobody reads was written to its end")
				}
			case <-time.After(time.Minute):
				t.Error("an answer that nobody reads is held")
			}
		} else if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is held (%v)", name, err)
		}
	}
}

// TestIdleConnectionsMakeRoom opens twice as many connections as are held, that send nothing or have been answered, and some of which a request is
// under way: those are kept, and whoever comes is answered.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	const most, under = 1000, 10
	began, release := make(chan struct{}, under), make(chan struct{})
	server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			began <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		io.WriteString(w, "answer")
	}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bound := newBounded(listener, most)
	server.ConnState = bound.state
	go server.Serve(bound)
	defer server.Close()
	ask := func(path string) (*bufio.Reader, net.Conn) {
		t.Helper()
		conn, err := net.DialTimeout("tcp", listener.Addr().String(), 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if path != "" {
			if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
		}
		return bufio.NewReader(conn), conn
	}
	answered := func(from *bufio.Reader) error {
		answer, err := http.ReadResponse(from, nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}
	var long []*bufio.Reader
	for range under {
		from, _ := ask("/long")
		long = append(long, from)
		dbtest.Receive(t, began, "a request under way")
	}
	for i := range 2 * most {
		path := ""
		if i%2 == 0 {
			path = "/"
		}
		from, _ := ask(path)
		if path == "" {
			continue
		}
		if err := answered(from); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	if open := len(bound.free); open > most {
		t.Errorf("%d connections are open, %d may be", open, most)
	}
	close(release)
	for _, from := range long {
		if err := answered(from); err != nil {
			t.Errorf("one whose request was under way: %v", err)
		}
	}
}

// TestAConnectionWaitsWhileAllAreBusy has as many requests under way as there may be connections: one more is answered as soon as one ends, although its
// connection is kept alive.
func TestAConnectionWaitsWhileAllAreBusy(t *testing.T) {
	began, release := make(chan struct{}, 2), make(chan struct{})
	server := newServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			began <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
	}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bound := newBounded(listener, 2)
	server.ConnState = bound.state
	go server.Serve(bound)
	defer server.Close()
	client := func() *http.Client { return &http.Client{Transport: &http.Transport{}, Timeout: time.Minute} }
	get := func(path string) chan error {
		done := make(chan error, 1)
		go func() {
			answer, err := client().Get("http://" + listener.Addr().String() + path)
			if err == nil {
				answer.Body.Close()
			}
			done <- err
		}()
		return done
	}
	first, second := get("/long"), get("/long")
	dbtest.Receive(t, began, "the first request")
	dbtest.Receive(t, began, "the second request")
	third := get("/")
	release <- struct{}{}
	if err := dbtest.Receive(t, third, "the answer to the third"); err != nil {
		t.Errorf("the one that waited: %v", err)
	}
	close(release)
	if err := errors.Join(dbtest.Receive(t, first, "the first answer"), dbtest.Receive(t, second, "the second answer")); err != nil {
		t.Errorf("those that were under way: %v", err)
	}
}
