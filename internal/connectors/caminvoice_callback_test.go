package connectors_test

import (
	"net/http"
	"testing"

	"patchbay/internal/connectors"
	"patchbay/internal/status"
)

// TestCamInvoiceCallbackRegistered: what /connect says of a redirect_url, in every wording that may come, since none is documented.
func TestCamInvoiceCallbackRegistered(t *testing.T) {
	for _, one := range []struct {
		name       string
		status     int
		kind, body string
		outcome    status.Outcome
	}{
		{"its sign-in page", 200, "text/html", "<h1>Sign in</h1>", status.OK},
		{"a sign-in page whose script knows the words", 200, "text/html", `<script>const m={e:"redirect_url is not allowed"}</script>`, status.OK},
		{"a redirect to the sign-in page", 302, "", "/sign-in", status.OK},
		{"one that repeats our address", 302, "", "/sign-in?redirect_url=https%3A%2F%2Fp.example%2Fnot%2Fallowed&next=%2Fconnect", status.OK},
		{"one that says something else of it", 302, "", "/sign-in?redirect_url=%2Fconnect&session=not+found", status.OK},
		{"a redirect to its error page", 302, "", "/error?code=redirect_url_not_allowed", status.ClientRejected},
		{"in the words of the path", 303, "", "/errors/redirect-url-not-whitelisted", status.ClientRejected},
		{"in a message", 302, "", "https://other.example/oops?message=Invalid%20redirect%20URL", status.ClientRejected},
		{"the sandbox's page", 400, "text/html", "<p>The redirect_url is not on the whitelist. It is set with POST.</p>", status.ClientRejected},
		{"in JSON", 400, "application/json", `{"message":"Redirect URL not allowed"}`, status.ClientRejected},
		{"in JSON and 200", 200, "application/json", `{"error":"invalid_request","error_description":"redirect_uri mismatch"}`, status.ClientRejected},
		{"in a list", 422, "application/json", `{"message":["redirect_url is not whitelisted"]}`, status.ClientRejected},
		{"by code", 403, "application/json", `{"error":"redirect_uri_mismatch"}`, status.ClientRejected},
		{"the other way round", 400, "text/plain", "Invalid redirect url", status.ClientRejected},
		{"not in the white list", 403, "text/html", "<b>This address is not in the white-list</b>", status.ClientRejected},
		{"our client is unknown: that is no word about the address", 400, "text/html", "The client_id is not known.", status.Temporary},
		{"a page that does not exist", 404, "text/html", "<h1>Not found</h1>", status.Temporary},
		{"a browser is wanted", 403, "text/html", "<h1>Just a moment</h1>", status.Temporary},
		{"it is down", 503, "text/html", "redirect_url not allowed", status.Temporary},
		{"it has broken down", 500, "text/html", "redirect_url not allowed", status.Temporary},
		{"it asks us to wait", 429, "", "", status.RateLimited},
	} {
		t.Run(one.name, func(t *testing.T) {
			base := serve(t, map[string]http.HandlerFunc{"GET /connect": func(w http.ResponseWriter, r *http.Request) {
				if q := r.URL.Query(); q.Get("redirect_url") != "https://p.example/connect/caminvoice/callback" || q.Has("state") || r.Header.Get("Cookie")+r.Header.Get("Authorization") != "" {
					t.Errorf("asked for %s", r.URL)
				}
				if one.status == 302 || one.status == 303 {
					w.Header().Set("Location", one.body)
				}
				answers(one.status, one.kind, one.body)(w, r)
			}})
			c := connector(t, base, "caminvoice", "", camInvoiceSettings).(connectors.CallbackChecker)
			if err := c.CheckCallback(t.Context(), "https://p.example/connect/caminvoice/callback"); connectors.OutcomeOf(err) != one.outcome {
				t.Errorf("%v, want %v", err, one.outcome)
			}
		})
	}
}
