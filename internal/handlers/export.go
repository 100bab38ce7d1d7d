package handlers

import (
	"encoding/csv"
	"net/http"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/xlsx"
	"patchbay/views"
)

// exportFile is the kind of file that an export is.
type exportFile string

const (
	csvFile  exportFile = "csv"  // for programs: codes, and times by RFC 3339
	bookFile exportFile = "xlsx" // for people: words in their language, times in their zone, and ids that stay texts
)

// exportColumn is a column of an export: its name in CSV, how wide it is in a workbook, and what a row has there, which is a
// string, an int or a time.Time.
type exportColumn[T any] struct {
	name  string
	width float64 // in characters
	cell  func(T) any
}

// The widths of columns. One that is timeWide holds times.
const (
	wide       = 30.0
	narrow     = 14.0
	idWide     = 38.0
	timeWide   = 20.0
	numberWide = 9.0
)

// export is a file that is being written to a browser, row by row: no list is ever held whole.
type export[T any] struct {
	server  *Server
	w       http.ResponseWriter
	r       *http.Request
	file    exportFile
	name    string
	layout  string // of times in CSV
	columns []exportColumn[T]

	rows int
	csv  *csv.Writer                      // nil for a workbook
	book *xlsx.Writer                     // nil for CSV, and before begin
	word func(column, code string) string // of a code in a workbook
	zone *time.Location                   // of times in a workbook
}

// write writes the whole file; each calls its argument with every row. An error of the first row is returned and nothing sent; a
// later one cuts the connection, so that the file does not look complete.
func (e *export[T]) write(each func(func(T) error) error) error {
	err := each(e.row)
	if err == nil && !e.begun() {
		err = e.begin()
	}
	if err == nil {
		err = e.end()
	}
	if err == nil || !e.begun() {
		return err
	}
	if e.r.Context().Err() == nil {
		e.server.Log.ErrorContext(e.r.Context(), "export broke off", "route", e.r.Pattern, "rows", e.rows, "err", err)
	}
	panic(http.ErrAbortHandler)
}

func (e *export[T]) begun() bool { return e.csv != nil || e.book != nil }

// begin writes the head.
func (e *export[T]) begin() error {
	h := e.w.Header()
	h.Set("Content-Disposition", `attachment; filename="`+e.name+"-"+e.server.DB.Now().Format("20060102-1504")+"."+string(e.file)+`"`)
	if e.file == csvFile {
		h.Set("Content-Type", "text/csv; charset=utf-8")
		e.csv = csv.NewWriter(e.w)
		if _, err := e.w.Write([]byte("\ufeff")); err != nil { // without a byte order mark Excel reads Windows-1252
			return err
		}
		head := make([]string, len(e.columns))
		for i, column := range e.columns {
			head[i] = column.name
		}
		return e.csv.Write(head)
	}
	h.Set("Content-Type", xlsx.ContentType)
	if e.zone = zoneOf(e.r); e.zone == nil {
		e.zone = time.UTC
	}
	ctx := views.WithBrand(views.WithLocale(e.r.Context(), visitorOf(e.r).locale, e.server.DB.Now(), e.zone), &e.server.Brand)
	e.word = func(column, code string) string {
		if column == "provider" && code != "" {
			return e.server.viewProviderOf(code, "").Title
		}
		return views.ExportWord(ctx, column, code)
	}
	heads := make([]xlsx.Column, len(e.columns))
	for i, column := range e.columns {
		heads[i] = xlsx.Column{Head: views.ExportHead(ctx, column.name, column.width == timeWide), Width: column.width}
	}
	e.book = xlsx.NewWriter(e.w, views.ExportTitle(ctx, e.name), heads)
	return nil
}

// row writes one row. It moves the write deadline along, so that a long export ends only when its reader stops.
func (e *export[T]) row(of T) error {
	if !e.begun() {
		if err := e.begin(); err != nil {
			return err
		}
	}
	if e.rows++; e.rows%500 == 0 {
		// An error means that this server has no deadline.
		_ = http.NewResponseController(e.w).SetWriteDeadline(time.Now().Add(time.Minute))
	}
	if e.book != nil {
		return e.bookRow(of)
	}
	cells := make([]string, len(e.columns))
	for i, column := range e.columns {
		switch v := column.cell(of).(type) {
		case string:
			cells[i] = escapeFormula(v)
		case int:
			if v != 0 {
				cells[i] = strconv.Itoa(v)
			}
		case time.Time:
			if !v.IsZero() {
				cells[i] = v.Format(e.layout)
			}
		}
	}
	return e.csv.Write(cells)
}

func (e *export[T]) bookRow(of T) error {
	cells := make([]any, len(e.columns))
	for i, column := range e.columns {
		switch v := column.cell(of).(type) {
		case string:
			cells[i] = e.word(column.name, v)
		case int:
			cells[i] = v
			if v == 0 {
				cells[i] = ""
			}
		case time.Time:
			cells[i] = v
			if !v.IsZero() {
				cells[i] = v.In(e.zone)
			}
		}
	}
	return e.book.Row(cells...)
}

// end writes the end of the file.
func (e *export[T]) end() error {
	if e.book != nil {
		return e.book.Close()
	}
	e.csv.Flush()
	return e.csv.Error()
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
