package handlers

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"patchbay/internal/pg"
)

// backCookie is the name of the cookie that remembers from which list staff came to the page of one thing. The Referer says so only at
// first: not after one of the page's forms, or in another language.
const backCookie = "back"

// back returns the address of the list from which staff came to this page, with its filter and its page; otherwise where nothing
// says so. It is of our own lists only, and "" for others than staff.
func (s *Server) back(w http.ResponseWriter, r *http.Request, otherwise string) string {
	if !visitorOf(r).user.Staff() {
		return ""
	}
	if came, err := url.Parse(r.Referer()); err == nil && came.Host == r.Host {
		if list := listAddress(came); list != "" {
			if !isPrefetch(r) && len(list) < 2000 {
				s.setCookie(w, backCookie, url.Values{"page": {r.URL.Path}, "list": {list}}.Encode(), 12*time.Hour)
			}
			return list
		}
	}
	if cookie, err := r.Cookie(s.cookieName(backCookie)); err == nil {
		kept, err := url.ParseQuery(cookie.Value)
		if list, parseErr := url.Parse(kept.Get("list")); err == nil && parseErr == nil && kept.Get("page") == r.URL.Path {
			if list := listAddress(list); list != "" {
				return list
			}
		}
	}
	return otherwise
}

// listAddress returns the path and query of one of staff's lists, "" if the address is of no list.
func listAddress(at *url.URL) string {
	if id, ok := strings.CutPrefix(at.Path, "/admin/merchants/"); ok {
		if _, err := pg.ParseID(id); err != nil {
			return ""
		}
	} else if !slices.Contains([]string{"/admin", "/admin/connections", "/admin/merchants", "/admin/users", "/admin/events", "/admin/webhooks"}, at.Path) {
		return ""
	}
	query := at.Query()
	query.Del("lang") // it would change back to the list's language
	return (&url.URL{Path: at.Path, RawQuery: query.Encode()}).String()
}
