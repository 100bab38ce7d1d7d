package handlers

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/resource"
	"patchbay/internal/status"
	"patchbay/internal/text"
	"patchbay/views"
)

// How long a connect link may last.
const (
	shortestLink = time.Minute
	defaultLink  = 30 * time.Minute
	longestLink  = 7 * 24 * time.Hour
)

// newLink is the body of POST /api/v1/connect-links.
type newLink struct {
	Merchant struct {
		ExternalID string `json:"external_id"`
		Name       string `json:"name"`
		Locale     string `json:"locale"`
	} `json:"merchant"`
	User struct {
		ExternalID string `json:"external_id"`
		Name       string `json:"name"`
	} `json:"user"`
	Provider   string            `json:"provider"`
	Inputs     map[string]string `json:"inputs"`
	Connection string            `json:"connection"`
	ReturnURL  string            `json:"return_url"`
	Return     string            `json:"return"`
	ExpiresIn  *int              `json:"expires_in"`
	Confirm    bool              `json:"confirm"`
}

type apiLinkUser struct {
	ExternalID string `json:"external_id"`
	Name       string `json:"name"`
}

type apiLink struct {
	ID         pg.ID             `json:"id"`
	URL        string            `json:"url,omitempty"` // only when it is made
	State      db.LinkState      `json:"state"`
	Merchant   resource.Merchant `json:"merchant"`
	User       apiLinkUser       `json:"user"`
	Provider   string            `json:"provider"`
	Connection string            `json:"connection"` // that it made, or is to reconnect
	Reference  string            `json:"reference"`
	ReturnURL  string            `json:"return_url"`
	Return     string            `json:"return"`
	Confirm    bool              `json:"confirm"`
	CreatedAt  time.Time         `json:"created_at"`
	ExpiresAt  time.Time         `json:"expires_at"`
	BegunAt    *time.Time        `json:"begun_at"`
	RevokedAt  *time.Time        `json:"revoked_at"`
}

func (s *Server) shownLink(l db.ConnectLink) apiLink {
	a := apiLink{
		ID: l.ID, State: l.State(s.DB.Now()), Merchant: resource.Merchant{ID: l.Merchant.ID, ExternalID: l.Merchant.ExternalID, Name: l.Merchant.Name},
		User: apiLinkUser{l.UserExternalID, l.UserName}, Provider: l.Provider, Reference: l.Flow.Reference, ReturnURL: l.ReturnURL, Return: "button",
		Confirm: l.Confirms, CreatedAt: l.CreatedAt.UTC(), ExpiresAt: l.ExpiresAt.UTC(), BegunAt: resource.TimeOrNull(l.BoundAt), RevokedAt: resource.TimeOrNull(l.RevokedAt),
	}
	if l.Redirects {
		a.Return = "redirect"
	}
	switch {
	case l.Flow.Stage == status.StageConnected:
		a.Connection, a.Provider = l.Flow.ResultID.String(), l.Flow.Provider
	case l.ConnectionID != (pg.ID{}):
		a.Connection = l.ConnectionID.String()
	}
	return a
}

// apiAddLink makes a connect link, and its merchant if it is unknown.
func (s *Server) apiAddLink(w http.ResponseWriter, r *http.Request) error {
	secret, err := bearer(r)
	if err != nil {
		return err
	}
	var asked newLink
	unreadable := readJSON(r, &asked, "the body is a JSON object with merchant, and optionally user, provider, inputs, connection, return_url, return, expires_in and confirm")
	if unreadable != nil {
		asked = newLink{}
	}
	key, m, err := s.DB.MerchantByAPIKey(r.Context(), secret, asked.Merchant.ExternalID) // the merchant is used only if the key is valid
	if err != nil && !errors.Is(err, pg.ErrNotFound) {
		return err
	}
	s.Refresh.RecordKeyUse(key.ID)
	if err := s.authorizeKey(r, key, db.ScopeLinks); err != nil {
		return err
	}
	if unreadable != nil {
		return unreadable
	}
	l, lasts, err := s.checkLink(asked)
	if err != nil {
		return err
	}
	if l.Merchant, err = s.merchantOfLink(r, key, m, asked); err != nil {
		return err
	}
	if l.ConnectionID != (pg.ID{}) {
		c, err := s.DB.ConnectionDetail(r.Context(), l.ConnectionID, l.Merchant.ID)
		provider, unset := s.provider(c.Provider)
		switch {
		case errors.Is(err, pg.ErrNotFound), err == nil && !c.DisconnectedAt.IsZero():
			return invalid("connection is the id of a connection of this merchant that has not ended")
		case err != nil:
			return err
		case unset != nil, !provider.Is(c.Provider, c.Environment):
			return invalid("connection: its provider is not set up here in its environment")
		case l.Provider != "" && l.Provider != c.Provider:
			return invalid("provider is not the connection's: leave it out")
		}
		l.Provider = c.Provider
	}
	if err := s.checkLinkInputs(l); err != nil {
		return err
	}
	l, shownOnce, err := s.DB.AddConnectLink(r.Context(), s.byKey(r, key), l, lasts)
	if err != nil {
		return err
	}
	answer := s.shownLink(l)
	answer.URL = s.publicAddress("/links/" + string(shownOnce))
	return writeJSON(w, http.StatusCreated, answer)
}

// checkLink checks what needs no database.
func (s *Server) checkLink(asked newLink) (l db.ConnectLink, lasts time.Duration, err error) {
	l = db.ConnectLink{
		Provider: asked.Provider, Inputs: asked.Inputs, UserExternalID: text.Name(asked.User.ExternalID), UserName: text.Name(asked.User.Name),
		Locale: asked.Merchant.Locale, ReturnURL: asked.ReturnURL, Redirects: asked.Return == "redirect", Confirms: asked.Confirm,
	}
	lasts = defaultLink
	if asked.ExpiresIn != nil {
		if *asked.ExpiresIn < int(shortestLink/time.Second) || *asked.ExpiresIn > int(longestLink/time.Second) {
			return l, 0, invalid("expires_in is a number of seconds from 60 to 604800")
		}
		lasts = time.Duration(*asked.ExpiresIn) * time.Second
	}
	if asked.Connection != "" {
		if l.ConnectionID, err = pg.ParseID(asked.Connection); err != nil {
			return l, 0, invalid("connection is the id of a connection of this merchant that has not ended")
		}
	}
	if l.Provider != "" {
		if _, err := s.provider(l.Provider); err != nil {
			return l, 0, invalid("provider is the name of one that is set up here, as GET /api/v1/providers lists them")
		}
	}
	if l.ReturnURL != "" {
		if _, ok := s.returnURL(l.ReturnURL); !ok {
			return l, 0, invalid("return_url is none of RETURN_URLS and not below one: scheme, host and port are theirs, and the path is theirs or continues it after a slash")
		}
	}
	switch {
	case text.Length(asked.User.ExternalID) > text.MaxName || text.Length(asked.User.Name) > text.MaxName:
		return l, 0, invalid("user.external_id and user.name are texts of at most 200 characters")
	case l.Locale != "" && !views.KnownLocale(l.Locale):
		return l, 0, invalid("merchant.locale is " + oneOf(views.Languages()))
	case !slices.Contains([]string{"", "button", "redirect"}, asked.Return):
		return l, 0, invalid("return is button or redirect")
	case l.Confirms && l.ReturnURL == "":
		return l, 0, invalid("confirm needs a return_url, to which the code is brought")
	}
	return l, lasts, nil
}

// merchantOfLink returns the link's merchant: the one that was found or, if none was, one that it adds.
func (s *Server) merchantOfLink(r *http.Request, key db.APIKey, m db.Merchant, asked newLink) (db.Merchant, error) {
	external := asked.Merchant.ExternalID
	if text.Name(external) == "" || text.Length(external) > text.MaxName {
		return db.Merchant{}, invalid("merchant.external_id is a text of 1 to 200 characters, one of them visible")
	}
	var err error
	if m.ID == (pg.ID{}) { // also found as it was sent
		m, err = s.DB.MerchantByExternalID(r.Context(), external)
	}
	if errors.Is(err, pg.ErrNotFound) && key.MerchantID == (pg.ID{}) {
		if text.Name(asked.Merchant.Name) == "" {
			return m, invalid("no merchant has this external_id: give merchant.name, and it is added")
		}
		m, err = s.DB.AddMerchant(r.Context(), s.byKey(r, key), db.Merchant{ExternalID: external, Name: asked.Merchant.Name, Locale: asked.Merchant.Locale})
		switch {
		case errors.Is(err, text.ErrTooLong):
			return m, invalid("merchant.name is a text of 1 to 200 characters, one of them visible")
		case errors.Is(err, db.ErrExternalIDTaken): // by another request at the same moment
			m, err = s.DB.MerchantByExternalID(r.Context(), external)
		}
	}
	switch {
	case errors.Is(err, pg.ErrNotFound), err == nil && key.MerchantID != (pg.ID{}) && key.MerchantID != m.ID:
		return m, errForbidden
	}
	return m, err
}

// checkLinkInputs checks what a form is to be filled in with: fields of the link's provider that are no secret.
func (s *Server) checkLinkInputs(l db.ConnectLink) error {
	if len(l.Inputs) == 0 {
		return nil
	}
	provider, err := s.provider(l.Provider)
	if err != nil {
		return invalid("inputs need a provider or a connection")
	}
	fields := fieldsOf(provider)
	for name, value := range l.Inputs {
		i := slices.IndexFunc(fields, func(f connectors.Field) bool { return f.Name == name })
		switch {
		case i < 0:
			return invalid("inputs: this provider has no input of that name, see GET /api/v1/providers")
		case fields[i].Secret:
			return invalid("inputs: a secret is typed by the merchant and not handed over")
		case text.Length(value) > text.MaxName:
			return invalid("inputs are texts of at most 200 characters")
		}
	}
	return nil
}

// linkByKey returns the connect link in the path, if the request's key is for its merchant.
func (s *Server) linkByKey(r *http.Request) (db.APIKey, db.ConnectLink, error) {
	key, err := s.key(r, db.ScopeLinks)
	if err != nil {
		return key, db.ConnectLink{}, err
	}
	id, err := pg.ParseID(r.PathValue("id"))
	if err != nil {
		return key, db.ConnectLink{}, err
	}
	l, err := s.DB.ConnectLink(r.Context(), id, key.MerchantID)
	return key, l, err
}

// apiConnectLink shows one connect link.
func (s *Server) apiConnectLink(w http.ResponseWriter, r *http.Request) error {
	_, l, err := s.linkByKey(r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, s.shownLink(l))
}

// apiLinks lists connect links, the latest first.
func (s *Server) apiLinks(w http.ResponseWriter, r *http.Request) error {
	key, err := s.key(r, db.ScopeLinks)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	limit, err := pageSize(q.Get("limit"))
	if err != nil {
		return err
	}
	if !validCursor(q.Get("cursor")) {
		return errCursor
	}
	answer := struct {
		Links []apiLink `json:"connect_links"`
		Next  string    `json:"next"`
	}{Links: []apiLink{}}
	merchant := key.MerchantID
	if named := q.Get("merchant"); named != "" {
		m, err := s.merchantNamed(r, named)
		switch {
		case errors.Is(err, pg.ErrNotFound), err == nil && merchant != (pg.ID{}) && m.ID != merchant:
			return writeJSON(w, http.StatusOK, answer)
		case err != nil:
			return err
		}
		merchant = m.ID
	}
	page, err := s.DB.ConnectLinks(r.Context(), merchant, q.Get("cursor"), limit)
	if err != nil {
		return err
	}
	for _, l := range page.Rows {
		answer.Links = append(answer.Links, s.shownLink(l))
	}
	answer.Next = page.Next
	return writeJSON(w, http.StatusOK, answer)
}

// apiRevokeLink ends a connect link with its attempt. What it has connected stays.
func (s *Server) apiRevokeLink(w http.ResponseWriter, r *http.Request) error {
	key, l, err := s.linkByKey(r)
	if err != nil {
		return err
	}
	dropped, err := s.DB.RevokeConnectLink(r.Context(), l, s.byKey(r, key))
	if err != nil {
		return err
	}
	for _, one := range dropped {
		if err := s.Jobs.RevokeUnwanted(r.Context(), one); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// apiConfirmLink connects what a merchant gave access to, once the platform's program has the code that came back to it.
func (s *Server) apiConfirmLink(w http.ResponseWriter, r *http.Request) error {
	key, l, err := s.linkByKey(r)
	if err != nil {
		return err
	}
	var asked struct {
		Code string `json:"code"`
	}
	if err := readJSON(r, &asked, "the body is a JSON object with code"); err != nil {
		return err
	}
	var info connectors.Info // of no provider while there is no attempt
	if provider, err := s.provider(l.Flow.Provider); err == nil {
		info = provider.Connector.Info()
	}
	made, err := s.DB.ConfirmConnectLink(r.Context(), l, pg.Secret(asked.Code), s.byKey(r, key), info, s.Jobs)
	if err != nil {
		return err
	}
	if made.Replaced != nil {
		if err := s.revokeAtProvider(r, *made.Replaced); err != nil {
			return err
		}
	}
	if l, err = s.DB.ConnectLink(r.Context(), l.ID, key.MerchantID); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, s.shownLink(l))
}
