package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// patchbay calls Patchbay's API. The key never leaves the platform's server.
type patchbay struct {
	api    string // https://connect.example.com/api/v1
	key    string
	client *http.Client
}

// problem is an error answer of the API (RFC 9457).
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	RequestID string `json:"request_id"`
}

// Error returns what to write into a log.
func (p *problem) Error() string {
	return fmt.Sprintf("patchbay answers %d %s: %s (request %s)", p.Status, p.Type, p.Detail, p.RequestID)
}

type provider struct {
	Name        string    `json:"name"`
	Title       string    `json:"title"`
	Environment string    `json:"environment"`
	Incident    *incident `json:"incident"`
}

type incident struct {
	Since time.Time `json:"since"`
}

type merchant struct {
	ExternalID string `json:"external_id"`
	Name       string `json:"name"`
	Locale     string `json:"locale,omitempty"`
}

type user struct {
	ExternalID string `json:"external_id"`
	Name       string `json:"name"`
}

type connection struct {
	ID       string   `json:"id"`
	Merchant merchant `json:"merchant"`
	Provider string   `json:"provider"`
	Account  struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"account"`
	Health     string `json:"health"`
	WhoMustAct string `json:"who_must_act"`
}

type newLink struct {
	Merchant   merchant `json:"merchant"`
	User       user     `json:"user"`
	Provider   string   `json:"provider,omitempty"`
	Connection string   `json:"connection,omitempty"`
	ReturnURL  string   `json:"return_url"`
	Return     string   `json:"return"`
	Confirm    bool     `json:"confirm"`
}

type link struct {
	ID         string    `json:"id"`
	URL        string    `json:"url"` // only in the answer that makes it
	State      string    `json:"state"`
	Merchant   merchant  `json:"merchant"`
	Connection string    `json:"connection"`
	Reference  string    `json:"reference"`
	ExpiresAt  time.Time `json:"expires_at"`
}

type token struct {
	AccessToken string     `json:"access_token"`
	TokenType   string     `json:"token_type"`
	ExpiresAt   *time.Time `json:"expires_at"` // nil: no end is known
	Scope       string     `json:"scope"`
	Account     struct {
		ID string `json:"id"`
	} `json:"account"`
}

type receipt struct {
	Revoked     string     `json:"revoked"`
	AccessUntil *time.Time `json:"access_until"`
}

func (p *patchbay) providers(ctx context.Context) ([]provider, error) {
	var answer struct {
		Providers []provider `json:"providers"`
	}
	err := p.call(ctx, http.MethodGet, "/providers", nil, &answer)
	return answer.Providers, err
}

// connections lists the merchant's first hundred. There are more if next is not empty: ask again with cursor=next.
func (p *patchbay) connections(ctx context.Context, externalID string) ([]connection, error) {
	var answer struct {
		Connections []connection `json:"connections"`
	}
	err := p.call(ctx, http.MethodGet, "/connections?limit=100&merchant="+url.QueryEscape(externalID), nil, &answer)
	return answer.Connections, err
}

func (p *patchbay) connection(ctx context.Context, id string) (c connection, err error) {
	return c, p.call(ctx, http.MethodGet, "/connections/"+url.PathEscape(id), nil, &c)
}

func (p *patchbay) token(ctx context.Context, connection string) (t token, err error) {
	return t, p.call(ctx, http.MethodGet, "/connections/"+url.PathEscape(connection)+"/token", nil, &t)
}

func (p *patchbay) disconnect(ctx context.Context, connection string) (r receipt, err error) {
	return r, p.call(ctx, http.MethodDelete, "/connections/"+url.PathEscape(connection), nil, &r)
}

func (p *patchbay) addLink(ctx context.Context, l newLink) (made link, err error) {
	return made, p.call(ctx, http.MethodPost, "/connect-links", l, &made)
}

func (p *patchbay) link(ctx context.Context, id string) (l link, err error) {
	return l, p.call(ctx, http.MethodGet, "/connect-links/"+url.PathEscape(id), nil, &l)
}

func (p *patchbay) confirm(ctx context.Context, id, code string) (l link, err error) {
	return l, p.call(ctx, http.MethodPost, "/connect-links/"+url.PathEscape(id)+"/confirm", map[string]string{"code": code}, &l)
}

// addEndpoint has events sent to an address. The secret is in this answer and in no other.
func (p *patchbay) addEndpoint(ctx context.Context, address string) (secret string, err error) {
	var answer struct {
		Secret string `json:"secret"`
	}
	err = p.call(ctx, http.MethodPost, "/webhook-endpoints", map[string]string{"url": address}, &answer)
	return answer.Secret, err
}

// call sends a request and reads its answer. It returns a *problem if the API says no.
func (p *patchbay) call(ctx context.Context, method, path string, body, answer any) error {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, p.api+path, sent)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+p.key)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := p.client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= 400 {
		no := &problem{Status: response.StatusCode}
		if err := json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(no); err != nil {
			return fmt.Errorf("patchbay answers %d, and not with a problem: %w", response.StatusCode, err)
		}
		return no
	}
	return json.NewDecoder(io.LimitReader(response.Body, 4<<20)).Decode(answer)
}
