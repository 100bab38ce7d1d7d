package handlers

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"patchbay/internal/status"
)

// TestBoardAndAlertsKnowOurFigures: the example board and the rules for alerts ask for figures that there are.
func TestBoardAndAlertsKnowOurFigures(t *testing.T) {
	o := newTestAPI(t)
	for _, outcome := range status.RefreshOutcomes() {
		o.engine.Count("acme", "sandbox", "refresh", outcome, 1)
	}
	o.engine.Metrics.Read("ok")
	for _, outcome := range []string{"taken", "refused", "not-understood", "failed"} {
		o.server.requests.webhooks.WithLabelValues("acme", outcome).Inc()
	}
	text := o.ask(http.MethodGet, "/metrics", "", "").text + "\npatchbay_sweep_last_round_timestamp_seconds" // of a process that sweeps: this one does not
	for _, file := range []string{"../../docs/grafana.json", "../../docs/alerts.yml"} {
		asked, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\bpatchbay_[a-z_]+`).FindAllString(string(asked), -1) {
			if !strings.Contains(text, "\n"+name) {
				t.Errorf("%s asks for %s", file, name)
			}
		}
		for _, label := range regexp.MustCompile(`(kind|state|outcome)="([a-z-]+)"`).FindAllString(string(asked), -1) {
			if !strings.Contains(text, label) {
				t.Errorf("%s asks for %s, which nothing has", file, label)
			}
		}
	}
}

// TestAlertsAreRules: each alert has what Prometheus and the person it wakes need.
func TestAlertsAreRules(t *testing.T) {
	text, err := os.ReadFile("../../docs/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			if rule.Alert == "" || rule.Expr == "" || rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || names[rule.Alert] {
				t.Errorf("the rule %q lacks something, or is there twice", rule.Alert)
			}
			names[rule.Alert] = true
		}
	}
	if len(names) != 12 { // as docs/operating.md says
		t.Errorf("%d rules", len(names))
	}
}
