package handlers

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"

	"patchbay/views"
)

// answer is what a browser got. What stands on it is asked for by selector or by the key of its words, so that a test
// holds what the page means and not how a sentence is put.
type answer struct {
	status         int
	location, body string
	request        string // its id
	retryAfter     string
}

func (a answer) document() *goquery.Document {
	doc, err := goquery.NewDocumentFromReader(strings.NewReader(a.body))
	if err != nil {
		panic(err) // a string is always read, and HTML has no syntax errors
	}
	return doc
}

// text is what a reader reads in the elements of a selector, with single spaces.
func (a answer) text(selector string) string {
	return strings.Join(strings.Fields(a.document().Find(selector).Text()), " ")
}

func (a answer) h1() string { return a.text("h1") }

// has says whether there is an element of a CSS selector.
func (a answer) has(selector string) bool { return a.document().Find(selector).Length() > 0 }

// says looks for the English words of a locale key, filled in as views.T does.
func (a answer) says(key string, pairs ...any) bool {
	return strings.Contains(a.text("body"), words(key, pairs...))
}

// words are the English words of a locale key.
func words(key string, pairs ...any) string {
	text := views.T(views.WithLocale(context.Background(), "en", time.Now(), nil), key, pairs...)
	if text == key {
		panic("no words for " + key)
	}
	return strings.Join(strings.Fields(text), " ")
}

// attribute is an attribute of the first element of a selector.
func (a answer) attribute(selector, name string) string {
	return a.document().Find(selector).AttrOr(name, "")
}

func wantH1(t *testing.T, page answer, want string) {
	t.Helper()
	if page.h1() != want {
		t.Errorf("page %d says %q, want %q", page.status, page.h1(), want)
	}
}

// submit sends the one form of a page that has an element of the selector, as it stands there: every field with its
// value, the button only where the selector is of that button, and what a person fills in besides.
func (p *person) submit(from answer, selector string, filled ...string) answer {
	p.t.Helper()
	doc := from.document()
	forms := doc.Find(`form[method="post"]`).FilterFunction(func(_ int, form *goquery.Selection) bool {
		return form.Is(selector) || form.Find(selector).Length() > 0
	})
	if forms.Length() != 1 {
		p.t.Fatalf("%d forms on %q have %s", forms.Length(), from.h1(), selector)
	}
	action, fields := formOf(forms)
	forms.Find("button[name]").Filter(selector).Each(func(_ int, button *goquery.Selection) {
		fields.Add(button.AttrOr("name", ""), button.AttrOr("value", ""))
	})
	for i := 0; i < len(filled); i += 2 {
		fields.Set(filled[i], filled[i+1])
	}
	return p.postForm(p.at(action), fields)
}

// follow gets the page that a form leads to.
func (p *person) follow(from answer) answer {
	p.t.Helper()
	if from.status != http.StatusSeeOther {
		p.t.Fatalf("the form does not lead on: %d %s", from.status, from.h1())
	}
	path, _, _ := strings.Cut(from.location, "#")
	return p.get(path)
}

// formOf is where a form leads and what it sends besides its buttons.
func formOf(form *goquery.Selection) (action string, fields url.Values) {
	fields = url.Values{}
	form.Find("input[name], select[name], textarea[name]").Each(func(_ int, field *goquery.Selection) {
		switch kind := field.AttrOr("type", ""); {
		case (kind == "radio" || kind == "checkbox") && !field.Is("[checked]"):
		case goquery.NodeName(field) == "select":
			chosen := field.Find("option[selected]")
			if chosen.Length() == 0 {
				chosen = field.Find("option").First()
			}
			fields.Add(field.AttrOr("name", ""), chosen.AttrOr("value", chosen.Text()))
		default:
			fields.Add(field.AttrOr("name", ""), field.AttrOr("value", field.Text()))
		}
	})
	return form.AttrOr("action", ""), fields
}

// wants holds a page to what must stand on it: what is read there, or its HTML.
func (p *person) wants(path string, words ...string) answer {
	p.t.Helper()
	got := p.get(path)
	if got.status != http.StatusOK {
		p.t.Errorf("%s: %d", path, got.status)
	}
	read := got.text("body")
	for _, w := range words {
		if !strings.Contains(read, w) && !strings.Contains(got.body, w) {
			p.t.Errorf("%s does not have %q", path, w)
		}
	}
	return got
}
