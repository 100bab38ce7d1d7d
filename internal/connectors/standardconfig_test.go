package connectors

import (
	"os"
	"strings"
	"testing"
)

func TestKeysAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/connectors.md")
	if err != nil {
		t.Fatal(err)
	}
	var cells strings.Builder // the first of each row
	for line := range strings.Lines(string(page)) {
		if cell, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " |"); ok {
			cells.WriteString(cell + "\n")
		}
	}
	for _, key := range configKeys {
		if !strings.Contains(cells.String(), "`"+key+"`") {
			t.Errorf("docs/connectors.md has no row for %s", key)
		}
	}
}
