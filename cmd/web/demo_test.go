package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// running is a demo that a test started in its own process.
type running struct {
	address string
	stop    func() (code int)
}

var atAddress = regexp.MustCompile(`Patchbay is at\s+(http://\S+)`)

func startDemo(t *testing.T, data string, args ...string) running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	in, out := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, terminal{strings.NewReader(""), out, out, nil}, append([]string{"demo", "-listen", "127.0.0.1:0", "-data", data}, args...))
		out.Close()
	}()
	address := make(chan string, 1)
	var said strings.Builder
	go func() {
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
			if found := atAddress.FindStringSubmatch(lines.Text()); found != nil {
				address <- found[1]
			}
		}
		close(address)
	}()
	t.Cleanup(cancel)
	var found string
	select {
	case at, ok := <-address:
		if !ok {
			t.Fatalf("the demo ended with %d:\n%s", <-code, said.String())
		}
		found = at
	case <-time.After(3 * time.Minute):
		t.Fatal("the demo is not there after 3 minutes")
	}
	return running{found, func() int {
		t.Helper()
		cancel()
		select {
		case code := <-code:
			return code
		case <-time.After(time.Minute):
			t.Fatal("the demo does not stop")
			return 0
		}
	}}
}

func TestDemoKeepsItsDataAndLeavesNothingRunning(t *testing.T) {
	// Below a folder that everybody may enter: Postgres runs as another user when we are root.
	data, err := os.MkdirTemp("", "patchbay-demo-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	keyset := func() string {
		b, err := os.ReadFile(filepath.Join(data, "keyset"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}

	first := startDemo(t, data, "-empty")
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get(first.address + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("/readyz answers %d", answer.StatusCode)
	}
	var out strings.Builder
	if code := run(context.Background(), terminal{nil, &out, &out, nil}, []string{"demo", "-listen", "127.0.0.1:0", "-data", data}); code != 1 || !strings.Contains(out.String(), "another demo") {
		t.Errorf("a second demo in the same folder: %d, %s", code, out.String())
	}
	if code := first.stop(); code != 0 {
		t.Errorf("stopped with %d", code)
	}
	if _, err := os.Stat(filepath.Join(data, "postgres/data/postmaster.pid")); !os.IsNotExist(err) {
		t.Errorf("Postgres is still there: %v", err)
	}
	before := keyset()

	second := startDemo(t, data)
	if code := second.stop(); code != 0 || keyset() != before {
		t.Errorf("the second run: code %d, the keyset is the first run's: %v", code, keyset() == before)
	}
	third := startDemo(t, data, "-fresh", "-empty")
	if code := third.stop(); code != 0 || keyset() == before {
		t.Errorf("-fresh: code %d, the keyset is new: %v", code, keyset() != before)
	}
}
