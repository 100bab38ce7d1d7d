package refresh

import (
	"context"

	"patchbay/internal/connectors"
	"patchbay/internal/pg"
)

type (
	Lease = lease
	Use   = tokenUse
)

// Sweep does by hand, once and to its end, what Run does all the time: it returns when nothing that is due can be claimed any
// more and all that was begun has ended. For tests with a clock of their own.
func (e *Engine) Sweep(ctx context.Context) (attempts int, err error) {
	for _, q := range e.order {
		for {
			n, err := e.poll(ctx, q)
			if err != nil {
				return attempts, err
			}
			e.underway.Wait()
			if attempts += n; n == 0 {
				break
			}
		}
	}
	return attempts, nil
}

// Poll does by hand what Run does at each tick, and returns how many attempts it began, or 1 where all slots are busy.
func (e *Engine) Poll(ctx context.Context) (begun int, err error) {
	for _, q := range e.order {
		n, err := e.poll(ctx, q)
		if begun += n; err != nil {
			return begun, err
		}
	}
	return begun, nil
}

// Claim claims a connection's lease, as a process does that then goes on by itself or dies.
func (e *Engine) Claim(ctx context.Context, provider string, id pg.ID) (*Lease, error) {
	l, err := e.queues[provider].claim(ctx, claimRequest{Connection: id, Attempt: -1})
	if l != nil {
		l.open(e.DB)
	}
	return l, err
}

// ClaimDue claims what is due at a provider, at most so many.
func (e *Engine) ClaimDue(ctx context.Context, provider string, most int) ([]*Lease, error) {
	return e.queues[provider].due(ctx, most, false)
}

// ClaimProbe claims the grant by which a provider in trouble is tried.
func (e *Engine) ClaimProbe(ctx context.Context, provider string) (*Lease, error) {
	return e.queues[provider].probe(ctx)
}

// Save saves an answer of now and returns what became of it.
func (e *Engine) Save(ctx context.Context, l *Lease, token connectors.Token) (string, error) {
	result, err := e.queues[l.Provider].save(ctx, l, token, e.DB.Now(), attemptInfo{}, false, false)
	return string(result.Outcome), err
}

// SaveTogether saves an answer for each of some leases of a provider in one transaction, and says which were saved.
func (e *Engine) SaveTogether(ctx context.Context, leases []*Lease, token connectors.Token) ([]bool, error) {
	q := e.queues[leases[0].Provider]
	var ops []op
	for _, l := range leases {
		s, err := q.newSave(l, token, e.DB.Now(), attemptInfo{})
		if err != nil {
			return nil, err
		}
		ops = append(ops, op{save: s})
	}
	results, err := q.commit(ctx, ops)
	saved := make([]bool, len(results))
	for i, r := range results {
		saved[i] = r.saved
	}
	return saved, err
}

// PutClockRight does what Run does at its start and when Postgres's clock has gone back.
func (e *Engine) PutClockRight(ctx context.Context) error { return e.correctFutureTimes(ctx) }

// MarkUsed notes uses of grants at once.
func (e *Engine) MarkUsed(ctx context.Context, uses []Use) error { return e.markUsed(ctx, uses) }

// AddStats adds to the hours' counts at once.
func (e *Engine) AddStats(ctx context.Context, list []HourlyStat) error { return e.addStats(ctx, list) }

// MostCallers is how many callers may wait for refreshes of one provider.
const MostCallers = maxCallers

// LimitCallers lets fewer than MostCallers wait for refreshes of a provider.
func (e *Engine) LimitCallers(provider string, most int) { e.queues[provider].maxCallers = int32(most) }

// Callers is how many wait for refreshes of a provider.
func (e *Engine) Callers(provider string) int { return int(e.queues[provider].callers.Load()) }
