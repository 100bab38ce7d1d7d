package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"patchbay/internal/pg"
	"patchbay/migrations"
)

// documents are the README and what is in docs, by path from here.
func documents(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("../../docs/providers/*.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, path := range append(append(paths, pages...), "../../README.md") {
		all[path] = read(t, path)
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestEverySettingIsDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (`+"`[A-Z].*?"+`) \|`).FindAllStringSubmatch(read(t, "../../docs/settings.md"), -1) {
		for _, name := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(row[1], -1) {
			documented[name[1]] = true
		}
	}
	e := newEnv(nil)
	readAll(e)
	for name := range e.known {
		if !documented[name] && (!strings.HasSuffix(name, "_FILE") || name == "CONNECTORS_FILE") {
			t.Errorf("docs/settings.md lacks %s", name)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("docs/settings.md has %s, which nothing reads", name)
	}
}

func TestEveryCommandIsDocumented(t *testing.T) {
	readme := read(t, "../../README.md")
	for _, c := range commands() {
		if !strings.Contains(readme, "\n| `patchbay "+c.name) {
			t.Errorf("the README lacks patchbay %s", c.name)
		}
	}
	known := func(name string) bool {
		return slices.ContainsFunc(commands(), func(c command) bool { return c.name == name })
	}
	for path, text := range documents(t) {
		for _, m := range regexp.MustCompile("`patchbay ([a-z]+)").FindAllStringSubmatch(text, -1) {
			if !known(m[1]) {
				t.Errorf("%s has patchbay %s, which is no command", path, m[1])
			}
		}
	}
}

func TestDocumentsNameOneVersionOfPostgres(t *testing.T) {
	named := 0
	for path, text := range documents(t) {
		for _, m := range regexp.MustCompile(`(?:Postgres |\()(\d+) or newer`).FindAllStringSubmatch(text, -1) {
			named++
			if m[1] != strconv.Itoa(migrations.OldestPostgres) {
				t.Errorf("%s wants Postgres %s, the schema %d", path, m[1], migrations.OldestPostgres)
			}
		}
	}
	if named < 3 {
		t.Errorf("only %d documents name the version", named)
	}
}

// TestSettingsOfTheHandbook reads the settings that docs/production.md proposes as serve does, with files that hold what its steps write.
func TestSettingsOfTheHandbook(t *testing.T) {
	text := read(t, "../../docs/production.md")
	block := regexp.MustCompile("(?s)```sh\n# env\n(.*?)```").FindStringSubmatch(text)
	unit := regexp.MustCompile("(?s)# /etc/systemd/system/patchbay.service\n(.*?)```").FindStringSubmatch(text)
	if block == nil || unit == nil {
		t.Fatal("docs/production.md lacks its settings or its unit")
	}
	folder := t.TempDir()
	contents := map[string]string{"database": "a password's signs: @/#"}
	for _, one := range complete(t) {
		name, value, _ := strings.Cut(one, "=")
		contents[map[string]string{"KEYSET": "keyset", "SESSION_KEYS": "session-keys"}[name]] = value
	}
	var environ []string
	for line := range strings.Lines(block[1]) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		environ = append(environ, name+"="+strings.Trim(value, `"`)) // as systemd and a shell read it
	}
	named := regexp.MustCompile(`(\w+_FILE)=%d/(\S+)`).FindAllStringSubmatch(unit[1], -1)
	for _, m := range named {
		path := filepath.Join(folder, m[2])
		if err := os.WriteFile(path, []byte(contents[m[2]]+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		environ = append(environ, m[1]+"="+path)
	}
	s, err := readSettings(environ)
	if err != nil || len(named) != 3 {
		t.Fatalf("%d files of secrets: %v", len(named), err)
	}
	config, err := pg.ParseAddress(s.databaseURL)
	if err != nil || config.ConnConfig.Password != contents["database"] || config.ConnConfig.User != "patchbay" {
		t.Errorf("the database's password is not the file's: %v", err)
	}
	if cautions := s.cautions(); len(cautions) > 0 {
		t.Errorf("the handbook's settings are cautioned against: %v", cautions)
	}
}

func TestLinksInDocumentsLeadSomewhere(t *testing.T) {
	for path, text := range documents(t) {
		for _, m := range regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			}
		}
	}
}

// TestArchitectureIsTheCode holds docs/architecture.md to what there is: every package has a row, and every name of the form
// `room.Name` is declared there.
func TestArchitectureIsTheCode(t *testing.T) {
	text := read(t, "../../docs/architecture.md")
	_, rooms, _ := strings.Cut(text, "\n## Rooms\n")
	rooms, _, _ = strings.Cut(rooms, "\n## ")
	rows := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z/]+)` \\|").FindAllStringSubmatch(rooms, -1) {
		rows["patchbay/"+m[1]] = true
	}
	declared := map[string]bool{}
	for _, p := range packages(t) {
		if !rows[p.ImportPath] && len(p.GoFiles) > 0 {
			t.Errorf("docs/architecture.md has no row for %s", p.ImportPath)
		}
		delete(rows, p.ImportPath)
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					declared[file.Name.Name+"."+d.Name.Name] = true
				case *ast.GenDecl:
					for _, spec := range d.Specs {
						if named, ok := spec.(*ast.TypeSpec); ok {
							declared[file.Name.Name+"."+named.Name.Name] = true
						}
					}
				}
			}
		}
	}
	for row := range rows {
		t.Errorf("docs/architecture.md has a row for %s, which is no package", row)
	}
	names := regexp.MustCompile("`([a-z]+\\.[A-Za-z]+)`").FindAllStringSubmatch(text, -1)
	for _, m := range names {
		if !declared[m[1]] && !strings.HasSuffix(m[1], ".go") {
			t.Errorf("docs/architecture.md names %s, which is not declared", m[1])
		}
	}
	if len(names) < 15 {
		t.Errorf("only %d names found in docs/architecture.md", len(names))
	}
}

// TestTablesOfTheArchitecture: every table of the schema has a row, and every row's table is made.
func TestTablesOfTheArchitecture(t *testing.T) {
	_, text, _ := strings.Cut(read(t, "../../docs/architecture.md"), "\n## Tables\n")
	text, _, _ = strings.Cut(text, "\n## ")
	listed := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?`) \\|").FindAllStringSubmatch(text, -1) {
		for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
			listed[name[1]] = true
		}
	}
	paths, err := filepath.Glob("../../migrations/*.sql")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no migrations, %v", err)
	}
	made := map[string]bool{}
	for _, path := range paths {
		up, _, _ := strings.Cut(read(t, path), "-- +goose Down")
		for _, m := range regexp.MustCompile(`(?m)^CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?([a-z_]+)`).FindAllStringSubmatch(up, -1) {
			if made[m[1]] = true; !listed[m[1]] {
				t.Errorf("docs/architecture.md has no row for the table %s", m[1])
			}
		}
	}
	for name := range listed {
		if !made[name] {
			t.Errorf("docs/architecture.md has a row for %s, which is no table", name)
		}
	}
}

// TestTheImageHasWhatTheProgramImports holds .dockerignore to the packages and embedded files of the program.
func TestTheImageHasWhatTheProgramImports(t *testing.T) {
	rules := strings.Fields(read(t, "../../.dockerignore"))
	ignored := func(path string) (out bool) { // the last rule that matches counts
		for _, rule := range rules {
			name, back := strings.CutPrefix(rule, "!")
			if path == name || strings.HasPrefix(path, name+"/") {
				out = !back
			}
		}
		return out
	}
	if !ignored("docs/operating.md") || !ignored(".git/config") || ignored("cmd/web") {
		t.Fatal(".dockerignore is not read as docker does")
	}
	imports := map[string][]string{}
	for _, p := range packages(t) {
		imports[p.ImportPath] = p.Imports
	}
	seen := map[string]bool{}
	var walk func(path string)
	walk = func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		if folder, ours := strings.CutPrefix(path, "patchbay/"); ours && ignored(folder) {
			t.Errorf(".dockerignore keeps %s from the image, and the program imports it", folder)
		}
		for _, one := range imports[path] {
			walk(one)
		}
	}
	if walk("patchbay/cmd/web"); len(seen) < 20 {
		t.Errorf("only %d packages seen", len(seen))
	}
}
