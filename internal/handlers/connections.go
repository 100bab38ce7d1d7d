package handlers

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/status"
	"patchbay/internal/text"
	"patchbay/views"
)

const (
	timelineLength = 100 // events of a page of a connection's timeline, most of them folded
	looksLength    = 20
)

// connectionOfVisitor returns the connection in the path. It returns ErrNotFound unless the visitor is staff or of its merchant.
func (s *Server) connectionOfVisitor(r *http.Request) (db.ConnectionDetail, error) {
	id, err := pg.ParseID(r.PathValue("id"))
	if err != nil {
		return db.ConnectionDetail{}, err
	}
	return s.DB.ConnectionDetail(r.Context(), id, visitorOf(r).user.MerchantID)
}

// connectionPage shows a connection's account, status and events. For a disconnected one it is the receipt.
func (s *Server) connectionPage(w http.ResponseWriter, r *http.Request) error {
	c, err := s.connectionOfVisitor(r)
	if err != nil {
		return err
	}
	if v := visitorOf(r); v.user.Staff() && !isPrefetch(r) {
		by := s.actor(r)
		seen := audit.Event{
			Kind: status.ConnectionViewed, Actor: by, MerchantID: c.MerchantID, ConnectionID: c.ID, Provider: c.Provider,
		}
		if err := s.DB.Audit.Record(r.Context(), seen); err != nil {
			return err
		}
	}
	if visitorOf(r).user.Staff() && r.URL.Query().Has("as") {
		return s.connectionAsMerchant(w, r, c)
	}
	page, err := s.viewConnection(r, c, visitorOf(r).role())
	if err != nil {
		return err
	}
	page.Back = s.back(w, r, "/admin/connections")
	once := visitorOf(r).shown
	page.Outcome = once.Outcome
	if page.Staff != nil {
		page.Staff.AskedLink, page.Staff.AskedWhy = once.Link, once.LinkWhy
	}
	s.render(w, r, http.StatusOK, views.Connection(page))
	return nil
}

// connectionAsMerchant shows staff what the merchant reads of a connection, in the language that the query's as names.
func (s *Server) connectionAsMerchant(w http.ResponseWriter, r *http.Request, c db.ConnectionDetail) error {
	if !views.KnownLocale(r.URL.Query().Get("as")) {
		return redirect(w, r, "/connections/"+c.ID.String())
	}
	seen, err := s.viewConnection(r, c, merchant)
	if err != nil {
		return err
	}
	page := views.SeenPage{Page: s.viewPage(r), Seen: seen, Language: r.URL.Query().Get("as")}
	page.Seen.User, page.Seen.Fixed = nil, true
	if page.Seen.EventsMore != "" {
		page.Seen.EventsMore += "&" + url.Values{"as": {page.Language}}.Encode()
	}
	s.render(w, r, http.StatusOK, views.SeenConnection(page))
	return nil
}

// nameConnection gives a connection a nickname. An empty one takes it away.
func (s *Server) nameConnection(w http.ResponseWriter, r *http.Request) error {
	c, err := s.connectionOfVisitor(r)
	if err != nil {
		return err
	}
	v, nickname := visitorOf(r), text.Name(formText(r, "nickname"))
	if err := s.rateLimit(r, "nickname "+v.user.ID.String(), pg.Limit{Burst: 20, Every: 3 * time.Second}); err != nil {
		return err
	}
	if tooLong(r, "nickname") {
		page, err := s.viewConnection(r, c, visitorOf(r).role())
		if err != nil {
			return err
		}
		page.Path = "/connections/" + c.ID.String() // this address takes no GET
		page.Account.Nickname, page.Errors = nickname, views.Errors{{Field: "nickname", Code: "too-long"}}
		s.render(w, r, http.StatusUnprocessableEntity, views.Connection(page))
		return nil
	}
	if err := s.DB.SetNickname(r.Context(), c.ID, v.user.MerchantID, nickname, s.actor(r)); err != nil {
		return err
	}
	return s.redirectWithNotice(w, r, "/connections/"+c.ID.String(), "saved")
}

// refreshNow refreshes a connection at once. Its page shows the outcome.
func (s *Server) refreshNow(w http.ResponseWriter, r *http.Request) error {
	c, err := s.connectionOfVisitor(r)
	if err != nil {
		return err
	}
	if err := s.rateLimit(r, "refresh now "+visitorOf(r).user.ID.String(), pg.Limit{Burst: 20, Every: 3 * time.Second}); err != nil {
		return err
	}
	if current := s.statusOf(r.Context(), c.Connection); current.Health == status.ActionNeeded && current.Party == status.PartyMerchant {
		wait, err := s.DB.Allow(r.Context(), "refused by hand "+c.ID.String(), refusedByPerson)
		if err != nil {
			return err
		}
		if wait > 0 { // its page says what was refused
			return redirect(w, r, "/connections/"+c.ID.String())
		}
	}
	outcome, err := s.Refresh.RefreshNow(r.Context(), c.ID, s.actor(r))
	if known, ok := refresh.ResultOf(err); ok {
		outcome, err = known, nil
	}
	switch {
	case err != nil:
		return err
	case outcome.Outcome == status.Skipped: // as its page shows
		return redirect(w, r, "/connections/"+c.ID.String())
	}
	came := views.Outcome{Code: string(outcome.Outcome), Health: outcome.Outcome.Health()}
	if outcome.Call.Name != "" && visitorOf(r).user.Staff() {
		came.Call = &outcome.Call
	}
	switch {
	case outcome.Problem == status.ProblemLapsed || outcome.Problem == status.ProblemSealed: // nothing was sent
		came.Code, came.Health = string(outcome.Problem), status.ActionNeeded
	case outcome.Incident && outcome.Outcome == status.Rejected: // the incident may be the cause
		came.Code, came.Health = "incident", status.Retrying
	}
	if outcome.RetryAfter > 0 {
		came.Retry = s.DB.Now().Add(outcome.RetryAfter)
	}
	return s.redirectToShow(w, r, "/connections/"+c.ID.String(), shown{Outcome: &came})
}

// redirectRefresh redirects a GET of the form's address, which people may have kept.
func (s *Server) redirectRefresh(w http.ResponseWriter, r *http.Request) error {
	return redirect(w, r, "/connections/"+url.PathEscape(r.PathValue("id")))
}

// viewConnection returns a connection's page as it is for a reader of that role.
func (s *Server) viewConnection(r *http.Request, c db.ConnectionDetail, reader roles) (views.ConnectionPage, error) {
	forStaff := reader&staff != 0
	provider, set := s.provider(c.Provider)
	present := set == nil && provider.Is(c.Provider, c.Environment)
	current := s.statusOf(r.Context(), c.Connection)
	page := views.ConnectionPage{
		Page: s.viewPage(r), Connection: c, Provider: s.viewProviderOf(c.Provider, c.Environment), Account: s.accountOf(c.Connection),
		Status: current, NextRefresh: c.RefreshAt, RenewsUntil: current.ReconnectBy,
	}
	if !forStaff { // on a phone those of other providers would push what is wrong here off the screen
		page.Incidents = slices.DeleteFunc(page.Incidents, func(i views.Incident) bool { return i.Provider != provider.Title })
	}
	if !forStaff && current.Health == status.Retrying { // the page itself says so
		page.Incidents = slices.DeleteFunc(slices.Clone(page.Incidents), func(i views.Incident) bool { return i.Provider == page.Provider.Title && len(i.Message) == 0 })
	}
	live := c.DisconnectedAt.IsZero()
	page.MayRefresh = live && present
	page.MayReconnect = present && reader == merchant
	page.MayDisconnect = live && reader&(merchant|admin) != 0
	if !live {
		receipt, err := s.Jobs.Receipt(r.Context(), c.Connection)
		if err != nil {
			return page, err
		}
		if !forStaff && receipt.Actor != audit.RoleMerchant {
			receipt.By = ""
		}
		page.Receipt = &receipt
	}
	events, err := s.DB.Audit.Timeline(r.Context(), c.ID, r.URL.Query().Get("at"), timelineLength)
	if err != nil {
		return page, err
	}
	if events.Next != "" {
		page.EventsMore = "/connections/" + c.ID.String() + "?" + url.Values{"at": {events.Next}}.Encode()
	}
	var people []pg.ID
	for _, e := range events.Rows {
		if e.Actor.ID != (pg.ID{}) {
			people = append(people, e.Actor.ID)
		}
	}
	var names map[pg.ID]string
	if len(people) > 0 {
		if names, err = s.DB.Audit.Names(r.Context(), people); err != nil {
			return page, err
		}
	}
	page.Events = viewEvents(events.Rows, names, forStaff)
	if forStaff {
		page.Staff, err = s.viewStaffConnection(r, c, &page)
	}
	return page, err
}

// viewStaffConnection returns what the page shows to staff only. It adds to the timeline the calls of the flows that made the
// connection, since their events do not name it.
func (s *Server) viewStaffConnection(r *http.Request, c db.ConnectionDetail, page *views.ConnectionPage) (*views.StaffConnection, error) {
	staff := &views.StaffConnection{}
	owner, err := s.DB.Merchant(r.Context(), c.MerchantID)
	if err != nil {
		return staff, err
	}
	staff.MerchantLanguage = owner.Locale
	reached, invited, err := s.askedPeople(r, c.MerchantID)
	if err != nil {
		return staff, err
	}
	if len(reached) > 0 {
		staff.MerchantLanguage = cmp.Or(reached[0].Locale, owner.Locale)
	}
	if c.DisconnectedAt.IsZero() {
		staff.AskURL, staff.Mails, staff.MayInvite, staff.Invited = "/connections/"+c.ID.String()+"/ask", s.Jobs.SendsMail(), visitorOf(r).role() == admin, invited
		for _, one := range reached {
			staff.AskTo = append(staff.AskTo, one.Email)
		}
	}
	staff.RefreshWhy = s.nextRefresh(c, page.Status)
	switch staff.RefreshWhy {
	case "verifying":
		page.NextRefresh = c.RecheckAt
	case "never", "unrenewable", "action-needed", "incident":
		page.NextRefresh = time.Time{}
	}
	flows, err := s.DB.FlowsOf(r.Context(), c.Connection, 20)
	if err != nil {
		return staff, err
	}
	people := make([]pg.ID, len(flows))
	for i, f := range flows {
		people[i] = f.By()
	}
	names, err := s.DB.Audit.Names(r.Context(), people)
	if err != nil {
		return staff, err
	}
	for i, f := range flows {
		if f.ResultID == c.ID && i < 5 && page.EventsMore == "" {
			events, err := s.DB.Audit.OfFlow(r.Context(), f.MerchantID, f.ID, f.CreatedAt, f.TouchedAt)
			if err != nil {
				return staff, err
			}
			events = slices.DeleteFunc(events, func(e audit.Event) bool { return e.ConnectionID == c.ID })
			page.Events = append(page.Events, viewEvents(events, names, true)...)
		}
		staff.Flows = append(staff.Flows, views.FlowLine{Flow: f, By: names[f.By()]})
	}
	slices.SortStableFunc(page.Events, func(a, b views.Event) int { return b.At.Compare(a.At) })
	looked := audit.Filter{Kind: status.ConnectionViewed, Connections: []pg.ID{c.ID}}
	looks, err := s.DB.Audit.List(r.Context(), looked, "", looksLength)
	if err != nil {
		return staff, err
	}
	for _, line := range looks.Rows {
		staff.Lookups = append(staff.Lookups, views.Event{Line: line})
	}
	staff.LookupsMore, staff.LookupsURL = looks.Next != "", "/admin/events?"+eventValues(looked).Encode()
	if staff.Notes, err = s.viewNotes(r, c.ID); err != nil {
		return staff, err
	}
	staff.Report = report(c, page.Status, page.Events)
	return staff, nil
}

// nextRefresh returns why the next refresh is when it is, or why there is none.
func (s *Server) nextRefresh(c db.ConnectionDetail, current status.Status) status.NextRefresh {
	next := c.NextRefresh(s.DB.Now())
	switch {
	case current.Health == status.Disconnected:
		return status.NextNever
	case next == status.NextRunning:
		return next
	case current.Problem == status.ProblemNotSetUp, current.Problem == status.ProblemEnvironment, current.Party == status.PartyMerchant, c.RefreshAt.IsZero() && current.Problem != "":
		return status.NextActionNeeded // other problems of the platform do not end the tries
	case next == status.NextInterrupted || next == status.NextVerifying || next == status.NextUnrenewable:
		return next
	}
	if slices.ContainsFunc(s.bannerIncidents(), func(one refresh.ProviderState) bool {
		return one.Name == c.Provider && one.Environment == c.Environment
	}) {
		return status.NextIncident
	}
	return next
}

// report returns a connection's calls as text to send to its provider, without secrets and names of people.
func report(c db.ConnectionDetail, current status.Status, events []views.Event) string {
	var b strings.Builder
	line := func(words ...string) { b.WriteString(strings.Join(words, "  ") + "\n") }
	line("provider", c.Provider, c.Environment)
	line("account", text.Isolated(c.Account.ID))
	line("connection", c.ID.String())
	line("health", string(current.Health), string(current.Problem))
	for _, e := range events {
		call := e.Call()
		if call == nil {
			continue
		}
		answer := "no answer"
		if call.Status != 0 {
			answer = "HTTP " + strconv.Itoa(call.Status)
		}
		line(e.At.Format(time.RFC3339Nano), call.Name, string(call.Outcome), answer, call.Code, call.Took.String(), call.Reference)
	}
	return b.String()
}
