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
	class    status.Outcome
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
		{name: "500", class: status.Temporary, respond: says(500, `{"message":"`+canary+`"}`)},
		{name: "500 with a token in it", class: status.Temporary, respond: says(500, `{`+anyToken+`}`)},
		{name: "500 with a refusal's code", class: status.Temporary, respond: says(500, `{"error":"invalid_grant"}`)},
		{name: "502 HTML", class: status.Temporary, respond: says(502, html, "Content-Type", "text/html")},
		{name: "503", class: status.Temporary, respond: says(503, canary)},
		{name: "503 with Retry-After", class: status.Temporary, respond: says(503, canary, "Retry-After", "7")},
		{name: "503 with a date", class: status.Temporary, respond: says(503, canary, "Retry-After", "Wed, 21 Oct 2099 07:28:00 GMT")},
		{name: "429", class: status.RateLimited, respond: says(429, `{"error":"slow down, `+canary+`"}`)},
		{name: "429 with Retry-After", class: status.RateLimited, respond: says(429, `{"error":"invalid_grant"}`, "Retry-After", "3")},
		{name: "403", class: status.Temporary, respond: says(403, `{"message":"Forbidden, `+canary+`"}`)},
		{name: "403 of a firewall", class: status.Temporary, respond: says(403, html, "Content-Type", "text/html")},
		{name: "401", class: unauthorized, respond: says(401, `{"message":"`+canary+`"}`)},
		{name: "418", class: status.Temporary, respond: says(418, canary)},
		{name: "HTML with 200", class: status.Temporary, ack: true, respond: says(200, html, "Content-Type", "text/html")},
		{name: "empty object", class: status.Temporary, ack: true, respond: says(200, `{}`)},
		{name: "array", class: status.Temporary, ack: true, respond: says(200, `[{`+anyToken+`}]`)},
		{name: "null", class: status.Temporary, ack: true, respond: says(200, `null`)},
		{name: "string", class: status.Temporary, ack: true, respond: says(200, `"`+canary+`"`)},
		{name: "no body", class: status.Temporary, ack: true, respond: says(200, ``)},
		{name: "no content", class: status.Temporary, ack: true, respond: says(204, ``)},
		{name: "token of a wrong type", class: status.Temporary, ack: true, respond: says(200,
			`{"respCode":"200","access_token":1,"token":["`+canary+`"],"accessToken":{},"data":{"accessToken":true,"access_token":7}}`)},
		{name: "token that is empty", class: status.Temporary, ack: true, respond: says(200,
			`{"respCode":"200","access_token":"","token":" ","accessToken":"","data":{"accessToken":""}}`)},
		{name: "token that no header carries", class: status.Temporary, ack: true, respond: says(200,
			`{"respCode":"200","access_token":"a\r\nb","token":"a\u0000","data":{"accessToken":"\u1780"}}`)},
		{name: "every type wrong", class: status.Temporary, ack: true, respond: says(200,
			`{"access_token":[],"expires_in":{"a":1},"business_info":"x","data":[],"respCode":{},"scope":9,"error":[1],"issuer":3,"sub":[]}`)},
		{name: "truncated", class: status.Temporary, ack: true, respond: says(200, `{`+anyToken+`,"expires_in":36`)},
		{name: "5 MB", class: status.Temporary, respond: says(200, strings.Repeat(" ", 5<<20)+`{`+anyToken+`}`)},
		{name: "hang-up", class: status.Temporary, respond: hangUp("")},
		{name: "hang-up in the body", class: status.Temporary, respond: hangUp(
			"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{" + anyToken + "}")},
		{name: "no HTTP", class: status.Temporary, respond: hangUp("220 " + canary + " ESMTP\r\n\r\n")},
		{name: "redirect", class: status.Temporary, redirect: true, respond: says(302, "", "Location", redirectPath)},
		{name: "redirect that keeps the method", class: status.Temporary, redirect: true, respond: says(307, "", "Location", redirectPath)},
		{name: "echo", class: status.Temporary, ack: true, respond: echo},
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
