package refresh

import (
	"context"
	"errors"
	"sync"
	"time"

	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/refresh/schedule"
	"patchbay/internal/status"
)

// usage counts what was read, in memory: the read's own path writes nothing. A crash loses what came after the last flush,
// a few seconds.
type usage struct {
	mu    sync.Mutex
	reads map[readBy]int64
	keys  map[pg.ID]time.Time
	marks map[pg.ID]db.Use
}

type readBy struct {
	key, connection pg.ID
	minute          int64
}

// A used connection is marked again only after this long: a mark is a write.
const markEvery = 5 * time.Minute

// Used accounts for one token of a connection handed out to key (zero: to nobody's), and sees to it that it is kept warm.
func (e *Engine) Used(connection, key pg.ID, h db.Handout) {
	now := e.DB.Now()
	u := &e.usage
	u.mu.Lock()
	defer u.mu.Unlock()
	u.make()
	if key != (pg.ID{}) {
		u.reads[readBy{key: key, connection: connection, minute: now.Unix() / 60}]++
		u.keys[key] = now
	}
	if now.Sub(h.UsedAt) < markEvery {
		return
	}
	mark := db.Use{Connection: connection, Key: key, At: now}
	if l := e.laneOf(h.Provider, h.Environment); l != nil && !h.ExpiresAt.IsZero() {
		mark.RefreshAt = schedule.DueAfter(l.info.KeepAlive, connection, h.ExpiresAt.Add(-h.Lifetime), h.Lifetime, 0, true)
	}
	u.marks[connection] = mark
}

func (u *usage) make() {
	if u.reads == nil {
		u.reads, u.keys, u.marks = map[readBy]int64{}, map[pg.ID]time.Time{}, map[pg.ID]db.Use{}
	}
}

// UsedKey notes that a key was used for something else than a token.
func (e *Engine) UsedKey(key pg.ID) {
	u := &e.usage
	u.mu.Lock()
	defer u.mu.Unlock()
	u.make()
	u.keys[key] = e.DB.Now()
}

// Flush writes down all counts; Run does so every few seconds. What could not be written is kept for the next time.
func (e *Engine) Flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	u := &e.usage
	u.mu.Lock()
	reads, keys, marks := u.reads, u.keys, u.marks
	u.reads, u.keys, u.marks = nil, nil, nil
	u.mu.Unlock()
	var faults []error
	if len(reads) > 0 || len(keys) > 0 {
		list := make([]db.Reads, 0, len(reads))
		for by, n := range reads {
			list = append(list, db.Reads{Key: by.key, Connection: by.connection, Minute: time.Unix(by.minute*60, 0).UTC(), Count: n})
		}
		if err := e.DB.AddReads(ctx, list, keys); err != nil {
			faults = append(faults, err)
			u.putBack(reads, keys)
		}
	}
	if len(marks) > 0 {
		list := make([]db.Use, 0, len(marks))
		for _, mark := range marks {
			list = append(list, mark)
		}
		if err := e.DB.MarkUsed(ctx, list); err != nil {
			faults = append(faults, err) // the next read marks again
		}
	}
	faults = append(faults, e.tallies.flush(ctx, e.DB))
	return errors.Join(faults...)
}

func (u *usage) putBack(reads map[readBy]int64, keys map[pg.ID]time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.make()
	for by, n := range reads {
		u.reads[by] += n
	}
	for id, at := range keys {
		if u.keys[id].Before(at) {
			u.keys[id] = at
		}
	}
}

// tallies count calls to providers until they are written into the hour's rollups.
type tallies struct {
	mu    sync.Mutex
	calls map[db.Rollup]int64 // the key's Calls is 0
}

// Count counts one call to a provider, for charts and /metrics. kind is refresh or connect, class as connectors.OutcomeOf says.
func (e *Engine) Count(provider, environment, kind string, class status.Outcome, took time.Duration) {
	e.Figures.count(provider, kind, class, took)
	key := db.Rollup{
		Provider: provider, Environment: environment, Hour: e.DB.Now().Truncate(time.Hour), Kind: kind, Class: class, Bucket: db.LatencyBucket(took),
	}
	t := &e.tallies
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.calls == nil {
		t.calls = map[db.Rollup]int64{}
	}
	t.calls[key]++
}

func (t *tallies) flush(ctx context.Context, d *db.DB) error {
	t.mu.Lock()
	calls := t.calls
	t.calls = nil
	t.mu.Unlock()
	if len(calls) == 0 {
		return nil
	}
	list := make([]db.Rollup, 0, len(calls))
	for key, n := range calls {
		key.Calls = n
		list = append(list, key)
	}
	err := d.AddRollups(ctx, list)
	if err == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.calls == nil {
		t.calls = map[db.Rollup]int64{}
	}
	for key, n := range calls {
		t.calls[key] += n
	}
	return err
}
