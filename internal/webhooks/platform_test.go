package webhooks

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"patchbay/internal/db/dbtest"
)

// TestReceiversOfTheGuide runs the receivers of docs/platform.md and sends them what is signed, and what is not.
func TestReceiversOfTheGuide(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../docs/platform.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		language, file string
		command        func(folder string) *exec.Cmd
	}{
		{"go", "main.go", func(folder string) *exec.Cmd {
			program := filepath.Join(folder, "receiver")
			if out, err := exec.Command("go", "build", "-o", program, filepath.Join(folder, "main.go")).CombinedOutput(); err != nil {
				t.Fatalf("build the receiver: %v\n%s", err, out)
			}
			return exec.Command(program)
		}},
		{"js", "receiver.cjs", func(folder string) *exec.Cmd { return exec.Command("node", filepath.Join(folder, "receiver.cjs")) }},
	} {
		t.Run(one.language, func(t *testing.T) {
			block := regexp.MustCompile("(?s)```" + one.language + "\n(.*?)```").FindSubmatch(guide)
			if block == nil {
				t.Fatal("docs/platform.md has no such receiver")
			}
			folder := t.TempDir()
			if err := os.WriteFile(filepath.Join(folder, one.file), block[1], 0o600); err != nil {
				t.Fatal(err)
			}
			secret, other := newSecret(), newSecret()
			listen := freeAddress(t)
			var out bytes.Buffer
			receiver := one.command(folder)
			receiver.Env = append(os.Environ(), "WEBHOOK_SECRET="+string(secret), "LISTEN="+listen)
			receiver.Stdout, receiver.Stderr = &out, &out
			if err := receiver.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = receiver.Process.Kill()
				_ = receiver.Wait()
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			dbtest.Eventually(t, "a receiver that listens", func() bool {
				conn, err := net.Dial("tcp", listen)
				if err == nil {
					conn.Close()
				}
				return err == nil
			})
			now := time.Now()
			body := []byte(`{"type":"test","timestamp":"2026-11-30T00:00:00Z","data":{"name":"ក្រុមហ៊ុន"}}`)
			for name, sent := range map[string]struct {
				by    []Secret
				at    time.Time
				body  []byte
				taken bool
			}{
				"signed":                          {[]Secret{secret}, now, body, true},
				"signed by both after a rotation": {[]Secret{other, secret}, now, body, true},
				"signed by another":               {[]Secret{other}, now, body, false},
				"not signed":                      {nil, now, body, false},
				"changed on the way":              {[]Secret{secret}, now, append([]byte(" "), body...), false},
				"from an hour ago":                {[]Secret{secret}, now.Add(-time.Hour), body, false},
			} {
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+listen+"/hooks/patchbay", bytes.NewReader(sent.body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("webhook-id", "msg-1")
				r.Header.Set("webhook-timestamp", strconv.FormatInt(sent.at.Unix(), 10))
				r.Header.Set("webhook-signature", sign(sent.by, "msg-1", sent.at, body))
				answer, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatalf("%s: %v\n%s", name, err, out.String())
				}
				answer.Body.Close()
				if taken := answer.StatusCode == http.StatusOK; taken != sent.taken {
					t.Errorf("%s: %d", name, answer.StatusCode)
				}
			}
		})
	}
	for _, kind := range Types() {
		if !strings.Contains(string(guide), "`"+string(kind)+"`") {
			t.Errorf("docs/platform.md lacks %s", kind)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
