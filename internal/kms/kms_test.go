package kms_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"patchbay/internal/kms"
	"patchbay/internal/kms/kmstest"
	"patchbay/internal/seal"
)

func fresh(t *testing.T) string {
	t.Helper()
	text, err := seal.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// secrets fails a test whose text holds a secret.
func secrets(t *testing.T, what, text string, more ...string) {
	t.Helper()
	for _, secret := range append(more, kmstest.Token, kmstest.AWSSecret) {
		if strings.Contains(text, secret) {
			t.Errorf("%s quotes a secret: %s", what, text)
		}
	}
}

func TestAKeysetComesBackAsItWasWrapped(t *testing.T) {
	vault, aws := kmstest.NewVault(t), kmstest.NewAWS(t)
	for uri, s := range map[string]*kmstest.Service{vault.URI(): vault, "aws-kms://" + kmstest.ARN: aws} {
		k, err := kms.Open(uri, kms.Vault{Token: kmstest.Token})
		if err != nil {
			t.Fatal(err)
		}
		keyset := fresh(t)
		wrapped, err := kms.Wrap(t.Context(), k, keyset)
		if err != nil {
			t.Fatalf("%s: %v", uri, err)
		}
		if _, err := seal.Parse(wrapped); err == nil || strings.Contains(wrapped, keyset) {
			t.Errorf("%s: what is wrapped is open", uri)
		}
		if got, err := kms.Unwrap(t.Context(), k, wrapped+"\n"); err != nil || got != keyset {
			t.Errorf("%s: it came back as another, %v", uri, err)
		}
		if got := strings.Join(s.Calls(), " "); got != "encrypt decrypt" {
			t.Errorf("%s: asked to %s", uri, got)
		}
	}
}

func TestURIsOfKeys(t *testing.T) {
	for uri, good := range map[string]bool{
		"aws-kms://" + kmstest.ARN: true,
		"aws-kms://arn:aws-cn:kms:cn-north-1:111122223333:alias/patchbay": true,
		"hcvault://vault.example.com/transit/keys/patchbay":               true,
		"hcvault://vault.example.com:8200/team/transit/keys/patch.bay-2":  true,
		"aws-kms://":                                                      false,
		"aws-kms://arn:aws:s3:::bucket":                                   false,
		"aws-kms://alias/patchbay":                                        false,
		"hcvault:///transit/keys/patchbay":                                false,
		"hcvault://vault.example.com/patchbay":                            false,
		"hcvault://vault.example.com/transit/keys/":                       false,
		"hcvault://user:password@vault.example.com/transit/keys/patchbay": false,
		"hcvault://vault.example.com/transit/keys/patchbay?x=1":           false,
		"https://vault.example.com/transit/keys/patchbay":                 false,
		"gcp-kms://projects/p/locations/global/keyRings/r/cryptoKeys/k":   false,
		"": false,
	} {
		if _, err := kms.Open(uri, kms.Vault{Token: "t"}); good != (err == nil) || err != nil && !errors.Is(err, kms.ErrURI) {
			t.Errorf("%q: %v", uri, err)
		}
	}
	if _, err := kms.Open("hcvault://vault.example.com/transit/keys/patchbay", kms.Vault{}); err == nil || !strings.Contains(err.Error(), "VAULT_TOKEN") {
		t.Errorf("without a token: %v", err)
	}
	if _, err := kms.Open("hcvault://vault.example.com/transit/keys/patchbay", kms.Vault{Token: "t", Address: "vault:8200"}); err == nil || !strings.Contains(err.Error(), "VAULT_ADDR") {
		t.Errorf("with an address that is none: %v", err)
	}
}

// TestAServiceThatFailsIsNamed: each error says what the service says, and quotes no secret.
func TestAServiceThatFailsIsNamed(t *testing.T) {
	vault, aws := kmstest.NewVault(t), kmstest.NewAWS(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	keyset := fresh(t)
	open := func(uri, token string) kms.Key {
		k, err := kms.Open(uri, kms.Vault{Token: token})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	inVault, inAWS := open(vault.URI(), kmstest.Token), open("aws-kms://"+kmstest.ARN, "")
	wrappedByVault, err := kms.Wrap(t.Context(), inVault, keyset)
	if err != nil {
		t.Fatal(err)
	}
	wrappedByAWS, err := kms.Wrap(t.Context(), inAWS, keyset)
	if err != nil {
		t.Fatal(err)
	}
	answers := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			w.Write([]byte(body))
		}
	}
	for what, c := range map[string]struct {
		key     kms.Key
		wrapped string
		fault   http.HandlerFunc
		says    string
	}{
		"Vault: a wrong token":  {open(vault.URI(), "hvs.another"), wrappedByVault, nil, "permission denied"},
		"Vault: a key it lacks": {open(strings.Replace(vault.URI(), "patchbay", "other", 1), kmstest.Token), wrappedByVault, nil, "404"},
		"Vault: sealed":         {inVault, wrappedByVault, answers(503, `{"errors":["Vault is sealed"]}`), "Vault is sealed"},
		"Vault: a page instead": {inVault, wrappedByVault, answers(200, `<html>`), "not understood"},
		"Vault: nothing":        {inVault, wrappedByVault, answers(200, `{"data":{}}`), "without a plaintext"},
		"Vault: elsewhere": {inVault, wrappedByVault, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, aws.URL, http.StatusTemporaryRedirect)
		}, "307"},
		"Vault: damaged":                 {inVault, "vault:v1:%%%", nil, "invalid ciphertext"},
		"Vault: a keyset in the clear":   {inVault, keyset, nil, "does not begin with vault:"},
		"AWS: no right":                  {inAWS, wrappedByAWS, answers(400, `{"__type":"AccessDeniedException","message":"not authorized to perform: kms:Decrypt"}`), "not authorized to perform: kms:Decrypt"},
		"AWS: another key":               {open("aws-kms://"+strings.Replace(kmstest.ARN, "0001", "0002", 1), ""), wrappedByAWS, nil, "does not exist"},
		"AWS: damaged":                   {inAWS, base64.StdEncoding.EncodeToString([]byte("other")), nil, "InvalidCiphertextException"},
		"AWS: a keyset that Vault wraps": {inAWS, wrappedByVault, nil, "not base64"},
		"AWS: away":                      {inAWS, wrappedByAWS, answers(503, ``), "503"},
	} {
		vault.Fail(c.fault)
		aws.Fail(c.fault)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := kms.Unwrap(ctx, c.key, c.wrapped)
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "cannot be unwrapped") {
			t.Errorf("%s: %v, want %q", what, err, c.says)
			continue
		}
		secrets(t, what, err.Error(), keyset, c.wrapped)
	}
	vault.Close()
	if _, err := kms.Unwrap(t.Context(), inVault, wrappedByVault); err == nil || !strings.Contains(err.Error(), "Vault: ") {
		t.Errorf("Vault is away: %v", err)
	}
}
