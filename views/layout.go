package views

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"patchbay/internal/text"
)

func (p Page) noticeKey(ctx context.Context) string {
	if key := "notice." + p.Notice; has(ctx, key) {
		return key
	}
	return "notice.done"
}

// here reports whether a tab leads to the present page or to one above it.
func (p Page) here(href string) bool {
	path, _, _ := strings.Cut(p.Path, "?")
	if href == "/admin" {
		return path == href
	}
	return path == href || strings.HasPrefix(path, href+"/") ||
		href == "/admin/connections" && (strings.HasPrefix(path, "/connections/") || strings.HasPrefix(path, "/flows/") || strings.HasPrefix(path, "/admin/bulk/"))
}

// backText says where Back leads.
func (p Page) backText(ctx context.Context) string {
	path, _, _ := strings.Cut(p.Back, "?")
	list, _, _ := strings.Cut(strings.TrimPrefix(path, "/admin/"), "/")
	switch list {
	case "connections", "users", "events", "webhooks":
		return T(ctx, "layout.back", "Where", T(ctx, "admin_"+list+".title"))
	case "merchants":
		if path == "/admin/merchants" {
			return T(ctx, "layout.back", "Where", T(ctx, "admin_merchants.title"))
		}
		return T(ctx, "layout.back", "Where", T(ctx, "filter.merchant"))
	}
	return T(ctx, "layout.back", "Where", T(ctx, "admin_overview.title"))
}

// color returns the provider's colour if it is #rrggbb, else the accent: a setting must not write markup.
func (p Provider) color() string {
	if _, _, _, ok := rgb(p.Color); ok {
		return p.Color
	}
	return "#0f5e5c"
}

// ink returns white or near-black, whichever has more contrast on the provider's colour.
func (p Provider) ink() string {
	r, g, b, _ := rgb(p.color())
	if 0.2126*float64(r)+0.7152*float64(g)+0.0722*float64(b) > 140 {
		return "#1c1a17"
	}
	return "#ffffff"
}

func rgb(hex string) (r, g, b uint8, ok bool) {
	if len(hex) != 7 || hex[0] != '#' {
		return 0, 0, 0, false
	}
	n, err := strconv.ParseUint(hex[1:], 16, 32)
	return uint8(n >> 16), uint8(n >> 8), uint8(n), err == nil
}

func (i input) kind() string {
	if i.Type == "" {
		return "text"
	}
	return i.Type
}

func (i input) describedBy() string {
	var ids []string
	if i.Help != "" || i.Example != "" {
		ids = append(ids, i.Name+"-help")
	}
	if i.Error != "" {
		ids = append(ids, i.Name+"-error")
	}
	return strings.Join(ids, " ")
}

func (i input) maxLen() string { return strconv.Itoa(i.MaxLen) }

func (c Column) arrow() string {
	switch c.Sorted {
	case "ascending":
		return "▲"
	case "descending":
		return "▼"
	}
	return ""
}

// errorText says what is wrong with a field, in the words for that field if there are any. label is what the form calls it, "" for
// its usual name.
func errorText(ctx context.Context, field, code, label string) string {
	label = cmp.Or(label, fieldLabel(ctx, field))
	for _, key := range []string{"error." + field + "." + code, "error." + code} {
		if has(ctx, key) {
			return T(ctx, key, "Field", label)
		}
	}
	return T(ctx, "error.invalid", "Field", label)
}

// fieldLabel returns the label of a form's field.
func fieldLabel(ctx context.Context, field string) string { return wordFor(ctx, "field.", field) }

// detailLabel returns the label of a detail of an account.
func detailLabel(ctx context.Context, key string) string { return wordFor(ctx, "detail.", key) }

// wordFor returns the text of a code, which may be a provider's. A code without a text is made readable.
func wordFor[Code ~string](ctx context.Context, prefix string, code Code) string {
	if key := prefix + string(code); has(ctx, key) {
		return T(ctx, key)
	}
	return humanised(string(code))
}

func count(ctx context.Context, n int) string { return Number(ctx, int64(n)) }

func percent(part, whole int64) string {
	if whole == 0 {
		return "0"
	}
	return fmt.Sprintf("%d", part*100/whole)
}

// words shows a text of T, in which each name is isolated as foreign does it.
func words(s string) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		html := strings.NewReplacer(string(text.Isolate), "<bdi>", string(text.PopIsolate), "</bdi>").Replace(templ.EscapeString(s))
		_, err := io.WriteString(w, html)
		return err
	})
}
