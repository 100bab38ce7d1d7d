package views

import (
	"strconv"
	"time"

	"github.com/a-h/templ"
)

func (v BulkPage) moving() bool {
	return v.Bulk.State.Moving()
}

// refreshing asks the script to fetch this part anew; without the script the page has a link.
func (v BulkPage) refreshing() templ.Attributes {
	if !v.moving() {
		return nil
	}
	return templ.Attributes{"data-refresh": "2"}
}

func (v BulkPage) minutesLeft() int { return int((v.Left + time.Minute - 1) / time.Minute) }

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
