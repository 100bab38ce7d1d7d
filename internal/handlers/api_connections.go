package handlers

import (
	"maps"
	"net/http"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/resource"
	"patchbay/internal/status"
	"patchbay/views"
)

const apiDisconnectRoute = "DELETE /api/v1/connections/{id}"

type apiReceipt struct {
	ID             pg.ID             `json:"id"`
	DisconnectedAt time.Time         `json:"disconnected_at"`
	Revoked        status.Revocation `json:"revoked"`
	AccessUntil    *time.Time        `json:"access_until"`
}

// apiDisconnect ends a connection, revokes its access at the provider, and returns the receipt. Asked again it returns it once more.
func (s *Server) apiDisconnect(w http.ResponseWriter, r *http.Request) error {
	key, c, err := s.connectionByKey(r, db.ScopeDisconnect)
	if err != nil {
		return err
	}
	parting, ended, err := s.DB.Disconnect(r.Context(), c.ID, c.MerchantID, s.byKey(r, key), s.Jobs)
	if err != nil {
		return err
	}
	if ended {
		if err := s.revokeAtProvider(r, parting); err != nil {
			return err
		}
	}
	receipt, err := s.Jobs.Receipt(r.Context(), parting.Connection)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, apiReceipt{
		ID: c.ID, DisconnectedAt: receipt.At.UTC(), Revoked: receipt.Revoked, AccessUntil: resource.TimeOrNull(receipt.RemainsUntil),
	})
}

type apiInput struct {
	Name     string   `json:"name"`
	Title    string   `json:"title"`
	Help     string   `json:"help"`
	Example  string   `json:"example"`
	Suffix   string   `json:"suffix"`
	Secret   bool     `json:"secret"`
	Optional bool     `json:"optional"`
	Options  []string `json:"options"`
}

type apiIncident struct {
	Since   time.Time         `json:"since"`
	Reason  status.Reason     `json:"reason"`
	Message map[string]string `json:"message"` // of staff to merchants, by language
	Until   *time.Time        `json:"until"`   // null if no end is expected
}

type apiProvider struct {
	Name        string       `json:"name"`
	Title       string       `json:"title"`
	Environment string       `json:"environment"`
	Access      string       `json:"access"`
	Checked     bool         `json:"checked"` // false for a key that nothing can prove
	Inputs      []apiInput   `json:"inputs"`
	Incident    *apiIncident `json:"incident"`
}

// apiProviders lists the providers that are set up, in the order of the merchants' page.
func (s *Server) apiProviders(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.key(r, db.ScopeConnections); err != nil {
		return err
	}
	answer := struct {
		Providers []apiProvider `json:"providers"`
	}{Providers: []apiProvider{}}
	incidents := s.currentIncidents(r.Context())
	english := views.WithLocale(r.Context(), "en", s.DB.Now(), time.UTC)
	for _, provider := range s.Providers {
		if provider.Connector == nil {
			continue
		}
		p := apiProvider{Name: provider.Name, Title: provider.Title, Environment: provider.Environment, Access: "redirect", Checked: true, Inputs: []apiInput{}}
		if _, ok := provider.Connector.(connectors.CredentialConnector); ok {
			p.Access = "credentials"
		}
		if key, ok := provider.Connector.(connectors.KeyConnector); ok {
			p.Checked = key.Proves()
		}
		for _, f := range fieldsOf(provider) {
			title, help := views.Field{Field: f}.Words(english, viewProvider(provider))
			p.Inputs = append(p.Inputs, apiInput{
				Name: f.Name, Title: title, Help: help, Example: f.Example, Suffix: f.Suffix, Secret: f.Secret, Optional: f.Optional, Options: append([]string{}, f.Options...),
			})
		}
		for _, one := range incidents {
			if provider.Is(one.Name, one.Environment) {
				p.Incident = &apiIncident{Since: one.IncidentSince.UTC(), Reason: one.Reason, Message: map[string]string{}, Until: resource.TimeOrNull(one.Until)}
				maps.Copy(p.Incident.Message, one.Message)
			}
		}
		answer.Providers = append(answer.Providers, p)
	}
	return writeJSON(w, http.StatusOK, answer)
}
