package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"patchbay/internal/pg"
	"patchbay/internal/seal"
)

// complete is the least that serve needs.
func complete(t *testing.T) []string {
	t.Helper()
	keyset, err := seal.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		"DATABASE_URL=postgres://patchbay@127.0.0.1/patchbay", "PUBLIC_URL=https://connect.example.com/",
		"KEYSET=" + keyset, "SESSION_KEYS=" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
	}
}

func TestSettingsOfAnOperator(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	one := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	two := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{2}, 64))
	if err := os.WriteFile(keys, []byte(one+","+two+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := readSettings(append(complete(t), "SESSION_KEYS=", "SESSION_KEYS_FILE="+keys, "TRUSTED_PROXIES=10.1.2.3/8, ::1",
		"SMTP_URL=smtp://u:p@mail.example:587", "MAIL_FROM=Patchbay <no-reply@example.com>", "LOG_LEVEL=debug", "LOG_FORMAT=json"))
	if err != nil {
		t.Fatal(err)
	}
	if s.publicURL.String() != "https://connect.example.com" || s.listen != "127.0.0.1:8080" {
		t.Errorf("publicURL %s, listen %s", s.publicURL, s.listen)
	}
	if len(s.sessionKeys) != 2 || s.sessionKeys[0][0] != 1 || len(s.sessionKeys[1]) != 64 {
		t.Error("the session keys are not the file's, in its order")
	}
	if len(s.trustedProxies) != 2 || s.trustedProxies[0].String() != "10.0.0.0/8" || s.trustedProxies[1].String() != "::1/128" {
		t.Errorf("trusted proxies: %v", s.trustedProxies)
	}
	if s.migrateURL != s.databaseURL {
		t.Error("without MIGRATE_DATABASE_URL the schema is the serving role's")
	}
}

func TestOneMessageNamesEveryFault(t *testing.T) {
	const secret = "do-not-print-me"
	_, err := readSettings([]string{
		"DATABASE_URL=mysql://root:" + secret + "@host/x", "PUBLIC_URL=connect.example.com", "KEYSET=" + secret,
		"SESSION_KEYS=" + secret, "TRUSTED_PROXIES=everybody", "SMTP_URL=smtp://u:" + secret + "@host", "LOG_LEVEL=loud",
		"LOG_FORMAT=xml", "LISTEN=8080", "RETURN_URLS=https://platform.example, https://u:" + secret + "@platform.example", "CAMINVOICE_APIURL=http://x", "MAIL_FORM=a@b.example",
		"CAMINVOICE_HOOK_SECRET=a", "CAMINVOICE_HOOK_SECRET_FILE=/nowhere",
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, name := range []string{
		"DATABASE_URL", "PUBLIC_URL", "KEYSET", "SESSION_KEYS", "TRUSTED_PROXIES", "MAIL_FROM", "LOG_LEVEL", "LOG_FORMAT", "LISTEN", "RETURN_URLS: address 2",
		"CAMINVOICE_APIURL is not a setting: did you mean CAMINVOICE_API_URL?", "MAIL_FORM is not a setting: did you mean MAIL_FROM?",
		"CAMINVOICE_HOOK_SECRET and CAMINVOICE_HOOK_SECRET_FILE are both set",
	} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("nothing is said of %s in:\n%v", name, err)
		}
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("a secret is quoted:\n%v", err)
	}
}

// TestAnEntryGetsNoSecretOfOurs has entries name what they would then send to their provider.
func TestAnEntryGetsNoSecretOfOurs(t *testing.T) {
	connectorsFile := filepath.Join(t.TempDir(), "connectors.json")
	for name, refused := range map[string]bool{
		"KEYSET": true, "SESSION_KEYS": true, "DATABASE_URL": true, "PGPASSWORD": true, "SMTP_URL": true, "VAULT_TOKEN": true, "AWS_SECRET_ACCESS_KEY": true,
		"DATABASE_URL_UNPOOLED": true, "CAMINVOICE_CLIENT_SECRET": true, "KEYSET_FILE": true,
		"ACME_CLIENT_SECRET": false,
	} {
		entry := fmt.Sprintf(`[{"name": "acme", "title": "Acme", "environment": "production", "issuer": "https://acme.example", "client_id": "us", "client_secret_env": %q}]`, name)
		if err := os.WriteFile(connectorsFile, []byte(entry), 0o600); err != nil {
			t.Fatal(err)
		}
		environ := append(complete(t), "CONNECTORS_FILE="+connectorsFile)
		if !slices.ContainsFunc(environ, func(one string) bool { return strings.HasPrefix(one, name+"=") }) {
			environ = append(environ, name+"=a-secret")
		}
		_, err := readSettings(environ)
		if said := err != nil && strings.Contains(err.Error(), "CONNECTORS_FILE: "+name+" is a setting of"); said != refused {
			t.Errorf("%s: %v", name, err)
		}
		if !refused && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOtherProgramsSettingsAreNotOurs(t *testing.T) {
	if _, err := readSettings(append(complete(t), "SESSION_MANAGER=local/x", "LISTEN_FDS=1", "PATH=/bin", "LOGNAME=me", "EDITOR=vi")); err != nil {
		t.Error(err)
	}
}

// TestProxiesThatAreNotNamed holds the start and the doctor to say that a proxy is not trusted, unless that is meant.
func TestProxiesThatAreNotNamed(t *testing.T) {
	for _, c := range []struct {
		public, proxies string
		says            string
	}{
		{"https://connect.example.com", "", "TRUSTED_PROXIES=none"},
		{"https://connect.example.com", "none", ""},
		{"https://connect.example.com", "None", ""},
		{"https://connect.example.com", "10.0.0.0/8", ""},
		{"http://127.0.0.1:8080", "", ""},
		{"http://localhost:8080", "", ""},
		{"http://[::1]:8080", "", ""},
		{"http://connect.example.com", "", "make it https"},
		{"http://192.168.1.5:8080", "none", "make it https"},
	} {
		s, err := readSettings(append(complete(t), "PUBLIC_URL="+c.public, "TRUSTED_PROXIES="+c.proxies))
		if said := strings.Join(s.cautions(), "\n"); err != nil || (said == "") != (c.says == "") || !strings.Contains(said, c.says) {
			t.Errorf("%s behind %q: %q, %v", c.public, c.proxies, said, err)
		}
	}
	for given, want := range map[string]string{
		"https://Connect.Example.com": "https://connect.example.com", "https://connect.example.com:443/": "https://connect.example.com", "http://127.0.0.1:80": "http://127.0.0.1",
		"https://connect.example.com.": "https://connect.example.com", "https://connect.example.com:": "https://connect.example.com",
		"http://[::1]:8080": "http://[::1]:8080", "https://connect.example.com:8443": "https://connect.example.com:8443",
	} {
		if s, err := readSettings(append(complete(t), "PUBLIC_URL="+given)); err != nil || s.publicURL.String() != want {
			t.Errorf("PUBLIC_URL %s: %v, %v", given, s.publicURL, err)
		}
	}
}

// TestSurroundingsAreNotSettings holds the start to what clusters and hosts of databases add by themselves (n8n#8650,
// athens#1038), and to finding slips of the hand all the same.
func TestSurroundingsAreNotSettings(t *testing.T) {
	links := func(service, scheme, host, port string) []string {
		return []string{
			service + "_SERVICE_HOST=" + host, service + "_SERVICE_PORT=" + port, service + "_SERVICE_PORT_HTTP_METRICS=" + port,
			service + "_PORT=" + scheme + "://" + host + ":" + port,
			service + "_PORT_" + port + "_" + strings.ToUpper(scheme) + "=" + scheme + "://" + host + ":" + port,
			service + "_PORT_" + port + "_" + strings.ToUpper(scheme) + "_PROTO=" + scheme,
			service + "_PORT_" + port + "_" + strings.ToUpper(scheme) + "_PORT=" + port,
			service + "_PORT_" + port + "_" + strings.ToUpper(scheme) + "_ADDR=" + host,
		}
	}
	for name, environ := range map[string][]string{
		"a service smtp":         links("SMTP", "tcp", "10.0.0.5", "25"),
		"a service smtp-relay":   links("SMTP_RELAY", "tcp", "10.0.0.5", "587"),
		"a service bookings":     links("BOOKINGS", "tcp", "10.0.0.6", "80"),
		"a service caminvoice":   links("CAMINVOICE", "tcp", "fd00::5", "443"),
		"a service elecq":        links("ELECQ", "udp", "10.0.0.7", "53"),
		"a service flexiti":      links("FLEXITI", "sctp", "10.0.0.7", "36412"),
		"a service keyset":       links("KEYSET", "tcp", "10.0.0.8", "80"),
		"a service session-key":  links("SESSION_KEY", "tcp", "10.0.0.8", "80"),
		"a service public-url":   links("PUBLIC_URL", "tcp", "10.0.0.8", "80"),
		"a service log-level":    links("LOG_LEVEL", "tcp", "10.0.0.8", "80"),
		"a service connectors-x": links("CONNECTORS_X", "tcp", "10.0.0.8", "80"),
		"a link of Docker's":     append(links("SMTP", "tcp", "172.17.0.2", "25"), "SMTP_NAME=/patchbay/smtp", "SMTP_ENV_MAILNAME=x"),
		"Neon":                   {"DATABASE_URL_UNPOOLED=postgres://x/y"},
		"Vercel":                 {"DATABASE_URL_NON_POOLING=postgres://x/y", "DATABASE_URL_NO_SSL=postgres://x/y"},
		"Prisma":                 {"SHADOW_DATABASE_URL=postgres://x/y", "DIRECT_DATABASE_URL=postgres://x/y"},
		"Railway":                {"DATABASE_PUBLIC_URL=postgres://x/y"},
	} {
		if _, err := readSettings(append(complete(t), environ...)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, one := range []string{
		"SMTP_UR=x", "SMTP_PORT=587", "SMTP_HOST=mail.example", "ELECQ_TOKENURL=x", "BOOKINGS_PORTAL=x", "BOOKINGS_PORT=8080",
		"CAMINVOICE_CLIENT_SECRETT=x", "DATABASE_URL_FIL=x", "SMTP_NAME=x", "KEYSETS=x", "TRUSTED_PROXY=10.0.0.1", "FLEXITI_SERVICE=x",
	} {
		name, _, _ := strings.Cut(one, "=")
		if _, err := readSettings(append(complete(t), one)); err == nil || !strings.Contains(err.Error(), name+" is not a setting") {
			t.Errorf("%s: %v", one, err)
		}
	}
}

func TestEverySettingOfTheComposeFileExists(t *testing.T) {
	b, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Environment map[string]string
			Grace       string `yaml:"stop_grace_period"`
			Profiles    []string
			Command     []string
		}
	}
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	app, ok := file.Services["app"]
	if !ok || len(app.Environment) == 0 {
		t.Fatal("there is no app with settings")
	}
	e := newEnv(nil)
	readAll(e)
	for name := range app.Environment {
		if !e.known[name] {
			t.Errorf("the compose file sets %s, which is no setting", name)
		}
	}
	for name := range e.known {
		if _, handed := app.Environment[name]; !handed && (!strings.HasSuffix(name, "_FILE") || name == "CONNECTORS_FILE" || name == "SMTP_CA_FILE") && name != "MIGRATE_DATABASE_URL" && name != "MIGRATE_PGPASSWORD" {
			t.Errorf("the compose file does not hand on %s", name)
		}
	}
	for name := range file.Services["migrate"].Environment {
		if !e.known[name] {
			t.Errorf("the compose file's migrate sets %s, which is no setting", name)
		}
	}
	if app.Grace != "60s" {
		t.Errorf("stop_grace_period is %q: what is under way may take 55 s", app.Grace)
	}
	if box := file.Services["sandbox"]; len(box.Profiles) != 1 || box.Profiles[0] != "sandbox" || box.Command[0] != "sandbox" {
		t.Error("the sandboxes are not behind the profile sandbox")
	}
	envFile, err := os.ReadFile("../../docs/sandbox.env")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(envFile)) {
		name, _, found := strings.Cut(line, "=")
		if _, used := app.Environment[name]; found && !strings.HasPrefix(line, "#") && !used {
			t.Errorf("docs/sandbox.env sets %s, which the compose file does not hand on", name)
		}
	}
}

func TestCommandLine(t *testing.T) {
	for line, want := range map[string]struct {
		code int
		says string
	}{
		"-h":                                  {0, "usage: patchbay"},
		"help":                                {0, "doctor"},
		"destroy":                             {2, `no command "destroy"`},
		"serve -h":                            {0, "usage: patchbay serve"},
		"serve now":                           {2, "one word too many"},
		"serve":                               {1, "PUBLIC_URL is missing"},
		"demo -nonsense":                      {2, "-nonsense"},
		"migrate sideways":                    {1, "DATABASE_URL is missing"},
		"keys":                                {2, "keys new"},
		"user add":                            {2, "-email is missing"},
		"user add -email a@b.example -role x": {2, "merchant, support or admin"},
		"user add -email a@b.example -role admin": {1, "standard input"},
		"apikey add": {2, "-name"},
		"doctor":     {1, "WRONG"},
	} {
		t.Run(line, func(t *testing.T) {
			var out bytes.Buffer
			code := run(context.Background(), terminal{strings.NewReader(""), &out, &out, nil}, strings.Fields(line))
			if code != want.code || !strings.Contains(out.String(), want.says) {
				t.Errorf("code %d, want %d with %q; said:\n%s", code, want.code, want.says, out.String())
			}
		})
	}
}

func TestKeysNewPrintsAKeysetAlone(t *testing.T) {
	var out, faults bytes.Buffer
	if code := run(context.Background(), terminal{nil, &out, &faults, nil}, []string{"keys", "new"}); code != 0 {
		t.Fatal(faults.String())
	}
	if _, err := seal.Parse(out.String()); err != nil || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%v; %d lines", err, strings.Count(out.String(), "\n"))
	}
}

// TestQuotesAroundValues holds the start to name quotes that docker run --env-file keeps, for whatever setting, and to quote no secret.
func TestQuotesAroundValues(t *testing.T) {
	base := complete(t)
	for _, given := range append(base, "LISTEN=127.0.0.1:8080", "LOG_LEVEL=info", "TRUSTED_PROXIES=10.0.0.0/8", "MAIL_FROM=patchbay@example.com",
		"SMTP_URL=smtp://u:p@mail.example", "FLEXITI_ENVIRONMENT=sandbox", "CAMINVOICE_CLIENT_SECRET=hunter2hunter2", "PGPASSWORD=hunter2hunter2", "CONNECTORS_FILE=/nowhere",
		"SMTP_CA_FILE=/nowhere", "CAMINVOICE_HOOK_SECRET_FILE=/nowhere", "LOG_FORMAT=") {
		name, value, _ := strings.Cut(given, "=")
		for _, pair := range []string{`""`, "''", "“”", "``"} {
			marks := []rune(pair)
			_, err := readSettings(append(base, "MAIL_FROM=a@b.example", name+"="+string(marks[0])+value+string(marks[1])))
			if err == nil || !strings.Contains(err.Error(), name+" has quotes") || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s in %s: %v", name, pair, err)
			}
		}
	}
	for _, given := range []string{
		`MAIL_FROM="Patchbay, Phnom Penh" <patchbay@example.com>`, `MAIL_FROM='Patchbay' <patchbay@example.com>`, "LOG_LEVEL=", "LISTEN= ",
		`DATABASE_URL=host=127.0.0.1 user=patchbay password='its' dbname='patchbay'`, `PGPASSWORD="half`, `CAMINVOICE_CLIENT_SECRET=a"b"`,
	} {
		if _, err := readSettings(append(base, given)); err != nil {
			t.Errorf("%s: %v", given, err)
		}
	}
}

// TestFilesOfSettings reads the files of settings as the editors of Windows write them.
func TestFilesOfSettings(t *testing.T) {
	base := complete(t)
	utf16 := func(s string, bigEndian bool) string {
		var b []byte
		for _, unit := range []byte(s) {
			if bigEndian {
				b = append(b, 0, unit)
			} else {
				b = append(b, unit, 0)
			}
		}
		return string(b)
	}
	const entries = "[\r\n  {\"name\":\"books\",\"issuer\":\"https://books.example\",\"client_id\":\"x\",\"client_secret_env\":\"BOOKS_SECRET\",\"environment\":\"production\"}\r\n]\r\n"
	values := map[string]string{"CONNECTORS_FILE": entries}
	for _, one := range base {
		if name, value, _ := strings.Cut(one, "="); name != "PUBLIC_URL" {
			values[name+"_FILE"] = value
		}
	}
	for name, value := range values {
		for _, c := range []struct{ how, content, says string }{
			{"as it is", value, ""},
			{"with CRLF", value + "\r\n", ""},
			{"with a byte order mark", "\ufeff" + value, ""},
			{"with a byte order mark and blank lines", "\ufeff" + value + "\r\n\r\n", ""},
			{"in UTF-16 as Notepad writes it", "\xff\xfe" + utf16(value, false), "UTF-16"},
			{"in UTF-16, big-endian", "\xfe\xff" + utf16(value, true), "UTF-16"},
			{"in UTF-16 without a mark", utf16(value, false), "UTF-16"},
			{"in UTF-16, big-endian, without a mark", utf16(value, true), "UTF-16"},
		} {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := readSettings(append(base, "BOOKS_SECRET=x", strings.TrimSuffix(name, "_FILE")+"=", name+"="+path))
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%s %s: %v", name, c.how, err)
			}
		}
	}
	for content, says := range map[string]string{
		"[\n  {\"name\": \"books\",}\n]":    "line 2, column 20",
		"\ufeff[\r\n{\"name\": books}\r\n]": "line 2, column 10",
		"[{\"title\": \"សៀវភៅ\" \"x\": 1}]": "line 1, column 20",
		"[{\"name\": \"books\"}":            "line 1, column 18",
		"# a comment\n[]":                   "line 1, column 1",
		"{\"name\": \"books\"}":             "must hold a JSON list of objects",
		"":                                  "line 1, column 1",
	} {
		path := filepath.Join(t.TempDir(), "connectors.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readSettings(append(base, "CONNECTORS_FILE="+path)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", content, err, says)
		}
	}
}

func TestTheOwnersPasswordStandsBesideItsAddress(t *testing.T) {
	e := newEnv([]string{"DATABASE_URL=postgres://patchbay@postgres/patchbay", "MIGRATE_DATABASE_URL=postgres://patchbay_owner@postgres/patchbay", "MIGRATE_PGPASSWORD=Zx8/Q#t+b2?c=="})
	serving, migrating := readAddresses(e)
	config, err := pg.ParseAddress(migrating)
	if err != nil || e.err() != nil || config.ConnConfig.Password != "Zx8/Q#t+b2?c==" || strings.Contains(serving, "Zx8") {
		t.Errorf("%v, %v", err, e.err())
	}
	e = newEnv([]string{"DATABASE_URL=postgres://patchbay@postgres/patchbay", "MIGRATE_PGPASSWORD=hunter2hunter2"})
	if readAddresses(e); e.err() == nil || strings.Contains(e.err().Error(), "hunter2") {
		t.Errorf("a password without an address: %v", e.err())
	}
}
