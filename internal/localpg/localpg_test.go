package localpg_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/localpg"
)

// folder is below a temporary folder that every user may enter, which t.TempDir is not.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "patchbay-localpg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, dir string) *localpg.Server {
	t.Helper()
	s, err := localpg.Start(context.Background(), localpg.Options{Dir: dir, Throwaway: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func exec(t *testing.T, url, sql string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatal(err)
	}
}

func TestDataOutlivesTheServer(t *testing.T) {
	ctx := context.Background()
	// So long that no socket fits below it.
	dir := filepath.Join(folder(t), strings.Repeat("long", 25), "pg")
	first := start(t, dir)
	url, err := first.EnsureDatabase(ctx, "patchbay")
	if err != nil {
		t.Fatal(err)
	}
	exec(t, url, `CREATE TABLE kept (n int)`)
	if _, err := localpg.Start(ctx, localpg.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second server in the same folder: %v", err)
	}
	first.Stop()
	second := start(t, dir)
	if url, err = second.EnsureDatabase(ctx, "patchbay"); err != nil {
		t.Fatal(err)
	}
	exec(t, url, `SELECT n FROM kept`)
}

func TestAFolderThatPostgresCannotReach(t *testing.T) {
	closed := filepath.Join(folder(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, filepath.Join(closed, "pg"))
	if os.Geteuid() == 0 && s.Moved == "" {
		t.Error("as root the data cannot stay below a folder of 0700")
	}
	if s.Moved != "" {
		t.Cleanup(func() { os.RemoveAll(s.Moved) })
	}
	exec(t, s.URL("postgres"), `SELECT 1`)
}
