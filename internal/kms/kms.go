// Package kms wraps a keyset by a key that a key management service holds: AWS KMS, or Vault's transit engine. The service is asked once, at the
// start of a process; nothing else is sealed by it.
package kms

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Key is a key that never leaves its service.
type Key interface {
	// encrypt returns the service's own form of a ciphertext, which is text.
	encrypt(ctx context.Context, plain []byte) (string, error)
	decrypt(ctx context.Context, wrapped string) ([]byte, error)
}

// ErrURI is returned for a URI that names no key.
var ErrURI = errors.New("is neither aws-kms://arn:aws:kms:REGION:ACCOUNT:key/ID nor hcvault://HOST/transit/keys/NAME")

// Open returns the key at a URI. Nothing is asked of its service yet. It returns ErrURI, or an error that says which setting is missing.
func Open(uri string, v Vault) (Key, error) {
	if name, ok := strings.CutPrefix(uri, "aws-kms://"); ok {
		return openAWS(name)
	}
	if strings.HasPrefix(uri, "hcvault://") {
		return openVault(uri, v)
	}
	return nil, ErrURI
}

// Wrap returns a keyset, in the form that seal.Parse reads, encrypted by a key.
func Wrap(ctx context.Context, k Key, keyset string) (string, error) {
	plain, err := base64.StdEncoding.DecodeString(keyset)
	if err != nil {
		return "", errors.New("the keyset is not base64")
	}
	wrapped, err := k.encrypt(ctx, plain)
	if err != nil {
		return "", fmt.Errorf("the keyset cannot be wrapped: %w", err)
	}
	return wrapped, nil
}

// Unwrap returns the keyset that Wrap has encrypted.
func Unwrap(ctx context.Context, k Key, wrapped string) (string, error) {
	plain, err := k.decrypt(ctx, strings.TrimSpace(wrapped))
	if err != nil {
		return "", fmt.Errorf("the keyset cannot be unwrapped: %w", err)
	}
	return base64.StdEncoding.EncodeToString(plain), nil
}
