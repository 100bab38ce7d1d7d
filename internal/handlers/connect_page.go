package handlers

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
	"patchbay/internal/text"
	"patchbay/views"
)

// connectPage shows a provider's page before connecting: the redirect that follows, or the form for credentials.
func (s *Server) connectPage(w http.ResponseWriter, r *http.Request) error {
	provider, err := s.provider(r.PathValue("provider"))
	if err != nil {
		return err
	}
	page, err := s.viewConnectPage(r, provider, r.URL.Query().Get("connection"))
	if err != nil {
		return err
	}
	fillIn(page.Fields, r.URL.Query().Get)
	page.Host = s.destination(r, provider, page.Fields)
	s.render(w, r, http.StatusOK, views.Connect(page))
	return nil
}

// destinationLimit is how long a page may wait for a provider's metadata, which says where its own page is.
const destinationLimit = time.Second

// destination returns the host to which the merchant's browser will be sent with what is in the fields, "" if it is not sent anywhere or
// that is not known yet.
func (s *Server) destination(r *http.Request, provider connectors.Provider, fields []views.Field) string {
	destined, ok := provider.Connector.(connectors.Destined)
	if !ok || isPrefetch(r) {
		return ""
	}
	var inputs map[string]string
	if asker, ok := provider.Connector.(connectors.Asker); ok && len(fields) > 0 {
		typed := make(map[string]string, len(fields))
		for _, f := range fields {
			typed[f.Name] = f.Value
		}
		inputs, _ = asker.CheckInputs(typed) // with a mistake in them the host is unknown
	}
	ctx, cancel := context.WithTimeout(r.Context(), destinationLimit)
	defer cancel()
	return destined.Destination(ctx, inputs)
}

// fillIn writes values into the fields that are not secret: those of the address begin nothing, and are shown to be sent.
func fillIn(fields []views.Field, value func(name string) string) {
	for i, f := range fields {
		if typed := text.Clean(value(f.Name)); !f.Secret && typed != "" {
			fields[i].Value = typed
		}
	}
}

// viewConnectPage fills in the page. reconnect is the id of the connection to reconnect, from an address or a form; "" for a
// new one. It returns ErrNotFound if the merchant has no such connection.
func (s *Server) viewConnectPage(r *http.Request, provider connectors.Provider, reconnect string) (views.ConnectPage, error) {
	page := views.ConnectPage{Page: s.viewPage(r), Provider: viewProvider(provider), Action: "/connect/" + provider.Name}
	owned, err := s.DB.MerchantConnections(r.Context(), visitorOf(r).user.MerchantID, nil)
	if err != nil {
		return page, err
	}
	found := reconnect == ""
	var before connectors.Account
	for _, c := range owned {
		if !provider.Is(c.Provider, c.Environment) {
			continue
		}
		page.AlreadyHas = true
		if c.ID.String() == reconnect {
			found = true
			account := s.accountOf(c)
			page.ReconnectID, page.ReconnectAs, before = reconnect, &account, c.Account
		}
	}
	if !found {
		return page, pg.ErrNotFound
	}
	for _, f := range fieldsOf(provider) {
		field := views.Field{Field: f}
		if !f.Secret {
			field.Value = before.Input[f.Name]
			if page.Provider.Keyed {
				field.Value = cmp.Or(field.Value, before.Detail(f.Name)) // such as the client id
			}
		}
		page.Fields = append(page.Fields, field)
	}
	return page, nil
}

// renderNotConnected shows the form again with why the provider did not take what was typed.
func (s *Server) renderNotConnected(w http.ResponseWriter, r *http.Request, page views.ConnectPage, f db.Flow, why error) {
	var input *connectors.InputError
	var limited *connectors.RateLimitedError
	code, outcome := http.StatusUnprocessableEntity, connectors.OutcomeOf(why)
	switch {
	case errors.As(why, &input):
		for i, field := range page.Fields {
			if input.Code == connectors.InputSwapped && field.Name == input.Field {
				page.Fields[i].Value = "" // this is the secret: it is not shown again
			}
		}
		page.Errors = views.Errors{{Field: input.Field, Code: input.Code}}
		s.render(w, r, code, views.Connect(page))
		return
	case outcome == status.Rejected:
	case outcome == status.ClientRejected, outcome == status.RateLimited:
		code = http.StatusServiceUnavailable
	default:
		code, outcome = http.StatusBadGateway, status.Temporary
	}
	if errors.As(why, &limited) {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, seconds(limited.RetryAfter))))
	}
	page.Refused, page.Reference = outcome, f.Reference
	s.render(w, r, code, views.Connect(page))
}

// ownPassword finds the fields that hold the person's own password to this site, as password managers and mistaken people fill them
// in, and empties them. It must not be sent to a partner.
func (s *Server) ownPassword(r *http.Request, fields []views.Field) (views.Errors, error) {
	if visitorOf(r).role() == linked { // who has none here
		return nil, nil
	}
	var errs views.Errors
	seen := map[string]bool{} // whether it is the password: comparing is slow on purpose
	for i, f := range fields {
		typed := r.PostFormValue(f.Name)
		for _, word := range []string{typed, text.Clean(typed)} {
			is, known := seen[word]
			if !known && word != "" && len(f.Options) == 0 {
				var err error
				if is, err = s.Accounts.IsPassword(r.Context(), visitorOf(r).user.ID, word); err != nil {
					return nil, err
				}
			}
			seen[word] = is
			if is {
				fields[i].Value = ""
				errs = append(errs, views.FieldError{Field: f.Name, Code: "own-password"})
				break
			}
		}
	}
	return errs, nil
}
