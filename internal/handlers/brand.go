package handlers

import (
	"net/http"
	"strconv"
)

// brand serves the platform's logo and colours.
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
	writeOperatorFile(w, kind, "public, max-age=31536000, immutable", body) // its address has its hash
}

// writeOperatorFile answers with a file that an operator gave. An SVG is a document that may hold scripts: as one of its own it may do nothing.
func writeOperatorFile(w http.ResponseWriter, kind, cached string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	h.Set("Cache-Control", cached)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // net/http leaves it out of an answer to HEAD
}
