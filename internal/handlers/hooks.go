package handlers

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"io"
	"net/http"
	"time"

	"patchbay/internal/connectors"
)

// maxHook is how much of a webhook is read: they are a few lines.
const maxHook = 16 << 10

// hook takes a provider's webhook. Nothing signs it, so it is a hint: access is verified by renewing it before anything
// is marked. Whoever knows the secret gets a quick 204, whatever the type; nobody else learns that there is an address.
func (s *Server) hook(w http.ResponseWriter, r *http.Request) {
	setup, err := s.provider(r.PathValue("provider"))
	hooked, ok := setup.Connector.(connectors.WebhookReceiver)
	if err != nil || !ok || !sameSecret(r.PathValue("secret"), hooked.WebhookSecret()) {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHook))
	if err != nil {
		http.Error(w, http.StatusText(http.StatusRequestEntityTooLarge), http.StatusRequestEntityTooLarge)
		return
	}
	hint, err := hooked.ParseWebhook(body)
	if err == nil && hint.Revoked && hint.AccountID != "" {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		if err := s.Refresh.Verify(ctx, setup.Name, hint.AccountID); err != nil {
			s.Log.ErrorContext(ctx, "hint not kept", "provider", setup.Name, "err", err)
			http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
			return
		}
	}
	s.Log.InfoContext(r.Context(), "webhook", "provider", setup.Name, "understood", err == nil, "revoked", hint.Revoked)
	w.WriteHeader(http.StatusNoContent)
}

// sameSecret compares in constant time. No secret is equal to none.
func sameSecret(given, expected string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(expected))
	return expected != "" && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
