package main

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rooms says what each package of ours must not import directly. A name that ends in a
// slash stands for everything below it; "others" for every module but the standard library and ours.
var rooms = map[string][]string{
	"patchbay/internal/connectors": {
		"patchbay/", "github.com/jackc/", "os", "others",
		"!golang.org/x/oauth2", "!golang.org/x/oauth2/", "!golang.org/x/net/publicsuffix", "!golang.org/x/net/idna", "!github.com/coreos/go-oidc/", "!golang.org/x/sync/",
		"!github.com/go-jose/", "!patchbay/internal/status", "!patchbay/internal/text", "!patchbay/internal/dial",
	},
	"patchbay/internal/dial":   {"patchbay/", "others"},
	"patchbay/internal/kms":    {"patchbay/", "others", "!github.com/aws/aws-sdk-go-v2/"},
	"patchbay/internal/status": {"patchbay/", "others"},
	"patchbay/internal/resource": {
		"patchbay/", "others", "!patchbay/internal/pg", "!patchbay/internal/db", "!patchbay/internal/connectors", "!patchbay/internal/status",
	},
	"patchbay/internal/text":   {"patchbay/", "others", "!golang.org/x/text/", "!golang.org/x/net/idna"},
	"patchbay/internal/pg":     {"patchbay/", "others", "!github.com/jackc/pgx/", "!github.com/google/uuid"},
	"patchbay/internal/search": {"patchbay/", "others", "!github.com/jackc/pgx/", "!patchbay/internal/pg", "!patchbay/internal/status"},
	"patchbay/internal/seal":   {"patchbay/", "others", "!github.com/tink-crypto/"},
	"patchbay/internal/account": {
		"patchbay/", "net/http", "others", "!patchbay/internal/pg", "!patchbay/internal/audit", "!patchbay/internal/seal", "!patchbay/internal/status",
		"!patchbay/internal/db", "!patchbay/internal/keyring", "!patchbay/internal/notify", "!patchbay/internal/search", "!patchbay/internal/text", "!github.com/jackc/pgx/", "!github.com/alexedwards/argon2id", "!github.com/trustelem/zxcvbn",
		"!github.com/pquerna/otp", "!github.com/pquerna/otp/", "!github.com/go-webauthn/webauthn/",
	},
	"patchbay/internal/audit": {"patchbay/", "net/http", "others", "!patchbay/internal/pg", "!patchbay/internal/status", "!github.com/jackc/pgx/"},
	"patchbay/internal/keyring": {
		"patchbay/", "net/http", "others", "!patchbay/internal/pg", "!patchbay/internal/audit", "!patchbay/internal/seal", "!patchbay/internal/status", "!github.com/jackc/pgx/",
	},
	"patchbay/internal/restore": {"patchbay/", "others", "!patchbay/internal/pg", "!patchbay/internal/audit", "!patchbay/internal/status", "!github.com/jackc/pgx/"},
	"patchbay/internal/notify": {
		"patchbay/", "net/http", "others", "!patchbay/internal/pg", "!patchbay/internal/keyring", "!patchbay/internal/restore", "!patchbay/internal/seal", "!patchbay/internal/status",
		"!github.com/jackc/pgx/",
	},
	"patchbay/internal/db": {
		"patchbay/", "net/http", "others", "!patchbay/internal/pg", "!patchbay/internal/audit", "!patchbay/internal/keyring", "!patchbay/internal/notify", "!patchbay/internal/seal",
		"!patchbay/internal/status", "!patchbay/internal/text", "!patchbay/internal/search", "!patchbay/internal/schedule", "!patchbay/internal/connectors", "!github.com/jackc/pgx/",
	},
	"patchbay/internal/bulk": {
		"patchbay/", "net/http", "others", "!patchbay/internal/pg", "!patchbay/internal/audit", "!patchbay/internal/db", "!patchbay/internal/notify", "!patchbay/internal/search",
		"!patchbay/internal/status", "!github.com/jackc/pgx/",
	},
	"patchbay/internal/schedule": {"patchbay/", "others", "!patchbay/internal/connectors", "!patchbay/internal/pg"},
	"patchbay/internal/refresh": {
		"patchbay/", "database/sql", "others", "!patchbay/internal/pg", "!patchbay/internal/audit", "!patchbay/internal/db", "!patchbay/internal/keyring", "!patchbay/internal/restore",
		"!patchbay/internal/seal", "!patchbay/internal/status", "!patchbay/internal/schedule", "!patchbay/internal/connectors", "!github.com/jackc/pgx/", "!github.com/cenkalti/backoff/", "!github.com/prometheus/",
	},
	"patchbay/internal/webhooks": {
		"patchbay/", "others", "!patchbay/internal/pg", "!patchbay/internal/audit", "!patchbay/internal/db", "!patchbay/internal/keyring", "!patchbay/internal/notify", "!patchbay/internal/seal", "!patchbay/internal/status",
		"!patchbay/internal/dial", "!patchbay/internal/resource", "!github.com/jackc/pgx/", "!golang.org/x/time/", "!github.com/prometheus/",
	},
	// views: the words of mails are components, as those of pages are.
	"patchbay/internal/jobs": {
		"patchbay/", "others", "!patchbay/internal/pg", "!patchbay/internal/audit", "!patchbay/internal/account", "!patchbay/internal/bulk", "!patchbay/internal/db", "!patchbay/internal/keyring", "!patchbay/internal/notify", "!patchbay/internal/seal", "!patchbay/internal/status",
		"!patchbay/internal/text", "!patchbay/internal/connectors", "!patchbay/internal/refresh", "!patchbay/internal/webhooks", "!patchbay/views",
		"!github.com/jackc/pgx/", "!github.com/riverqueue/river", "!github.com/riverqueue/river/", "!github.com/wneessen/go-mail", "!golang.org/x/time/",
	},
	"patchbay/internal/handlers": {
		"patchbay/internal/sandbox", "patchbay/internal/localpg", "patchbay/migrations", "github.com/jackc/", "database/sql",
	},
	"patchbay/views": {
		"patchbay/internal/handlers", "patchbay/internal/refresh", "patchbay/internal/jobs", "patchbay/internal/pg",
		"patchbay/internal/sandbox", "github.com/jackc/", "database/sql", "github.com/gorilla/",
	},
	"patchbay/internal/sso":              {"patchbay/", "others", "!github.com/coreos/go-oidc/", "!golang.org/x/oauth2"},
	"patchbay/internal/trace":            {"patchbay/"},
	"patchbay/internal/sandbox":          {"patchbay/", "others"},
	"patchbay/internal/sandbox/platform": {"patchbay/", "others", "!github.com/standard-webhooks/"},
	"patchbay/internal/localpg":          {"patchbay/", "others", "!github.com/jackc/pgx/"},
	"patchbay/internal/xlsx":             {"patchbay/", "others"},
	"patchbay/docs/providers":            {"patchbay/", "others"},
	"patchbay/migrations": {
		"patchbay/", "others", "!patchbay/internal/pg", "!github.com/jackc/pgx/", "!github.com/pressly/goose/", "!github.com/riverqueue/river/",
	},
}

type pkg struct {
	ImportPath, Dir string
	GoFiles         []string
	Imports         []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestRoomsImportOnlyWhatTheyMay(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		rules, ok := rooms[p.ImportPath]
		if !ok {
			continue
		}
		seen[p.ImportPath] = true
		for _, imported := range p.Imports {
			if rule, ok := forbids(rules, imported); ok && imported != p.ImportPath {
				t.Errorf("%s imports %s: the room's rule says no %s", p.ImportPath, imported, rule)
			}
		}
	}
	for room := range rooms {
		if !seen[room] {
			t.Errorf("there is no room %s", room)
		}
	}
}

func forbids(rules []string, imported string) (string, bool) {
	matches := func(rule string) bool {
		if rule == "others" {
			first, _, _ := strings.Cut(imported, "/")
			return strings.Contains(first, ".")
		}
		return imported == rule || strings.HasSuffix(rule, "/") && strings.HasPrefix(imported, rule)
	}
	for _, rule := range rules {
		if allowed, ok := strings.CutPrefix(rule, "!"); ok && matches(allowed) {
			return "", false
		}
	}
	i := slices.IndexFunc(rules, func(rule string) bool { return !strings.HasPrefix(rule, "!") && matches(rule) })
	if i < 0 {
		return "", false
	}
	return rules[i], true
}

// Views show rows of db, so they import it. They must not be able to query.
func TestViewsMakeNoQueries(t *testing.T) {
	for _, p := range packages(t) {
		if p.ImportPath != "patchbay/views" {
			continue
		}
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && (s.Sel.Name == "DB" || s.Sel.Name == "Log") {
					t.Errorf("views/%s names %s.DB", name, s.X)
				}
				return true
			})
		}
	}
}

// TestNoInit: code that runs before main is how one test disturbs another. Variables at package level whose value never
// changes (errors, tables, compiled patterns, embedded files) are fine.
func TestNoInit(t *testing.T) {
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			if strings.HasSuffix(name, "_templ.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
					t.Errorf("%s/%s has an init()", p.ImportPath, name)
				}
			}
		}
	}
}

func TestNoRoomIsALumberRoom(t *testing.T) {
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		switch d.Name() {
		case "node_modules", ".git", ".data":
			return filepath.SkipDir
		case "services", "models", "utils", "util", "helpers", "common":
			t.Errorf("%s: name the room after what is in it", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
