package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// demoFolder makes a folder that everybody may enter: Postgres runs as another user when we are root.
func demoFolder(t *testing.T) string {
	t.Helper()
	data, err := os.MkdirTemp("", "patchbay-demo-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	return data
}

func startDemo(t *testing.T, data string, args ...string) (address string, stop func() int) {
	t.Helper()
	return start(t, nil, `Patchbay is at\s+(http://\S+)`, append([]string{"demo", "-listen", "127.0.0.1:0", "-data", data}, args...)...)
}

func TestDemoKeepsItsDataAndLeavesNothingRunning(t *testing.T) {
	data := demoFolder(t)
	keyset := func() string {
		b, err := os.ReadFile(filepath.Join(data, "keyset"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}

	address, stop := startDemo(t, data, "-empty")
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get(address + "/readyz")
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
	if code := stop(); code != 0 {
		t.Errorf("stopped with %d", code)
	}
	if _, err := os.Stat(filepath.Join(data, "postgres/data/postmaster.pid")); !os.IsNotExist(err) {
		t.Errorf("Postgres is still there: %v", err)
	}
	before := keyset()

	_, stop = startDemo(t, data)
	if code := stop(); code != 0 || keyset() != before {
		t.Errorf("the second run: code %d, the keyset is the first run's: %v", code, keyset() == before)
	}
	_, stop = startDemo(t, data, "-fresh", "-empty")
	if code := stop(); code != 0 || keyset() == before {
		t.Errorf("-fresh: code %d, the keyset is new: %v", code, keyset() != before)
	}
}
