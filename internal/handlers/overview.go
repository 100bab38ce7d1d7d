package handlers

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/jobs"
	"patchbay/internal/refresh"
	"patchbay/internal/restore"
	"patchbay/internal/search"
	"patchbay/internal/status"
	"patchbay/internal/webhooks"
	"patchbay/views"
)

const (
	chartHours = 48
	latencyAge = 24 * time.Hour
	riskShown  = 10
)

// overview shows the health of all connections, the refreshes of the last hours, the connections that must be reconnected soon, and
// the platform's tasks. Its figures are connection_counts and hourly stats: it counts no events, and
// connections only for some days after a restore.
func (s *Server) overview(w http.ResponseWriter, r *http.Request) error {
	now := s.DB.Now()
	counts, err := s.DB.Counts(r.Context())
	if err != nil {
		return err
	}
	first := now.Truncate(time.Hour).Add(-(chartHours - 1) * time.Hour)
	hours, err := s.Refresh.Hours(r.Context(), first)
	if err != nil {
		return err
	}
	lately, err := s.Refresh.Latencies(r.Context(), now.Add(-latencyAge))
	if err != nil {
		return err
	}
	providers := s.statuses(r.Context())
	lapsing, err := s.DB.Connections(r.Context(), search.Filter{Lapsing: true, Providers: providers}, s.listedDetails(), "", riskShown)
	if err != nil {
		return err
	}
	states, err := s.Refresh.ProviderStates(r.Context())
	if err != nil {
		return err
	}
	page := views.OverviewPage{Page: s.viewPage(r), At: now, Hours: hourFigures(hours, first)}
	for _, place := range s.providerEnvs(counts) {
		page.Providers = append(page.Providers, s.providerFigures(r.Context(), place, counts, lately, states))
	}
	if slices.ContainsFunc(page.Providers, views.ProviderFigures.Any) { // the others are in the list of providers
		page.Providers = slices.DeleteFunc(page.Providers, func(p views.ProviderFigures) bool {
			return !p.Any() && p.Incident == nil && p.PausedUntil.IsZero()
		})
	}
	for _, l := range lapsing.Rows {
		page.AtRisk = append(page.AtRisk, s.viewConnectionRow(l, providers))
	}
	if len(lapsing.Rows) > 0 {
		page.RiskURL = "/admin/connections?lapsing=7d"
	}
	for _, provider := range s.Providers {
		if provider.Connector == nil && !hasConnections(counts, provider.Name) {
			page.Unset = append(page.Unset, viewProvider(provider))
		}
	}
	if page.Todo, err = s.todo(r, counts); err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, views.Overview(page))
	return nil
}

// providerEnv is a provider in one environment.
type providerEnv struct{ provider, environment string }

// providerEnvs returns the providers that are set up, in their order, then those that only connections have.
func (s *Server) providerEnvs(counts []db.Count) []providerEnv {
	var all []providerEnv
	for _, provider := range s.Providers {
		if provider.Connector != nil {
			all = append(all, providerEnv{provider.Name, provider.Environment})
		}
	}
	for _, c := range counts {
		if one := (providerEnv{c.Provider, c.Environment}); !slices.Contains(all, one) {
			all = append(all, one)
		}
	}
	return all
}

func (s *Server) providerFigures(ctx context.Context, at providerEnv, counts []db.Count, lately []refresh.HourlyStat, states []refresh.ProviderState) views.ProviderFigures {
	figures := views.ProviderFigures{
		Provider: s.viewProviderOf(at.provider, at.environment), Connections: map[status.Health]int64{}, URLs: map[status.Health]string{},
	}
	providers := s.statuses(ctx)
	for _, c := range counts {
		if c.Provider == at.provider && c.Environment == at.environment {
			figures.Connections[c.CurrentHealth(providers)] += c.Connections
		}
	}
	for _, h := range status.Healths() {
		figures.URLs[h] = "/admin/connections?" + FilterValues(search.Filter{Provider: at.provider, Environment: at.environment, Health: h}).Encode()
	}
	figures.Median, figures.Slow, _, _ = latency(lately, at)
	figures.CallsURL = "/admin/events?" + eventValues(audit.Filter{Kind: audit.Refreshes, Provider: at.provider, From: s.DB.Now().Add(-latencyAge).Truncate(time.Hour)}).Encode()
	for _, one := range states {
		if one.Name != at.provider || one.Environment != at.environment {
			continue
		}
		if one.PausedUntil.After(s.DB.Now()) {
			figures.PausedUntil = one.PausedUntil
		}
		if !one.IncidentSince.IsZero() {
			figures.Incident = &views.Incident{Provider: figures.Title, Since: one.IncidentSince, Ours: one.Reason == status.ReasonClientRejected}
		}
	}
	return figures
}

func (s *Server) isPresent(at providerEnv) bool {
	provider, err := s.provider(at.provider)
	return err == nil && provider.Is(at.provider, at.environment)
}

// latency returns the median and the 95th percentile of how long successful refreshes at a provider took, the number of all
// refreshes, and the number of those that failed.
func latency(lately []refresh.HourlyStat, at providerEnv) (median, slow time.Duration, all, failed int64) {
	var answered []refresh.HourlyStat
	for _, one := range lately {
		if one.Provider != at.provider || one.Environment != at.environment {
			continue
		}
		all += one.Calls
		if one.Outcome == status.OK {
			answered = append(answered, one)
		} else {
			failed += one.Calls
		}
	}
	return refresh.Percentile(answered, 0.5), refresh.Percentile(answered, 0.95), all, failed
}

func hourFigures(calls []refresh.RefreshHour, first time.Time) []views.HourFigures {
	hours := make([]views.HourFigures, chartHours)
	for i := range hours {
		begin := first.Add(time.Duration(i) * time.Hour)
		hours[i].Hour, hours[i].Calls = begin, map[status.Outcome]int64{}
		hours[i].URL = "/admin/events?" + url.Values{
			"kind": {string(audit.Refreshes)}, "from": {begin.Format(time.RFC3339)}, "to": {begin.Add(time.Hour).Format(time.RFC3339)},
		}.Encode()
	}
	for _, one := range calls {
		i := int(one.Hour.Sub(first) / time.Hour)
		if i < 0 || i >= chartHours {
			continue
		}
		hours[i].Calls[one.Outcome] += one.Calls
	}
	return hours
}

// todo lists the platform's tasks.
func (s *Server) todo(r *http.Request, counts []db.Count) ([]views.TodoItem, error) {
	var list []views.TodoItem
	present := connectors.Environments(s.Providers)
	records, err := s.DB.ProviderRecords(r.Context(), present)
	if err != nil {
		return nil, err
	}
	waiting, err := s.DB.WaitingForPlatform(r.Context(), s.statuses(r.Context()))
	if err != nil {
		return nil, err
	}
	for _, provider := range s.Providers {
		if tasks := s.providerTodo(provider, records[provider.Name], waiting[provider.Name]); provider.Connector != nil || hasConnections(counts, provider.Name) {
			list = append(list, tasks...)
		}
	}
	endpoints, err := s.Webhooks.Endpoints(r.Context())
	if err != nil {
		return nil, err
	}
	for _, e := range endpoints {
		line := views.TodoItem{Detail: e.Shown, Count: e.Waiting + e.Failed, URL: "/admin/webhooks"}
		switch {
		case !e.OffAt.IsZero() && e.OffReason != webhooks.OffByAdmin:
			line.Code, line.Since = views.TodoWebhookOff, e.OffAt
			list = append(list, line)
		case e.State() == webhooks.Failing:
			line.Code, line.Since = views.TodoWebhookFailing, e.FailingSince
			list = append(list, line)
		}
	}
	old, err := s.DB.CountOldSeals(r.Context())
	if err != nil {
		return nil, err
	}
	if old > 0 {
		list = append(list, views.TodoItem{Code: views.TodoOldKey, Count: old})
	}
	restores, err := s.restoreTodo(r.Context())
	if err != nil {
		return nil, err
	}
	list = append(list, restores...)
	backlogs, err := s.Jobs.Backlogs(r.Context())
	if err != nil {
		return nil, err
	}
	for _, b := range backlogs {
		line := views.TodoItem{Code: views.TodoMailWaiting, Count: b.Jobs, Since: b.Oldest, Detail: b.Reason, Retry: visitorOf(r).role() == admin}
		if b.Kind != jobs.MailKind {
			continue
		}
		if b.GivenUp {
			line.Code = views.TodoMailGivenUp
		}
		list = append(list, line)
	}
	elsewhere := map[providerEnv]int64{}
	for _, c := range counts {
		if at := (providerEnv{c.Provider, c.Environment}); c.Health != status.Disconnected && !s.isPresent(at) {
			elsewhere[at] += c.Connections
		}
	}
	for _, at := range s.providerEnvs(counts) {
		if n := elsewhere[at]; n > 0 {
			list = append(list, views.TodoItem{
				Code: views.TodoEnvironment, Provider: s.viewProviderOf(at.provider, at.environment).Title, Count: n,
				URL: "/admin/connections?" + FilterValues(search.Filter{Provider: at.provider, Environment: at.environment}).Encode(),
			})
		}
	}
	slices.SortStableFunc(list, func(a, b views.TodoItem) int { return cmp.Compare(a.Code.Rank(), b.Code.Rank()) })
	return list, nil
}

// hasConnections reports whether a provider has connections that are not disconnected, in any environment.
func hasConnections(counts []db.Count, provider string) bool {
	return slices.ContainsFunc(counts, func(c db.Count) bool {
		return c.Provider == provider && c.Health != status.Disconnected && c.Connections > 0
	})
}

// providerTodo lists what the platform must put right at one provider: what stops merchants first.
func (s *Server) providerTodo(provider connectors.Provider, record db.ProviderRecord, waiting int64) (list []views.TodoItem) {
	add := func(line views.TodoItem) {
		line.Provider = providerTitle(provider)
		line.URL = cmp.Or(line.URL, "/admin/providers/"+provider.Name)
		list = append(list, line)
	}
	if provider.Connector == nil {
		add(views.TodoItem{Code: views.TodoNotSetUp, Detail: strings.Join(provider.Missing, ", ")})
		return list
	}
	for _, one := range s.bannerIncidents() {
		if one.Reason == status.ReasonClientRejected && provider.Is(one.Name, one.Environment) {
			add(views.TodoItem{Code: views.TodoClientRejected})
		}
	}
	if !record.CallbackRefusedAt.IsZero() {
		add(views.TodoItem{Code: views.TodoCallbackRefused, Since: record.CallbackRefusedAt})
	}
	if waiting > 0 {
		add(views.TodoItem{
			Code: views.TodoConnections, Count: waiting,
			URL: "/admin/connections?" + FilterValues(search.Filter{Provider: provider.Name, Environment: provider.Environment, Party: status.PartyPlatform}).Encode(),
		})
	}
	if _, ok := provider.Connector.(connectors.CallbackRegistrar); ok && record.CallbackRefusedAt.IsZero() && record.CallbackAddress != s.callbackURL(provider.Name) {
		add(views.TodoItem{Code: views.TodoCallback})
	}
	if record.CheckSkew.Abs() >= 30*time.Second {
		add(views.TodoItem{Code: views.TodoSkew})
	}
	if hooked, ok := provider.Connector.(connectors.WebhookReceiver); ok && hooked.WebhookSecret() != "" && record.HookRegisteredAt.IsZero() {
		add(views.TodoItem{Code: views.TodoHook})
	}
	return list
}

// retryMail has the mails sent again that wait or were given up.
func (s *Server) retryMail(w http.ResponseWriter, r *http.Request) error {
	letters, err := s.Jobs.RetryMail(r.Context(), s.actor(r))
	if err != nil {
		return err
	}
	return s.redirectWithNotice(w, r, "/admin", "mail-retried", "Letters", strconv.Itoa(letters))
}

// bannerIncidents returns the open incidents that the page's banner shows.
func (s *Server) bannerIncidents() []refresh.ProviderState {
	s.openIncidents.mu.Lock()
	defer s.openIncidents.mu.Unlock()
	return slices.Clone(s.openIncidents.list)
}

// restoreTodo lists what is known of a restore of some days ago, and of a pause in which one may have gone unnoticed.
func (s *Server) restoreTodo(ctx context.Context) ([]views.TodoItem, error) {
	const command = "patchbay restored"
	last, err := restore.Last(ctx, s.DB.Pool)
	if err != nil {
		return nil, err
	}
	var list []views.TodoItem
	age := s.DB.Now().Add(-restore.ShowFor)
	if last.At.After(age) {
		n, err := restore.Count(ctx, s.DB.Pool, last)
		if err != nil {
			return nil, err
		}
		item := views.TodoItem{Code: views.TodoRestoreTakeover, Count: n.Since, Of: n.All, Since: last.At, Detail: command}
		switch {
		case last.Declared:
			item.Code, item.Detail = views.TodoRestored, ""
		case last.Lost():
			item.Code = views.TodoRestoreNoticed
		}
		list = append(list, item)
	}
	if last.Suspected() && last.PauseUntil.After(age) {
		n, err := restore.RejectedAfterPause(ctx, s.DB.Pool, last)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			list = append(list, views.TodoItem{Code: views.TodoRestoreUnknown, Count: n, Since: last.PauseFrom, Detail: command})
		}
	}
	return list, nil
}
