package main

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/handlers"
	"patchbay/internal/kms"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/sso"
	"patchbay/views"
)

// settings are the settings of the environment, read and checked together. docs/settings.md explains each.
type settings struct {
	databaseURL, migrateURL string
	readURL                 string // of a streaming replica; "" without one
	migrated                bool   // migrations are applied by another command
	listen                  string
	publicURL               *url.URL
	keyset                  *seal.Keyset
	returnURLs              []*url.URL
	brand                   views.Brand
	sso                     *sso.Options // nil: everybody signs in with a password
	ssoTitle                string       // what the platform's provider is called
	sessionKeys             [][]byte
	trustedProxies          []netip.Prefix
	noProxies               bool   // TRUSTED_PROXIES is none, and meant so
	smtpURL                 string // "": no mail is sent
	mailFrom                string
	mailRoots               *x509.CertPool
	providers               []connectors.Provider
	privateWebhooks         bool // webhooks may go to private addresses and by plain http
	requireFactor           bool // staff who sign in with a password must have a second factor
	logLevel                slog.Level
	logFormat               string
	traced                  bool               // spans are sent to OTEL_EXPORTER_OTLP_ENDPOINT
	demo                    []views.DemoSignIn // sample users; with any, mail goes to an outbox that everybody may read
}

// readSettings reads all settings that serve needs. Its error lists every fault, one a line, and quotes no secret.
func readSettings(environ []string) (settings, error) {
	e := newEnv(environ)
	s := readAll(e)
	return s, e.err()
}

// defaultListen is the default of LISTEN.
const defaultListen = "127.0.0.1:8080"

func readAll(e *env) settings {
	s := settings{
		listen:   e.get("LISTEN"),
		mailFrom: e.get("MAIL_FROM"),
		traced:   e.get("OTEL_EXPORTER_OTLP_ENDPOINT") != "",
	}
	s.databaseURL, s.migrateURL, s.keyset = readDatabase(e)
	s.readURL = servingAddress(e, "READ_DATABASE_URL")
	if s.listen == "" {
		s.listen = defaultListen
	}
	if _, _, err := net.SplitHostPort(s.listen); err != nil {
		e.fault("LISTEN is not host:port, as 127.0.0.1:8080 is")
	}
	s.publicURL = readPublicURL(e)
	s.returnURLs = readReturnURLs(e)
	s.brand = readBrand(e)
	s.sso, s.ssoTitle = readSSO(e, s.publicURL, s.brand.Name)
	s.sessionKeys = readSessionKeys(e)
	proxies := list(e.get("TRUSTED_PROXIES"))
	if s.noProxies = len(proxies) == 1 && strings.EqualFold(proxies[0], "none"); s.noProxies {
		proxies = nil
	}
	for _, text := range proxies {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			address, err := netip.ParseAddr(text)
			if err != nil {
				e.fault("TRUSTED_PROXIES: %s is neither a network (10.0.0.0/8) nor an address", text)
				continue
			}
			prefix = netip.PrefixFrom(address, address.BitLen())
		}
		s.trustedProxies = append(s.trustedProxies, prefix.Masked())
	}
	s.smtpURL = readSMTP(e, s.mailFrom)
	s.mailRoots = readRoots(e, "SMTP_CA_FILE")
	s.privateWebhooks = readBool(e, "WEBHOOK_PRIVATE")
	s.requireFactor = readSecondFactor(e)
	s.logLevel, s.logFormat = readLog(e)
	s.providers = readProviders(e, s.traced)
	e.unknown()
	return s
}

// readDatabase reads the settings of commands that use the database: its addresses and the keyset.
func readDatabase(e *env) (serving, migrating string, keyset *seal.Keyset) {
	serving, migrating = readAddresses(e)
	return serving, migrating, readKeyset(e)
}

// readKeyset reads the keyset. One that KEYSET_KMS wraps is unwrapped, once.
func readKeyset(e *env) *seal.Keyset {
	text, uri := e.secret("KEYSET"), e.get("KEYSET_KMS")
	if text == "" {
		e.fault("KEYSET or KEYSET_FILE is missing: make one with `patchbay keys new` and keep it safe, since nothing else opens what it sealed")
		return nil
	}
	if uri != "" {
		key, err := readKMS(e, uri)
		if err != nil {
			e.fault("KEYSET_KMS: %v", err)
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), kmsLimit)
		defer cancel()
		if text, err = kms.Unwrap(ctx, key, text); err != nil {
			e.fault("KEYSET_KMS: %v", err)
			return nil
		}
	}
	keyset, err := seal.Parse(text)
	if err != nil {
		e.fault("KEYSET: %v", err)
	}
	return keyset
}

// kmsLimit is how long the start waits for the service that unwraps the keyset.
const kmsLimit = 30 * time.Second

// readKMS returns the key at a URI, with what is needed to use it.
func readKMS(e *env, uri string) (kms.Key, error) {
	return kms.Open(uri, kms.Vault{
		Address: e.get("VAULT_ADDR"), Token: e.secret("VAULT_TOKEN"), Namespace: e.get("VAULT_NAMESPACE"), Roots: readRoots(e, "VAULT_CACERT"),
	})
}

// readAddresses reads the database's address for the serving role and for the role that owns the schema.
func readAddresses(e *env) (serving, migrating string) {
	if serving = servingAddress(e, "DATABASE_URL"); serving == "" {
		e.fault("DATABASE_URL is missing: postgres://user:password@host/database")
	}
	migrating = e.secret("MIGRATE_DATABASE_URL")
	if _, err := pg.ParseAddress(migrating); migrating != "" && err != nil {
		e.fault("MIGRATE_DATABASE_URL %v", err)
	}
	switch password := e.secret("MIGRATE_PGPASSWORD"); {
	case migrating == "" && password != "":
		e.fault("MIGRATE_PGPASSWORD is set, and MIGRATE_DATABASE_URL is not")
	case migrating == "":
		migrating = serving
	case password != "":
		migrating = pg.WithPassword(migrating, password)
	}
	return serving, migrating
}

// servingAddress reads an address of the serving role, with PGPASSWORD where it holds no password.
func servingAddress(e *env, name string) string {
	address, password := e.secret(name), e.secret("PGPASSWORD")
	config, err := pg.ParseAddress(address)
	switch {
	case address == "":
	case err != nil:
		e.fault("%s %v", name, err)
	case config.ConnConfig.Password == "" && password != "":
		address = pg.WithPassword(address, password)
	}
	return address
}

func (e *env) err() error {
	switch len(e.faults) {
	case 0:
		return nil
	case 1:
		return errors.New(e.faults[0])
	}
	return errors.New("the settings have several faults:\n  " + strings.Join(e.faults, "\n  "))
}

func readPublicURL(e *env) *url.URL {
	text := e.get("PUBLIC_URL")
	if text == "" {
		e.fault("PUBLIC_URL is missing: the address in browsers' bars, as https://connect.example.com is")
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		e.fault("PUBLIC_URL is not an address like https://connect.example.com: scheme and host, no path")
		return nil
	}
	host := strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	host = strings.TrimSuffix(host, ".")
	if port := u.Port(); port != "" && port != map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		host += ":" + port
	}
	return &url.URL{Scheme: u.Scheme, Host: host}
}

// readReturnURLs reads to which addresses connect links may lead back.
func readReturnURLs(e *env) []*url.URL {
	var all []*url.URL
	for i, text := range list(e.get("RETURN_URLS")) {
		u, err := handlers.ParseReturnPrefix(text)
		if err != nil {
			e.fault("RETURN_URLS: address %d %v", i+1, err)
			continue
		}
		all = append(all, u)
	}
	return all
}

// cautions are what is no fault of a setting and yet will not do in the open.
func (s settings) cautions() (all []string) {
	if s.publicURL == nil || s.demo != nil {
		return nil
	}
	switch {
	case s.publicURL.Scheme == "https" && len(s.trustedProxies) == 0 && !s.noProxies:
		all = append(all, "PUBLIC_URL is https, so a proxy stands in front, and TRUSTED_PROXIES does not name it: all clients then share the proxy's address and one limit of tries to sign in. "+
			"Name the proxy's address or network, or say TRUSTED_PROXIES=none if this is meant")
	case s.publicURL.Scheme == "http" && !isHere(s.publicURL.Hostname()):
		all = append(all, "PUBLIC_URL is http and not on this machine: passwords and cookies can be read on the way. Put a proxy with TLS in front and make it https")
	}
	return all
}

func readSessionKeys(e *env) [][]byte {
	texts := list(e.secret("SESSION_KEYS"))
	if len(texts) == 0 {
		e.fault("SESSION_KEYS or SESSION_KEYS_FILE is missing: base64 of 32 random bytes, as `openssl rand -base64 32` prints")
	}
	var keys [][]byte
	for i, text := range texts {
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(key) < 32 {
			e.fault("SESSION_KEYS: key %d is not base64 of 32 bytes or more", i+1)
			continue
		}
		keys = append(keys, key)
	}
	return keys
}

func readSMTP(e *env, from string) string {
	text := e.secret("SMTP_URL")
	if from != "" {
		if _, err := mail.ParseAddress(from); err != nil {
			e.fault("MAIL_FROM is not a mail address")
		}
	}
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "smtp" && u.Scheme != "smtps" {
		e.fault("SMTP_URL is not an address like smtp://user:password@host:587")
	}
	if from == "" {
		e.fault("SMTP_URL is set and MAIL_FROM is not: whom is mail from?")
	}
	return text
}

// readRoots reads the authorities that are believed beside the system's, from the file that a setting names.
func readRoots(e *env, name string) *x509.CertPool {
	path := e.get(name)
	if path == "" {
		return nil
	}
	b, ok := e.file(name, path)
	if !ok {
		return nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(b) {
		e.fault("%s: %s holds no certificate in PEM", name, path)
	}
	return roots
}

func readBool(e *env, name string) bool {
	switch text := e.get(name); text {
	case "", "false":
		return false
	case "true":
		return true
	default:
		e.fault("%s is neither true nor false", name)
		return false
	}
}

// readSecondFactor reports whether staff who sign in with a password must have a second factor.
func readSecondFactor(e *env) bool {
	switch e.get("SECOND_FACTOR") {
	case "", "required":
		return true
	case "optional":
		return false
	default:
		e.fault("SECOND_FACTOR is neither required nor optional")
		return true
	}
}

func readLog(e *env) (slog.Level, string) {
	level, format := slog.LevelInfo, e.get("LOG_FORMAT")
	if text := e.get("LOG_LEVEL"); text != "" && level.UnmarshalText([]byte(text)) != nil {
		e.fault("LOG_LEVEL is none of debug, info, warn, error")
	}
	switch format {
	case "":
		format = "text"
	case "text", "json":
	default:
		e.fault("LOG_FORMAT is neither text nor json")
	}
	return level, format
}

func list(text string) []string {
	var all []string
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one != "" {
			all = append(all, one)
		}
	}
	return all
}
