package handlers

import (
	"archive/zip"
	"context"
	"encoding/csv"
	"encoding/xml"
	"fmt"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/bulk"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/sample"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

func TestSupportFindsAConnectionAndItsStory(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	merchant := s.merchant("Riverside Bakery")
	merchant.connect("caminvoice", "KHUID00001234")
	c := merchant.connections()[0]
	support := s.staff(audit.RoleSupport)
	link := `href="/connections/` + c.ID.String() + `"`

	tin := c.Account.Detail("tin")
	khmer := []rune(c.Account.Detail("company_name_kh"))
	for _, typed := range []string{"riverside", "Riverisde", c.Account.Name, string(khmer[:6]), tin[:5], c.Account.ID, merchant.email, c.ID.String()} {
		support.wants("/admin/connections?q="+strings.ReplaceAll(typed, " ", "+"), link)
	}
	if got := support.wants("/admin/connections?q=nobody+like+that"); strings.Contains(got.body, link) {
		t.Error("found by words it does not have")
	}
	support.wants("/admin/connections?provider=caminvoice&health=fine&who=&problem=&environment=sandbox&used=never&since=2020-01-01&sort=-health", link)
	if got := support.wants("/admin/connections?health=action-needed"); strings.Contains(got.body, link) {
		t.Error("shown among those that need action")
	}
	if n := s.events(status.ConnectionsSearched); n != 9 {
		t.Errorf("%d look-ups were written down, not 9", n)
	}
	support.wants("/connections/"+c.ID.String(), "Riverside Bakery")
	events := support.get("/admin/events")
	if body := events.text("tbody"); strings.Contains(body, words("event.viewed")) || strings.Contains(body, "Riverisde") || !events.says("admin_events.no-looks") {
		t.Error("look-ups crowd the first page of events")
	}
	shown := support.wants(events.attribute(`main a[href*="looks=shown"]`, "href"), words("event.viewed"), words("event.searched"), "Riverisde", words("admin_events.hide-looks"))
	if got := support.get(shown.attribute(`[href^="/admin/events.csv"]`, "href")); !strings.Contains(got.body, "connection.viewed") {
		t.Error("the download lacks the look-ups that the page has")
	}
	if got := support.get(events.attribute(`[href^="/admin/events.csv"]`, "href")); strings.Contains(got.body, "connection.viewed") {
		t.Error("the download has look-ups that the page has not")
	}
	if got := support.get("/admin/events.csv"); !strings.Contains(got.body, "connection.viewed") {
		t.Error("the whole download lacks look-ups")
	}
	support.wants("/admin/events?actor=support&kind=connection.searched", "Riverisde")
	if got := support.wants("/admin/events?actor=nobody@nowhere.example"); strings.Contains(got.body, "Riverisde") {
		t.Error("events of somebody who does not exist")
	}
	support.wants("/admin", `href="/admin/connections?environment=sandbox&amp;health=fine&amp;provider=caminvoice"`)
}

func TestProvidersAreSetUpAndSwitched(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	admin := s.staff(audit.RoleAdmin)
	admin.wants("/admin", words("todo.callback", "Provider", "CamInvoice"))
	do := func(fields ...string) answer {
		t.Helper()
		got := admin.post("/admin/providers/caminvoice", fields...)
		if got.status != http.StatusSeeOther {
			t.Fatalf("%v: %d", fields, got.status)
		}
		return admin.get("/admin/providers/caminvoice")
	}
	if page := do("do", "register"); !page.says("notice.registered") {
		t.Error("registering is not confirmed")
	}
	if got := admin.get("/admin"); got.says("todo.callback", "Provider", "CamInvoice") {
		t.Error("the overview still wants the callback registered")
	}
	if page := do("do", "hook"); !page.says("notice.hooked") {
		t.Error("the hook is not confirmed")
	}
	do("do", "check")
	records, err := s.db.ProviderRecords(context.Background(), map[string]string{"caminvoice": "sandbox"})
	if record := records["caminvoice"]; err != nil || record.CheckResult != "ok" || record.CheckTook < time.Millisecond || record.CheckedAt.IsZero() || record.HookRegisteredAt.IsZero() {
		t.Errorf("what was found: %+v, %v", records, err)
	}
	if page := do("do", "unhook"); !page.says("notice.unhooked") {
		t.Error("switching off is not confirmed")
	}
	if page := do("do", "declare", "reason", "they told us"); !page.says("layout.incident", "Provider", "CamInvoice") {
		t.Error("no banner of the incident")
	}
	admin.wants("/admin/events", "they told us")
	if page := do("do", "end"); page.says("layout.incident", "Provider", "CamInvoice") {
		t.Error("the banner stays after the incident's end")
	}
	if err := s.sandbox.SetFault("caminvoice", sandbox.Fault{Kind: sandbox.Error500, Count: 5}); err != nil {
		t.Fatal(err)
	}
	if page := do("do", "register"); !page.says("notice.provider-failed") {
		t.Error("a failure is not told")
	}
	do("do", "check")
	records, err = s.db.ProviderRecords(context.Background(), map[string]string{"caminvoice": "sandbox"})
	if record := records["caminvoice"]; err != nil || record.CheckResult != "trouble" || record.CheckTook < time.Millisecond {
		t.Errorf("what was found while it answers 500: %+v, %v", records, err)
	}
	if got := admin.post("/admin/providers/nobody", "do", "check"); got.status != http.StatusNotFound {
		t.Errorf("an unknown provider: %d", got.status)
	}
}

// TestWhetherStateComesBackIsWatched: at providers that need not send it back, and only there.
func TestWhetherStateComesBackIsWatched(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{CamInvoice: sandbox.CamInvoiceOptions{EchoState: true}}))
	admin, p := s.staff(audit.RoleAdmin), s.merchant("CH168 Shop")
	told := func() (yes, no int) {
		for _, provider := range s.server.Providers {
			page := admin.get("/admin/providers/" + provider.Name)
			if page.says("admin_providers.state-yes") {
				yes++
			}
			if page.says("admin_providers.state-no") {
				no++
			}
		}
		return yes, no
	}
	if yes, no := told(); yes != 0 || no != 2 { // CamInvoice and ELECQ
		t.Errorf("before anybody connected: seen at %d, not yet at %d", yes, no)
	}
	// The second documents no state, the third always sends it.
	for provider, account := range map[string]string{"caminvoice": "KHUID00001234", "elecq": "100245", "acme": "acme-user-001"} {
		p.connect(provider, account)
	}
	if n := len(p.connections()); n != 3 {
		t.Fatalf("%d of 3 were connected", n)
	}
	if yes, no := told(); yes != 1 || no != 1 {
		t.Errorf("after one connect each: seen at %d, not yet at %d", yes, no)
	}
}

// TestReferencesAreKept: Flexiti wants x-reference-id with every call, and its support asks for it.
func TestReferencesAreKept(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p, support := s.merchant("CH168 Shop"), s.staff(audit.RoleSupport)
	m := sandbox.SampleFlexitiMerchants()[0]
	got := p.post("/connect/flexiti", "client_id", m.ClientID, "client_secret", m.ClientSecret, "scope", "merchant")
	wantH1(t, p.get(got.location), "Flexiti is connected")
	id := p.connections()[0].ID.String()
	if got := support.post("/connections/" + id + "/refresh"); got.location != "/connections/"+id {
		t.Fatalf("refresh now: %d", got.status)
	}
	if err := s.sandbox.SetFault("flexiti", sandbox.Fault{Kind: sandbox.Unavailable}); err != nil {
		t.Fatal(err)
	}
	support.post("/connections/" + id + "/refresh")
	page := support.wants("/connections/" + id).body
	for _, kind := range []status.Kind{status.KindOfCall("mint"), status.RefreshSaved, status.RefreshTemporary} { // connecting, and what came of refreshing
		reference, _ := dbtest.LastEvent(t, s.db, kind)
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(reference) || !strings.Contains(page, reference) {
			t.Errorf("%s: reference %q is not kept, or not shown", kind, reference)
		}
	}
}

// TestSupportIsToldWhoMay: pages offer support nothing that only admins may do, and say who may.
func TestSupportIsToldWhoMay(t *testing.T) {
	t.Parallel()
	s := newTestServer(t)
	support, admin := s.staff(audit.RoleSupport), s.staff(audit.RoleAdmin)
	for path, says := range map[string]string{"/admin/keys": "admin_keys.none", "/admin/webhooks": "admin_webhooks.none"} {
		if got := support.get(path); !got.says(says+"-yet") || got.says(says) {
			t.Errorf("%s asks support to do what it may not", path)
		}
		if got := admin.get(path); !got.says(says) {
			t.Errorf("%s does not ask an admin to begin", path)
		}
	}
	got := support.post("/admin/keys", "name", "x")
	if got.status != http.StatusForbidden || !got.says("error.admins-only") || got.attribute(".actions a", "href") != "/admin" {
		t.Errorf("refused: %d, leads to %q", got.status, got.attribute(".actions a", "href"))
	}
}

func TestKeysAreShownOnce(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	s.merchant("Riverside Bakery")
	admin, support := s.staff(audit.RoleAdmin), s.staff(audit.RoleSupport)
	made := admin.follow(admin.post("/admin/keys", "name", "invoice worker", "merchant", "Riverside Bakery", "scope", "tokens:read"))
	key := regexp.MustCompile(`pb_[A-Za-z0-9_-]{43}`).FindString(made.body)
	if made.status != http.StatusOK || key == "" {
		t.Fatalf("no key: %d", made.status)
	}
	if got := admin.wants("/admin/keys", "invoice worker", "Riverside Bakery"); strings.Contains(got.body, key) {
		t.Error("shown a second time")
	}
	if got := support.wants("/admin/keys", "invoice worker"); strings.Contains(got.body, "/revoke") || got.has(`[name="scope"]`) {
		t.Error("support is offered to change keys")
	}
	for _, wrong := range [][]string{{"name", ""}, {"name", "x", "merchant", "nobody"}, {"name", "x", "scope", "everything"}} {
		if got := admin.post("/admin/keys", wrong...); got.status != http.StatusUnprocessableEntity || regexp.MustCompile(`pb_[A-Za-z0-9_-]{43}`).MatchString(got.body) {
			t.Errorf("%v: %d", wrong, got.status)
		}
	}
	keys, err := s.db.APIKeys(context.Background())
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	added, err := s.db.Audit.Latest(t.Context(), 1, status.KeyAdded)
	if err != nil || len(added) != 1 || added[0].Note != "invoice worker "+keys[0].Prefix+": tokens:read" {
		t.Errorf("the event of a new key: %+v %v", added, err)
	}
	admin.post("/admin/keys/" + keys[0].ID.String() + "/revoke")
	if _, err := s.db.APIKeyBySecret(context.Background(), pg.Secret(key)); err == nil {
		t.Error("a revoked key still works")
	}
}

func TestManyRefreshesFromAFilter(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	merchant := s.merchant("Riverside Bakery")
	merchant.connect("caminvoice", "KHUID00001234")
	merchant.connect("acme", "acme-user-001")
	support := s.staff(audit.RoleSupport)
	begun := support.post("/admin/bulk", "provider", "", "q", "riverside")
	if begun.status != http.StatusSeeOther || !strings.HasPrefix(begun.location, "/admin/bulk/") {
		t.Fatalf("begin: %d %s", begun.status, begun.location)
	}
	support.wants(begun.location, "2 connections would be refreshed", "riverside", `value="start"`)
	if s.events(status.RefreshSaved) != 0 || s.events(status.BulkBegun) != 0 {
		t.Error("a dry run did something")
	}
	if err := s.jobs.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.jobs.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	support.post(begun.location, "do", "start")
	support.post(begun.location, "do", "start") // a second click
	id, err := pg.ParseID(strings.TrimPrefix(begun.location, "/admin/bulk/"))
	if err != nil {
		t.Fatal(err)
	}
	var b bulk.Bulk
	dbtest.Eventually(t, "the end of the bulk", func() bool {
		if b, err = bulk.Read(context.Background(), s.db, id); err != nil {
			t.Fatal(err)
		}
		return b.State == bulk.Done
	})
	if b.Outcomes["ok"] != 2 {
		t.Fatalf("%s with %v", b.State, b.Outcomes)
	}
	if n := s.events(status.RefreshSaved); n != 2 {
		t.Errorf("%d renewals for two connections", n)
	}
	page := support.wants(begun.location, "<progress", `value="2"`)
	support.wants(page.attribute(`[href*="outcome=ok"]`, "href"), "KHUID00001234")
	by, err := s.accounts.UserByEmail(context.Background(), support.email)
	if _, actor := dbtest.LastEvent(t, s.db, status.RefreshSaved); err != nil || actor != by.ID {
		t.Errorf("asked by %s, not %s, %v", actor, by.ID, err)
	}
}

// "Retry all that failed in yesterday's outage", from the list of what failed.
func TestManyRefreshesFromEvents(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	merchant := s.merchant("Riverside Bakery")
	merchant.connect("caminvoice", "KHUID00001234")
	merchant.connect("acme", "acme-user-001")
	for _, c := range merchant.connections() {
		if c.Provider == "caminvoice" {
			for range 3 {
				if err := s.db.Audit.Record(t.Context(), audit.Event{
					Kind: status.RefreshTemporary, Outcome: status.Temporary, Status: 503, Provider: c.Provider, ConnectionID: c.ID, MerchantID: merchant.merchant,
				}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	support := s.staff(audit.RoleSupport)
	today := s.db.Now().Format(time.DateOnly)
	filter := []string{"kind", "refresh", "class", "trouble", "from", today, "to", today}
	list := "/admin/events?kind=refresh&class=trouble&from=" + today + "&to=" + today
	support.wants(list, words("admin_events.bulk"), `name="list" value="events"`)
	if page := support.get("/admin/events"); page.says("admin_events.bulk") {
		t.Error("offered for what people did")
	}
	begun := support.post("/admin/bulk", append(filter, "list", "events")...)
	support.wants(begun.location, "1 connection would be refreshed", "trouble", "/admin/events?")
	support.wants("/admin/events?kind=bulk.counted", "Outcome: trouble")
	for _, wider := range [][]string{{"list", "events"}, {"list", "events", "class", "ok"}, {"list", "events", "class", "trouble", "merchant", "Nobody"}, {"merchant", "zzz"}} {
		if page := support.post("/admin/bulk", wider...); page.status != http.StatusBadRequest {
			t.Errorf("%v: %d %s", wider, page.status, page.location)
		}
	}
	// By what people call them, and with the hours that a link from the overview has.
	hour := s.db.Now().Truncate(time.Hour)
	for _, filter := range []string{"connection=KHUID00001234", "merchant=riverside", "from=" + hour.Format(time.RFC3339), "from=" + hour.Format("2006-01-02T15:04")} {
		support.wants("/admin/events?kind=refresh&class=trouble&"+filter, "Riverside Bakery", "HTTP", hour.Format("15"))
	}
	support.wants("/admin/events?kind=refresh&class=trouble&connection=KHUID9999", words("admin_events.none"))
}

// TestABulkStops: many refreshes wait for an incident to end. That those of another provider are done shows that the job is at
// work; it ends only when every provider's part has.
func TestABulkStops(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	merchant := s.merchant("Riverside Bakery")
	merchant.connect("caminvoice", "KHUID00001234")
	merchant.connect("acme", "acme-user-001")
	admin := s.staff(audit.RoleAdmin)
	admin.post("/admin/providers/caminvoice", "do", "declare", "reason", "for the test")
	begun := admin.post("/admin/bulk", "environment", "sandbox")
	admin.wants(begun.location, "Incident")
	s.startJobs()
	admin.post(begun.location, "do", "start")
	id, err := pg.ParseID(strings.TrimPrefix(begun.location, "/admin/bulk/"))
	if err != nil {
		t.Fatal(err)
	}
	until := func(what string, is func(bulk.Bulk) bool) {
		t.Helper()
		dbtest.Eventually(t, what, func() bool {
			b, err := bulk.Read(t.Context(), s.db, id)
			if err != nil {
				t.Fatal(err)
			}
			if b.Done > 1 {
				t.Fatalf("%d done: nothing is sent during an incident", b.Done)
			}
			return is(b)
		})
	}
	until("the job to be at work", func(b bulk.Bulk) bool { return b.State == bulk.Running && b.Done == 1 })
	admin.post(begun.location, "do", "stop")
	until("the bulk to be stopped", func(b bulk.Bulk) bool { return b.State == bulk.Stopped })
	if n := s.sandbox.Calls("caminvoice", "refresh"); n != 0 {
		t.Errorf("%d refreshes were sent during an incident", n)
	}
}

func TestExportsAreWholeAndInert(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	if err := sample.Fill(context.Background(), s.db, sample.Scale{Connections: 1800, Events: 3}); err != nil {
		t.Fatal(err)
	}
	dbtest.RenameMerchant(t, s.db, `=HYPERLINK("http://evil.example")`)
	support := s.staff(audit.RoleSupport)
	got := support.get("/admin/connections.csv?sort=account")
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(got.body, "\ufeff"))).ReadAll()
	if err != nil || got.status != http.StatusOK {
		t.Fatalf("%d, %v", got.status, err)
	}
	if len(rows) != 1801 {
		t.Errorf("%d rows, not 1800 and their heads", len(rows))
	}
	formulas := 0
	for _, row := range rows {
		for _, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
				t.Fatalf("a cell that a spreadsheet runs: %q", cell)
			}
			if strings.HasPrefix(cell, "'=HYPERLINK") {
				formulas++
			}
		}
	}
	if formulas == 0 {
		t.Error("the quoted name is not there")
	}
	if n := s.events(status.ConnectionsExported); n != 1 {
		t.Errorf("%d exports were written down", n)
	}
	if filtered := support.get("/admin/connections.csv?provider=elecq"); strings.Contains(filtered.body, ",caminvoice,") || !strings.Contains(filtered.body, ",elecq,") {
		t.Error("the export does not keep to the filter")
	}
	events := support.get("/admin/events.csv?kind=refresh&class=trouble")
	lines, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(events.body, "\ufeff"))).ReadAll()
	if err != nil || len(lines) < 2 {
		t.Fatalf("%d lines of events, %v", len(lines), err)
	}
	for _, line := range lines[1:] {
		if line[1] != string(status.RefreshTemporary) {
			t.Fatalf("an event of another kind: %v", line)
		}
	}
}

// discard takes an export as a browser would and remembers how much memory was in use meanwhile.
type discard struct {
	header http.Header
	bytes  int
	most   uint64
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(int)     {}
func (d *discard) Write(b []byte) (int, error) {
	before := d.bytes >> 18
	if d.bytes += len(b); d.bytes>>18 != before {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		d.most = max(d.most, m.HeapAlloc)
	}
	return len(b), nil
}

func TestAnExportTakesConstantMemory(t *testing.T) {
	s := newTestServer(t)
	if err := sample.Fill(context.Background(), s.db, sample.Scale{Connections: 8000}); err != nil {
		t.Fatal(err)
	}
	for _, file := range []exportFile{csvFile, bookFile} {
		used := func(query string) (int, uint64) {
			r := request(t, http.MethodGet, s.url+"/admin/connections."+string(file)+"?"+query, nil)
			d := &discard{header: http.Header{}}
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			if err := s.server.exportConnections(file)(d, r); err != nil {
				t.Fatal(err)
			}
			return d.bytes, d.most - min(m.HeapAlloc, d.most)
		}
		_, little := used("provider=caminvoice&environment=sandbox")
		size, much := used("")
		t.Logf("%s: %d KB written with %d KB more in use; %d KB for a part", file, size>>10, much>>10, little>>10)
		if much > uint64(size)/2+4<<20 {
			t.Errorf("%s: %d KB in use for %d KB written: the whole was held", file, much>>10, size>>10)
		}
	}
}

// sheet returns the rows of a workbook's first sheet: texts as they are, times and numbers after a #.
func sheet(t *testing.T, book string) (rows [][]string) {
	t.Helper()
	files, err := zip.NewReader(strings.NewReader(book), int64(len(book)))
	if err != nil {
		t.Fatal(err)
	}
	file, err := files.Open("xl/worksheets/sheet1.xml")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var parsed struct {
		Rows []struct {
			Cells []struct {
				Reference string `xml:"r,attr"`
				Text      string `xml:"is>t"`
				Value     string `xml:"v"`
				Formula   string `xml:"f"`
			} `xml:"c"`
		} `xml:"sheetData>row"`
	}
	if err := xml.NewDecoder(file).Decode(&parsed); err != nil {
		t.Fatal(err)
	}
	for _, row := range parsed.Rows {
		cells := make([]string, 26)
		for _, cell := range row.Cells {
			if cell.Formula != "" {
				t.Fatalf("%s is the formula %q", cell.Reference, cell.Formula)
			}
			cells[cell.Reference[0]-'A'] = cell.Text
			if cell.Value != "" {
				cells[cell.Reference[0]-'A'] = "#" + cell.Value
			}
		}
		rows = append(rows, cells)
	}
	return rows
}

// TestWorkbooksAreForPeople exports ids that spreadsheets take for numbers (easy-digital-downloads#3166, tableExport#327).
func TestWorkbooksAreForPeople(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	shop := dbtest.Merchant(t, s.db, `=HYPERLINK("http://evil.example")`)
	at := time.Date(2026, 3, 1, 17, 30, 0, 0, time.UTC)
	support := s.staff(audit.RoleSupport)
	support.inZone(t, "Asia/Phnom_Penh")
	accounts := []string{"0012345678", "855011223344556677", "12E5", "+85512345678", "1/2", "-7"}
	for _, account := range accounts {
		dbtest.Connection(t, s.db, shop.ID, "caminvoice", account, "ហាង "+account, dbtest.Refused(at))
	}
	for locale, want := range map[string][]string{
		"en": {"Merchant", "CamInvoice", "Action needed", "Merchant ID", "So since (Phnom Penh)"},
		"fr": {"Commerçant", "CamInvoice", "Action requise", "Identifiant du commerçant", "Ainsi depuis (Phnom Penh)"},
		"km": {"អាជីវករ", "CamInvoice", "ត្រូវការចំណាត់ការ", "លេខសម្គាល់អាជីវករ", "ដូច្នេះតាំងពី (Phnom Penh)"},
	} {
		support.get("/account?lang=" + locale)
		rows := sheet(t, support.get("/admin/connections.xlsx?sort=account").body)
		if len(rows) != len(accounts)+1 {
			t.Fatalf("%d rows", len(rows))
		}
		for _, text := range want {
			if !slices.Contains(rows[0], text) && !slices.Contains(rows[1], text) {
				t.Errorf("%s: neither %q nor %q has %q", locale, rows[0], rows[1], text)
			}
		}
		for _, account := range accounts {
			if !slices.ContainsFunc(rows, func(row []string) bool { return slices.Contains(row, account) && row[0] == shop.Name }) {
				t.Errorf("%s: no row has %s as it is", locale, account)
			}
		}
		if !slices.Contains(rows[1], "#46083.020833333336") { // 2 March 2026 00:30 in Phnom Penh
			t.Errorf("%s: no time in the reader's zone: %q", locale, rows[1])
		}
		events := sheet(t, support.get("/admin/events.xlsx").body)
		if len(events) < 2 || !strings.HasSuffix(events[0][0], "(Phnom Penh)") || !strings.HasPrefix(events[1][0], "#4") {
			t.Errorf("%s: events are %q", locale, events)
		}
		for _, path := range []string{"/admin/connections", "/admin/events"} {
			page := support.wants(path)
			if !page.has(`a[download][href^="`+path+`.xlsx"]`) || !page.has(`a[download][href^="`+path+`.csv"]`) {
				t.Errorf("%s: %s does not offer both files", locale, path)
			}
		}
	}
	if n := s.events(status.ConnectionsExported); n != 3 {
		t.Errorf("%d exports were written down", n)
	}
}

func TestListsCanBeSharedAndSorted(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	if err := sample.Fill(context.Background(), s.db, sample.Scale{Connections: 260, Merchants: 10}); err != nil {
		t.Fatal(err)
	}
	support := s.staff(audit.RoleSupport)
	ids := regexp.MustCompile(`href="/connections/([0-9a-f-]{36})"`)
	for _, address := range []string{"/admin/connections", "/admin/connections?sort=merchant", "/admin/connections?health=fine&sort=-used", "/admin/connections?q=trading"} {
		var seen []string
		pages := 0
		for path := address; path != "" && pages < 20; pages++ {
			page := support.wants(path)
			for _, m := range ids.FindAllStringSubmatch(page.body, -1) {
				seen = append(seen, m[1])
			}
			path = page.attribute("[rel=next]", "href")
		}
		all := len(seen)
		slices.Sort(seen)
		if len(slices.Compact(seen)) != all || all == 0 {
			t.Errorf("%s: %d lines on %d pages, some twice", address, all, pages)
		}
		if address == "/admin/connections" && all != 260 {
			t.Errorf("%d of 260 lines on %d pages", all, pages)
		}
	}
}

func TestRetentionIsAnAdminsWord(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	admin := s.staff(audit.RoleAdmin)
	if got := admin.post("/admin/events", "months", "18"); got.status != http.StatusSeeOther {
		t.Fatalf("%d", got.status)
	}
	if months, err := s.db.Audit.Retention(context.Background()); err != nil || months != 18 {
		t.Errorf("%d months, %v", months, err)
	}
	for _, wrong := range []string{"", "-1", "for ever", fmt.Sprint(1 << 40)} {
		if got := admin.post("/admin/events", "months", wrong); got.status != http.StatusBadRequest {
			t.Errorf("%q: %d", wrong, got.status)
		}
	}
}
