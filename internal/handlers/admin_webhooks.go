package handlers

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"patchbay/internal/pg"
	"patchbay/internal/webhooks"
	"patchbay/views"
)

// adminWebhooks shows the endpoints of webhooks, and the deliveries that a filter shows.
func (s *Server) adminWebhooks(w http.ResponseWriter, r *http.Request) error {
	return s.renderWebhooks(w, r, http.StatusOK, views.WebhookForm{}, visitorOf(r).shown.Secret)
}

func (s *Server) renderWebhooks(w http.ResponseWriter, r *http.Request, status int, form views.WebhookForm, made *views.MadeSecret) error {
	query, zone := zoned(r, r.URL.Query())
	endpoints, err := s.Webhooks.Endpoints(r.Context())
	if err != nil {
		return err
	}
	f, values := webhooks.Filter{State: webhooks.DeliveryState(query.Get("state"))}, url.Values{}
	page := views.WebhooksPage{
		Page: s.viewPage(r), Endpoints: endpoints, Form: form, Made: made, MayChange: visitorOf(r).role() == admin,
		Since: s.DB.Now().In(zone).AddDate(0, 0, -1).Format(fieldLayout(true)), Zone: zone.String(),
	}
	if f.Endpoint, err = pg.ParseID(query.Get("endpoint")); err == nil {
		values.Set("endpoint", f.Endpoint.String())
	}
	page.Filter = []views.Option{{}}
	for _, e := range endpoints {
		page.Filter = append(page.Filter, views.Option{Value: e.ID.String(), Label: e.Shown, Selected: e.ID == f.Endpoint})
	}
	page.States = options(f.State, append([]webhooks.DeliveryState{""}, webhooks.DeliveryStates()...)...)
	if f.State != "" {
		values.Set("state", string(f.State))
	}
	deliveries, err := s.Webhooks.Deliveries(r.Context(), f, query.Get("at"), listLength)
	if err != nil {
		return err
	}
	page.Deliveries, page.Pager = deliveries.Rows, pager("/admin/webhooks", values, query.Get("at"), deliveries.Prev, deliveries.Next)
	s.render(w, r, status, views.Webhooks(page))
	return nil
}

// addEndpoint makes an endpoint. The list shows its secret once.
func (s *Server) addEndpoint(w http.ResponseWriter, r *http.Request) error {
	form := views.WebhookForm{URL: formText(r, "url"), Types: r.PostForm["type"]}
	var types []webhooks.Type
	for _, t := range form.Types {
		types = append(types, webhooks.Type(t))
	}
	e, secret, err := s.Webhooks.Add(r.Context(), s.actor(r), form.URL, types)
	switch {
	case errors.Is(err, webhooks.ErrURL) && s.Webhooks.Private:
		form.Errors = views.Errors{{Field: "url", Code: "web"}}
	case errors.Is(err, webhooks.ErrURL):
		form.Errors = views.Errors{{Field: "url", Code: "public"}}
	case errors.Is(err, webhooks.ErrType):
		form.Errors = views.Errors{{Field: "type", Code: "invalid"}}
	case errors.Is(err, webhooks.ErrTooMany):
		form.Errors = views.Errors{{Field: "url", Code: "too-many"}}
	case err != nil:
		return err
	default:
		return s.showSecret(w, r, e, secret)
	}
	return s.renderWebhooks(w, r, http.StatusUnprocessableEntity, form, nil)
}

// showSecret leads to the list, which shows an endpoint's new secret once.
func (s *Server) showSecret(w http.ResponseWriter, r *http.Request, e webhooks.Endpoint, secret webhooks.Secret) error {
	made := views.MadeSecret{Address: e.Shown[:min(len(e.Shown), 500)], Secret: string(secret), Until: e.RotatedUntil} // addresses are ASCII
	return s.redirectToShow(w, r, "/admin/webhooks", shown{Secret: &made})
}

// changeEndpoint does what an admin asks of an endpoint: field do.
func (s *Server) changeEndpoint(w http.ResponseWriter, r *http.Request) error {
	id, err := pg.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	var e webhooks.Endpoint
	ctx, by, do := r.Context(), s.actor(r), formText(r, "do")
	switch do {
	case "rotate":
		e, secret, err := s.Webhooks.Rotate(ctx, by, id)
		if err != nil {
			return err
		}
		return s.showSecret(w, r, e, secret)
	case "resend":
		_, zone := zoned(r, r.PostForm)
		since, err := time.ParseInLocation(fieldLayout(true), formText(r, "since"), zone)
		if err != nil {
			return s.renderWebhooks(w, r, http.StatusUnprocessableEntity, views.WebhookForm{Errors: views.Errors{{Field: "since", Code: "invalid"}}}, nil)
		}
		n, err := s.Webhooks.ResendFailed(ctx, by, id, since)
		if err != nil {
			return err
		}
		return s.redirectWithNotice(w, r, "/admin/webhooks", "hook-resend", "Count", strconv.FormatInt(n, 10))
	case "test":
		e, _, err = s.Webhooks.SendTest(ctx, by, id)
	case "on":
		e, err = s.Webhooks.SwitchOn(ctx, by, id)
	case "off":
		e, err = s.Webhooks.SwitchOff(ctx, by, id)
	case "delete":
		e, err = s.Webhooks.Delete(ctx, by, id)
	default:
		return errMalformed
	}
	if err != nil {
		return err
	}
	return s.redirectWithNotice(w, r, "/admin/webhooks", "hook-"+do, "Address", e.Shown)
}

// sendAgain sends one delivery again.
func (s *Server) sendAgain(w http.ResponseWriter, r *http.Request) error {
	id, err := pg.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	e, err := s.Webhooks.Resend(r.Context(), s.actor(r), id)
	if err != nil {
		return err
	}
	return s.redirectWithNotice(w, r, "/admin/webhooks", "hook-again", "Address", e.Shown)
}
