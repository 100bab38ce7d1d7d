package sandbox

import (
	"bytes"
	"cmp"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"slices"
)

//go:embed pages
var files embed.FS

func parsePages() *template.Template {
	return template.Must(template.ParseFS(files, "pages/*.html"))
}

// consent is what a provider's sign-in page shows. It keeps nothing: the request's parameters travel in the form and
// are checked again when it comes back.
type consent struct {
	Title    string // the imitated provider
	Question string
	Action   string
	Params   []param
	Choices  []choice
	Legend   string
	Asked    []string // what the app asks for
	Unticks  bool     // a person may grant less
	Back     string   // host that the answer goes to
}

type param struct{ Name, Value string }

type choice struct{ ID, Name, Other, OtherLang, Note string }

// params carries a query on in a form, in a fixed order.
func params(q url.Values, drop ...string) []param {
	var all []param
	for name, values := range q {
		if slices.Contains(drop, name) {
			continue
		}
		for _, v := range values {
			all = append(all, param{name, v})
		}
	}
	slices.SortFunc(all, func(a, b param) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// page writes a page. If that fails it answers 500.
func (c *call) page(status int, name string, data any) {
	var b bytes.Buffer
	if err := c.s.pages.ExecuteTemplate(&b, name, data); err != nil {
		c.html(http.StatusInternalServerError, "<h1>The sandbox could not make this page</h1>")
		return
	}
	c.status = status
	c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(status)
	c.w.Write(b.Bytes())
}

// errorPage is what a person sees if a link to a provider is wrong. It never redirects: the callback is not trusted.
func (c *call) errorPage(title, what string) {
	c.page(http.StatusBadRequest, "error.html", struct{ Title, What string }{title, what})
}

// ask shows the consent page, or answers at once where the options say so: then allowed is true.
func (c *call) ask(page consent, callback string) (account string, allowed bool) {
	if c.s.o.AnswerAtOnce && len(page.Choices) > 0 {
		return page.Choices[0].ID, true
	}
	if u, err := url.Parse(callback); err == nil {
		page.Back = u.Host
	}
	c.page(http.StatusOK, "consent.html", page)
	return "", false
}
