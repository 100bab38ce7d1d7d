package connectors

import (
	"net/http"
	"strings"
	"testing"
)

// TestFaultOf holds refusals in the words of many providers to whom they are about.
func TestFaultOf(t *testing.T) {
	for _, c := range []struct {
		provider string
		status   int
		body     string
		want     fault
	}{
		// A refresh token or code that is no longer good, in words other than invalid_grant.
		{"DeviantArt", 400, `{"error":"invalid_request","error_description":"Invalid \"refresh_token\" in request."}`, grantFault},
		{"Discord", 400, `{"error":"invalid_request","error_description":"The refresh_token is invalid"}`, grantFault},
		{"dex", 400, `{"error":"invalid_request","error_description":"Refresh token expired."}`, grantFault},
		{"dex, claimed", 400, `{"error":"invalid_request","error_description":"Refresh token is invalid or has already been claimed by another client."}`, grantFault},
		{"Forgejo", 400, `{"error":"unauthorized_client","error_description":"token was already used"}`, grantFault},
		{"Forgejo, other token", 400, `{"error":"unauthorized_client","error_description":"unable to parse refresh token"}`, grantFault},
		{"HubSpot", 400, `{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid refresh token","correlationId":"x"}`, grantFault},
		{"GitHub", 200, `{"error":"bad_refresh_token","error_description":"The refresh token passed is incorrect or expired."}`, grantFault},
		{"Slack", 200, `{"ok":false,"error":"invalid_refresh_token"}`, grantFault},
		{"Slack, revoked", 200, `{"ok":false,"error":"token_revoked"}`, grantFault},
		{"nested", 400, `{"error":{"code":"invalid_grant","message":"Refresh token has expired"}}`, grantFault},
		{"nested prose", 400, `{"error":{"code":400,"message":"Refresh token has expired"}}`, grantFault},
		{"JSON:API", 401, `{"errors":[{"code":"REFRESH_TOKEN_EXPIRED","detail":"The refresh token has expired."}]}`, grantFault},
		{"list of texts", 400, `{"errors":["Refresh token not found"]}`, grantFault},
		{"Meta", 400, `{"error":{"message":"Error validating access token: The user has not authorized application 17.","type":"OAuthException","code":190}}`, grantFault},
		{"403 in prose", 403, `{"message":"This grant has been revoked by the user"}`, grantFault},
		{"404 in prose", 404, `{"error":"not_found","error_description":"Refresh token not found"}`, grantFault},
		{"Entra", 400, `{"error":"interaction_required","error_description":"AADSTS50076: the user must sign in again"}`, grantFault},
		{"camel case", 400, `{"errorCode":"invalidGrant","errorMessage":"Refresh token is expired"}`, grantFault},
		{"capitals", 400, `{"error":"INVALID_GRANT"}`, grantFault},
		{"hyphens", 400, `{"error":"invalid-grant"}`, grantFault},
		{"camel case in prose", 400, `{"msg":"refreshToken expired"}`, grantFault},
		{"code that was used", 400, `{"error":"invalid_request","error_description":"The authorization code has already been redeemed"}`, grantFault},
		{"code in short", 400, `{"message":"Code not found"}`, grantFault},
		{"unknown token", 400, `{"error_description":"Unknown refresh token"}`, grantFault},
		{"one word", 400, `{"message":"Expired"}`, grantFault},
		{"no longer", 400, `{"error":"invalid_request","error_description":"The consent is no longer active."}`, grantFault},
		{"quotes of print", 400, `{"message":"“refresh-token” does not exist"}`, grantFault},

		// Our own registration.
		{"RFC 6749", 401, `{"error":"invalid_client","error_description":"client secret expired"}`, clientFault},
		{"GitHub, client", 200, `{"error":"incorrect_client_credentials"}`, clientFault},
		{"grant type", 400, `{"error":"unauthorized_client","error_description":"client is not allowed to use this grant type"}`, clientFault},
		{"code grant", 400, `{"error":"unauthorized_client","error_description":"The client is not authorized to request a token using this method."}`, clientFault},
		{"authorization code grant", 400, `{"error":"unauthorized_client","error_description":"The client is not authorized to use the authorization code grant."}`, clientFault},
		{"in prose", 401, `{"message":"Invalid client credentials"}`, clientFault},
		{"secret and token", 400, `{"error":{"code":"invalid_client","message":"token expired"}}`, clientFault},

		// Another request is under way, or there were too many: a later one may succeed.
		{"Salesforce", 400, `{"error":"invalid_grant","error_description":"token request is already being processed"}`, passing},
		{"Salesforce, in capitals", 400, `{"error":"INVALID_GRANT","error_description":"Token Request Is Already Being Processed."}`, passing},
		{"concurrent", 400, `{"error":"invalid_grant","error_description":"Invalid grant: concurrent refresh of this token"}`, passing},
		{"in progress", 409, `{"error":"invalid_request","error_description":"A refresh is already in progress"}`, passing},
		{"too many at once", 400, `{"error":"invalid_grant","error_description":"too many concurrent refresh requests"}`, passing},
		{"please retry", 400, `{"error":"invalid_grant","message":"The operation could not be completed, please retry"}`, passing},
		{"later", 400, `{"error":{"code":"invalid_grant","message":"Try again later"}}`, passing},
		{"locked", 423, `{"error":"invalid_grant","error_description":"refresh_token is currently locked by another request"}`, passing},
		{"in a 200", 200, `{"error":"invalid_grant","error_description":"Token is being refreshed"}`, passing},
		{"limit of rate", 400, `{"error":"invalid_client","error_description":"Rate limit exceeded"}`, passing},
		{"used at once with another", 400, `{"error":"invalid_grant","error_description":"The refresh token was already used by a concurrent request"}`, grantFault},
		{"ended, and polite", 400, `{"error":"invalid_grant","error_description":"Refresh token expired. Please retry the authorization."}`, grantFault},
		{"used up", 400, `{"error":"invalid_grant","error_description":"Refresh token was used too many times"}`, grantFault},
		{"a general apology", 400, `{"error":"invalid_grant","error_description":"Authentication failure. Please try again."}`, grantFault},

		// Neither, or nobody can say.
		{"empty", 400, ``, unknownFault},
		{"unknown code", 422, `{"error":"E1234"}`, unknownFault},
		{"our request", 400, `{"error":"invalid_request","error_description":"Missing parameter: refresh_token"}`, unknownFault},
		{"spa", 400, `{"error":"invalid_request","error_description":"AADSTS9002327: Tokens issued for the 'Single-Page Application' type may only be redeemed via cross-origin requests."}`, unknownFault},
		{"verifier", 400, `{"error":"invalid_request","error_description":"Invalid code verifier"}`, unknownFault},
		{"grant type unknown", 400, `{"error_description":"Unknown grant type"}`, unknownFault},
		{"firewall", 403, `{"message":"Session token invalid, access blocked"}`, unknownFault},
		{"cross-site request forgery", 400, `{"message":"Invalid CSRF token"}`, unknownFault},
		{"JSON of ours", 400, `{"message":"Invalid JSON: unexpected token < at 1"}`, unknownFault},
		{"address", 404, `{"message":"Token endpoint not found"}`, unknownFault},
		{"a success", 200, `{"access_token":"T","token_type":"bearer","status":"active"}`, unknownFault},
		{"another sentence", 400, `{"message":"Invalid request. See the page on refresh tokens."}`, unknownFault},
		{"deep", 400, `{"a":{"b":{"error":"invalid_grant"}}}`, unknownFault},
	} {
		if got := faultOf(response{status: c.status, header: http.Header{}, body: []byte(c.body)}); got != c.want {
			t.Errorf("%s: %d, want %d", c.provider, got, c.want)
		}
	}
}

func FuzzFaultOf(f *testing.F) {
	seed(f)
	f.Add(400, []byte(`{"error":[{"code":"x"},"y"],"errors":{"code":1},"error_description":["Refresh token","expired"]}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		r := fuzzResponse(status, body)
		said := r.object().refusal()
		if first, again := faultOf(r), faultOf(r); first != again {
			t.Error("judged in two ways")
		}
		if strings.ContainsAny(strings.Join(said.codes, ""), " \n\x00") || len(said.codes) > 60 {
			t.Errorf("codes %q", said.codes)
		}
	})
}
