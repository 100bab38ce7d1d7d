package handlers

import (
	"net/http"
	"net/url"
	"strings"

	"patchbay/internal/connectors"
)

// maxAnswer is the longest answer that is handed over in an address, in bytes.
const maxAnswer = 16 << 10

// postedCallback hands an answer that a provider has the browser post (OAuth 2.0 Form Post Response Mode) over to callback. A form of
// another site comes without our cookies, the GET of a redirect with them; callback then drops the query. Nothing else is done here,
// since any site may post to this address.
func (s *Server) postedCallback(w http.ResponseWriter, r *http.Request) error {
	answer := url.Values{}
	for name, values := range r.Form { // the form, then the query
		switch name {
		case "id_token", "access_token", "refresh_token", "token_type", "expires_in": // not asked for, and no use
		default:
			answer[name] = values[:1]
		}
	}
	query := answer.Encode()
	if len(query) > maxAnswer {
		return errTooLarge
	}
	return redirect(w, r, "/connect/"+url.PathEscape(r.PathValue("provider"))+"/callback?"+query)
}

// parseQuery reads a query as providers write it, also one with a second "?": a ";" is part of a value (RFC 3986 section 3.4), and
// a part that is not percent-encoded right is taken as it is. url.ParseQuery drops such pairs.
func parseQuery(raw string) url.Values {
	query := make(url.Values)
	for pair := range strings.SplitSeq(raw, "&") {
		if name, value, _ := strings.Cut(pair, "="); name != "" {
			query.Add(unescape(name), unescape(value))
		}
	}
	return connectors.FixDoubledQuery(query)
}

// unescape decodes a part of a query, or returns it as it is if it cannot be decoded.
func unescape(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}
