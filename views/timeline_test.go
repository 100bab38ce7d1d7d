package views

import (
	"context"
	"slices"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/status"
)

func TestLinesThatReadTheSameToAMerchantAreOne(t *testing.T) {
	ctx := WithLocale(context.Background(), "en", storyNow, time.UTC)
	at := storyNow
	made := func(kind status.Kind, outcome status.Outcome, http int, note, actor string) Event {
		at = at.Add(-time.Hour)
		e := event(audit.Event{At: at, Kind: kind, Outcome: outcome, Status: http, Note: note}, "")
		e.ActorName = actor
		return e
	}
	fine := func(actor string) Event { return made(status.RefreshSaved, status.OK, 200, "", actor) }
	trouble := func(http int, note string) Event {
		return made(status.RefreshTemporary, status.Temporary, http, note, "")
	}
	const again = "Acme gave no usable answer; we try again"
	for name, c := range map[string]struct {
		events []Event
		want   []string
	}{
		"refreshes":                                 {[]Event{fine(""), fine(""), fine("")}, []string{"3 refreshes, all fine"}},
		"one that a person asked for":               {[]Event{fine(""), fine("Sok Dara"), fine("")}, []string{"Access was refreshed", "Access was refreshed", "Access was refreshed"}},
		"failures whose difference only staff read": {[]Event{trouble(503, "busy"), trouble(500, "broken")}, []string{again + " (2 times)"}},
		"the refresh that ended the trouble":        {[]Event{made(status.RefreshSaved, status.OK, 200, "recovered", ""), trouble(503, "")}, []string{"Acme answers again", again}},
		"what people did twice":                     {[]Event{made(status.ConnectionReconnected, "", 0, "", ""), made(status.ConnectionReconnected, "", 0, "", "")}, []string{"Acme was reconnected", "Acme was reconnected"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, l := range foldEvents(c.events, func(e Event) string { return e.reading(ctx, "Acme") }) {
				got = append(got, l.text(ctx, "Acme"))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("reads %q, want %q", got, c.want)
			}
		})
	}
}

func TestEqualOutcomesThatFollowEachOtherAreOneLine(t *testing.T) {
	ctx := WithLocale(context.Background(), "en", storyNow, time.UTC)
	at := storyNow
	made := func(kind status.Kind, outcome status.Outcome, note string) Event {
		at = at.Add(-time.Hour)
		return event(audit.Event{At: at, Kind: kind, Outcome: outcome, Note: note}, "")
	}
	fine := func() Event { return made(status.RefreshSaved, status.OK, "") }
	trouble := func(http int) Event {
		e := made(status.RefreshTemporary, status.Temporary, "")
		e.Status = http
		return e
	}
	call := func(name string, outcome status.Outcome) Event { return made(status.KindOfCall(name), outcome, "") }
	for name, c := range map[string]struct {
		events []Event
		want   []string
	}{
		"no event":                               {nil, nil},
		"one renewal is called as ever":          {[]Event{fine()}, []string{"Access was refreshed"}},
		"renewals":                               {[]Event{fine(), fine(), fine()}, []string{"3 refreshes, all fine"}},
		"a failure among renewals":               {[]Event{fine(), fine(), trouble(503), fine(), fine()}, []string{"2 refreshes, all fine", "Acme gave no usable answer; we try again", "2 refreshes, all fine"}},
		"equal failures":                         {[]Event{trouble(503), trouble(503), fine()}, []string{"Acme gave no usable answer; we try again (2 times)", "Access was refreshed"}},
		"failures with different answers":        {[]Event{trouble(503), trouble(500)}, []string{"Acme gave no usable answer; we try again", "Acme gave no usable answer; we try again"}},
		"failures of different kinds":            {[]Event{made(status.RefreshRejected, status.Rejected, ""), made(status.RefreshClientRejected, status.ClientRejected, "")}, []string{"Acme no longer accepts our access", "Acme did not accept our own key"}},
		"one failure counts, the other does not": {[]Event{made(status.RefreshRejected, status.Rejected, status.NoteIncident), made(status.RefreshRejected, status.Rejected, "")}, []string{"Acme no longer accepts our access", "Acme no longer accepts our access"}},
		"the renewal that ended the trouble":     {[]Event{fine(), made(status.RefreshSaved, status.OK, "recovered"), trouble(503)}, []string{"Access was refreshed", "Acme answers again", "Acme gave no usable answer; we try again"}},
		"a change of state between renewals":     {[]Event{fine(), fine(), made(status.ConnectionReconnected, "", ""), fine(), fine()}, []string{"2 refreshes, all fine", "Acme was reconnected", "2 refreshes, all fine"}},
		"what people did twice":                  {[]Event{made(status.ConnectionReconnectAsked, "", "a@x.example"), made(status.ConnectionReconnectAsked, "", "a@x.example")}, []string{"Reconnecting was asked for", "Reconnecting was asked for"}},
		"calls that made the connection":         {[]Event{made(status.ConnectionConnected, "", ""), call("userinfo", status.OK), call("exchange", status.OK)}, []string{"Acme was connected", "2 calls to Acme, all fine"}},
		"a call that failed beside a good one":   {[]Event{call("exchange", status.OK), call("exchange", status.Temporary)}, []string{"Acme was called (getting access)", "Acme was called (getting access) · trouble"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			var kept []Event
			for _, l := range foldEvents(c.events, Event.sameness) {
				got = append(got, l.text(ctx, "Acme"))
				kept = append(kept, l.Events...)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("reads %q, want %q", got, c.want)
			}
			if !slices.EqualFunc(kept, c.events, func(a, b Event) bool { return a.At.Equal(b.At) }) {
				t.Errorf("%d events of %d, or in another order", len(kept), len(c.events))
			}
		})
	}
}

func TestFailuresAndChangesStandOut(t *testing.T) {
	for kind, want := range map[status.Kind]string{
		status.RefreshSaved: "fine", status.RefreshLateKept: "", status.ConnectionNamed: "", status.ConnectionNoted: "", status.FlowBegun: "",
		status.RefreshRejected: "action-needed change", status.RefreshTemporary: "retrying change", status.RefreshLost: "retrying change",
		status.ConnectionConnected: "fine change", status.ConnectionDisconnected: " change", status.ConnectionRevocationNoticed: "retrying change",
		status.ConnectionReconnectAsked: " change",
	} {
		if got := (entry{[]Event{event(audit.Event{Kind: kind}, "")}}).class(); got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}

func TestASpanOfOneDayHasTimes(t *testing.T) {
	ctx := WithLocale(context.Background(), "en", storyNow, time.UTC)
	noon := time.Date(storyNow.Year(), 3, 5, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		from, to    time.Time
		first, last string
	}{
		{noon, noon.Add(2 * time.Hour), "5 March, 12:00", "14:00"},
		{noon, noon.Add(20 * time.Second), "5 March, 12:00", ""},
		{noon, noon.AddDate(0, 0, 9), "5 March", "14 March"},
		{noon.AddDate(-1, 0, 0), noon, "5 March " + noon.AddDate(-1, 0, 0).Format("2006"), "5 March"},
	} {
		if first, last := span(ctx, c.from, c.to); first != c.first || last != c.last {
			t.Errorf("%s to %s: %q – %q, want %q – %q", c.from, c.to, first, last, c.first, c.last)
		}
	}
}
