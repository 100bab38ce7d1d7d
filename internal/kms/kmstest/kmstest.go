// Package kmstest imitates, over HTTP, what Vault's transit engine and AWS KMS do with a keyset.
package kmstest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// ARN is the key that NewAWS has, and Token what NewVault asks for. AWSID and AWSSecret are credentials for AWS.
const (
	ARN       = "arn:aws:kms:ap-southeast-1:111122223333:key/0d1b7f5e-0000-4000-8000-000000000001"
	Token     = "hvs.a-token-of-vault"
	AWSID     = "AKIDEXAMPLE"
	AWSSecret = "wJalrXUtnFEMI-a-secret-of-aws"
)

// Service is an imitated service.
type Service struct {
	*httptest.Server
	mu    sync.Mutex
	calls []string
	fault http.HandlerFunc
}

// Calls lists what was asked: encrypt or decrypt.
func (s *Service) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...)
}

// Fail has every further request answered so; nil has it work again.
func (s *Service) Fail(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = answer
}

func (s *Service) called(verb string) http.HandlerFunc {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, verb)
	return s.fault
}

// turned stands for encryption: text that holds nothing of the plaintext as it is.
func turned(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = b[i] ^ 0x5a
	}
	return out
}

// NewVault starts a Vault whose transit engine has the key patchbay.
func NewVault(t testing.TB) *Service {
	s := &Service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		verb, _ := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/v1/transit/"), "/patchbay")
		if fault := s.called(verb); fault != nil {
			fault(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		refuse := func(status int, text string) {
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(map[string]any{"errors": []string{text}})
		}
		var in struct{ Plaintext, Ciphertext string }
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Method != http.MethodPost && r.Method != http.MethodPut:
			refuse(405, "unsupported operation")
		case r.Header.Get("X-Vault-Token") != Token:
			refuse(403, "permission denied")
		case json.Unmarshal(body, &in) != nil:
			refuse(400, "failed to parse JSON input")
		case verb == "encrypt":
			plain, err := base64.StdEncoding.DecodeString(in.Plaintext)
			if err != nil {
				refuse(400, "failed to base64-decode plaintext")
				return
			}
			json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"ciphertext": "vault:v1:" + base64.StdEncoding.EncodeToString(turned(plain)), "key_version": 1}})
		case verb == "decrypt":
			text, of := strings.CutPrefix(in.Ciphertext, "vault:v1:")
			sealed, err := base64.StdEncoding.DecodeString(text)
			if err != nil || !of {
				refuse(400, "invalid ciphertext: could not decode")
				return
			}
			json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"plaintext": base64.StdEncoding.EncodeToString(turned(sealed))}})
		default:
			refuse(404, "no handler for route")
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// URI is that of Vault's key.
func (s *Service) URI() string {
	return "hcvault://" + s.Listener.Addr().String() + "/transit/keys/patchbay"
}

// NewAWS starts an AWS KMS that has the key ARN, and has the SDK find it in this test.
func NewAWS(t *testing.T) *Service {
	s := &Service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		verb := strings.ToLower(strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService."))
		if fault := s.called(verb); fault != nil {
			fault(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		refuse := func(kind, text string) {
			w.WriteHeader(400)
			json.NewEncoder(w).Encode(map[string]any{"__type": kind, "message": text})
		}
		var in struct {
			KeyID                     string `json:"KeyId"`
			Plaintext, CiphertextBlob []byte
		}
		body, _ := io.ReadAll(r.Body)
		signed := r.Header.Get("Authorization")
		switch {
		case json.Unmarshal(body, &in) != nil:
			refuse("SerializationException", "")
		case !strings.HasPrefix(signed, "AWS4-HMAC-SHA256 Credential="+AWSID+"/") || !strings.Contains(signed, "/ap-southeast-1/kms/aws4_request"):
			refuse("AccessDeniedException", "the request is not signed for this key's region")
		case in.KeyID != ARN:
			refuse("NotFoundException", fmt.Sprintf("Key %q does not exist", in.KeyID))
		case verb == "encrypt":
			json.NewEncoder(w).Encode(map[string]any{"CiphertextBlob": append([]byte("aws1"), turned(in.Plaintext)...), "KeyId": ARN})
		case verb == "decrypt" && !strings.HasPrefix(string(in.CiphertextBlob), "aws1"):
			refuse("InvalidCiphertextException", "")
		case verb == "decrypt":
			json.NewEncoder(w).Encode(map[string]any{"Plaintext": turned(in.CiphertextBlob[4:]), "KeyId": ARN})
		default:
			refuse("UnknownOperationException", "")
		}
	}))
	t.Cleanup(s.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_KMS": s.URL, "AWS_ACCESS_KEY_ID": AWSID, "AWS_SECRET_ACCESS_KEY": AWSSecret, "AWS_SESSION_TOKEN": "",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "",
	} {
		t.Setenv(name, value)
	}
	return s
}
