package sandbox

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkRefresh is what the sandbox itself costs in other benchmarks.
func BenchmarkRefresh(b *testing.B) {
	s := New(Options{Remember: -1})
	issued, err := s.Issue(CamInvoice, "KHUID00001234")
	if err != nil {
		b.Fatal(err)
	}
	body := `{"refresh_token":"` + issued.Refresh + `"}`
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := httptest.NewRequest("POST", "/caminvoice/api/v1/auth/token", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			r.SetBasicAuth("caminvoice-sandbox-client", "caminvoice-sandbox-secret")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != 200 {
				b.Fatal(w.Body)
			}
		}
	})
}
