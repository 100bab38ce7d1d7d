package handlers

import (
	"errors"
	"net/http"
	"time"

	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/resource"
	"patchbay/internal/webhooks"
)

type apiEndpoint struct {
	ID           pg.ID              `json:"id"`
	URL          string             `json:"url"`
	Types        []webhooks.Type    `json:"types"`
	State        webhooks.State     `json:"state"`
	OffReason    webhooks.OffReason `json:"off_reason"`
	CreatedAt    time.Time          `json:"created_at"`
	DeliveredAt  *time.Time         `json:"delivered_at"`
	FailingSince *time.Time         `json:"failing_since"`
	OffAt        *time.Time         `json:"off_at"`
	Secret       string             `json:"secret,omitempty"`       // of the answer that makes it
	RotatedUntil *time.Time         `json:"rotated_until,omitzero"` // until then the secret before signs too
}

func shownEndpoint(e webhooks.Endpoint, secret webhooks.Secret) apiEndpoint {
	a := apiEndpoint{
		ID: e.ID, URL: e.URL, Types: e.Types, State: e.State(), OffReason: e.OffReason, CreatedAt: e.CreatedAt, DeliveredAt: resource.TimeOrNull(e.DeliveredAt),
		FailingSince: resource.TimeOrNull(e.FailingSince), OffAt: resource.TimeOrNull(e.OffAt), Secret: string(secret), RotatedUntil: resource.TimeOrNull(e.RotatedUntil),
	}
	if len(a.Types) == 0 {
		a.Types = webhooks.Types()
	}
	return a
}

// webhooksKey returns the request's API key if it may set up webhooks, which report the events of all merchants.
func (s *Server) webhooksKey(r *http.Request) (db.APIKey, error) {
	key, err := s.key(r, db.ScopeWebhooks)
	if err == nil && key.MerchantID != (pg.ID{}) {
		err = errForbidden
	}
	return key, err
}

// apiEndpoints lists the endpoints of webhooks.
func (s *Server) apiEndpoints(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.webhooksKey(r); err != nil {
		return err
	}
	all, err := s.Webhooks.Endpoints(r.Context())
	if err != nil {
		return err
	}
	answer := struct {
		Endpoints []apiEndpoint `json:"webhook_endpoints"`
	}{Endpoints: []apiEndpoint{}}
	for _, e := range all {
		answer.Endpoints = append(answer.Endpoints, shownEndpoint(e, ""))
	}
	return writeJSON(w, http.StatusOK, answer)
}

// apiAddEndpoint adds an endpoint. Its secret is in this answer only.
func (s *Server) apiAddEndpoint(w http.ResponseWriter, r *http.Request) error {
	key, err := s.webhooksKey(r)
	if err != nil {
		return err
	}
	var asked struct {
		URL   string          `json:"url"`
		Types []webhooks.Type `json:"types"`
	}
	if err := readJSON(r, &asked, "the body is a JSON object with url and optionally types"); err != nil {
		return err
	}
	e, secret, err := s.Webhooks.Add(r.Context(), s.byKey(r, key), asked.URL, asked.Types)
	switch {
	case errors.Is(err, webhooks.ErrURL) && s.Webhooks.Private:
		return invalid("url is an address like https://platform.example/patchbay, of at most 2000 characters, without user or fragment")
	case errors.Is(err, webhooks.ErrURL):
		return invalid("url is a public address like https://platform.example/patchbay, of at most 2000 characters, without user or fragment")
	case errors.Is(err, webhooks.ErrType):
		return invalid("types has a type that there is not")
	case errors.Is(err, webhooks.ErrTooMany):
		return invalid("there are as many endpoints as there may be: delete one first")
	case err != nil:
		return err
	}
	return writeJSON(w, http.StatusCreated, shownEndpoint(e, secret))
}

// apiDeleteEndpoint deletes an endpoint with its deliveries.
func (s *Server) apiDeleteEndpoint(w http.ResponseWriter, r *http.Request) error {
	key, err := s.webhooksKey(r)
	if err != nil {
		return err
	}
	id, err := pg.ParseID(r.PathValue("id"))
	if err == nil {
		_, err = s.Webhooks.Delete(r.Context(), s.byKey(r, key), id)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// apiRotateEndpoint gives an endpoint another secret, which is in this answer only.
func (s *Server) apiRotateEndpoint(w http.ResponseWriter, r *http.Request) error {
	key, err := s.webhooksKey(r)
	if err != nil {
		return err
	}
	id, err := pg.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	e, secret, err := s.Webhooks.Rotate(r.Context(), s.byKey(r, key), id)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, shownEndpoint(e, secret))
}

// apiTestEndpoint sends an endpoint an event of the type test.
func (s *Server) apiTestEndpoint(w http.ResponseWriter, r *http.Request) error {
	key, err := s.webhooksKey(r)
	if err != nil {
		return err
	}
	id, err := pg.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	_, event, err := s.Webhooks.SendTest(r.Context(), s.byKey(r, key), id)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusAccepted, struct {
		WebhookID pg.ID `json:"webhook_id"`
	}{event})
}
