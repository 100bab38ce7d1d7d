// Package xlsx writes workbooks (ISO/IEC 29500) row by row: one of a million rows takes the memory of one row, and its first bytes
// leave at once.
package xlsx

import (
	"archive/zip"
	"bufio"
	"compress/flate"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// ContentType is the media type of a workbook.
const ContentType = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

const (
	maxRows = 1 << 20 // of a sheet, with its head
	maxCell = 32_767  // UTF-16 code units in a cell
)

// Column is a column of every sheet.
type Column struct {
	Head  string
	Width float64 // in characters
}

// Writer writes one workbook. After an error every call returns that error.
type Writer struct {
	name    string
	columns []Column
	zip     *zip.Writer
	sheet   *bufio.Writer // nil before the first sheet
	sheets  int
	rows    int // of the sheet, with its head
	maxRows int
	err     error
}

// NewWriter begins a workbook. Its sheets are named name, name 2 and so on: one takes 1,048,576 rows.
func NewWriter(w io.Writer, name string, columns []Column) *Writer {
	book := &Writer{name: sheetName(name), columns: columns, zip: zip.NewWriter(w), maxRows: maxRows}
	book.zip.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	// Sheets are what the types name by default, so that this part is written first and need not know how many there will be.
	book.part("[Content_Types].xml", `<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">`+
		`<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>`+
		`<Default Extension="xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>`+
		`<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>`+
		`<Override PartName="/xl/styles.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.styles+xml"/></Types>`)
	book.part("_rels/.rels", `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">`+
		`<Relationship Id="rId1" Type="`+relationships+`/officeDocument" Target="xl/workbook.xml"/></Relationships>`)
	book.part("xl/styles.xml", styles)
	book.beginSheet()
	return book
}

// Row writes one row. A cell is a string, which is a text whatever it looks like and never a number or a formula, an int, or a
// time.Time, shown as its own zone has it to the second. "" and the zero time are empty cells.
func (w *Writer) Row(cells ...any) error {
	if w.rows == w.maxRows {
		w.endSheet()
		w.beginSheet()
	}
	if w.err != nil {
		return w.err
	}
	w.rows++
	w.write("<row>")
	for i, cell := range cells {
		switch v := cell.(type) {
		case string:
			w.text(i, v, styleText)
		case int:
			w.write(`<c r="` + reference(i, w.rows) + `"><v>` + strconv.Itoa(v) + `</v></c>`)
		case time.Time:
			if !v.IsZero() {
				w.write(`<c r="` + reference(i, w.rows) + `" s="` + styleTime + `"><v>` + serial(v) + `</v></c>`)
			}
		default:
			w.fail(fmt.Errorf("a cell that is a %T", cell))
		}
	}
	w.write("</row>")
	return w.err
}

// Close writes the end of the workbook. It does not close what the workbook is written to.
func (w *Writer) Close() error {
	w.endSheet()
	var sheets, relations strings.Builder
	for i := 1; i <= w.sheets; i++ {
		name := w.name
		if i > 1 {
			name += " " + strconv.Itoa(i)
		}
		fmt.Fprintf(&sheets, `<sheet name="%s" sheetId="%d" r:id="rId%d"/>`, escape(name), i, i)
		fmt.Fprintf(&relations, `<Relationship Id="rId%d" Type="%s/worksheet" Target="worksheets/sheet%d.xml"/>`, i, relationships, i)
	}
	w.part("xl/workbook.xml", `<workbook xmlns="`+namespace+`" xmlns:r="`+relationships+`"><sheets>`+sheets.String()+`</sheets></workbook>`)
	w.part("xl/_rels/workbook.xml.rels", `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">`+relations.String()+
		`<Relationship Id="styles" Type="`+relationships+`/styles" Target="styles.xml"/></Relationships>`)
	w.fail(w.zip.Close())
	return w.err
}

const (
	namespace     = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
	relationships = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
)

// The styles of cells, by their place in cellXfs of styles.
const (
	styleText = "1" // 49, "@": typed over, a cell stays a text
	styleTime = "2"
	styleHead = "3"
)

const styles = `<styleSheet xmlns="` + namespace + `"><numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\-mm\-dd\ hh:mm:ss"/></numFmts>` +
	`<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font><font><b/><sz val="11"/><name val="Calibri"/></font></fonts>` +
	`<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills>` +
	`<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>` +
	`<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>` +
	`<cellXfs count="4"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>` +
	`<xf numFmtId="49" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>` +
	`<xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>` +
	`<xf numFmtId="49" fontId="1" fillId="0" borderId="0" xfId="0" applyNumberFormat="1" applyFont="1"/></cellXfs></styleSheet>`

// part writes a part of the workbook whole.
func (w *Writer) part(name, body string) {
	if w.err != nil {
		return
	}
	to, err := w.zip.Create(name)
	if err == nil {
		_, err = io.WriteString(to, xml.Header+body)
	}
	w.fail(err)
}

// beginSheet begins a sheet whose head stays in view.
func (w *Writer) beginSheet() {
	if w.err != nil {
		return
	}
	w.sheets, w.rows = w.sheets+1, 1
	to, err := w.zip.Create(fmt.Sprintf("xl/worksheets/sheet%d.xml", w.sheets))
	if err != nil {
		w.fail(err)
		return
	}
	w.sheet = bufio.NewWriter(to)
	w.write(xml.Header + `<worksheet xmlns="` + namespace + `"><sheetViews><sheetView workbookViewId="0">` +
		`<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews><cols>`)
	for i, column := range w.columns {
		w.write(fmt.Sprintf(`<col min="%d" max="%d" width="%g" customWidth="1"/>`, i+1, i+1, column.Width))
	}
	w.write(`</cols><sheetData><row>`)
	for i, column := range w.columns {
		w.text(i, column.Head, styleHead)
	}
	w.write("</row>")
}

func (w *Writer) endSheet() {
	w.write("</sheetData></worksheet>")
	if w.err == nil {
		w.fail(w.sheet.Flush())
	}
}

func (w *Writer) text(column int, text, style string) {
	if text != "" {
		w.write(`<c r="` + reference(column, w.rows) + `" s="` + style + `" t="inlineStr"><is><t xml:space="preserve">` + escape(text) + `</t></is></c>`)
	}
}

func (w *Writer) write(text string) {
	if w.err == nil {
		_, err := w.sheet.WriteString(text)
		w.fail(err)
	}
}

func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// reference is a cell's name: A1, AB20.
func reference(column, row int) string {
	letters := ""
	for column++; column > 0; column = (column - 1) / 26 {
		letters = string(rune('A'+(column-1)%26)) + letters
	}
	return letters + strconv.Itoa(row)
}

// serial returns a time as a spreadsheet counts it: days since 30 December 1899 by the clock on the wall, rounded to seconds.
func serial(t time.Time) string {
	t = t.Round(time.Second)
	wall := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
	seconds := wall.Unix() - time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC).Unix()
	return strconv.FormatFloat(float64(seconds)/(24*60*60), 'f', -1, 64)
}

// escaped matches what a workbook's reader takes for an escaped character, as _x000D_ (ST_Xstring).
var escaped = regexp.MustCompile(`_x[0-9A-Fa-f]{4}_`)

// escape returns a text as it stands in a part: cut to what a cell holds, and without characters that XML has not.
func escape(text string) string {
	if text = cut(text); strings.Contains(text, "_x") {
		text = escaped.ReplaceAllStringFunc(text, func(found string) string { return "_x005F" + found })
	}
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}

// cut shortens a text to the length that a cell holds.
func cut(text string) string {
	if len(text) <= maxCell {
		return text
	}
	units := 0
	for i, r := range text {
		if units++; r > 0xFFFF {
			units++
		}
		if units > maxCell {
			return text[:i]
		}
	}
	return text
}

// sheetName takes from a name what no sheet's may have, and leaves room for a number.
func sheetName(name string) string {
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`[]:*?/\'`, r) {
			return ' '
		}
		return r
	}, name)
	for utf8.RuneCountInString(name) > 25 {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return strings.TrimSpace(name)
}
