package handlers

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/search"
	"patchbay/internal/status"
	"patchbay/views"
)

// adminProviders shows each provider's settings, figures and incidents.
func (s *Server) adminProviders(w http.ResponseWriter, r *http.Request) error {
	counts, err := s.DB.Counts(r.Context())
	if err != nil {
		return err
	}
	lately, err := s.Refresh.Latencies(r.Context(), s.DB.Now().Add(-latencyAge))
	if err != nil {
		return err
	}
	records, err := s.DB.ProviderRecords(r.Context(), connectors.Environments(s.Providers))
	if err != nil {
		return err
	}
	incidents, err := s.viewIncidents(r)
	if err != nil {
		return err
	}
	page := views.AdminProvidersPage{Page: s.viewPage(r)}
	for _, provider := range s.Providers {
		one, err := s.viewSetup(r, provider, records[provider.Name], counts, lately)
		if err != nil {
			return err
		}
		one.Incidents = incidents[providerEnv{provider.Name, provider.Environment}]
		if one.Incident != nil && len(one.Incidents) > 0 && one.Incidents[0].Ended.IsZero() {
			one.Incident.Words, one.Incident.By = one.Incidents[0].Words, one.Incidents[0].By
		}
		if page.Notice != "" && r.URL.Query().Get("at") == provider.Name { // shown beside the provider
			one.Notice, page.Notice = page.Page, ""
		}
		page.Providers = append(page.Providers, one)
	}
	s.render(w, r, http.StatusOK, views.AdminProviders(page))
	return nil
}

func (s *Server) viewSetup(r *http.Request, provider connectors.Provider, record db.ProviderRecord, counts []db.Count, lately []refresh.HourlyStat) (views.ProviderSetup, error) {
	at := providerEnv{provider.Name, provider.Environment}
	one := views.ProviderSetup{Provider: s.viewProviderOf(provider.Name, provider.Environment), Ready: provider.Connector != nil, Missing: provider.Missing}
	if !one.Ready {
		return one, nil
	}
	state, err := s.Refresh.ProviderState(r.Context(), provider.Name, provider.Environment)
	if err != nil {
		return one, err
	}
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
	one.HookedAt = record.HookRegisteredAt
	one.NoState, one.StateEchoed = provider.Connector.Info().NoState, record.StateEchoed
	if !record.CheckedAt.IsZero() {
		one.Check = &views.LiveCheck{At: record.CheckedAt, Outcome: record.CheckResult, Took: record.CheckTook, Skew: record.CheckSkew, Reason: record.CheckReason}
	}
	if state.PausedUntil.After(s.DB.Now()) {
		one.PausedUntil = state.PausedUntil
	}
	if record.RequestFailed != "" {
		one.Failed = &views.FailedRequest{What: record.RequestFailed, Reason: record.RequestReason, At: record.RequestFailedAt}
	}
	one.CallbackRefusedAt = record.CallbackRefusedAt
	if !state.IncidentSince.IsZero() {
		one.Incident = &views.IncidentState{Began: state.IncidentSince, Reason: state.Reason, NextProbe: state.NextProbe}
		if by, err := pg.ParseID(state.IncidentBy); err == nil {
			names, err := s.DB.Audit.Names(r.Context(), []pg.ID{by})
			if err != nil {
				return one, err
			}
			one.Incident.By = names[by]
		}
	}
	one.Median, one.Slow, one.Refreshes, one.Errors = latency(lately, at)
	for _, c := range counts {
		if c.Provider == at.provider && c.Environment == at.environment && c.Health != status.Disconnected {
			one.Live += c.Connections
		}
	}
	one.LiveURL = "/admin/connections?" + FilterValues(search.Filter{Provider: at.provider, Environment: at.environment}).Encode()
	return one, nil
}

// viewIncidents returns the latest incidents of each provider, newest first.
func (s *Server) viewIncidents(r *http.Request) (map[providerEnv][]views.IncidentState, error) {
	past, err := s.Refresh.PastIncidents(r.Context(), 100)
	if err != nil {
		return nil, err
	}
	var people []pg.ID
	for _, one := range past {
		people = append(people, one.By, one.EndedBy)
	}
	names, err := s.DB.Audit.Names(r.Context(), people)
	if err != nil {
		return nil, err
	}
	list := map[providerEnv][]views.IncidentState{}
	for _, one := range past {
		at := providerEnv{one.Provider, one.Environment}
		list[at] = append(list[at], views.IncidentState{
			Began: one.Began, Ended: one.Ended, Reason: one.Reason, Words: one.Words, By: names[one.By], EndedBy: names[one.EndedBy],
		})
	}
	return list, nil
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
	case "declare":
		notice, err = "incident-declared", s.declareIncident(r, provider)
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
	s.troubled.forget()
	return s.redirectWithNotice(w, r, "/admin/providers?at="+provider.Name+"#"+provider.Name, notice)
}

const staffCall = 25 * time.Second // the longest that staff wait for one call to a provider

// ask makes one call that staff asked for. It returns the provider's answer, which is logged if it did not do it.
func (s *Server) ask(r *http.Request, provider connectors.Provider, what string, call func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), staffCall)
	defer cancel()
	ctx, calls := connectors.WithCalls(ctx)
	err := call(ctx)
	if err != nil {
		s.Log.WarnContext(ctx, "provider did not do what staff asked", "provider", provider.Name, "what", what, "outcome", connectors.OutcomeOf(err), "status", calls.Last().Status, "reason", connectors.ReasonOf(err))
	}
	return err
}

// failed remembers why a provider did not do what staff asked for, so that the page says it.
func (s *Server) failed(r *http.Request, provider connectors.Provider, what, notice string, failed error) (string, error) {
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
	if err := s.ask(r, provider, "register callback", func(ctx context.Context) error { return registrar.RegisterCallback(ctx, address) }); err != nil {
		return s.failed(r, provider, "register", "provider-failed", err)
	}
	return "registered", s.DB.CallbackRegistered(r.Context(), provider.Name, provider.Environment, address, s.actor(r))
}

func (s *Server) registerHook(r *http.Request, provider connectors.Provider) (notice string, err error) {
	hooked, ok := provider.Connector.(connectors.WebhookReceiver)
	if !ok || hooked.WebhookSecret() == "" {
		return "", pg.ErrNotFound
	}
	address := s.publicAddress("/hooks/" + provider.Name + "/" + hooked.WebhookSecret())
	if err := s.ask(r, provider, "register hook", func(ctx context.Context) error { return hooked.RegisterWebhook(ctx, address) }); err != nil {
		return s.failed(r, provider, "hook", "provider-failed", err)
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
	for began := time.Now(); removed < len(accounts) && time.Since(began) < staffCall; removed++ {
		if err := s.ask(r, provider, "remove hook", func(ctx context.Context) error { return hooked.RemoveWebhook(ctx, accounts[removed]) }); err != nil {
			return s.failed(r, provider, "unhook", "unhooked-some", err)
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
	failed := s.ask(r, provider, "check", func(ctx context.Context) (err error) {
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

func (s *Server) declareIncident(r *http.Request, provider connectors.Provider) error {
	reason := formText(r, "reason")
	if tooLong(r, "reason") {
		return errMalformed
	}
	by := s.actor(r)
	if err := s.Refresh.OpenIncident(r.Context(), provider.Name, status.ReasonDeclared, by); err != nil {
		return err
	}
	return s.DB.Audit.Record(r.Context(), audit.Event{Kind: status.IncidentDeclared, Actor: by, Provider: provider.Name, Note: reason})
}

// forget empties the cache, so that the next page reads the incidents again.
func (i *incidents) forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.read = time.Time{}
}
