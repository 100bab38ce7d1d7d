package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// bookings imitates the unnamed bookings partner at /bookings: Laravel Passport's client credentials, no refresh.
type bookings struct {
	*Sandbox
	o BookingsOptions

	throttle sync.Mutex
	minute   int64
	minted   map[string]int
}

func serveBookings(s *Sandbox) {
	p := &bookings{Sandbox: s, o: s.o.Bookings, minted: map[string]int{}}
	s.serve("POST /bookings/api/oauth/token", Bookings, "token", false, p.token)
}

// fail answers in stock Passport's words, or with a web page where the caller did not ask for JSON, as Laravel does.
func (p *bookings) fail(c *call, status int, code, words, hint string) {
	if !strings.Contains(c.r.Header.Get("Accept"), "application/json") {
		c.html(status, "<h1>"+words+"</h1>")
		return
	}
	body := map[string]string{"error": code, "error_description": words, "message": words}
	if hint != "" {
		body["hint"] = hint
	}
	c.json(status, body)
}

func (p *bookings) token(c *call) {
	var body map[string]any
	if !c.readJSON(&body) {
		body = nil
	}
	text := func(name string) string { s, _ := body[name].(string); return s }
	const missing = "The request is missing a required parameter, includes an invalid parameter value, includes a parameter more than once, or is otherwise malformed."
	if !strings.Contains(c.r.Header.Get("Accept"), "application/json") {
		p.fail(c, http.StatusNotAcceptable, "", "Not Acceptable", "")
		return
	}
	switch {
	case text("grant_type") != "client_credentials":
		p.fail(c, http.StatusBadRequest, "unsupported_grant_type",
			"The authorization grant type is not supported by the authorization server.", "Check that all required parameters have been provided")
		return
	case text("client_id") == "":
		p.fail(c, http.StatusBadRequest, "invalid_request", missing, "Check the `client_id` parameter")
		return
	}
	m := p.merchant(text("client_id"))
	good := m != nil && same(m.ClientSecret, text("client_secret")) && !c.refused() && !c.clientRefused()
	if good {
		p.mu.Lock()
		good = !p.credentialGrant(c.now, Bookings, m.ClientID).Revoked
		p.mu.Unlock()
	}
	if !good {
		p.fail(c, http.StatusUnauthorized, "invalid_client", "Client authentication failed", "")
		return
	}
	if p.tooMany(m.ClientID, c.now) {
		c.w.Header().Set("Retry-After", fmt.Sprint(60-c.now.Unix()%60))
		c.json(http.StatusTooManyRequests, map[string]string{"message": "Too Many Attempts."})
		return
	}
	jwt, err := p.jwt(c.now, m)
	if err != nil {
		p.fail(c, http.StatusInternalServerError, "server_error", "Server Error", "")
		return
	}
	p.mu.Lock()
	p.remember(jwt)
	p.mu.Unlock()
	c.json(http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": c.lifetime(seconds(p.o.Lifetime)), "access_token": jwt})
}

// tooMany is Laravel's throttle, counted per client and minute.
func (p *bookings) tooMany(clientID string, now time.Time) bool {
	if p.o.PerMinute <= 0 {
		return false
	}
	p.throttle.Lock()
	defer p.throttle.Unlock()
	if minute := now.Unix() / 60; minute != p.minute {
		p.minute, p.minted = minute, map[string]int{}
	}
	p.minted[clientID]++
	return p.minted[clientID] > p.o.PerMinute
}

// jwt makes the token as sampled: no kid, no iss, an empty sub and times with microseconds.
func (p *bookings) jwt(now time.Time, m *BookingsMerchant) (string, error) {
	key, err := p.keys.get(Bookings, p.o.KeyBits)
	if err != nil {
		return "", err
	}
	at := func(t time.Time) json.Number { return json.Number(fmt.Sprintf("%.6f", float64(t.UnixMicro())/1e6)) }
	header := struct {
		Typ string `json:"typ"`
		Alg string `json:"alg"`
	}{"JWT", "RS256"}
	claims := struct {
		Aud       string      `json:"aud"`
		JTI       string      `json:"jti"`
		IAT       json.Number `json:"iat"`
		NBF       json.Number `json:"nbf"`
		Exp       json.Number `json:"exp"`
		Sub       string      `json:"sub"`
		Scopes    []string    `json:"scopes"`
		UserID    string      `json:"user_id"`
		PartnerID string      `json:"partner_id"`
		IsTest    bool        `json:"is_test"`
	}{
		m.ClientID, token(40), at(now), at(now.Add(2 * time.Microsecond)), at(now.Add(p.o.Lifetime - 6*time.Millisecond)), "",
		[]string{"bookings:create", "bookings:delete"},
		m.UserID, m.PartnerID, !m.Live,
	}
	return signRS(key, header, claims)
}

func (p *bookings) merchant(clientID string) *BookingsMerchant {
	for i := range p.o.Merchants {
		if p.o.Merchants[i].ClientID == clientID {
			return &p.o.Merchants[i]
		}
	}
	if strings.HasPrefix(clientID, madeUpMark) {
		return &BookingsMerchant{ClientID: clientID, ClientSecret: madeUpMark + "secret-of-" + clientID}
	}
	return nil
}
