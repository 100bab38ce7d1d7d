package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
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
	if block == nil {
		t.Fatal("docs/production.md lacks its settings")
	}
	contents := map[string]string{"database": "a password's signs: @/#", "owner": "another: @/#"}
	for _, one := range complete(t) {
		name, value, _ := strings.Cut(one, "=")
		contents[map[string]string{"KEYSET": "keyset", "SESSION_KEYS": "session-keys"}[name]] = value
	}
	for unit, owner := range map[string]bool{"patchbay": false, "patchbay-migrate": true} {
		t.Run(unit, func(t *testing.T) {
			found := regexp.MustCompile("(?s)# /etc/systemd/system/" + unit + ".service\n(.*?)```").FindStringSubmatch(text)
			if found == nil {
				t.Fatal("there is no such unit")
			}
			testUnit(t, block[1], found[1], contents, owner)
		})
	}
}

// testUnit reads the settings of a unit, whose credentials are files with those contents. Only the unit of the schema has the owner's password.
func testUnit(t *testing.T, settings, unit string, contents map[string]string, owner bool) {
	var environ []string
	for line := range strings.Lines(settings) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		environ = append(environ, name+"="+strings.Trim(value, `"`)) // as systemd and a shell read it
	}
	folder := t.TempDir()
	for _, line := range regexp.MustCompile(`(?m)^Environment=(.*)$`).FindAllStringSubmatch(unit, -1) {
		for one := range strings.FieldsSeq(line[1]) {
			name, credential, ok := strings.Cut(one, "=%d/")
			if !ok {
				environ = append(environ, one)
				continue
			}
			if !strings.Contains(unit, "\nLoadCredential="+credential+":/etc/patchbay/") {
				t.Errorf("%s is no credential of the unit", credential)
			}
			path := filepath.Join(folder, credential)
			if err := os.WriteFile(path, []byte(contents[credential]+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			environ = append(environ, name+"="+path)
		}
	}
	if owner {
		environ = append(environ, "SESSION_KEYS="+contents["session-keys"]) // which the command does not read
	}
	s, err := readSettings(environ)
	if err != nil {
		t.Fatal(err)
	}
	signsIn := func(address, user, password string) {
		if config, err := pg.ParseAddress(address); err != nil || config.ConnConfig.User != user || config.ConnConfig.Password != password {
			t.Errorf("%s has not the password of its file: %v", user, err)
		}
	}
	signsIn(s.databaseURL, "patchbay", contents["database"])
	if owner {
		signsIn(s.migrateURL, "patchbay_owner", contents["owner"])
	} else if strings.Contains(unit, "owner") {
		t.Error("what serves has the owner's password")
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

// TestArchitectureIsTheCode holds docs/architecture.md to what there is: every package has a row, every room a place in or beside
// the picture, and every name of the form `room.Name` is declared there.
func TestArchitectureIsTheCode(t *testing.T) {
	text := read(t, "../../docs/architecture.md")
	_, rooms, _ := strings.Cut(text, "\n## Rooms\n")
	rooms, _, _ = strings.Cut(rooms, "\n## ")
	picture, _, _ := strings.Cut(rooms, "\n| room |")
	rows := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z/]+)` \\|").FindAllStringSubmatch(rooms, -1) {
		rows["patchbay/"+m[1]] = true
	}
	declared := map[string]bool{}
	for _, p := range packages(t) {
		if !rows[p.ImportPath] && len(p.GoFiles) > 0 {
			t.Errorf("docs/architecture.md has no row for %s", p.ImportPath)
		}
		if room, ok := strings.CutPrefix(p.ImportPath, "patchbay/internal/"); ok && !strings.Contains(room, "/") && !regexp.MustCompile(`\b`+room+`\b`).MatchString(picture) {
			t.Errorf("docs/architecture.md names %s neither in the picture nor beside it", room)
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

// asvs are the lines of OWASP ASVS 5.0.0 at levels 1 and 2: sections, each with the number of its last line.
const asvs = `1.1:2 1.2:9 1.3:11 1.4:3 1.5:2 2.1:3 2.2:3 2.3:4 2.4:1 3.2:2 3.3:4 3.4:6 3.5:5 3.7:2 4.1:3 4.2:1 4.3:2 4.4:4 5.1:1 5.2:3 5.3:2 5.4:3
	6.1:3 6.2:12 6.3:4 6.4:4 6.5:5 6.6:3 6.8:4 7.1:3 7.2:4 7.3:2 7.4:5 7.5:2 7.6:2 8.1:2 8.2:3 8.3:1 8.4:1 9.1:3 9.2:4 10.1:2 10.2:2 10.3:4 10.4:11 10.5:5
	10.6:2 10.7:3 11.1:2 11.2:3 11.3:3 11.4:4 11.5:1 11.6:1 12.1:3 12.2:2 12.3:4 13.1:1 13.2:5 13.3:2 13.4:5 14.1:2 14.2:4 14.3:3 15.1:3 15.2:3 15.3:7
	16.1:1 16.2:5 16.3:4 16.4:3 16.5:3 17.1:1 17.2:4 17.3:2`

// TestEveryLineOfTheStandardIsAnswered holds docs/security.md to the standard's numbers, and its sums to its rows.
func TestEveryLineOfTheStandardIsAnswered(t *testing.T) {
	text := read(t, "../../docs/security.md")
	var want []string
	for _, section := range strings.Fields(asvs) {
		name, last, _ := strings.Cut(section, ":")
		n, err := strconv.Atoi(last)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			want = append(want, name+"."+strconv.Itoa(i+1))
		}
	}
	var got []string
	sums := map[string]int{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+\.\d+\.\d+) \| [12] \| [^|]+ \| ([^|]+) \| (.+) \|$`).FindAllStringSubmatch(text, -1) {
		got = append(got, row[1])
		sums[row[2]]++
	}
	if !slices.Equal(got, want) {
		t.Errorf("docs/security.md answers %d lines, or in another order, want %d", len(got), len(want))
	}
	sum := fmt.Sprintf("Of %d lines %d are met, %d are not applicable, and %d are not met", len(want), sums["met"], sums["not applicable"], sums["**not met**"])
	if !strings.Contains(text, sum) {
		t.Errorf("docs/security.md does not say: %s", sum)
	}
}

// TestTestsAndFilesThatDocumentsNameExist looks for each test and each path of this repository that a document names.
func TestTestsAndFilesThatDocumentsNameExist(t *testing.T) {
	tests := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules") {
			return cmp.Or(err, fs.SkipDir)
		}
		if strings.HasSuffix(path, "_test.go") {
			for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(read(t, path), -1) {
				tests[m[1]] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	all := documents(t)
	all["../../SECURITY.md"] = read(t, "../../SECURITY.md")
	all["../../CONTRIBUTING.md"] = read(t, "../../CONTRIBUTING.md")
	found := 0
	for path, text := range all {
		for _, m := range regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllStringSubmatch(text, -1) {
			if found++; !tests[m[1]] {
				t.Errorf("%s names %s, which is no test", path, m[1])
			}
		}
		for _, m := range regexp.MustCompile("`((?:cmd|docs|internal|migrations|scripts|static|views|e2e|bench)/[a-z0-9_./-]+)`").FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("../..", m[1])); err != nil {
				t.Errorf("%s names %s: %v", path, m[1], err)
			}
		}
	}
	if found < 200 {
		t.Errorf("only %d tests are named", found)
	}
}
