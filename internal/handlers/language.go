package handlers

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"patchbay/views"
)

// setLanguage changes the language of a page with forms, and leads back to it with what was typed but its secrets. The field language
// holds the language, the page's address and the id of the form that was sent. Fields of other forms, which the script sends along,
// have the form's id and a space before their name.
func (s *Server) setLanguage(w http.ResponseWriter, r *http.Request) error {
	tag, address, _ := strings.Cut(r.PostFormValue("language"), " ")
	address, sent, _ := strings.Cut(address, "#")
	if !ownPath(address) || !views.KnownLocale(tag) {
		return errMalformed
	}
	s.setCookie(w, "lang", tag, 365*24*time.Hour)
	secrets := s.secretFields()
	typed := url.Values{}
	for name, values := range r.PostForm {
		form, field, other := strings.Cut(name, " ")
		if !other {
			form, field = sent, name
		}
		if field != "language" && !secrets[field] {
			typed[typedKey(form, field)] = values
		}
	}
	err := s.redirectToShow(w, r, address, shown{Typed: typed})
	if multi := securecookie.MultiError(nil); errors.As(err, &multi) { // more than a cookie holds
		return redirect(w, r, address)
	}
	return err
}

// typedKey is the key of shown.Typed for a field of the form with an id.
func typedKey(form, field string) string { return form + " " + field }

// fillForms puts what was typed into the forms of a page, and unfolds those that it changes.
func fillForms(page *bytes.Buffer, typed url.Values) error {
	document, err := html.Parse(bytes.NewReader(page.Bytes()))
	if err != nil {
		return err
	}
	for n := range document.Descendants() {
		form, id := formAround(n), ""
		if form != nil {
			id = attributeOf(form, "id")
		}
		if values, ok := typed[typedKey(id, attributeOf(n, "name"))]; id != "" && (ok || sentForm(typed, id)) && fillField(n, values, ok) {
			for up := n.Parent; up != nil; up = up.Parent {
				if up.DataAtom == atom.Details {
					setAttribute(up, "open", "", true)
				}
			}
		}
	}
	page.Reset()
	return html.Render(page, document)
}

// fillField makes a field hold values, ok false for a box or button that was not chosen. It reports whether that changes the field.
// It leaves hidden fields and those for secrets.
func fillField(n *html.Node, values []string, ok bool) (changed bool) {
	value := strings.ReplaceAll(strings.Join(values, ""), "\r\n", "\n")
	switch n.DataAtom {
	case atom.Input:
		switch attributeOf(n, "type") {
		case "hidden", "password", "file", "submit":
			return false
		case "checkbox", "radio":
			return setAttribute(n, "checked", "", slices.Contains(values, attributeOf(n, "value")))
		}
		return ok && attributeOf(n, "value") != value && setAttribute(n, "value", value, true)
	case atom.Textarea:
		was := ""
		for c := range n.ChildNodes() {
			was += c.Data
		}
		if !ok || was == value {
			return false
		}
		for n.FirstChild != nil {
			n.RemoveChild(n.FirstChild)
		}
		n.AppendChild(&html.Node{Type: html.TextNode, Data: value})
		return true
	case atom.Select:
		for o := range n.Descendants() {
			if ok && o.DataAtom == atom.Option {
				changed = setAttribute(o, "selected", "", attributeOf(o, "value") == value) || changed
			}
		}
	}
	return changed
}

// sentForm reports whether any field of the form with the id was sent: a box of it without a value was not ticked then.
func sentForm(typed url.Values, id string) bool {
	for key := range typed {
		if strings.HasPrefix(key, id+" ") {
			return true
		}
	}
	return false
}

// formAround returns the form in which a field is, nil if there is none.
func formAround(n *html.Node) *html.Node {
	if n.DataAtom != atom.Input && n.DataAtom != atom.Textarea && n.DataAtom != atom.Select {
		return nil
	}
	for up := n.Parent; up != nil; up = up.Parent {
		if up.DataAtom == atom.Form {
			return up
		}
	}
	return nil
}

func attributeOf(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// setAttribute sets an attribute of a node, or takes it away if wanted is false. It reports whether that changes the node.
func setAttribute(n *html.Node, key, value string, wanted bool) (changed bool) {
	i := slices.IndexFunc(n.Attr, func(a html.Attribute) bool { return a.Key == key })
	switch {
	case i < 0 && wanted:
		n.Attr = append(n.Attr, html.Attribute{Key: key, Val: value})
	case i >= 0 && !wanted:
		n.Attr = slices.Delete(n.Attr, i, i+1)
	case i >= 0 && n.Attr[i].Val != value:
		n.Attr[i].Val = value
	default:
		return false
	}
	return true
}

// secretFields returns the names of the fields that take a secret, in the forms of this server and of the providers.
func (s *Server) secretFields() map[string]bool {
	secrets := map[string]bool{"password": true, "current": true, "code": true, "recovery": true, "passkey": true, proofPassword: true, proofCode: true, proofPasskey: true}
	for _, p := range s.Providers {
		for _, f := range fieldsOf(p) {
			secrets[f.Name] = secrets[f.Name] || f.Secret
		}
	}
	return secrets
}
