package handlers

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/pg"
	"patchbay/internal/status"
	"patchbay/internal/text"
	"patchbay/views"
)

// adminProviders lists the providers: how each is, its connections, and what must be put right.
func (s *Server) adminProviders(w http.ResponseWriter, r *http.Request) error {
	counts, err := s.DB.Counts(r.Context())
	if err != nil {
		return err
	}
	present := connectors.Environments(s.Providers)
	records, err := s.DB.ProviderRecords(r.Context(), present)
	if err != nil {
		return err
	}
	waiting, err := s.DB.WaitingForPlatform(r.Context(), s.statuses(r.Context()))
	if err != nil {
		return err
	}
	states, err := s.Refresh.ProviderStates(r.Context())
	if err != nil {
		return err
	}
	successes, err := s.Refresh.LastSuccesses(r.Context(), present)
	if err != nil {
		return err
	}
	page := views.AdminProvidersPage{Page: s.viewPage(r)}
	var unset []views.ProviderLine // neither offered nor used
	for _, provider := range s.Providers {
		line := views.ProviderLine{
			ProviderFigures: s.providerFigures(r.Context(), providerEnv{provider.Name, provider.Environment}, counts, nil, states), Ready: provider.Connector != nil,
		}
		if line.Ready || hasConnections(counts, provider.Name) {
			line.Todo = s.providerTodo(provider, records[provider.Name], waiting[provider.Name])
		}
		line.LastOK = successes[provider.Name]
		if line.Ready || len(line.Todo) > 0 {
			page.Providers = append(page.Providers, line)
		} else {
			unset = append(unset, line)
		}
	}
	page.Providers = append(page.Providers, unset...)
	s.render(w, r, http.StatusOK, views.AdminProviders(page))
	return nil
}

// adminProvider shows a provider's settings, figures and incidents.
func (s *Server) adminProvider(w http.ResponseWriter, r *http.Request) error {
	provider, err := s.anyProvider(r.PathValue("provider"))
	if err != nil {
		return err
	}
	page := views.AdminProviderPage{Page: s.viewPage(r)}
	if page.ProviderSetup, err = s.viewSetup(r, provider); err != nil {
		return err
	}
	page.Form.Zone = formZone(r).String()
	s.render(w, r, http.StatusOK, views.AdminProvider(page))
	return nil
}

func (s *Server) viewSetup(r *http.Request, provider connectors.Provider) (views.ProviderSetup, error) {
	at := providerEnv{provider.Name, provider.Environment}
	one := views.ProviderSetup{Provider: s.viewProviderOf(provider.Name, provider.Environment), Ready: provider.Connector != nil, Missing: provider.Missing}
	if !one.Ready {
		return one, nil
	}
	counts, err := s.DB.Counts(r.Context())
	if err != nil {
		return one, err
	}
	lately, err := s.Refresh.Latencies(r.Context(), s.DB.Now().Add(-latencyAge))
	if err != nil {
		return one, err
	}
	present := map[string]string{at.provider: at.environment}
	records, err := s.DB.ProviderRecords(r.Context(), present)
	if err != nil {
		return one, err
	}
	waiting, err := s.DB.WaitingForPlatform(r.Context(), s.statuses(r.Context()))
	if err != nil {
		return one, err
	}
	record := records[provider.Name]
	one.Todo = s.providerTodo(provider, record, waiting[provider.Name])
	if _, keyed := provider.Connector.(connectors.CredentialConnector); !keyed {
		one.Callback = s.callbackURL(provider.Name)
	}
	_, one.MayRegister = provider.Connector.(connectors.CallbackRegistrar)
	if record.CallbackAddress == s.callbackURL(provider.Name) {
		one.RegisteredAt = record.CallbackRegisteredAt
	}
	if hooked, ok := provider.Connector.(connectors.WebhookReceiver); ok {
		one.Hooked, one.HookSet = true, hooked.WebhookSecret() != ""
	}
	one.Record, one.NoState = record, provider.Connector.Info().NoState
	if err := s.viewIncidents(r, &one); err != nil {
		return one, err
	}
	one.Median, one.Slow, one.Refreshes, one.Errors = latency(lately, at)
	if one.Days, err = s.providerDays(r, one); err != nil {
		return one, err
	}
	figures := s.providerFigures(r.Context(), at, counts, nil, nil)
	one.Connections, one.URLs = figures.Connections, figures.URLs
	return one, nil
}

// historyDays is how many days a provider's page looks back.
const historyDays = 30

// providerDays returns a provider's refreshes of the last days, by the visitor's days.
func (s *Server) providerDays(r *http.Request, p views.ProviderSetup) ([]views.ChartPoint, error) {
	zone := formZone(r)
	year, month, day := s.DB.Now().In(zone).Date()
	days := make([]views.ChartPoint, historyDays)
	for i := range days {
		days[i].At = time.Date(year, month, day-historyDays+1+i, 0, 0, 0, 0, zone)
		end := time.Date(year, month, day-historyDays+2+i, 0, 0, 0, 0, zone)
		days[i].URL = "/admin/events?" + eventValues(audit.Filter{Kind: audit.Refreshes, Provider: p.Name, From: days[i].At, To: end}).Encode()
		days[i].Incident = slices.ContainsFunc(p.Incidents, func(one views.IncidentState) bool {
			return one.Began.Before(end) && (one.Ended.IsZero() || one.Ended.After(days[i].At))
		})
	}
	hours, err := s.Refresh.ProviderHours(r.Context(), p.Name, p.Environment, days[0].At)
	if err != nil {
		return nil, err
	}
	for _, h := range hours {
		i := len(days) - 1
		for i > 0 && h.Hour.Before(days[i].At) {
			i--
		}
		days[i].Calls += h.Calls
		days[i].Failed += h.Failed
	}
	return days, nil
}

// viewIncidents fills in a provider's pause, its open incident and its latest ones, newest first.
func (s *Server) viewIncidents(r *http.Request, p *views.ProviderSetup) error {
	state, err := s.Refresh.ProviderState(r.Context(), p.Name, p.Environment)
	if err != nil {
		return err
	}
	if state.PausedUntil.After(s.DB.Now()) {
		p.PausedUntil = state.PausedUntil
	}
	past, err := s.Refresh.PastIncidents(r.Context(), 100)
	if err != nil {
		return err
	}
	by, err := pg.ParseID(state.IncidentBy)
	if err != nil {
		by = pg.ID{}
	}
	people := []pg.ID{by}
	for _, one := range past {
		people = append(people, one.By, one.EndedBy)
	}
	names, err := s.DB.Audit.Names(r.Context(), people)
	if err != nil {
		return err
	}
	for _, one := range past {
		if one.Provider == p.Name && one.Environment == p.Environment {
			p.Incidents = append(p.Incidents, views.IncidentState{
				Began: one.Began, Ended: one.Ended, Reason: one.Reason, Words: one.Message, By: names[one.By], EndedBy: names[one.EndedBy],
			})
		}
	}
	if !state.IncidentSince.IsZero() {
		p.Incident = &views.IncidentState{Began: state.IncidentSince, Reason: state.Reason, NextProbe: state.NextProbe, By: names[by]}
		if len(p.Incidents) > 0 && p.Incidents[0].Ended.IsZero() {
			p.Incident.Words, p.Incident.By = p.Incidents[0].Words, p.Incidents[0].By
		}
		p.Form.Message = state.Message
		if !state.Until.IsZero() {
			p.Form.Until = state.Until.In(formZone(r)).Format(localMinute)
		}
	}
	return nil
}

// changeProvider handles the provider's buttons. Of the provider's answer only the outcome is shown.
func (s *Server) changeProvider(w http.ResponseWriter, r *http.Request) error {
	provider, err := s.provider(r.PathValue("provider"))
	if err != nil {
		return err
	}
	notice := ""
	switch r.PostFormValue("do") {
	case "register":
		notice, err = s.registerCallback(r, provider)
	case "hook":
		notice, err = s.registerHook(r, provider)
	case "unhook":
		notice, err = s.removeHooks(r, provider)
	case "check":
		notice, err = s.checkProvider(r, provider)
	case "declare", "message":
		return s.saveIncident(w, r, provider)
	case "end":
		notice, err = "incident-ended", s.Refresh.EndIncident(r.Context(), provider.Name, s.actor(r))
	case "resume":
		notice, err = "resumed", s.Refresh.EndPause(r.Context(), provider.Name, s.actor(r))
	default:
		err = errMalformed
	}
	if err != nil {
		return err
	}
	s.openIncidents.forget()
	return s.redirectWithNotice(w, r, "/admin/providers/"+provider.Name, notice)
}

const staffCallLimit = 25 * time.Second // the longest that staff wait for one call to a provider

// callProvider makes one call that staff asked for. It returns the provider's answer, which is logged if it did not do it.
func (s *Server) callProvider(r *http.Request, provider connectors.Provider, what string, call func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), staffCallLimit)
	defer cancel()
	ctx, calls := connectors.WithCalls(ctx)
	err := call(ctx)
	if err != nil {
		s.Log.WarnContext(ctx, "provider did not do what staff asked", "provider", provider.Name, "what", what, "outcome", connectors.OutcomeOf(err), "status", calls.Last().Status, "reason", connectors.ReasonOf(err))
	}
	return err
}

// saveRequestFailure remembers why a provider did not do what staff asked for, so that the page says it.
func (s *Server) saveRequestFailure(r *http.Request, provider connectors.Provider, what, notice string, failed error) (string, error) {
	return notice, s.DB.RequestFailed(r.Context(), provider.Name, provider.Environment, what, connectors.OutcomeOf(failed), reasonOf(failed), s.actor(r))
}

// reasonOf returns why a provider did not do something, in the connector's words or by its outcome alone.
func reasonOf(err error) string {
	var limited *connectors.RateLimitedError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &limited):
		return limited.Error()
	}
	return cmp.Or(connectors.ReasonOf(err), string(connectors.OutcomeOf(err)))
}

func (s *Server) registerCallback(r *http.Request, provider connectors.Provider) (notice string, err error) {
	registrar, ok := provider.Connector.(connectors.CallbackRegistrar)
	if !ok {
		return "", pg.ErrNotFound
	}
	address := s.callbackURL(provider.Name)
	if err := s.callProvider(r, provider, "register callback", func(ctx context.Context) error { return registrar.RegisterCallback(ctx, address) }); err != nil {
		return s.saveRequestFailure(r, provider, "register", "provider-failed", err)
	}
	return "registered", s.DB.CallbackRegistered(r.Context(), provider.Name, provider.Environment, address, s.actor(r))
}

func (s *Server) registerHook(r *http.Request, provider connectors.Provider) (notice string, err error) {
	hooked, ok := provider.Connector.(connectors.WebhookReceiver)
	if !ok || hooked.WebhookSecret() == "" {
		return "", pg.ErrNotFound
	}
	address := s.publicAddress("/hooks/" + provider.Name + "/" + hooked.WebhookSecret())
	if err := s.callProvider(r, provider, "register hook", func(ctx context.Context) error { return hooked.RegisterWebhook(ctx, address) }); err != nil {
		return s.saveRequestFailure(r, provider, "hook", "provider-failed", err)
	}
	return "hooked", s.DB.HookRegistered(r.Context(), provider.Name, provider.Environment, s.actor(r))
}

// removeHooks unsubscribes from the webhooks of every known account, one by one: the provider has no call for all.
func (s *Server) removeHooks(r *http.Request, provider connectors.Provider) (notice string, err error) {
	hooked, ok := provider.Connector.(connectors.WebhookReceiver)
	if !ok {
		return "", pg.ErrNotFound
	}
	accounts, err := s.DB.HookAccounts(r.Context(), provider.Name, provider.Environment)
	if err != nil {
		return "", err
	}
	removed := 0
	for began := time.Now(); removed < len(accounts) && time.Since(began) < staffCallLimit; removed++ {
		if err := s.callProvider(r, provider, "remove hook", func(ctx context.Context) error { return hooked.RemoveWebhook(ctx, accounts[removed]) }); err != nil {
			return s.saveRequestFailure(r, provider, "unhook", "unhooked-some", err)
		}
	}
	if removed < len(accounts) {
		return "unhooked-some", nil
	}
	return "unhooked", s.DB.HookRemoved(r.Context(), provider.Name, provider.Environment, removed, s.actor(r))
}

func (s *Server) checkProvider(r *http.Request, provider connectors.Provider) (notice string, err error) {
	checker, ok := provider.Connector.(connectors.Checker)
	if !ok {
		return "", pg.ErrNotFound
	}
	var checked connectors.CheckResult
	began := time.Now()
	failed := s.callProvider(r, provider, "check", func(ctx context.Context) (err error) {
		checked, err = checker.Check(ctx)
		return err
	})
	if errors.Is(failed, connectors.ErrNotOffered) {
		return "not-checkable", nil
	}
	took := checked.Took
	if took == 0 {
		took = max(time.Since(began), time.Millisecond)
	}
	return "checked", s.DB.ProviderChecked(r.Context(), provider.Name, provider.Environment, connectors.OutcomeOf(failed), reasonOf(failed), took, checked.Skew, s.actor(r))
}

// localMinute is how browsers send a field of type datetime-local.
const localMinute = "2006-01-02T15:04"

// formZone returns the time zone in which the visitor writes times.
func formZone(r *http.Request) *time.Location {
	if zone := zoneOf(r); zone != nil {
		return zone
	}
	return time.UTC
}

// saveIncident declares an incident, or changes what merchants read of the open one.
func (s *Server) saveIncident(w http.ResponseWriter, r *http.Request, provider connectors.Provider) error {
	declares := r.PostFormValue("do") == "declare"
	form := views.IncidentForm{Reason: formText(r, "reason"), Until: r.PostFormValue("until"), Zone: formZone(r).String(), Message: connectors.Words{}}
	if declares && tooLong(r, "reason") {
		form.Errors = append(form.Errors, views.FieldError{Field: "reason", Code: "too-long"})
	}
	for _, tag := range views.Languages() {
		name := "message-" + tag
		if said := formText(r, name); said != "" {
			form.Message[tag] = said
		}
		if text.Length(form.Message[tag]) > views.MaxMessage {
			form.Errors = append(form.Errors, views.FieldError{Field: name, Code: "too-long"})
		}
	}
	var until time.Time
	if form.Until != "" {
		var err error
		if until, err = time.ParseInLocation(localMinute, form.Until, formZone(r)); err != nil || !until.After(s.DB.Now()) {
			form.Errors = append(form.Errors, views.FieldError{Field: "until", Code: "past"})
		}
	}
	if len(form.Errors) > 0 {
		page := views.AdminProviderPage{Page: s.viewPage(r)}
		var err error
		if page.ProviderSetup, err = s.viewSetup(r, provider); err != nil {
			return err
		}
		page.Form = form
		s.render(w, r, http.StatusUnprocessableEntity, views.AdminProvider(page))
		return nil
	}
	by, notice := s.actor(r), "incident-message"
	if declares {
		notice = "incident-declared"
		if err := s.Refresh.OpenIncident(r.Context(), provider.Name, status.ReasonDeclared, by); err != nil {
			return err
		}
		if err := s.DB.Audit.Record(r.Context(), audit.Event{Kind: status.IncidentDeclared, Actor: by, Provider: provider.Name, Note: form.Reason}); err != nil {
			return err
		}
	}
	if !declares || len(form.Message) > 0 || !until.IsZero() {
		if err := s.Refresh.SetIncidentMessage(r.Context(), provider.Name, form.Message, until, by); err != nil {
			return err
		}
	}
	s.openIncidents.forget()
	return s.redirectWithNotice(w, r, "/admin/providers/"+provider.Name, notice)
}

// forget empties the cache, so that the next page reads the incidents again.
func (i *incidents) forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.read = time.Time{}
}
