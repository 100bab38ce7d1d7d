package handlers

import (
	"encoding/csv"
	"net/http"
	"strings"
	"time"
)

// export writes a CSV file to a browser, row by row.
type export struct {
	w       http.ResponseWriter
	csv     *csv.Writer
	rows    int
	started bool
}

func newExport(w http.ResponseWriter, name string, now time.Time) *export {
	h := w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("Content-Disposition", `attachment; filename="`+name+"-"+now.Format("20060102-1504")+`.csv"`)
	return &export{w: w, csv: csv.NewWriter(w)}
}

// row writes one row. It moves the write deadline along, so that a long export ends only when its reader stops.
func (e *export) row(cells ...string) error {
	if !e.started {
		e.started = true
		if _, err := e.w.Write([]byte("\ufeff")); err != nil { // without a byte order mark Excel reads Windows-1252
			return err
		}
	}
	for i, cell := range cells {
		cells[i] = escapeFormula(cell)
	}
	if e.rows++; e.rows%500 == 0 {
		// An error means that this server has no deadline.
		_ = http.NewResponseController(e.w).SetWriteDeadline(time.Now().Add(time.Minute))
	}
	return e.csv.Write(cells)
}

// escapeFormula keeps a spreadsheet from running a cell as a formula (CSV injection). In locales with a decimal comma a
// semicolon separates cells, so the character after one is checked too.
func escapeFormula(cell string) string {
	begins, from := true, 0
	var out strings.Builder
	for i, r := range cell {
		if begins && strings.ContainsRune("=+-@\t\r\n＝＋－＠", r) {
			out.WriteString(cell[from:i] + "'")
			from = i
		}
		begins = strings.ContainsRune(";\t\r\n", r)
	}
	if from == 0 && out.Len() == 0 {
		return cell
	}
	return out.String() + cell[from:]
}

// endExport finishes an export. After an error it cuts the connection, so that the file does not look complete.
func (s *Server) endExport(r *http.Request, e *export, err error) error {
	e.csv.Flush()
	if err == nil {
		err = e.csv.Error()
	}
	if err == nil {
		return nil
	}
	if !e.started {
		return err
	}
	if r.Context().Err() == nil {
		s.Log.ErrorContext(r.Context(), "export broke off", "route", r.Pattern, "rows", e.rows, "err", err)
	}
	panic(http.ErrAbortHandler)
}

func exportTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}
