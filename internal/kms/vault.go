package kms

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// Vault is how Vault is reached: what its own variables say.
type Vault struct {
	Address   string // VAULT_ADDR; "" for https at the URI's host, http if that is this machine
	Token     string
	Namespace string
	Roots     *x509.CertPool // nil for the system's
}

// vaultKey is a key of Vault's transit engine.
type vaultKey struct {
	Vault
	base        *url.URL // scheme and host
	mount, name string
	client      *http.Client
}

// transitPath is the path of a key, as Vault writes it: MOUNT/keys/NAME.
var transitPath = regexp.MustCompile(`^/([\w./-]+)/keys/([\w.-]+)$`)

func openVault(uri string, v Vault) (Key, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, ErrURI
	}
	path := transitPath.FindStringSubmatch(u.Path)
	if path == nil {
		return nil, ErrURI
	}
	address, err := netip.ParseAddr(u.Hostname())
	here := u.Hostname() == "localhost" || err == nil && address.IsLoopback()
	base := &url.URL{Scheme: "https", Host: u.Host}
	if here {
		base.Scheme = "http"
	}
	if v.Address != "" {
		if base, err = url.Parse(v.Address); err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
			return nil, errors.New("VAULT_ADDR is not an address like https://vault.example.com:8200")
		}
	}
	if v.Token == "" && !here { // an agent on this machine may add one
		return nil, errors.New("VAULT_TOKEN or VAULT_TOKEN_FILE is missing")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: v.Roots, MinVersion: tls.VersionTLS12}
	return &vaultKey{Vault: v, base: base, mount: path[1], name: path[2], client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // it would take the token along
	}}, nil
}

func (k *vaultKey) encrypt(ctx context.Context, plain []byte) (string, error) {
	var out struct {
		Ciphertext string `json:"ciphertext"`
	}
	err := k.call(ctx, "encrypt", map[string]any{"plaintext": plain}, &out)
	if err == nil && !strings.HasPrefix(out.Ciphertext, "vault:") {
		err = errors.New("Vault: an answer without a ciphertext")
	}
	return out.Ciphertext, err
}

func (k *vaultKey) decrypt(ctx context.Context, wrapped string) ([]byte, error) {
	if !strings.HasPrefix(wrapped, "vault:") {
		return nil, errors.New("it does not begin with vault:, as `patchbay keys … -wrap` prints it")
	}
	var out struct {
		Plaintext []byte `json:"plaintext"`
	}
	err := k.call(ctx, "decrypt", map[string]any{"ciphertext": wrapped}, &out)
	if err == nil && len(out.Plaintext) == 0 {
		err = errors.New("Vault: an answer without a plaintext")
	}
	return out.Plaintext, err
}

// call asks the transit engine. Its errors say what Vault says, and nothing of what was sent.
func (k *vaultKey) call(ctx context.Context, verb string, in map[string]any, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode a request: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, k.base.JoinPath("v1", k.mount, verb, k.name).String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("Vault: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Vault-Request", "true")
	if k.Token != "" {
		r.Header.Set("X-Vault-Token", k.Token)
	}
	if k.Namespace != "" {
		r.Header.Set("X-Vault-Namespace", k.Namespace)
	}
	response, err := k.client.Do(r)
	if err != nil {
		return fmt.Errorf("Vault: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("Vault: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		var said struct {
			Errors []string `json:"errors"`
		}
		_ = json.Unmarshal(answer, &said) // a proxy answers otherwise
		text := strings.Join(strings.Fields(strings.Join(said.Errors, "; ")), " ")
		return fmt.Errorf("Vault answers %d %.200s", response.StatusCode, text)
	}
	if err := json.Unmarshal(answer, &struct {
		Data any `json:"data"`
	}{out}); err != nil {
		return errors.New("Vault: an answer that is not understood")
	}
	return nil
}
