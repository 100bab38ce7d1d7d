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

// maxHook is the longest webhook that is read, in bytes.
const maxHook = 16 << 10

// hook receives a provider's webhook. It is not signed, so a refresh verifies it before the connection changes. A request with the secret gets 204, whatever its type; any other gets 404.
func (s *Server) hook(w http.ResponseWriter, r *http.Request) {
	provider, err := s.provider(r.PathValue("provider"))
	hooked, ok := provider.Connector.(connectors.WebhookReceiver)
	if err != nil || !ok || !sameSecret(r.PathValue("secret"), hooked.WebhookSecret()) {
		if err == nil {
			s.requests.webhooks.WithLabelValues(provider.Name, "refused").Inc()
		}
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
		if err := s.Refresh.RecheckAccount(ctx, provider.Name, hint.AccountID); err != nil {
			s.requests.webhooks.WithLabelValues(provider.Name, "failed").Inc()
			s.Log.ErrorContext(ctx, "hint not kept", "provider", provider.Name, "err", err)
			http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
			return
		}
	}
	outcome := "taken"
	if err != nil {
		outcome = "not-understood"
	}
	s.requests.webhooks.WithLabelValues(provider.Name, outcome).Inc()
	s.Log.InfoContext(r.Context(), "webhook", "provider", provider.Name, "understood", err == nil, "revoked", hint.Revoked)
	w.WriteHeader(http.StatusNoContent)
}

// sameSecret compares in constant time. An empty secret equals nothing.
func sameSecret(given, expected string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(expected))
	return expected != "" && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
