package handlers

import (
	"errors"
	"net/http"
	"slices"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
	"patchbay/views"
)

// flowPage shows one flow: the choice that it waits for, or its outcome. It continues a flow whose user had to sign in again.
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
	page.Rejected, page.Back = rejected, s.back(w, r, "/admin/connections")
	if v := visitorOf(r); v.role() == linked {
		ended := v.link.Flow.Stage == status.StageConnected || v.link.State(s.DB.Now()) == db.LinkConfirming
		if f.Stage == status.StageChoosing && v.link.Flow.ID != f.ID && ended { // in another tab, with another account
			return redirect(w, r, "/flows/"+v.link.Flow.Reference)
		}
		var at string
		if page.Link, at, err = s.viewLinkEnd(r, f); err != nil {
			return err
		}
		if at != "" && !isPrefetch(r) {
			return redirect(w, r, at)
		}
	}
	s.render(w, r, http.StatusOK, views.Flow(page))
	return nil
}

// flowOfVisitor returns the flow in the path. It returns ErrNotFound unless the visitor is staff or of its merchant.
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

// endedPage shows the outcome of a callback that belongs to no flow of the visitor's.
func (s *Server) endedPage(w http.ResponseWriter, r *http.Request) error {
	provider, err := s.anyProvider(r.PathValue("provider"))
	if err != nil {
		return err
	}
	outcome := status.End(r.PathValue("outcome"))
	if !slices.Contains([]status.End{status.EndForged, status.EndOtherProvider, status.EndOtherBrowser, status.EndOtherUser, status.EndInterrupted}, outcome) {
		return pg.ErrNotFound
	}
	page := views.FlowPage{Page: s.viewPage(r), Provider: viewProvider(provider), Rejected: outcome}
	if secret, ok := s.browserSecret(r); ok && page.User == nil {
		l, err := s.DB.ConnectLinkOfBrowser(r.Context(), secret)
		switch {
		case err == nil:
			page.Link = s.viewLink(l)
		case !errors.Is(err, pg.ErrNotFound):
			return err
		}
	}
	s.render(w, r, http.StatusOK, views.Flow(page))
	return nil
}

func (s *Server) viewFlow(r *http.Request, f db.Flow) (views.FlowPage, error) {
	v := visitorOf(r)
	page := views.FlowPage{
		Page: s.viewPage(r), Provider: s.viewProviderOf(f.Provider, f.Environment), Flow: f, Account: s.viewAccount(f.Provider, f.Account, ""),
	}
	switch f.Stage {
	case status.StageChoosing:
		o, err := s.DB.FlowOffer(r.Context(), f)
		if err != nil {
			return page, err
		}
		if !v.began(f) {
			o.Options = nil // only the flow's user may choose
		}
		page.Offer, page.Account, page.Before = &o, s.viewAccount(f.Provider, o.Account, ""), s.accountOf(o.Before)
	case status.StageConnected:
		c, err := s.DB.ConnectionDetail(r.Context(), f.ResultID, f.MerchantID)
		if err != nil {
			return page, err
		}
		page.Account, page.Missing = s.accountOf(c.Connection), c.Scopes.Missing
		page.Unrenewable, page.Until = c.Unrenewable, c.AccessEnds
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
		names, err := s.DB.Audit.Names(r.Context(), []pg.ID{f.By()})
		if err != nil {
			return page, err
		}
		page.Staff = &views.StaffFlow{Merchant: merchant.Name, By: names[f.By()], Events: viewEvents(events, names, true)}
	}
	return page, nil
}

// viewEvents returns the events that the reader may see, with the names of their actors.
func viewEvents(events []audit.Event, names map[pg.ID]string, staff bool) []views.Event {
	var out []views.Event
	for _, e := range events {
		_, call := e.Kind.Call()
		hidden := call || e.Kind.Revocation() && e.Kind != status.ConnectionRevoked || e.Kind == status.ConnectionNoted || e.Kind == status.ConnectionNoteDeleted
		if hidden && !staff {
			continue
		}
		if e.Kind == status.FlowFailed && !staff {
			e.Note = "" // why, in words for staff
		}
		one := views.Event{Line: audit.Line{Event: e}}
		if staff || e.Actor.Role == audit.RoleMerchant || e.Actor.Role == audit.RoleKey || e.Actor.Role == audit.RoleLink {
			one.ActorName = names[e.Actor.ID]
		}
		out = append(out, one)
	}
	return out
}
