package handlers

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/views"
)

// flowPage shows one flow: the choice that it waits for, or how it ended. A user who comes back from signing in while the
// provider's answer waits goes on with it here.
func (s *Server) flowPage(w http.ResponseWriter, r *http.Request) error {
	f, err := s.flowOfVisitor(r)
	if err != nil {
		return err
	}
	f, rejected, err := s.resume(r, f)
	if err != nil {
		return err
	}
	page, err := s.viewFlow(r, f)
	if err != nil {
		return err
	}
	if rejected != "" {
		page.Outcome = rejected
	}
	s.render(w, r, http.StatusOK, views.Flow(page))
	return nil
}

// flowOfVisitor is the flow in the address, when the visitor may see it.
func (s *Server) flowOfVisitor(r *http.Request) (db.Flow, error) {
	f, err := s.DB.FlowByReference(r.Context(), r.PathValue("reference"))
	if err != nil {
		return f, err
	}
	if v := visitorOf(r); !v.user.Staff() && f.MerchantID != v.user.MerchantID {
		return db.Flow{}, pg.ErrNotFound
	}
	return f, nil
}

// endedPage is where a callback ends that belongs to no attempt of the visitor's.
func (s *Server) endedPage(w http.ResponseWriter, r *http.Request) error {
	setup, err := s.anyProvider(r.PathValue("provider"))
	if err != nil {
		return err
	}
	outcome := r.PathValue("outcome")
	if !slices.Contains([]string{"forged", "other-provider", "other-browser", "other-user", "interrupted"}, outcome) {
		return pg.ErrNotFound
	}
	s.render(w, r, http.StatusOK, views.Flow(views.FlowPage{Page: s.viewPage(r), Provider: viewProvider(setup), Outcome: outcome}))
	return nil
}

func (s *Server) viewFlow(r *http.Request, f db.Flow) (views.FlowPage, error) {
	v := visitorOf(r)
	page := views.FlowPage{
		Page: s.viewPage(r), Reference: f.Reference, Provider: s.viewProviderOf(f.Provider, f.Environment), Outcome: f.Outcome, EndedAt: f.TouchedAt,
		Account: s.viewAccount(f.Provider, f.Account, ""),
	}
	if f.ConnectionID != (pg.ID{}) {
		page.ConnectionID, page.Reconnect = f.ConnectionID.String(), true
	}
	switch f.Stage {
	case db.Begun, db.Answered, db.Exchanging:
		page.Outcome = "under-way"
	case db.Choosing:
		o, err := s.DB.FlowOffer(r.Context(), f)
		if err != nil {
			return page, err
		}
		page.Outcome, page.Account = "choosing", s.viewAccount(f.Provider, o.Account, "")
		page.Choice = &views.Choice{Why: o.Why, Account: page.Account, Before: s.viewAccount(f.Provider, o.Before, page.ConnectionID), There: o.There, Options: o.Options, Until: f.ExpiresAt}
		if v.user.ID != f.UserID {
			page.Choice.Options = nil // a colleague's to answer
		}
	case db.Connected:
		c, err := s.DB.WholeConnection(r.Context(), f.ResultID, f.MerchantID)
		if err != nil {
			return page, err
		}
		page.Renewed = f.Outcome == db.OutcomeRenewed
		page.Outcome, page.ConnectionID, page.Account = "connected", c.ID.String(), s.viewAccount(c.Provider, c.Account, c.ID.String())
	case db.Failed:
		switch page.Outcome {
		case "input":
			page.Outcome = "provider-refused"
		case "provider-busy":
			page.RetryAfter = f.ExpiresAt
		}
	}
	if v.user.Staff() {
		events, err := s.DB.FlowEvents(r.Context(), f)
		if err != nil {
			return page, err
		}
		merchant, err := s.DB.Merchant(r.Context(), f.MerchantID)
		if err != nil {
			return page, err
		}
		names, err := s.DB.Names(r.Context(), []pg.ID{f.UserID})
		if err != nil {
			return page, err
		}
		page.Staff = &views.StaffFlow{
			Merchant: merchant.Name, MerchantID: f.MerchantID.String(), By: names[f.UserID], Stage: f.Stage, Outcome: f.Outcome, Created: f.CreatedAt, Expires: f.ExpiresAt,
			Events: viewEvents(events, names, true),
		}
		if f.ResultID != (pg.ID{}) {
			page.Staff.ConnectionID = f.ResultID.String()
		}
	}
	return page, nil
}

// eventLabel returns the kind under which an event is shown, and its note where that is for people.
func eventLabel(e db.Event) (kind, note string) {
	switch {
	case e.Kind == "refresh.saved" && e.Note == "recovered":
		return "recovered", ""
	case strings.HasPrefix(e.Kind, "connection.revoke"), e.Kind == "connection.disconnected": // the receipt has it
		return e.Kind, ""
	}
	return e.Kind, e.Note
}

// viewEvents turns events into a timeline. What only staff may see is left out for others.
func viewEvents(events []db.Event, names map[pg.ID]string, staff bool) []views.Event {
	var out []views.Event
	for _, e := range events {
		hidden := strings.HasPrefix(e.Kind, "call.") || strings.HasPrefix(e.Kind, "connection.revoke.") || e.Kind == "connection.viewed"
		if hidden && !staff {
			continue
		}
		one := views.Event{At: e.At}
		one.Kind, one.Note = eventLabel(e)
		if staff || e.Actor == db.RoleMerchant || e.Actor == "key" {
			one.Actor = names[e.ActorID]
		}
		if staff {
			one.Where = e.Address
			if e.Class != "" {
				one.Call = &views.Call{
					Name: strings.TrimPrefix(e.Kind, "call."), Class: e.Class, Status: e.Status, Code: e.Code, Reference: e.Reference,
					Took: time.Duration(e.Millis) * time.Millisecond, Unsent: e.Note == db.NoteUnsent || e.Note == db.NoteSealed,
				}
			}
		}
		out = append(out, one)
	}
	return out
}
