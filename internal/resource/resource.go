// Package resource has the JSON that the platform's programs are given, in answers of the API and in webhooks alike. It holds no secret.
package resource

import (
	"maps"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// Merchant is a merchant.
type Merchant struct {
	ID         pg.ID  `json:"id"`
	ExternalID string `json:"external_id"`
	Name       string `json:"name"`
}

// Account is a merchant's account at a provider.
type Account struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	Details map[string]string `json:"details"`
	Values  connectors.Values `json:"values"` // what the provider said beside the token
	Input   map[string]string `json:"input"`  // what the merchant typed that is no secret
}

// Scopes are those of a connection's access.
type Scopes struct {
	Granted []string `json:"granted"`
	Missing []string `json:"missing"`
}

// Connection is a connection.
type Connection struct {
	ID              pg.ID          `json:"id"`
	Reference       string         `json:"reference"` // as the merchant reads it out to support; several may share one
	Merchant        Merchant       `json:"merchant"`
	Provider        string         `json:"provider"`
	Environment     string         `json:"environment"`
	Account         Account        `json:"account"`
	Nickname        string         `json:"nickname"`
	Scopes          Scopes         `json:"scopes"`
	Health          status.Health  `json:"health"`
	WhoMustAct      status.Party   `json:"who_must_act"`
	Problem         status.Problem `json:"problem"`
	ConnectedAt     time.Time      `json:"connected_at"`
	RefreshedAt     *time.Time     `json:"refreshed_at"`
	AccessExpiresAt *time.Time     `json:"access_expires_at"`
	NextRefreshAt   *time.Time     `json:"next_refresh_at"`
	ReconnectBy     *time.Time     `json:"reconnect_by"`
	Renewable       bool           `json:"renewable"`
	DisconnectedAt  *time.Time     `json:"disconnected_at,omitempty"`
}

// ConnectionOf returns a connection that has that status.
func ConnectionOf(s status.Status, c db.ConnectionRow) Connection {
	a := Connection{
		ID: c.ID, Reference: c.Reference(), Merchant: Merchant{ID: c.MerchantID, ExternalID: c.ExternalID, Name: c.MerchantName}, Provider: c.Provider, Environment: c.Environment,
		Account:  Account{ID: c.Account.ID, Name: c.Account.Name, Details: map[string]string{}, Values: connectors.Values{}, Input: map[string]string{}},
		Nickname: c.Nickname, Scopes: Scopes{append([]string{}, c.Scopes.Granted...), append([]string{}, c.Scopes.Missing...)},
		Health: s.Health, WhoMustAct: s.Party, Problem: s.Problem, ConnectedAt: c.ConnectedAt,
		RefreshedAt: TimeOrNull(c.RefreshedAt), AccessExpiresAt: TimeOrNull(c.ExpiresAt), NextRefreshAt: TimeOrNull(c.RefreshAt),
		ReconnectBy: TimeOrNull(s.ReconnectBy), Renewable: !c.Unrenewable, DisconnectedAt: TimeOrNull(c.DisconnectedAt),
	}
	for _, d := range c.Account.Details {
		a.Account.Details[d.Key] = d.Value
	}
	maps.Copy(a.Account.Values, c.Account.Values)
	maps.Copy(a.Account.Input, c.Account.Input)
	return a
}

// TimeOrNull returns a time in UTC, and nil for the zero time.
func TimeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
