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
	"testing"
	"time"
)

// startServe runs serve, on a free port unless environ names one, and returns where, and what stops it.
func startServe(t *testing.T, environ []string, flags ...string) (address string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	in, out := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, terminal{nil, out, out, append([]string{"LISTEN=127.0.0.1:0"}, environ...)}, append([]string{"serve"}, flags...))
		out.Close()
	}()
	listens := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(in); lines.Scan(); {
			if found := regexp.MustCompile(`msg=serving listen=(\S+)`).FindStringSubmatch(lines.Text()); found != nil {
				listens <- found[1]
			} else if strings.Contains(lines.Text(), "patchbay serve:") {
				listens <- lines.Text()
			}
		}
	}()
	t.Cleanup(cancel)
	return "http://" + <-listens, func() int {
		cancel()
		return <-code
	}
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
