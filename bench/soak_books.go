package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

// alarm is a problem that a connection was seen to have.
type alarm struct {
	held
	problem string
	since   time.Time
}

// slack is by how much the order of what the provider and Patchbay note may differ: an answer may take that long to be saved.
const slack = time.Minute

// settle waits until nothing is under way, no provider is in trouble, and what a fault cut off has come to its end. The lease of a
// process that died lasts a minute, its late answer is waited for two more, and an incident is probed every half minute.
func (s *soak) settle(ctx context.Context) error {
	open := ""
	for deadline := time.Now().Add(8 * time.Minute); time.Now().Before(deadline); {
		err := s.insist(ctx, func() error {
			return s.db.Pool.QueryRow(ctx, `
				SELECT concat_ws(', ',
					(SELECT count(*) || ' leases' FROM grants WHERE lease_id IS NOT NULL HAVING count(*) > 0),
					(SELECT 'in trouble: ' || string_agg(name || ' (' || coalesce(incident_reason, '') || ')', ' ') FROM providers
						WHERE incident_since IS NOT NULL OR paused_until > now() HAVING count(*) > 0),
					(SELECT count(*) || ' overdue' FROM grants WHERE refresh_at < now() - interval '20 seconds' HAVING count(*) > 0))`).Scan(&open)
		})
		if err != nil {
			return err
		}
		if open == "" {
			return s.insist(ctx, func() error { return s.look(ctx) })
		}
		if !pause(ctx, time.Second) {
			return ctx.Err()
		}
	}
	s.finding("eight minutes after the last fault there still is: %s", open)
	return s.insist(ctx, func() error { return s.look(ctx) })
}

// prove compares what Patchbay holds with the provider's books.
func (s *soak) prove(ctx context.Context) error {
	list := *s.connections.Load()
	lost := s.refreshAll(ctx, list) // what cannot be refreshed, with the answer
	if err := s.insist(ctx, func() error { return s.look(ctx) }); err != nil {
		return err
	}
	twice := s.sandbox.DoubleSpends()

	for _, d := range twice {
		if d.Provider != sandbox.Flexiti && !s.excused(d) { // what is typed at Flexiti gives access whatever became of a token
			s.finding("%s of %s: a refresh token that was spent at %s was presented again at %s, and no process had died or frozen with it in flight",
				d.Account, d.Provider, clock(d.First), clock(d.At))
		}
	}
	for h, answer := range lost {
		if why, err := s.cause(ctx, h, time.Now(), twice); err != nil {
			return err
		} else if why == "" {
			s.finding("%s of %s cannot be refreshed, and the provider has no reason: %s\n%s", h.account, h.provider, answer, s.story(ctx, h))
		}
	}
	wrong := 0
	s.mu.Lock()
	alarms := slices.Collect(maps.Keys(s.alarms))
	s.mu.Unlock()
	slices.SortFunc(alarms, func(a, b alarm) int { return a.since.Compare(b.since) })
	for _, a := range alarms {
		if status.Problem(a.problem).Party() != status.PartyMerchant {
			continue
		}
		why, err := s.cause(ctx, a.held, a.since, twice)
		if err != nil {
			return err
		}
		if why == "" {
			if wrong++; wrong <= 5 {
				s.finding("false alarm: %s of %s was said to be %s at %s, and the provider has no reason\n%s", a.account, a.provider, a.problem, clock(a.since), s.story(ctx, a.held))
			}
		}
		s.tally.count("alarms", a.problem)
	}
	if wrong > 5 {
		s.finding("and %d more false alarms", wrong-5)
	}
	for _, d := range twice {
		outcome := "without a reason"
		switch {
		case d.Unanswered:
			outcome = "its answer never left the provider"
		case s.excused(d):
			outcome = "in flight when a process died or froze"
		}
		s.tally.count("presented twice, "+d.Provider, outcome)
	}
	return nil
}

// excused says whether a token may have been presented twice: the provider gave no answer to the first time, or the process that
// would have had it died or froze.
func (s *soak) excused(d sandbox.DoubleSpend) bool {
	if d.Unanswered {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.cut, func(c cutOff) bool {
		return c.provider == d.Provider && c.account == d.Account && d.First.Before(c.at.Add(5*time.Second)) && d.First.After(c.at.Add(-65*time.Second))
	})
}

// cause says why a connection may have a problem at a time: what ended its access since it was last connected. "" when nothing did.
func (s *soak) cause(ctx context.Context, h held, at time.Time, twice []sandbox.DoubleSpend) (string, error) {
	var connected time.Time
	err := s.insist(ctx, func() error {
		return s.db.Pool.QueryRow(ctx, `SELECT coalesce(max(at), '-infinity') FROM events WHERE connection_id = $1 AND at <= $2 AND kind = ANY ($3)`,
			h.id, at, []status.Kind{status.ConnectionConnected, status.ConnectionReconnected, status.ConnectionReplaced}).Scan(&connected)
	})
	if err != nil {
		return "", err
	}
	between := func(t time.Time) bool { return t.After(connected.Add(-slack)) && t.Before(at.Add(5*time.Second)) }
	for _, d := range twice {
		if d.Provider == h.provider && d.Account == h.account && between(d.At) && s.excused(d) {
			return "presented twice", nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.ended {
		if e.provider == h.provider && e.account == h.account && between(e.at) {
			return "ended at the provider", nil
		}
	}
	return "", nil
}

// refreshAll refreshes every connection once more, and returns those that cannot be with what was answered.
func (s *soak) refreshAll(ctx context.Context, list []held) map[held]string {
	lost := map[held]string{}
	var mu sync.Mutex
	var all sync.WaitGroup
	next := make(chan held)
	for n := range 8 {
		all.Go(func() {
			c := s.caller(uint64(1000 + n))
			for h := range next {
				if answer := c.proveRefresh(ctx, h); answer != "" {
					mu.Lock()
					lost[h] = answer
					mu.Unlock()
				}
			}
		})
	}
	for _, h := range list {
		next <- h
	}
	close(next)
	all.Wait()
	s.tally.count("connections at the end", fmt.Sprintf("%d refreshed, %d need their merchant", len(list)-len(lost), len(lost)))
	return lost
}

// proveRefresh refreshes one connection, and again while the provider is said to be busy; it returns "" if it went well.
func (c *caller) proveRefresh(ctx context.Context, h held) string {
	said := ""
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline) && ctx.Err() == nil; {
		code, body := c.do(ctx, "refresh at the end", http.MethodPost, c.public+"/api/v1/connections/"+h.id.String()+"/refresh", c.key, nil)
		said = fmt.Sprintf("%d %.300s", code, body)
		var answer struct{ Health string }
		if code == http.StatusOK && json.Unmarshal(body, &answer) == nil && answer.Health != string(status.ActionNeeded) {
			return ""
		}
		if code == http.StatusConflict || code == http.StatusNotFound {
			break
		}
		pause(ctx, 5*time.Second)
	}
	return said
}

// story tells what Patchbay noted of a connection last, and the provider's books of its account.
func (s *soak) story(ctx context.Context, h held) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  connection %s\n", h.id)
	rows, err := s.db.Pool.Query(ctx, `SELECT at, kind, outcome, code, status, note FROM events WHERE connection_id = $1 AND kind NOT LIKE 'connection.viewed%' ORDER BY at DESC, id DESC LIMIT 25`, h.id)
	if err != nil {
		return err.Error()
	}
	var at time.Time
	var kind, outcome, code, note string
	var answered int
	_, err = pgx.ForEachRow(rows, []any{&at, &kind, &outcome, &code, &answered, &note}, func() error {
		fmt.Fprintf(&b, "  %s %s %s %s %d %s\n", clock(at), kind, outcome, code, answered, note)
		return nil
	})
	if err != nil {
		fmt.Fprintf(&b, "  %v\n", err)
	}
	for _, g := range s.sandbox.Grants(h.provider) {
		if g.Account == h.account {
			fmt.Fprintf(&b, "  provider's grant of %s: revoked %t, %d refresh tokens\n", clock(g.Created), g.Revoked, g.RefreshTokens)
		}
	}
	for _, d := range s.sandbox.DoubleSpends() {
		if d.Provider == h.provider && d.Account == h.account {
			fmt.Fprintf(&b, "  spent at %s, again at %s, unanswered %t\n", clock(d.First), clock(d.At), d.Unanswered)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.cut {
		if c.provider == h.provider && c.account == h.account {
			fmt.Fprintf(&b, "  in flight at %s when a process died or froze\n", clock(c.at))
		}
	}
	return b.String()
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

func (s *soak) print(took time.Duration, first, last float64) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "soak\t%s, seed %d\n", took.Round(time.Second), s.seed)
	s.tally.mu.Lock()
	defer s.tally.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(s.tally.all)) {
		var parts []string
		for _, outcome := range slices.Sorted(maps.Keys(s.tally.all[what])) {
			parts = append(parts, fmt.Sprintf("%s: %d", outcome, s.tally.all[what][outcome]))
		}
		fmt.Fprintf(w, "%s\t%s\n", what, strings.Join(parts, ", "))
	}
	var faults []string
	for _, name := range slices.Sorted(maps.Keys(s.did)) {
		faults = append(faults, fmt.Sprintf("%s: %d", name, s.did[name]))
	}
	fmt.Fprintf(w, "%d faults\t%s\n", s.faults.Load(), strings.Join(faults, ", "))
	calls := 0
	for _, provider := range soakProviders {
		calls += s.sandbox.Calls(provider, "")
	}
	fmt.Fprintf(w, "calls at the providers\t%d\n", calls)
	fmt.Fprintf(w, "memory of a process\t%.0f MB, then %.0f MB\n", first, last)
	w.Flush()
}
