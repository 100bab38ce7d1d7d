package views

import (
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/text"
)

// Page is what every page has.
type Page struct {
	Path      string     // path and query, for the links that change the language
	User      *Person    // who is signed in; nil for a visitor who is not
	Link      *Link      // by which a platform sent the visitor here; nil for all others
	Incidents []Incident // one banner each
	Back      string     // where staff came from, of the page of one thing
	Notice    string     // code of what has just been done, words under "notice."; "" for nothing
	NoticeOf  []any      // names and values to fill in, in turn
}

// Person is the signed-in user, with the merchant.
type Person struct {
	account.User
	Merchant string // its name; "" for staff
}

// Staff reports whether the person is signed in as staff.
func (p *Person) Staff() bool { return p != nil && p.User.Staff() }

// Admin reports whether the person is signed in as an admin.
func (p *Person) Admin() bool { return p != nil && p.Role == audit.RoleAdmin }

// Incident is a provider that is failing for all merchants.
type Incident struct {
	Name     string // the provider's
	Provider string // its title
	Since    time.Time
	Ours     bool             // our own client is suspected
	Declared bool             // a person declared it, and must end it
	Message  connectors.Words // of staff to merchants; empty for the general sentence
	Until    time.Time        // until when it is expected to last; zero if that is not known
}

// incidentAt returns the open incident of a provider, nil if there is none.
func (p Page) incidentAt(provider string) *Incident {
	for i := range p.Incidents {
		if p.Incidents[i].Name == provider {
			return &p.Incidents[i]
		}
	}
	return nil
}

// Provider is a provider as pages show it.
type Provider struct {
	Name, Title string
	Environment string // "sandbox" or "production"
	Color       string // #rrggbb of its mark
	Keyed       bool   // merchants type credentials here, and do not sign in at the provider
	Key         bool   // Keyed, and what they type is the access itself
	Unproved    bool   // Key, and nothing can be asked that would prove it
	HomeURL     string // the provider's page where access can be seen and ended; "" if unknown
	About       connectors.About
	Logo        bool // it has one
}

// Account is an account at a provider, with what the provider's connector says about the keys of its details.
type Account struct {
	connectors.Account
	Nickname string // of its connection; "" if it has none
	Keys     connectors.AccountKeys
	At       string // the provider's title
	Self     string // the id of its connection, which replaces the account's where the provider gives none
}

// nameless reports whether the provider names nothing, so that the person must say whose account it is.
func (a Account) nameless() bool { return a.ID == "" || a.ID == a.Self }

// placed says whether the account is one of several that the same person may have: its id says which.
func (a Account) placed() bool { return len(a.Values) > 0 && a.ID != a.Name && !a.nameless() }

// otherName returns the account's name in another script, "" if there is none.
func (a Account) otherName() string {
	if other := text.Name(a.Detail(a.Keys.OtherName)); other != text.Name(a.Name) {
		return other
	}
	return ""
}

// identifier returns the account's official number, such as a tax number, "" if there is none.
func (a Account) identifier() string { return a.Detail(a.Keys.Identifier) }

// Filter is one condition of a list's filter, as in its address. Keys have words under "filter.".
type Filter struct{ Key, Value string }

// Option is one choice of a select or a set of radios.
type Option struct {
	Value, Label string
	Selected     bool
}

// Pager holds the links of a list's pages; "" where there is none.
type Pager struct {
	First, Prev, Next string
}

// Column is a sortable column's link and state.
type Column struct {
	URL    string
	Sorted string // "", "ascending" or "descending"
}

// FieldError is an error in a form: the field's name and a code, with words under "error.". Label is what the form calls the field,
// "" for its usual name.
type FieldError struct{ Field, Code, Label string }

// Errors are the errors of one form.
type Errors []FieldError

// Of returns the code of a field's error, "" if it has none.
func (e Errors) Of(field string) string {
	for _, one := range e {
		if one.Field == field {
			return one.Code
		}
	}
	return ""
}

// langURL returns this page's address in another language.
func (p Page) langURL(tag string) string {
	path, query, _ := strings.Cut(p.Path, "?")
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		path = "/"
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		values = url.Values{}
	}
	values.Set("lang", tag)
	return path + "?" + values.Encode()
}

// humanised makes a provider's code readable: "date_of_incorporation" becomes "Date of incorporation".
func humanised(code string) string {
	var b strings.Builder
	var last rune
	for _, r := range code {
		switch {
		case r == '_' || r == '-' || r == '.' || unicode.IsSpace(r):
			r = ' '
			if last == ' ' || last == 0 {
				continue
			}
		case unicode.IsUpper(r) && unicode.IsLower(last):
			b.WriteRune(' ')
			r = unicode.ToLower(r)
		}
		if last == 0 {
			r = unicode.ToUpper(r)
		}
		b.WriteRune(r)
		last = r
	}
	return strings.TrimSpace(b.String())
}

// monogram returns the letter in a provider's mark.
func monogram(title string) string {
	r, _ := utf8.DecodeRuneInString(strings.TrimSpace(title))
	if r == utf8.RuneError {
		return "?"
	}
	return string(unicode.ToUpper(r))
}
