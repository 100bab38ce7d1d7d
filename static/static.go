// Package static holds the files that browsers may keep for ever: the style sheet, the one script, the Khmer font.
// Every file is served under a name that carries a hash of its content, so a new version is a new address.
package static

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed app.css app.js favicon.svg fonts/*.woff2 fonts/LICENSE
var files embed.FS

const prefix = "/static/"

type file struct {
	kind    string
	body    []byte
	gzipped func() []byte // nil where compressing gains nothing
}

// table is built on first use and never changed: hashed address of each name, content of each address.
var table = sync.OnceValues(func() (map[string]string, map[string]file) {
	urls, served := map[string]string{}, map[string]file{}
	add := func(name string, body []byte) {
		sum := sha256.Sum256(body)
		ext := path.Ext(name)
		url := prefix + strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext
		f := file{kind: kinds[ext], body: body}
		if ext != ".woff2" {
			f.gzipped = sync.OnceValue(func() []byte { return compress(body) })
		}
		urls[name], served[url] = url, f
	}
	var sheets []string
	_ = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, _ error) error {
		switch {
		case d.IsDir():
		case path.Ext(name) == ".css":
			sheets = append(sheets, name) // last: a sheet names the fonts by their hashed addresses
		default:
			body, _ := files.ReadFile(name)
			add(name, body)
		}
		return nil
	})
	for _, name := range sheets {
		body, _ := files.ReadFile(name)
		for other, url := range urls {
			body = bytes.ReplaceAll(body, []byte(`url("`+other+`")`), []byte(`url("`+url+`")`))
		}
		add(name, body)
	}
	return urls, served
})

var kinds = map[string]string{
	".css":   "text/css; charset=utf-8",
	".js":    "text/javascript; charset=utf-8",
	".svg":   "image/svg+xml",
	".woff2": "font/woff2",
	"":       "text/plain; charset=utf-8",
}

// URL returns the address of a file, such as "/static/app.3f2a9c1b44d0.css" for "app.css"; "" when there is none.
func URL(name string) string {
	urls, _ := table()
	return urls[name]
}

// Handler serves the files under /static/. An address whose hash is of another version is not found.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, served := table()
		f, ok := served[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		body := f.body
		h := w.Header()
		h.Set("Content-Type", f.kind)
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("X-Content-Type-Options", "nosniff")
		if f.gzipped != nil {
			h.Set("Vary", "Accept-Encoding")
			if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				h.Set("Content-Encoding", "gzip")
				body = f.gzipped()
			}
		}
		h.Set("Content-Length", strconv.Itoa(len(body)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(body)
		}
	})
}

func compress(body []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = z.Write(body)
	_ = z.Close()
	return b.Bytes()
}
