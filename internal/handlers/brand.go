package handlers

import (
	"net/http"
	"strconv"
)

// brand serves the platform's logo and colours. An SVG runs no script and loads nothing, also when it is opened by itself.
func (s *Server) brand(w http.ResponseWriter, r *http.Request) {
	kind, body := "", []byte(nil)
	switch r.URL.Path {
	case s.Brand.LogoURL():
		kind, body = s.Brand.LogoType, s.Brand.Logo
	case s.Brand.SheetURL():
		kind, body = "text/css; charset=utf-8", []byte(s.Brand.Sheet())
	default:
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}
