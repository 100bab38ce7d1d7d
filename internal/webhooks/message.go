package webhooks

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/resource"
	"patchbay/internal/status"
)

// event is a row of webhook_events.
type event struct {
	ID         pg.ID
	At         time.Time
	Type       Type
	Merchant   pg.ID
	Connection pg.ID
	Sequence   int64
	Data       json.RawMessage // of a connection's event: a state
}

// state is how a connection was when the event happened, as the SQL function webhook_state writes it.
type state struct {
	Problem        status.Problem `json:"problem"`
	ProblemSince   time.Time      `json:"problem_since"`
	FailingSince   time.Time      `json:"failing_since"`
	DisconnectedAt time.Time      `json:"disconnected_at"`
}

// bodies writes what is sent of some events, by event.
func (w *Webhooks) bodies(ctx context.Context, events []event) (map[pg.ID][]byte, error) {
	var ids []pg.ID
	for _, e := range events {
		if e.Connection != (pg.ID{}) {
			ids = append(ids, e.Connection)
		}
	}
	details := map[pg.ID]db.ConnectionDetail{}
	var providers status.Providers
	if len(ids) > 0 {
		all, err := w.DB.ConnectionDetails(ctx, ids)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			details[c.ID] = c
		}
		if providers, err = w.DB.ProviderStatuses(ctx, w.Providers); err != nil {
			return nil, err
		}
	}
	bodies := make(map[pg.ID][]byte, len(events))
	for _, e := range events {
		data, err := e.data(details, providers)
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(struct {
			Type      Type      `json:"type"`
			Timestamp time.Time `json:"timestamp"`
			Data      any       `json:"data"`
		}{e.Type, e.At.UTC(), data})
		if err != nil {
			return nil, fmt.Errorf("encode event: %w", err)
		}
		bodies[e.ID] = body
	}
	return bodies, nil
}

// data returns what an event says. A connection is as the API gives it, save that its health is that of when the event happened. Of one
// that was deleted since only the ids are left.
func (e event) data(details map[pg.ID]db.ConnectionDetail, providers status.Providers) (any, error) {
	if e.Connection == (pg.ID{}) {
		return e.Data, nil
	}
	var then state
	if err := json.Unmarshal(e.Data, &then); err != nil {
		return nil, fmt.Errorf("decode event: %w", err)
	}
	c, ok := details[e.Connection]
	if !ok {
		c.Connection = db.Connection{ID: e.Connection, MerchantID: e.Merchant}
		if then.DisconnectedAt.IsZero() {
			then.DisconnectedAt = e.At
		}
	}
	c.Problem, c.ProblemSince, c.FailingSince, c.DisconnectedAt = then.Problem, then.ProblemSince, then.FailingSince, then.DisconnectedAt
	return struct {
		resource.Connection
		Sequence int64 `json:"sequence"`
	}{resource.ConnectionOf(status.Of(c.Row(), providers[c.Provider]), c.ConnectionRow), e.Sequence}, nil
}
