package platform

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// hook is a webhook that came, and whose signature is Patchbay's.
type hook struct {
	ID        string
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		ID       string   `json:"id"`
		Sequence int64    `json:"sequence"`
		Merchant merchant `json:"merchant"`
		Provider string   `json:"provider"`
		Health   string   `json:"health"`
	} `json:"data"`
}

// hooks are those that came, the latest first. A platform keeps them in a queue on its disk.
type hooks struct {
	mu       sync.Mutex
	verifier *standardwebhooks.Webhook // nil until the endpoint has a secret
	all      []hook
	seen     map[string]bool
}

// hooksKept is how many webhooks this sample remembers.
const hooksKept = 500

// trust has webhooks verified with a secret (whsec_…).
func (h *hooks) trust(secret string) error {
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.verifier = verifier
	return nil
}

// receive takes a webhook. It answers 2xx once it is kept: any other answer, or none within 15 s, has it sent again later.
func (h *hooks) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.verifier == nil {
		http.Error(w, "no secret is known yet", http.StatusServiceUnavailable)
		return
	}
	if err := h.verifier.Verify(body, r.Header); err != nil {
		http.Error(w, "not signed by Patchbay", http.StatusForbidden)
		return
	}
	got := hook{ID: r.Header.Get(standardwebhooks.HeaderWebhookID)}
	if err := json.Unmarshal(body, &got); err != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	if !h.seen[got.ID] { // it may come twice
		h.seen[got.ID] = true
		h.all = slices.Insert(h.all, 0, got)
	}
	if len(h.all) > hooksKept {
		delete(h.seen, h.all[hooksKept].ID)
		h.all = h.all[:hooksKept]
	}
	w.WriteHeader(http.StatusNoContent)
}

// of returns the latest of a merchant's, and those that are of no merchant.
func (h *hooks) of(externalID string) (some []hook) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, one := range h.all {
		if id := one.Data.Merchant.ExternalID; (id == "" || id == externalID) && len(some) < 50 {
			some = append(some, one)
		}
	}
	return some
}
