package handlers

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The example board asks for figures that there are.
func TestGrafanaBoardKnowsOurFigures(t *testing.T) {
	o := newTestAPI(t)
	o.engine.Count("acme", "sandbox", "refresh", "ok", 1)
	o.engine.Metrics.Read("ok")
	text := o.ask(http.MethodGet, "/metrics", "", "").text
	board, err := os.ReadFile("../../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`patchbay_[a-z_]+`).FindAllString(string(board), -1) {
		if !strings.Contains(text, "\n"+name) {
			t.Errorf("the board asks for %s", name)
		}
	}
}
