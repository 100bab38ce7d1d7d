package static

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, method, url, encoding string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, url, nil)
	r.Header.Set("Accept-Encoding", encoding)
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w.Result()
}

func TestFilesKeepForEver(t *testing.T) {
	for name, kind := range map[string]string{"app.css": "text/css", "app.js": "text/javascript", "favicon.svg": "image/svg+xml", "fonts/khmer-400.woff2": "font/woff2"} {
		url := URL(name)
		if !regexp.MustCompile(`^/static/.*\.[0-9a-f]{12}\.[a-z0-9]+$`).MatchString(url) {
			t.Errorf("%s is at %q", name, url)
		}
		answer := get(t, "GET", url, "")
		body, _ := io.ReadAll(answer.Body)
		if answer.StatusCode != 200 || !strings.HasPrefix(answer.Header.Get("Content-Type"), kind) || len(body) == 0 {
			t.Errorf("%s: %d %s, %d bytes", url, answer.StatusCode, answer.Header.Get("Content-Type"), len(body))
		}
		if got := answer.Header.Get("Cache-Control"); !strings.Contains(got, "immutable") {
			t.Errorf("%s: Cache-Control %q", url, got)
		}
		if head := get(t, "HEAD", url, ""); head.StatusCode != 200 || head.ContentLength == 0 {
			t.Errorf("HEAD %s: %d, %d bytes", url, head.StatusCode, head.ContentLength)
		}
	}
}

func TestCompressedIsTheSame(t *testing.T) {
	plain, _ := io.ReadAll(get(t, "GET", URL("app.css"), "").Body)
	answer := get(t, "GET", URL("app.css"), "br, gzip")
	if answer.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("not compressed: %v", answer.Header)
	}
	z, err := gzip.NewReader(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	unpacked, _ := io.ReadAll(z)
	if string(unpacked) != string(plain) {
		t.Error("unpacked, the sheet is another one")
	}
	if got := get(t, "GET", URL("fonts/khmer-400.woff2"), "gzip").Header.Get("Content-Encoding"); got != "" {
		t.Errorf("a font is compressed already, yet sent as %s", got)
	}
}

func TestSheetNamesTheFontsByTheirHashes(t *testing.T) {
	sheet, _ := io.ReadAll(get(t, "GET", URL("app.css"), "").Body)
	found := regexp.MustCompile(`url\("([^"]+)"\)`).FindAllStringSubmatch(string(sheet), -1)
	if len(found) != 2 {
		t.Fatalf("%d addresses in the sheet", len(found))
	}
	for _, m := range found {
		if answer := get(t, "GET", m[1], ""); answer.StatusCode != 200 {
			t.Errorf("%s: %d", m[1], answer.StatusCode)
		}
	}
}

func TestOtherVersionsAreNotFound(t *testing.T) {
	for _, url := range []string{"/static/app.css", "/static/app.000000000000.css", "/static/", "/static/../static.go"} {
		if answer := get(t, "GET", url, ""); answer.StatusCode != 404 {
			t.Errorf("%s: %d", url, answer.StatusCode)
		}
	}
}
