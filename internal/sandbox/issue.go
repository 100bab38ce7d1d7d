package sandbox

import "fmt"

// Issued is what Issue made. Refresh and ExpiresIn are as an answer would have them.
type Issued struct {
	Access, Refresh string
	ExpiresIn       int // seconds
}

// Issue gives a provider's operator client a grant for an account without any browser, so that a test or a benchmark
// can begin with thousands of them. account is an endpoint_id, a USER_ID, a Flexiti client id or a user's sub. At
// CamInvoice any "KHUID9" + digits is a company that is made up on the spot. Bookings issues no refresh tokens, so there is
// nothing to prepare.
func (s *Sandbox) Issue(provider, account string) (Issued, error) {
	c := &call{s: s, now: s.o.Now()}
	s.mu.Lock()
	var answer map[string]any
	switch provider {
	case CamInvoice:
		if s.cam.find(account) == nil {
			break
		}
		g := s.newGrant(c.now, CamInvoice, s.cam.o.ClientID, account, "")
		refresh := token(32)
		s.newRefresh(c.now, g, refresh, "", s.cam.o.RefreshLifetime)
		s.mu.Unlock()
		return Issued{s.cam.access(c.now, g), refresh, seconds(s.cam.o.AccessLifetime)}, nil
	case ELECQ:
		p := &elecq{s, s.o.ELECQ}
		g := s.newGrant(c.now, ELECQ, p.o.ClientID, account, "")
		if p.o.FixedDeadline {
			g.Deadline = c.now.Add(p.o.RefreshLifetime)
		}
		answer = p.issue(c, g, "")
		answer["access_token"], answer["refresh_token"], answer["expires_in"] = answer["accessToken"], answer["refreshToken"], answer["accessTokenExpiresIn"]
	case Flexiti:
		p := &flexiti{Sandbox: s, o: s.o.Flexiti}
		if p.merchant(account) != nil {
			answer = p.issue(c, s.credentialGrant(c.now, Flexiti, account), "merchant", "")
		}
	case s.std.o.Name:
		if s.std.user(account) != nil {
			answer = s.std.issue(c, s.newGrant(c.now, provider, s.std.o.ClientID, account, "openid profile email orders.read offline_access"), "")
		}
	}
	s.mu.Unlock()
	if answer == nil {
		return Issued{}, fmt.Errorf("sandbox: no account %q at %q", account, provider)
	}
	access, _ := answer["access_token"].(string)
	refresh, _ := answer["refresh_token"].(string)
	life, _ := answer["expires_in"].(int)
	return Issued{access, refresh, life}, nil
}
