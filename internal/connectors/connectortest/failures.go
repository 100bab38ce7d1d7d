package connectortest

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"patchbay/internal/status"
)

// redirectPath is where the redirecting failures point.
const redirectPath = "/lure/" + canary

// unauthorized stands for the outcome that Case.Unauthorized gives.
const unauthorized status.Outcome = "401"

// failure is one way in which a provider can fail. class is the outcome that its error must stand for.
type failure struct {
	name     string
	outcome  status.Outcome
	ack      bool // a call that returns nothing may take it for success
	redirect bool
	respond  http.HandlerFunc
}

// anyToken is a token under every name that any provider uses: a reader that looks no further would take it.
const anyToken = `"access_token":"` + canary + `","token":"` + canary + `","accessToken":"` + canary + `"`

func failures() []failure {
	says := func(status int, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	html := "<!doctype html><title>" + canary + "</title><p>access_token " + canary
	return []failure{
		{name: "500", outcome: status.Temporary, respond: says(500, `{"message":"`+canary+`"}`)},
		{name: "500 with a token in it", outcome: status.Temporary, respond: says(500, `{`+anyToken+`}`)},
		{name: "500 with a refusal's code", outcome: status.Temporary, respond: says(500, `{"error":"invalid_grant"}`)},
		{name: "502 HTML", outcome: status.Temporary, respond: says(502, html, "Content-Type", "text/html")},
		{name: "503", outcome: status.Temporary, respond: says(503, canary)},
		{name: "503 with Retry-After", outcome: status.Temporary, respond: says(503, canary, "Retry-After", "7")},
		{name: "503 with a date", outcome: status.Temporary, respond: says(503, canary, "Retry-After", "Wed, 21 Oct 2099 07:28:00 GMT")},
		{name: "429", outcome: status.RateLimited, respond: says(429, `{"error":"slow down, `+canary+`"}`)},
		{name: "429 with Retry-After", outcome: status.RateLimited, respond: says(429, `{"error":"invalid_grant"}`, "Retry-After", "3")},
		{name: "403", outcome: status.Temporary, respond: says(403, `{"message":"Forbidden, `+canary+`"}`)},
		{name: "403 of a firewall", outcome: status.Temporary, respond: says(403, html, "Content-Type", "text/html")},
		{name: "401", outcome: unauthorized, respond: says(401, `{"message":"`+canary+`"}`)},
		{name: "418", outcome: status.Temporary, respond: says(418, canary)},
		{name: "HTML with 200", outcome: status.Temporary, ack: true, respond: says(200, html, "Content-Type", "text/html")},
		{name: "empty object", outcome: status.Temporary, ack: true, respond: says(200, `{}`)},
		{name: "array", outcome: status.Temporary, ack: true, respond: says(200, `[{`+anyToken+`}]`)},
		{name: "null", outcome: status.Temporary, ack: true, respond: says(200, `null`)},
		{name: "string", outcome: status.Temporary, ack: true, respond: says(200, `"`+canary+`"`)},
		{name: "no body", outcome: status.Temporary, ack: true, respond: says(200, ``)},
		{name: "no content", outcome: status.Temporary, ack: true, respond: says(204, ``)},
		{name: "token of a wrong type", outcome: status.Temporary, ack: true, respond: says(200,
			`{"respCode":"200","access_token":1,"token":["`+canary+`"],"accessToken":{},"data":{"accessToken":true,"access_token":7}}`)},
		{name: "token that is empty", outcome: status.Temporary, ack: true, respond: says(200,
			`{"respCode":"200","access_token":"","token":" ","accessToken":"","data":{"accessToken":""}}`)},
		{name: "token that no header carries", outcome: status.Temporary, ack: true, respond: says(200,
			`{"respCode":"200","access_token":"a\r\nb","token":"a\u0000","data":{"accessToken":"\u1780"}}`)},
		{name: "every type wrong", outcome: status.Temporary, ack: true, respond: says(200,
			`{"access_token":[],"expires_in":{"a":1},"business_info":"x","data":[],"respCode":{},"scope":9,"error":[1],"issuer":3,"sub":[]}`)},
		{name: "truncated", outcome: status.Temporary, ack: true, respond: says(200, `{`+anyToken+`,"expires_in":36`)},
		{name: "5 MB", outcome: status.Temporary, respond: says(200, strings.Repeat(" ", 5<<20)+`{`+anyToken+`}`)},
		{name: "hang-up", outcome: status.Temporary, respond: hangUp("")},
		{name: "hang-up in the body", outcome: status.Temporary, respond: hangUp(
			"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{" + anyToken + "}")},
		{name: "no HTTP", outcome: status.Temporary, respond: hangUp("220 " + canary + " ESMTP\r\n\r\n")},
		{name: "redirect", outcome: status.Temporary, redirect: true, respond: says(302, "", "Location", redirectPath)},
		{name: "redirect that keeps the method", outcome: status.Temporary, redirect: true, respond: says(307, "", "Location", redirectPath)},
		{name: "echo", outcome: status.Temporary, ack: true, respond: echo},
	}
}

// hangUp writes raw and closes the connection.
func hangUp(raw string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		io.WriteString(conn, raw)
		conn.Close()
	}
}

// echo repeats everything that it was sent wherever an error may hold text.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, password, _ := r.BasicAuth()
	all := fmt.Sprintf("%s %s %s", body, r.Header.Get("Authorization"), canary)
	if password == "" {
		password = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	w.WriteHeader(http.StatusTeapot)
	fmt.Fprintf(w, `{"error":%q,"error_description":%q,"respMsg":%q}`, password, all, all)
}
