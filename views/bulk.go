package views

import (
	"context"
	"strconv"
	"time"

	"patchbay/internal/bulk"

	"github.com/a-h/templ"
)

// asks reports whether merchants are asked to reconnect; else connections are refreshed.
func (v BulkPage) asks() bool { return v.Bulk.Kind == bulk.Ask }

// leftOut are the outcomes that a dry run has already: what will not be asked, and why.
func (v BulkPage) leftOut() []BulkOutcome {
	if v.Bulk.State != bulk.DryRun {
		return nil
	}
	return v.Outcomes
}

func (v BulkPage) title(ctx context.Context) string {
	if v.asks() {
		return T(ctx, "bulk.ask-title")
	}
	return T(ctx, "bulk.title")
}

func (v BulkPage) moving() bool {
	return v.Bulk.State.Moving()
}

// refreshing asks the script to fetch this part again; without the script the page has a link.
func (v BulkPage) refreshing() templ.Attributes {
	if !v.moving() {
		return nil
	}
	return templ.Attributes{"data-refresh": "2"}
}

func (v BulkPage) minutesLeft() int { return int((v.Left + time.Minute - 1) / time.Minute) }

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
