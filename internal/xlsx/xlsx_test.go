package xlsx

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
)

// read returns the parts of a workbook by name.
func read(t *testing.T, book []byte) map[string]string {
	t.Helper()
	files, err := zip.NewReader(bytes.NewReader(book), int64(len(book)))
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for _, file := range files.File {
		r, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		parts[file.Name] = string(body)
		for decoder := xml.NewDecoder(bytes.NewReader(body)); ; {
			if _, err := decoder.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s is no XML: %v", file.Name, err)
			}
		}
	}
	return parts
}

// cell is a cell of a sheet as it is stored.
type cell struct {
	Reference string `xml:"r,attr"`
	Type      string `xml:"t,attr"`
	Style     string `xml:"s,attr"`
	Text      string `xml:"is>t"`
	Value     string `xml:"v"`
	Formula   string `xml:"f"`
}

func cells(t *testing.T, sheet string) (all []cell) {
	t.Helper()
	var parsed struct {
		Rows []struct {
			Cells []cell `xml:"c"`
		} `xml:"sheetData>row"`
	}
	if err := xml.Unmarshal([]byte(sheet), &parsed); err != nil {
		t.Fatal(err)
	}
	for _, row := range parsed.Rows {
		all = append(all, row.Cells...)
	}
	return all
}

func book(t *testing.T, rows ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, "Sheet", []Column{{"Head", 20}})
	for _, row := range rows {
		if err := w.Row(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestTextStaysText writes what a spreadsheet would take for a number, a date or a formula if it read it from CSV
// (easy-digital-downloads#3166, tableExport#327).
func TestTextStaysText(t *testing.T) {
	for text, stored := range map[string]string{
		"0012345678": "", "855011223344556677": "", "12E5": "", "+85512345678": "", "012345678": "", "-5": "", "1/2": "", "TRUE": "", "3-11": "", "1,5": "", "00:10": "",
		"=1+1": "", "=HYPERLINK(\"http://evil.example\")": "", "@SUM(A1)": "", "\t=1": "", "'quoted": "", "a & b < c > \"d\"": "",
		" blanks ": "", "two\nlines": "", "ហាងកាហ្វេ": "", "😀": "",
		"_x0041_":     "_x005F_x0041_", // what would be read as A
		"bell\a":      "bell\uFFFD",    // XML has no such character
		"\xffbroken":  "\uFFFDbroken",
		"]]>&amp;":    "",
		"#REF!":       "",
		"0198c0de-00": "",
	} {
		if stored == "" {
			stored = text
		}
		all := cells(t, read(t, book(t, text))["xl/worksheets/sheet1.xml"])
		if len(all) != 2 || all[1] != (cell{Reference: "A2", Type: "inlineStr", Style: styleText, Text: stored}) {
			t.Errorf("%q is stored as %+v", text, all)
		}
	}
}

func TestTimesAreTimes(t *testing.T) {
	phnomPenh := time.FixedZone("Asia/Phnom_Penh", 7*3600)
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), "46023"},
		{time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), "46023.5"},
		{time.Date(2026, 1, 1, 17, 0, 0, 0, time.UTC).In(phnomPenh), "46024"}, // by the clock on the reader's wall
		{time.Date(2026, 1, 1, 5, 59, 59, 999_000_000, time.UTC), "46023.25"},
		{time.Date(2024, 2, 29, 18, 0, 0, 0, time.UTC), "45351.75"},
		{time.Date(2100, 3, 1, 0, 0, 0, 0, time.UTC), "73110"},
	} {
		all := cells(t, read(t, book(t, c.at))["xl/worksheets/sheet1.xml"])
		if len(all) != 2 || all[1] != (cell{Reference: "A2", Style: styleTime, Value: c.want}) {
			t.Errorf("%v is stored as %+v, want %s", c.at, all, c.want)
		}
	}
}

func TestCells(t *testing.T) {
	for name, c := range map[string]struct {
		value any
		want  []cell
	}{
		"a number":      {503, []cell{{Reference: "A2", Value: "503"}}},
		"no text":       {"", nil},
		"no time":       {time.Time{}, nil},
		"a long text":   {strings.Repeat("ក", 40_000), []cell{{Reference: "A2", Type: "inlineStr", Style: styleText, Text: strings.Repeat("ក", maxCell)}}},
		"long emoticon": {strings.Repeat("😀", 20_000), []cell{{Reference: "A2", Type: "inlineStr", Style: styleText, Text: strings.Repeat("😀", maxCell/2)}}},
	} {
		all := cells(t, read(t, book(t, c.value))["xl/worksheets/sheet1.xml"])[1:]
		if len(all) != len(c.want) || len(all) == 1 && all[0] != c.want[0] {
			t.Errorf("%s: %+v", name, all)
		}
	}
	w := NewWriter(io.Discard, "Sheet", nil)
	if w.Row(1.5) == nil || w.Row("x") == nil || w.Close() == nil {
		t.Error("a cell of another type is no error, or is forgotten")
	}
}

func TestReference(t *testing.T) {
	for column, want := range map[int]string{0: "A1", 25: "Z1", 26: "AA1", 27: "AB1", 51: "AZ1", 52: "BA1", 701: "ZZ1", 702: "AAA1"} {
		if got := reference(column, 1); got != want {
			t.Errorf("column %d: %s, want %s", column, got, want)
		}
	}
}

// TestSheetsFollowEachOther writes more rows than a sheet holds.
func TestSheetsFollowEachOther(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, "Events: all [of them] with a long name", []Column{{"When", 20}, {"What", 40}})
	w.maxRows = 4
	for range 7 {
		if err := w.Row("a", "b"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	parts := read(t, b.Bytes())
	for sheet, want := range map[string]int{"1": 8, "2": 8, "3": 4} { // heads and rows, of two cells each
		text := parts["xl/worksheets/sheet"+sheet+".xml"]
		if all := cells(t, text); len(all) != want || all[0].Text != "When" || all[0].Reference != "A1" {
			t.Errorf("sheet %s: %+v", sheet, all)
		}
		for _, part := range []string{`state="frozen"`, `<col min="2" max="2" width="40" customWidth="1"/>`} {
			if !strings.Contains(text, part) {
				t.Errorf("sheet %s lacks %s", sheet, part)
			}
		}
	}
	if len(parts) != 8 {
		t.Errorf("%d parts", len(parts))
	}
	for _, name := range []string{`name="Events  all  of them  wit"`, `name="Events  all  of them  wit 3"`} {
		if !strings.Contains(parts["xl/workbook.xml"], name) {
			t.Errorf("no sheet has %s: %s", name, parts["xl/workbook.xml"])
		}
	}
}

type failing struct{ after int }

func (f *failing) Write(b []byte) (int, error) {
	if f.after -= len(b); f.after < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(b), nil
}

func TestAFailedWriteIsReturned(t *testing.T) {
	for _, after := range []int{0, 100, 2000, 20_000} {
		w := NewWriter(&failing{after}, "Sheet", []Column{{"Head", 20}})
		var err error
		for i := 0; err == nil && i < 1_000_000; i++ {
			err = w.Row(time.Unix(int64(i*7919), 0).String())
		}
		if !errors.Is(err, io.ErrClosedPipe) || !errors.Is(w.Close(), io.ErrClosedPipe) {
			t.Errorf("after %d bytes: %v", after, err)
		}
	}
}

// TestAMillionRowsTakeTheMemoryOfOne fills a sheet and goes on to the next.
func TestAMillionRowsTakeTheMemoryOfOne(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	w := NewWriter(io.Discard, "Sheet", []Column{{"A", 20}, {"B", 20}, {"C", 20}})
	before, most := heap(), uint64(0)
	for i := range maxRows + 1000 {
		if err := w.Row("0012345678", i, time.Unix(int64(i), 0)); err != nil {
			t.Fatal(err)
		}
		if i%100_000 == 0 {
			most = max(most, heap())
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.sheets != 2 {
		t.Errorf("%d sheets", w.sheets)
	}
	if most > before+4<<20 {
		t.Errorf("%d KB more in use", (most-before)>>10)
	}
}
