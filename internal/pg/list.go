package pg

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Order is the order of a list that is read page by page: by a key and, among equal keys, by id.
type Order struct {
	Name       string // what cursors call it; a cursor of another order is not followed
	Key, ID    string // SQL expressions
	Type       string // the key's type in SQL: text, bigint, date or timestamptz
	Descending bool
}

// Cursor is a place in a list: a row's key and id. The zero Cursor is the list's beginning.
type Cursor struct {
	Order string `json:"o,omitempty"`
	Key   string `json:"k"`
	ID    ID     `json:"i"`
	Back  bool   `json:"b,omitempty"` // the page ends before the row; otherwise it begins after it
}

// Page is one page of a list. Prev and Next are the cursors of its neighbours; "" where there is none.
type Page[T any] struct {
	Rows       []T
	Prev, Next string
}

// ParseCursor parses a cursor of an address. It returns the zero Cursor for any other text, and for a cursor of
// another order.
func (o Order) ParseCursor(text string) Cursor {
	var c Cursor
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(raw, &c) != nil || c.Order != o.Name || strings.ContainsRune(c.Key, 0) {
		return Cursor{}
	}
	switch o.Type { // so that Postgres need not refuse the key
	case "timestamptz":
		_, err = time.Parse(timeLayout, c.Key)
	case "date":
		_, err = time.Parse(time.DateOnly, c.Key)
	case "bigint":
		_, err = strconv.ParseInt(c.Key, 10, 64)
	}
	if err != nil {
		return Cursor{}
	}
	return c
}

const timeLayout = "2006-01-02 15:04:05.999999-07"

// TimeKey is a time as the key of an Order of type timestamptz.
func TimeKey(t time.Time) string { return t.UTC().Format(timeLayout) }

// Time returns the key of a cursor of such an order; zero for the zero Cursor.
func (c Cursor) Time() time.Time {
	t, err := time.Parse(timeLayout, c.Key)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

func (o Order) cursorAt(key string, id ID, back bool) string {
	raw, err := json.Marshal(Cursor{Order: o.Name, Key: key, ID: id, Back: back})
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// OrderBy returns the ORDER BY clause in which the page at a cursor is read: backwards for one that goes back.
func (o Order) OrderBy(c Cursor) string {
	direction := " ASC"
	if o.Descending != c.Back {
		direction = " DESC"
	}
	return " ORDER BY " + o.Key + direction + ", " + o.ID + direction
}

// After returns the condition, which begins with AND, that keeps a query to the rows on the page's side of the cursor. arg
// adds an argument to the statement and returns its placeholder.
func (o Order) After(c Cursor, arg func(any) string) string {
	if c == (Cursor{}) {
		return ""
	}
	compare := " > "
	if o.Descending != c.Back {
		compare = " < "
	}
	return " AND (" + o.Key + ", " + o.ID + ")" + compare + "(" + arg(c.Key) + "::text::" + o.Type + ", " + arg(c.ID) + "::uuid)"
}

// CutPage makes a page of the rows that were read at a cursor, in the order of OrderBy: at most one more than limit, by which it
// is known whether there are more. at returns a row's key, as Postgres writes it, and its id.
func CutPage[T any](o Order, rows []T, c Cursor, limit int, at func(T) (key string, id ID)) Page[T] {
	more := len(rows) > limit
	if more {
		rows = rows[:limit]
	}
	if c.Back {
		slices.Reverse(rows)
	}
	page := Page[T]{Rows: rows}
	if len(rows) == 0 {
		return page
	}
	if c.Back && more || !c.Back && c != (Cursor{}) {
		key, id := at(rows[0])
		page.Prev = o.cursorAt(key, id, true)
	}
	if c.Back || more {
		key, id := at(rows[len(rows)-1])
		page.Next = o.cursorAt(key, id, false)
	}
	return page
}
