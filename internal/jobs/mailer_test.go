package jobs

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
)

// smtpManner is how a mail server behaves.
type smtpManner struct {
	certificate *tls.Certificate  // STARTTLS is offered with it; nil offers none
	fromFirst   bool              // TLS is spoken from the first byte
	auth        string            // mechanisms offered, once TLS is spoken; "" offers none
	utf8        bool              // SMTPUTF8 is offered
	mute        bool              // it takes connections and says nothing
	replies     map[string]string // to a verb, instead of the usual reply
}

// smtpServer takes mail as a mail server does, and hands it to the test.
type smtpServer struct {
	smtpManner
	address string
	mails   chan string

	mu    sync.Mutex
	plain bool     // a letter or a password came without TLS
	said  []string // what was said of senders and recipients
}

func listen(t *testing.T, manner smtpManner) *smtpServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if manner.fromFirst {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*manner.certificate}, MinVersion: tls.VersionTLS12})
	}
	t.Cleanup(func() { l.Close() })
	server := &smtpServer{smtpManner: manner, address: l.Addr().String(), mails: make(chan string, 10)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go server.serve(conn)
		}
	}()
	return server
}

// answer sets what the server replies to a verb; "" is the usual reply.
func (s *smtpServer) answer(verb, reply string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies = map[string]string{verb: reply}
}

func (s *smtpServer) reply(verb string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replies[verb]
}

func (s *smtpServer) inPlain() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plain
}

func (s *smtpServer) serve(conn net.Conn) {
	defer conn.Close()
	if s.mute {
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	secure := s.fromFirst
	say := func(line string) { io.WriteString(conn, line+"\r\n") }
	if greeting := s.reply("CONNECT"); greeting != "" {
		say(greeting)
	} else {
		say("220 test")
	}
	for in := bufio.NewReader(conn); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb := strings.ToUpper(strings.Fields(line + " ?")[0])
		if verb == "AUTH" || verb == "DATA" {
			s.mu.Lock()
			s.plain = s.plain || !secure
			s.mu.Unlock()
		}
		if verb == "MAIL" || verb == "RCPT" {
			s.mu.Lock()
			s.said = append(s.said, strings.TrimSpace(line))
			s.mu.Unlock()
		}
		if reply := s.reply(verb); reply != "" {
			say(reply)
			continue
		}
		switch verb {
		case "EHLO":
			say("250-test")
			if s.certificate != nil && !secure {
				say("250-STARTTLS")
			}
			if s.auth != "" && secure {
				say("250-AUTH " + s.auth)
			}
			if s.utf8 {
				say("250-SMTPUTF8")
			}
			say("250 8BITMIME")
		case "STARTTLS":
			say("220 go on")
			upgraded := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*s.certificate}, MinVersion: tls.VersionTLS12})
			if upgraded.Handshake() != nil {
				return
			}
			conn, in, secure = upgraded, bufio.NewReader(upgraded), true
		case "AUTH":
			say("235 signed in")
		case "DATA":
			say("354 go on")
			var mail strings.Builder
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				mail.WriteString(strings.TrimPrefix(line, "."))
			}
			s.mails <- mail.String()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 fine")
		}
	}
}

// certificate makes a certificate that vouches for itself, for the hosts and addresses, and the authorities who believe it.
func certificate(t *testing.T, until time.Time, hosts ...string) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// TestMailServers signs in to mail servers as they are met (kratos#1048, replication-manager#301) and sends a letter.
func TestMailServers(t *testing.T) {
	tomorrow := time.Now().Add(24 * time.Hour)
	good, roots := certificate(t, tomorrow, "127.0.0.1")
	elsewhere, elsewhereRoots := certificate(t, tomorrow, "mail.elsewhere.example")
	ended, endedRoots := certificate(t, time.Now().Add(-24*time.Hour), "127.0.0.1")
	const secret = "p%40ss%2Fword" // p@ss/word
	for name, c := range map[string]struct {
		server smtpManner
		scheme string // smtp unless given
		user   string
		roots  *x509.CertPool
		says   string // of the error; "" for none
		plain  bool   // the letter goes in plain text
	}{
		"a relay without TLS":                               {plain: true},
		"a relay whose certificate nobody knows":            {server: smtpManner{certificate: good}},
		"a relay whose certificate is of another host":      {server: smtpManner{certificate: elsewhere}},
		"a relay whose certificate has ended":               {server: smtpManner{certificate: ended}},
		"a relay with a certificate that we trust":          {server: smtpManner{certificate: good}, roots: roots},
		"a server with a password":                          {server: smtpManner{certificate: good, auth: "PLAIN LOGIN"}, user: "sok:" + secret, roots: roots},
		"a server with a password, TLS from the first byte": {server: smtpManner{certificate: good, fromFirst: true, auth: "PLAIN"}, scheme: "smtps", user: "sok:" + secret, roots: roots},
		"LOGIN alone": {server: smtpManner{certificate: good, auth: "LOGIN"}, user: "sok:" + secret, roots: roots},
		"a password and a certificate that nobody knows": {server: smtpManner{certificate: good, auth: "PLAIN"}, user: "sok:" + secret, says: "certificate"},
		"a password and a certificate of another host":   {server: smtpManner{certificate: elsewhere, auth: "PLAIN"}, user: "sok:" + secret, roots: elsewhereRoots, says: "127.0.0.1"},
		"a password and a certificate that has ended":    {server: smtpManner{certificate: ended, auth: "PLAIN"}, user: "sok:" + secret, roots: endedRoots, says: "expired"},
		"a password and no TLS":                          {server: smtpManner{auth: "PLAIN"}, user: "sok:" + secret, roots: roots, says: "STARTTLS"},
		"a password and no AUTH":                         {server: smtpManner{certificate: good}, user: "sok:" + secret, roots: roots, says: "AUTH"},
		"a CA file and no TLS":                           {roots: roots, says: "STARTTLS"},
		"a password that is wrong":                       {server: smtpManner{certificate: good, auth: "PLAIN", replies: map[string]string{"AUTH": "535 5.7.8 wrong for p@ss/word"}}, user: "sok:" + secret, roots: roots, says: "535"},
		"TLS from the first byte where none is spoken":   {scheme: "smtps", says: "TLS"},
		"no TLS from the first byte where it is":         {server: smtpManner{certificate: good, fromFirst: true}, says: "timeout"},
		"a server that is full":                          {server: smtpManner{replies: map[string]string{"CONNECT": "421 4.3.2 too busy"}}, says: "421"},
		"a server that knows no EHLO and no HELO":        {server: smtpManner{replies: map[string]string{"EHLO": "502 what?", "HELO": "502 what?"}}, says: "502"},
		"greylisting":                                    {server: smtpManner{replies: map[string]string{"RCPT": "451 4.7.1 try again later"}}, says: "451"},
		"a relay that refuses":                           {server: smtpManner{replies: map[string]string{"RCPT": "550 5.7.1 relaying denied for sok@ch168.example"}}, says: "relaying denied for the recipient"},
		"a sender that is refused":                       {server: smtpManner{replies: map[string]string{"MAIL": "553 5.7.1 sender not owned"}}, says: "553"},
		"a full mailbox":                                 {server: smtpManner{replies: map[string]string{"DATA": "452 4.2.2 mailbox full"}}, says: "452"},
		"a server that says nothing":                     {server: smtpManner{mute: true}, says: "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := listen(t, c.server)
			u := &url.URL{Scheme: "smtp", Host: server.address}
			if c.scheme != "" {
				u.Scheme = c.scheme
			}
			address := strings.Replace(u.String(), "//", "//"+c.user+"@", 1)
			if c.user == "" {
				address = u.String()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			o := Options{SMTPURL: address, MailFrom: "connect@patchbay.example", MailRoots: c.roots, PublicURL: &url.URL{Host: "connect.example.com"}}
			err := CheckMail(ctx, o, "sok@ch168.example")
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if err != nil && (strings.Contains(err.Error(), "p@ss") || strings.Contains(err.Error(), "sok@")) {
				t.Errorf("the reason quotes a secret: %v", err)
			}
			if server.inPlain() != c.plain && c.says == "" || server.inPlain() && c.user != "" {
				t.Errorf("in plain text: %v", server.inPlain())
			}
		})
	}
}

// TestEnvelopes holds an envelope to ASCII wherever it can be, and SMTPUTF8 to where it cannot (RFC 6531).
func TestEnvelopes(t *testing.T) {
	for _, c := range []struct {
		from, to string
		mail     string
		rcpt     string
		asks     bool // for SMTPUTF8
	}{
		{"connect@patchbay.example", "sok@ch168.example", "<connect@patchbay.example>", "<sok@ch168.example>", false},
		{"Patchbay ភ្នំពេញ <connect@patchbay.example>", "sok@ch168.example", "<connect@patchbay.example>", "<sok@ch168.example>", false},
		{"connect@patchbay.example", "sok@bücher.example", "<connect@patchbay.example>", "<sok@xn--bcher-kva.example>", false},
		{"connect@patchbay.example", "SOK@BÜCHER.example", "<connect@patchbay.example>", "<SOK@xn--bcher-kva.example>", false},
		{"connect@patchbay.example", "sok@xn--bcher-kva.example", "<connect@patchbay.example>", "<sok@xn--bcher-kva.example>", false},
		{"connect@ហាង.example", "sok@ch168.example", "<connect@xn--m2e9c4c.example>", "<sok@ch168.example>", false},
		{"connect@patchbay.example", "rémi@bücher.example", "<connect@patchbay.example>", "<rémi@xn--bcher-kva.example>", true},
		{"សុខ@patchbay.example", "sok@ch168.example", "<សុខ@patchbay.example>", "<sok@ch168.example>", true},
	} {
		for _, utf8 := range []bool{true, false} {
			server := listen(t, smtpManner{utf8: utf8})
			o := Options{SMTPURL: "smtp://" + server.address, MailFrom: c.from, PublicURL: &url.URL{Host: "connect.example.com"}}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if err := CheckMail(ctx, o, c.to); err != nil {
				t.Errorf("%s to %s: %v", c.from, c.to, err)
			}
			cancel()
			server.mu.Lock()
			said := strings.Join(server.said, "\n")
			server.mu.Unlock()
			if !strings.Contains(said, "MAIL FROM:"+c.mail) || !strings.Contains(said, "RCPT TO:"+c.rcpt) || strings.Contains(said, "SMTPUTF8") != (c.asks && utf8) {
				t.Errorf("%s to %s, SMTPUTF8 offered: %v:\n%s", c.from, c.to, utf8, said)
			}
		}
	}
}

// TestALetterThatFailsIsSeen has a mail server refuse a letter until it is given up, and take it when it is sent again.
func TestALetterThatFailsIsSeen(t *testing.T) {
	server := listen(t, smtpManner{})
	server.answer("RCPT", "550 5.7.1 relaying denied")
	o := newTestJobs(t, func(options *Options) {
		options.Outbox, options.SMTPURL, options.MailFrom = false, "smtp://"+server.address, "Patchbay <connect@patchbay.example>"
	})
	ctx := t.Context()
	u := o.user(t, "sok@ch168.example", "en", "a long password")
	if err := o.SendMail(ctx, notify.Mail{Kind: notify.MailPassword, User: u.ID}); err != nil {
		t.Fatal(err)
	}
	backlog := func() Backlog {
		t.Helper()
		all, err := o.Backlogs(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range all {
			if b.Kind == MailKind {
				return b
			}
		}
		return Backlog{}
	}
	if b := backlog(); b.Jobs != 0 {
		t.Errorf("a letter that was added just now is late: %+v", b)
	}
	o.start(t)
	dbtest.Eventually(t, "a failed try", func() bool { return backlog().Jobs == 1 })
	if b := backlog(); b.GivenUp || b.Oldest.IsZero() || !strings.Contains(b.Reason, "relaying denied") {
		t.Errorf("waiting: %+v", b)
	}
	dbtest.Eventually(t, "a line of the log", func() bool {
		return strings.Contains(o.log.String(), "level=WARN") && strings.Contains(o.log.String(), "relaying denied")
	})
	if strings.Contains(o.log.String(), u.Email) {
		t.Errorf("the log names the recipient: %s", o.log)
	}
	if _, err := o.DB.Pool.Exec(ctx, `UPDATE river_job SET max_attempts = 2, scheduled_at = now() WHERE kind = 'mail'`); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, "the end of tries", func() bool { return backlog().GivenUp })

	server.answer("RCPT", "")
	if n, err := o.RetryMail(ctx, audit.System); n != 1 || err != nil {
		t.Fatalf("%d letters, %v", n, err)
	}
	select {
	case raw := <-server.mails:
		secret := regexp.MustCompile(`/password/([A-Za-z0-9_-]{43})`).FindStringSubmatch(strings.ReplaceAll(raw, "=\r\n", ""))
		if secret == nil {
			t.Fatalf("no link in %s", raw)
		}
		if _, err := o.Accounts.Link(ctx, account.LinkPassword, pg.Secret(secret[1])); err != nil {
			t.Errorf("the link that came: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("it was not sent again: %s", o.log)
	}
	dbtest.Eventually(t, "no letter that waits", func() bool { return backlog().Jobs == 0 })
	if n, err := o.RetryMail(ctx, audit.System); n != 0 || err != nil {
		t.Errorf("a letter that was sent is sent again: %d, %v", n, err)
	}
}
