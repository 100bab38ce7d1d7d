package jobs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/status"
	"patchbay/internal/webhooks"
	"patchbay/views"
)

// testJobs is a Jobs that works on a database of its own, with a clock that tests move.
type testJobs struct {
	*Jobs
	where dbtest.Database
	log   *dbtest.Log
	clock *dbtest.Clock
}

// redirector is a provider to which merchants are sent, as far as mail cares.
type redirector struct{ connectors.Redirector }

// typed is a provider whose credentials merchants type, as far as mail cares.
type typed struct{ connectors.CredentialConnector }

func (typed) Info() connectors.Info {
	return connectors.Info{Name: "flexiti", Title: "Flexiti", Environment: "sandbox"}
}

func newTestJobs(t *testing.T, change func(*Options)) *testJobs {
	t.Helper()
	o := &testJobs{where: dbtest.Make(t), log: &dbtest.Log{}, clock: dbtest.NewClock(time.Now().UTC())}
	options := Options{
		DB: o.where.Open(t, pg.Options{Clock: o.clock.Clock}), Log: slog.New(slog.NewTextHandler(o.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		PublicURL: &url.URL{Scheme: "https", Host: "connect.example.com"}, Outbox: true,
		Providers: []connectors.Provider{
			{Name: "caminvoice", Title: "CamInvoice", Environment: "sandbox", Connector: redirector{}},
			{Name: "flexiti", Title: "Flexiti", Environment: "sandbox", Connector: typed{}},
		},
	}
	options.Refresh = refresh.New(refresh.Options{DB: options.DB, Log: options.Log})
	if change != nil {
		change(&options)
	}
	options.Accounts = account.New(options.DB)
	jobs, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	o.Jobs = jobs
	return o
}

func (o *testJobs) start(t *testing.T) {
	t.Helper()
	if err := o.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := o.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
}

func (o *testJobs) user(t *testing.T, email, locale, password string) account.User {
	t.Helper()
	u, err := o.Accounts.AddUser(context.Background(), audit.System, account.NewUser{
		Role: audit.RoleMerchant, Email: email, Name: "Sok", Locale: locale, Password: password, MerchantID: dbtest.Merchant(t, o.DB, "CH168 Shop").ID,
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (o *testJobs) connection(t *testing.T, u account.User, provider, account string, states ...dbtest.State) pg.ID {
	t.Helper()
	return dbtest.Connection(t, o.DB, u.MerchantID, provider, account, account, states...)
}

// due runs what the clock runs every minute, and returns the letters that it makes for whom, as "kind to e-mail: accounts".
func (o *testJobs) due(t *testing.T) []string {
	t.Helper()
	ctx := context.Background()
	before, err := notify.OutboxMails(ctx, o.DB.Keyring, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.runWarnings(ctx, nil); err != nil {
		t.Fatal(err)
	}
	var after []notify.OutboxMail
	dbtest.Eventually(t, "every mail", func() bool {
		waiting, _ := dbtest.Jobs(t, o.DB, "mail", time.Hour)
		return waiting == 0
	})
	if after, err = notify.OutboxMails(ctx, o.DB.Keyring, 100); err != nil {
		t.Fatal(err)
	}
	var fresh []string
	for _, m := range after[:len(after)-len(before)] {
		fresh = append(fresh, m.Recipient+": "+m.Subject)
	}
	slices.Sort(fresh)
	return fresh
}

func TestWarnings(t *testing.T) {
	o := newTestJobs(t, nil)
	o.start(t)
	sok, dara := o.user(t, "sok@ch168.example", "en", "a long password"), o.user(t, "dara@ch168.example", "fr", "a long password")
	o.user(t, "invited@ch168.example", "en", "")
	one, two := o.connection(t, sok, "caminvoice", "KHUID1"), o.connection(t, sok, "flexiti", "F1")
	ours := o.connection(t, sok, "flexiti", "F2")
	expect := func(when string, want ...string) {
		t.Helper()
		slices.Sort(want)
		if got := o.due(t); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	expect("all is well")

	dbtest.Set(t, o.DB, one, dbtest.Refused(o.DB.Now()))
	dbtest.Set(t, o.DB, two, dbtest.Problem("lapsed", o.DB.Now()))
	dbtest.Set(t, o.DB, ours, dbtest.Problem(status.ProblemClientRejected, o.DB.Now()))
	expect("at once: more may fail")
	dbtest.Incident(t, o.DB, "caminvoice", "")
	dbtest.Incident(t, o.DB, "flexiti", "")
	o.clock.Advance(6 * time.Minute)
	expect("during an incident")
	dbtest.NoIncidents(t, o.DB)
	expect("afterwards, gathered, to everybody who can sign in",
		"sok@ch168.example: 2 connections need you", "dara@ch168.example: 2 connexions ont besoin de vous")
	o.clock.Advance(time.Hour)
	expect("the same problems an hour later")

	dbtest.Set(t, o.DB, one, dbtest.Working())
	expect("one is mended", "sok@ch168.example: CamInvoice works again", "dara@ch168.example: CamInvoice fonctionne de nouveau")
	expect("and said once")
	dbtest.Set(t, o.DB, one, dbtest.Refused(o.DB.Now()))
	o.clock.Advance(6 * time.Minute)
	expect("a new problem", "sok@ch168.example: Please reconnect CamInvoice", "dara@ch168.example: Merci de reconnecter CamInvoice")
	dbtest.Set(t, o.DB, one, dbtest.Disconnected(o.DB.Now()))
	expect("a connection that was ended is not back to normal")

	if err := o.Accounts.LockUser(context.Background(), audit.System, dara.ID); err != nil {
		t.Fatal(err)
	}
	end := o.DB.Now().Add(5 * 24 * time.Hour)
	three := o.connection(t, sok, "caminvoice", "KHUID3", dbtest.Lapsing(end))
	o.connection(t, sok, "flexiti", "F3", dbtest.Lapsing(end)) // keyed: nobody needs to come back
	expect("five days before the end")
	o.clock.Advance(3*24*time.Hour + time.Hour)
	expect("two days before it, where only the merchant can go on", "sok@ch168.example: Reconnect CamInvoice soon")
	o.clock.Advance(time.Hour)
	expect("and said once")
	dbtest.Set(t, o.DB, three, dbtest.Lapsing(end.Add(time.Minute)))
	expect("a date that moved a little")
}

func TestLettersCarryTheirLinkAndNobodyElseKnowsIt(t *testing.T) {
	o := newTestJobs(t, nil)
	ctx := context.Background()
	boss := o.user(t, "boss@ch168.example", "en", "a long password")
	invited := o.user(t, "sok@ch168.example", "km", "")
	id := o.connection(t, boss, "caminvoice", "CH168 Co., Ltd")
	for _, letter := range []notify.Mail{
		{Kind: notify.MailInvitation, User: invited.ID, By: boss.ID},
		{Kind: notify.MailInvitation, User: boss.ID}, // has come long ago
		{Kind: notify.MailPassword, User: boss.ID},
		{Kind: notify.MailReconnect, User: boss.ID, Connections: []pg.ID{id}},
	} {
		if err := o.SendMail(ctx, letter); err != nil {
			t.Fatal(err)
		}
	}
	o.start(t)
	o.due(t)
	mails, err := notify.OutboxMails(ctx, o.DB.Keyring, 10)
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`https://connect\.example\.com/(invitations|password|reconnect)/([A-Za-z0-9_-]{43})\n`)
	kinds := map[string]account.LinkKind{"invitations": account.LinkInvitation, "password": account.LinkPassword, "reconnect": account.LinkReconnect}
	dump, err := exec.Command("pg_dump", "--data-only", o.where.URL).Output()
	if err != nil {
		t.Fatalf("pg_dump: %v", err)
	}
	if len(mails) != 3 {
		t.Errorf("%d letters, want 3: %+v", len(mails), mails)
	}
	for _, m := range mails {
		found := link.FindStringSubmatch(m.Text)
		if found == nil {
			t.Errorf("%q has no link", m.Subject)
			continue
		}
		if _, err := o.Accounts.Link(ctx, kinds[found[1]], pg.Secret(found[2])); err != nil {
			t.Errorf("the link of %q: %v", m.Subject, err)
		}
		if bytes.Contains(dump, []byte(found[2])) || strings.Contains(o.log.String(), found[2]) {
			t.Errorf("the secret of %q is readable elsewhere", m.Subject)
		}
		if found[1] == "invitations" && (!strings.Contains(m.Subject, "ការអញ្ជើញ") || !strings.Contains(m.Text, "Sok បានផ្ដល់")) {
			t.Errorf("the invitation is not in the reader's language: %s\n%s", m.Subject, m.Text)
		}
	}
}

func TestMailGoesOutWhole(t *testing.T) {
	server := listen(t, smtpManner{})
	o := newTestJobs(t, func(options *Options) {
		options.Outbox, options.SMTPURL, options.MailFrom = false, "smtp://"+server.address, "Patchbay <connect@patchbay.example>"
	})
	u := o.user(t, "sok@ch168.example", "km", "a long password")
	if err := o.SendMail(context.Background(), notify.Mail{Kind: notify.MailPassword, User: u.ID}); err != nil {
		t.Fatal(err)
	}
	o.start(t)
	var raw string
	select {
	case raw = <-server.mails:
	case <-time.After(15 * time.Second):
		t.Fatalf("no mail came: %s", o.log)
	}
	m, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || subject != "ជ្រើសរើសពាក្យសម្ងាត់ថ្មី" {
		t.Errorf("subject %q, %v", subject, err)
	}
	for _, line := range strings.Split(raw, "\r\n") {
		if len(line) > 998 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	if to, err := m.Header.AddressList("To"); err != nil || len(to) != 1 || to[0].Address != u.Email {
		t.Errorf("to %v, %v", to, err)
	}
	if id := m.Header.Get("Message-ID"); !strings.HasSuffix(id, "@patchbay.example>") {
		t.Errorf("message id %q", id)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("content type %s, %v", kind, err)
	}
	link := regexp.MustCompile(`https://connect\.example\.com/password/[A-Za-z0-9_-]{43}`)
	var links, kinds []string
	for parts := multipart.NewReader(m.Body, params["boundary"]); ; {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if encoding := part.Header.Get("Content-Transfer-Encoding"); encoding != "quoted-printable" {
			t.Fatalf("encoding %q", encoding)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type"))
		kinds, links = append(kinds, kind), append(links, link.FindString(string(body)))
		if !strings.Contains(string(body), "សូមបើកតំណ") {
			t.Errorf("%s does not speak Khmer: %s", kind, body)
		}
	}
	if !slices.Equal(kinds, []string{"text/plain", "text/html"}) || links[0] == "" || links[0] != links[1] {
		t.Errorf("parts %v, links alike and there: %v", kinds, links[0] != "" && links[0] == links[1])
	}
}

// TestHeadersHoldNoMoreThanTheirs has names that would begin headers of their own, and a logo.
func TestHeadersHoldNoMoreThanTheirs(t *testing.T) {
	p, err := newMailer("smtp://mail.example", "Phsar Pay <connect@phsar.example>", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := views.WithLocale(t.Context(), "en", time.Now(), nil)
	for _, name := range []string{"Sok\r\nBcc: all@evil.example", "Sok\nBcc: all@evil.example\n\n<p>", "Sok\rBcc: all@evil.example", `" <all@evil.example>, "`, "=?utf-8?q?=0ABcc:_all@evil.example?=", "សុខ\u2028Bcc: all@evil.example"} {
		page := views.Mail{Kind: notify.MailActionNeeded, Name: name, Merchant: name, Link: "https://connect.example.com/", Accounts: []views.MailAccount{{Provider: name, Account: name}}}
		brand := &views.Brand{Name: name, LogoType: "image/png", Logo: []byte("\x89PNG picture")}
		m, err := p.message(views.WithBrand(ctx, brand), account.User{Name: name, Email: "sok@ch168.example"}, page, brand)
		if err != nil {
			t.Fatal(err)
		}
		var raw bytes.Buffer
		if _, err := m.WriteTo(&raw); err != nil {
			t.Fatal(err)
		}
		read, err := mail.ReadMessage(&raw)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		for header := range read.Header {
			if !slices.Contains([]string{"From", "To", "Subject", "Date", "Message-Id", "User-Agent", "X-Mailer", "Auto-Submitted", "Mime-Version", "Content-Type"}, header) {
				t.Errorf("%q made the header %s", name, header)
			}
		}
		if to, err := read.Header.AddressList("To"); err != nil || len(to) != 1 || to[0].Address != "sok@ch168.example" {
			t.Errorf("%q: to %v, %v", name, to, err)
		}
		if body, err := io.ReadAll(read.Body); err != nil || !strings.Contains(string(body), "Content-Id: <logo>") || !strings.Contains(string(body), "image/png") {
			t.Errorf("%q: no logo goes with it: %v\n%s", name, err, body)
		}
	}
}

func TestSettingsOfMail(t *testing.T) {
	for address, ok := range map[string]bool{
		"smtp://user:secret@mail.example:587": true, "smtps://mail.example": true, "mail.example:25": false, "http://mail.example": false,
		"smtp://": false, "smtp://user:se cret@mail.example:many": false,
	} {
		_, err := newMailer(address, "connect@patchbay.example", "", nil)
		if (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "cret") {
			t.Errorf("the error quotes the password: %v", err)
		}
	}
	if _, err := newMailer("smtp://mail.example", "", "", nil); err == nil {
		t.Error("mail without a sender")
	}
}

// TestLettersTellNamelessAccountsApart: two accounts at one provider that have no name go by the ids the provider gave them.
func TestLettersTellNamelessAccountsApart(t *testing.T) {
	o := newTestJobs(t, nil)
	sok := o.user(t, "sok@ch168.example", "en", "a long password")
	var all []pg.ID
	for _, c := range []struct {
		provider, account, name string
		states                  []dbtest.State
	}{
		{"caminvoice", "KHUID1", "CH168 Co., Ltd", nil},
		{"flexiti", "100245", "", nil},
		{"flexiti", "100246", "", nil},
		{"flexiti", "100247", "", []dbtest.State{dbtest.Nameless()}},
	} {
		id := dbtest.Connection(t, o.DB, sok.MerchantID, c.provider, c.account, c.name, append(c.states, dbtest.Refused(o.DB.Now()))...)
		all = append(all, id)
	}
	for _, kind := range []notify.MailKind{notify.MailActionNeeded, notify.MailReconnect} {
		letter := notify.Mail{Kind: kind, User: sok.ID, Connections: all}
		page, err := o.compose(t.Context(), letter, sok, dbtest.Merchant(t, o.DB, "CH168 Shop"))
		if err != nil {
			t.Fatal(err)
		}
		ctx := views.WithLocale(t.Context(), "en", o.DB.Now(), nil)
		var html strings.Builder
		if err := views.MailHTML(page).Render(ctx, &html); err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"CamInvoice: CH168 Co., Ltd", "Flexiti, 100245", "Flexiti, 100246", "Flexiti"} {
			if !strings.Contains(page.Text(ctx), "* "+line+"\n") || !strings.Contains(html.String(), ">"+line+"</a>") {
				t.Errorf("%s lacks the line %q:\n%s", kind, line, page.Text(ctx))
			}
		}
	}
}

func TestAdminsAreWrittenToOfAnEndpointThatIsOff(t *testing.T) {
	o := newTestJobs(t, nil)
	o.Webhooks = webhooks.New(webhooks.Options{DB: o.DB, Log: slog.New(slog.DiscardHandler)})
	admin := dbtest.User(t, o.DB, audit.RoleAdmin, "boss@platform.example", "a long password", "")
	e, _, err := o.Webhooks.Add(t.Context(), audit.System, "https://hooks.platform.example/patchbay?key=abc", nil)
	if err != nil {
		t.Fatal(err)
	}
	letter := notify.Mail{Kind: notify.MailWebhookOff, User: admin.ID, Endpoint: e.ID}
	if _, err := o.compose(t.Context(), letter, admin, db.Merchant{}); !errors.Is(err, errNeedless) {
		t.Errorf("a letter about an endpoint that is on: %v", err)
	}
	if _, err := o.Webhooks.SwitchOff(t.Context(), audit.System, e.ID); err != nil {
		t.Fatal(err)
	}
	page, err := o.compose(t.Context(), letter, admin, db.Merchant{})
	if err != nil {
		t.Fatal(err)
	}
	for _, language := range views.Languages() {
		ctx := views.WithLocale(t.Context(), language, o.DB.Now(), nil)
		text := page.Subject(ctx) + page.Text(ctx)
		if strings.Count(text, "https://hooks.platform.example/patchbay") != 2 || !strings.Contains(text, "/admin/webhooks") || strings.Contains(text, "abc") || strings.Contains(text, "webhook-off") {
			t.Errorf("in %s: %s", language, text)
		}
	}
	if _, err := o.Webhooks.Delete(t.Context(), audit.System, e.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := o.compose(t.Context(), letter, admin, db.Merchant{}); !errors.Is(err, errNeedless) {
		t.Errorf("a letter about an endpoint that is deleted: %v", err)
	}
}
