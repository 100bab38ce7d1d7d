package handlers

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"patchbay/internal/status"
	"patchbay/internal/webhooks"

	"github.com/getkin/kin-openapi/openapi3"
)

// TestAddressesInDocumentsAreRoutes: what the documents tell people to open is there.
func TestAddressesInDocumentsAreRoutes(t *testing.T) {
	s := newTestServer(t)
	routes := http.NewServeMux()
	for _, one := range s.server.routes() {
		routes.HandleFunc(one.pattern, func(http.ResponseWriter, *http.Request) {})
	}
	for _, pattern := range []string{"GET /livez", "GET /readyz", "GET /metrics", "POST /hooks/{provider}/{secret}"} {
		routes.HandleFunc(pattern, func(http.ResponseWriter, *http.Request) {})
	}
	paths, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, path := range append(paths, "../../README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`((?:GET |POST |PUBLIC_URL)?)(/(?:admin|livez|readyz|metrics|hooks/|connect/|flows|connections|account|outbox)[^`\\s]*)`").FindAllStringSubmatch(string(text), -1) {
			found++
			address := strings.NewReplacer("{", "", "}", "").Replace(m[2])
			if strings.HasSuffix(address, "/") {
				address += "secret" // an address whose end is not shown
			}
			if !slices.ContainsFunc([]string{http.MethodGet, http.MethodPost}, func(method string) bool {
				_, pattern := routes.Handler(httpRequest(method, address))
				return pattern != ""
			}) {
				t.Errorf("%s has %s, which is no route", path, m[2])
			}
		}
	}
	if found < 8 {
		t.Errorf("only %d addresses found in the documents", found)
	}
}

func httpRequest(method, path string) *http.Request {
	r, err := http.NewRequest(method, path, nil)
	if err != nil {
		panic(err)
	}
	return r
}

// anys returns the values as a description has them.
func anys[T ~string](values []T) (all []any) {
	for _, value := range values {
		all = append(all, string(value))
	}
	return all
}

// TestTheDescriptionHasEveryRouteAndLimit holds openapi.yaml to the routes of the API, to its limits and to the words that rooms list.
func TestTheDescriptionHasEveryRouteAndLimit(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(openapi)
	if err != nil {
		t.Fatal(err)
	}
	s := newTestServer(t)
	described := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described[method+" "+path] = true
		}
	}
	for pattern := range s.server.apiRoutes() {
		if !described[pattern] {
			t.Errorf("openapi.yaml lacks %s", pattern)
		}
		delete(described, pattern)
	}
	for pattern := range described {
		t.Errorf("openapi.yaml has %s, which is no route", pattern)
	}
	if len(doc.Servers) == 0 {
		t.Error("openapi.yaml names no server")
	}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			for code, answer := range operation.Responses.Map() {
				if _, ok := answer.Value.Headers["Retry-After"]; ok != (code == "429" || code == "503") {
					t.Errorf("%s %s, %s: Retry-After is %v", method, path, code, ok)
				}
			}
			if operation.Security == nil && (operation.Responses.Value("503") == nil || operation.Responses.Value("429") == nil) {
				t.Errorf("%s %s declares no 429 or no 503", method, path)
			}
		}
	}
	if strings.Contains(string(openapi), "additionalProperties: false") || doc.Components.Schemas["Connection"].Value.Properties["connected_at"].Value.Nullable {
		t.Error("an answer is closed to new fields, or connected_at may be null")
	}
	for at, values := range map[*openapi3.SchemaRef][]any{
		doc.Components.Schemas["Health"]:                              anys(status.Healths()),
		doc.Components.Schemas["WhoMustAct"]:                          anys(append([]status.Party{""}, status.Parties()...)),
		doc.Components.Schemas["Receipt"].Value.Properties["revoked"]: anys(status.Revocations()),
		doc.Components.Schemas["WebhookType"]:                         anys(webhooks.Types()),
	} {
		if !slices.Equal(at.Value.Enum, values) {
			t.Errorf("openapi.yaml has the values %v, the program %v", at.Value.Enum, values)
		}
	}
	text := strings.Join(strings.Fields(string(openapi)), " ")
	for _, limit := range []string{
		fmt.Sprintf("At most %d times a second for each connection, %d times at first.", refreshRate, refreshBurst),
		fmt.Sprintf("A key of one merchant may ask each process %d times a second, %d times at first.", merchantKeyRate, merchantKeyBurst),
	} {
		if !strings.Contains(text, limit) {
			t.Errorf("openapi.yaml does not say: %s", limit)
		}
	}
}
