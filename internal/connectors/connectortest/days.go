package connectortest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// lure is where the redirecting day points.
const lure = "/lure/" + marker

// day is one way in which a provider can answer badly. Class is what the error must be; "401" stands for what the
// case says about it.
type day struct {
	name     string
	class    string
	ack      bool // a call that returns nothing may take it for a yes
	redirect bool
	answer   http.HandlerFunc
}

// good is a token under every name that any provider uses: a reader that looks no further would take it.
const good = `"access_token":"` + marker + `","token":"` + marker + `","accessToken":"` + marker + `"`

func days() []day {
	says := func(status int, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	html := "<!doctype html><title>" + marker + "</title><p>access_token " + marker
	return []day{
		{name: "500", class: "trouble", answer: says(500, `{"message":"`+marker+`"}`)},
		{name: "500 with a token in it", class: "trouble", answer: says(500, `{`+good+`}`)},
		{name: "500 with a refusal's code", class: "trouble", answer: says(500, `{"error":"invalid_grant"}`)},
		{name: "502 HTML", class: "trouble", answer: says(502, html, "Content-Type", "text/html")},
		{name: "503", class: "trouble", answer: says(503, marker)},
		{name: "503 with Retry-After", class: "trouble", answer: says(503, marker, "Retry-After", "7")},
		{name: "503 with a date", class: "trouble", answer: says(503, marker, "Retry-After", "Wed, 21 Oct 2099 07:28:00 GMT")},
		{name: "429", class: "later", answer: says(429, `{"error":"slow down, `+marker+`"}`)},
		{name: "429 with Retry-After", class: "later", answer: says(429, `{"error":"invalid_grant"}`, "Retry-After", "3")},
		{name: "403", class: "trouble", answer: says(403, `{"message":"Forbidden, `+marker+`"}`)},
		{name: "403 of a firewall", class: "trouble", answer: says(403, html, "Content-Type", "text/html")},
		{name: "401", class: "401", answer: says(401, `{"message":"`+marker+`"}`)},
		{name: "418", class: "trouble", answer: says(418, marker)},
		{name: "HTML with 200", class: "trouble", ack: true, answer: says(200, html, "Content-Type", "text/html")},
		{name: "empty object", class: "trouble", ack: true, answer: says(200, `{}`)},
		{name: "array", class: "trouble", ack: true, answer: says(200, `[{`+good+`}]`)},
		{name: "null", class: "trouble", ack: true, answer: says(200, `null`)},
		{name: "string", class: "trouble", ack: true, answer: says(200, `"`+marker+`"`)},
		{name: "no body", class: "trouble", ack: true, answer: says(200, ``)},
		{name: "no content", class: "trouble", ack: true, answer: says(204, ``)},
		{name: "token of a wrong type", class: "trouble", ack: true, answer: says(200,
			`{"respCode":"200","access_token":1,"token":["`+marker+`"],"accessToken":{},"data":{"accessToken":true,"access_token":7}}`)},
		{name: "token that is empty", class: "trouble", ack: true, answer: says(200,
			`{"respCode":"200","access_token":"","token":" ","accessToken":"","data":{"accessToken":""}}`)},
		{name: "token that no header carries", class: "trouble", ack: true, answer: says(200,
			`{"respCode":"200","access_token":"a\r\nb","token":"a\u0000","data":{"accessToken":"\u1780"}}`)},
		{name: "every type wrong", class: "trouble", ack: true, answer: says(200,
			`{"access_token":[],"expires_in":{"a":1},"business_info":"x","data":[],"respCode":{},"scope":9,"error":[1],"issuer":3,"sub":[]}`)},
		{name: "truncated", class: "trouble", ack: true, answer: says(200, `{`+good+`,"expires_in":36`)},
		{name: "5 MB", class: "trouble", answer: says(200, strings.Repeat(" ", 5<<20)+`{`+good+`}`)},
		{name: "hang-up", class: "trouble", answer: hangUp("")},
		{name: "hang-up in the body", class: "trouble", answer: hangUp(
			"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{" + good + "}")},
		{name: "no HTTP", class: "trouble", answer: hangUp("220 " + marker + " ESMTP\r\n\r\n")},
		{name: "redirect", class: "trouble", redirect: true, answer: says(302, "", "Location", lure)},
		{name: "redirect that keeps the method", class: "trouble", redirect: true, answer: says(307, "", "Location", lure)},
		{name: "echo", class: "trouble", ack: true, answer: echo},
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

// echo repeats everything it was sent wherever an error may hold text.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, password, _ := r.BasicAuth()
	all := fmt.Sprintf("%s %s %s", body, r.Header.Get("Authorization"), marker)
	if password == "" {
		password = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	w.WriteHeader(http.StatusTeapot)
	fmt.Fprintf(w, `{"error":%q,"error_description":%q,"respMsg":%q}`, password, all, all)
}
