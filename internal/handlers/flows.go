package handlers

import (
	"net/http"
	"slices"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
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
	outcome := status.End(r.PathValue("outcome"))
	if !slices.Contains([]status.End{status.EndForged, status.EndOtherProvider, status.EndOtherBrowser, status.EndOtherUser, status.EndInterrupted}, outcome) {
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
	case status.StageBegun, status.StageAnswered, status.StageExchanging:
		page.Outcome = views.UnderWay
	case status.StageChoosing:
		o, err := s.DB.FlowOffer(r.Context(), f)
		if err != nil {
			return page, err
		}
		page.Outcome, page.Account = views.Choosing, s.viewAccount(f.Provider, o.Account, "")
		page.Choice = &views.Choice{Why: o.Why, Account: page.Account, Before: s.viewAccount(f.Provider, o.Before, page.ConnectionID), There: o.There, Options: o.Options, Until: f.ExpiresAt}
		if v.user.ID != f.UserID {
			page.Choice.Options = nil // a colleague's to answer
		}
	case status.StageConnected:
		c, err := s.DB.WholeConnection(r.Context(), f.ResultID, f.MerchantID)
		if err != nil {
			return page, err
		}
		page.Renewed = f.Outcome == status.EndRenewed
		page.Outcome, page.ConnectionID, page.Account = status.EndConnected, c.ID.String(), s.viewAccount(c.Provider, c.Account, c.ID.String())
	case status.StageFailed:
		switch page.Outcome {
		case status.EndInput:
			page.Outcome = status.EndRejected
		case status.EndRateLimited:
			page.RetryAfter = f.ExpiresAt
		}
	}
	if v.user.Staff() {
		events, err := s.DB.Audit.OfFlow(r.Context(), f.MerchantID, f.ID, f.CreatedAt, f.TouchedAt)
		if err != nil {
			return page, err
		}
		merchant, err := s.DB.Merchant(r.Context(), f.MerchantID)
		if err != nil {
			return page, err
		}
		names, err := s.DB.Audit.Names(r.Context(), []pg.ID{f.UserID})
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
func eventLabel(e audit.Event) (kind status.Kind, note string) {
	switch {
	case e.Kind == status.RefreshSaved && e.Note == "recovered":
		return views.Recovered, ""
	case e.Kind.Revocation(), e.Kind == status.ConnectionDisconnected: // the receipt has it
		return e.Kind, ""
	}
	return e.Kind, e.Note
}

// viewEvents turns events into a timeline. What only staff may see is left out for others.
func viewEvents(events []audit.Event, names map[pg.ID]string, staff bool) []views.Event {
	var out []views.Event
	for _, e := range events {
		_, call := e.Kind.Call()
		hidden := call || e.Kind.Revocation() && e.Kind != status.ConnectionRevoked || e.Kind == status.ConnectionViewed
		if hidden && !staff {
			continue
		}
		one := views.Event{At: e.At}
		one.Kind, one.Note = eventLabel(e)
		if staff || e.Actor.Kind == db.RoleMerchant || e.Actor.Kind == "key" {
			one.Actor = names[e.Actor.ID]
		}
		if staff {
			one.Where = e.Actor.Address
			if e.Class != "" {
				one.Call = callOf(e)
			}
		}
		out = append(out, one)
	}
	return out
}

// callOf is the exchange with a provider that an event tells of.
func callOf(e audit.Event) *views.Call {
	name, ok := e.Kind.Call()
	if !ok {
		name = string(e.Kind)
	}
	return &views.Call{
		Name: name, Class: e.Class, Status: e.Status, Code: e.Code, Reference: e.Reference,
		Took: time.Duration(e.Millis) * time.Millisecond, Unsent: e.Note == db.NoteUnsent || e.Note == db.NoteSealed,
	}
}
