package sandbox

import (
	"cmp"
	"crypto/subtle"
	"encoding/json"
	"mime"
	"net/url"
	"slices"
	"strings"
)

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// basic says whether the call carries these Basic credentials as they are, without RFC 6749's form encoding.
func (c *call) basic(id, secret string) bool {
	user, password, ok := c.r.BasicAuth()
	return ok && same(user, id) && same(password, secret) && !c.clientRefused()
}

// bearer returns the call's Bearer token, or "".
func (c *call) bearer() string {
	scheme, value, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return value
}

// mediaType is the body's media type without parameters.
func (c *call) mediaType() string {
	kind, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	return kind
}

// readJSON reads a JSON object that is declared as JSON.
func (c *call) readJSON(into any) bool {
	return c.mediaType() == "application/json" && json.NewDecoder(c.r.Body).Decode(into) == nil
}

// withQuery adds parameters to a callback, before its fragment and beside the query it may have.
func withQuery(callback string, pairs ...string) string {
	u, err := url.Parse(callback)
	if err != nil {
		return callback
	}
	q := u.Query()
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// sortGrants sorts by when they were made.
func sortGrants(all []GrantInfo) {
	slices.SortFunc(all, func(a, b GrantInfo) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
}
