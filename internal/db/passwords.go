package db

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/alexedwards/argon2id"
)

// passwords hashes and compares. A hash takes 19 MiB and 20 ms, so two are under way at once and others wait their turn.
type passwords struct {
	params argon2id.Params
	turns  chan struct{}
	rest   *time.Timer
}

// restAfter is how long after the last hash its memory is given back to the system. The collector alone would keep
// three times 19 MiB for minutes: more than everything else that a server at rest needs.
const restAfter = time.Second

func newPasswords() *passwords {
	p := &passwords{
		params: argon2id.Params{Memory: 19 << 10, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32},
		turns:  make(chan struct{}, 2),
		rest:   time.AfterFunc(restAfter, debug.FreeOSMemory),
	}
	p.rest.Stop()
	return p
}

// decoy is the hash of a password that nobody knows. It is compared with when there is no such user, so that the
// answer takes as long either way.
const decoy = "$argon2id$v=19$m=19456,t=2,p=1$wGf2sIBB6rATvEAujf0kjw$/iMdrSaf3CXPVRxn3nF4y305XhcR1ZYjI8+KfAVhZ3U"

func (p *passwords) wait(ctx context.Context) (done func(), err error) {
	select {
	case p.turns <- struct{}{}:
		return func() {
			<-p.turns
			p.rest.Reset(restAfter)
		}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *passwords) hash(ctx context.Context, password string) (string, error) {
	done, err := p.wait(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	hash, err := argon2id.CreateHash(password, &p.params)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return hash, nil
}

// matches compares. stale says that the hash was made with other parameters than today's; an empty hash matches nothing.
func (p *passwords) matches(ctx context.Context, password, hash string) (ok, stale bool, err error) {
	done, err := p.wait(ctx)
	if err != nil {
		return false, false, err
	}
	defer done()
	nobody := hash == ""
	if nobody {
		hash = decoy
	}
	ok, made, err := argon2id.CheckHash(password, hash)
	if err != nil {
		return false, false, fmt.Errorf("compare a password: %w", err)
	}
	return ok && !nobody, *made != p.params, nil
}
