// Package views renders pages and mails from values: rows of db, accounts and calls of connectors, codes of status. It makes
// no queries and knows no session. Handlers fill one struct for each page, and the page's component renders the document.
//
//	ctx := views.WithLocale(r.Context(), tag, now, zone) // "en", "km" or "fr"; zone nil is UTC
//	views.Connections(views.ConnectionsPage{Page: page, Connected: …}).Render(ctx, w)
//
// Every page's struct embeds Page: who is signed in, where we are, incidents, a notice. Titles, words, dates and
// numbers are the page's own business: handlers pass codes and times, never sentences.
//
// Words are in locales/{noun}.{en,km,fr}.json, flat keys beginning with the noun, values with {{.Name}} where something is filled in:
//
//	"connect.title": "Connect {{.Provider}}"        T(ctx, "connect.title", "Provider", p.Title)
//	"users.count": {"one": "{{.Count}} person", "other": "{{.Count}} people"}   (Khmer has "other" only)
//
// Codes that come from elsewhere (kinds of events, problems, keys of details, fields) are looked up under a prefix and
// fall back to the code made readable, so that a new provider needs no entry here.
//
// After editing a .templ file: go tool templ generate, in the root. Look at every page with
// go test ./views -run TestStory -args -story DIR, which writes all of them in all languages.
package views
