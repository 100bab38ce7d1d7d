package refresh

import (
	"hash/fnv"
	"math"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
)

// Schedule is when a connector's grants are renewed. A Keyed connector can always begin again with what the merchant
// typed, so the end of its refresh token forces nothing.
func Schedule(c connectors.Connector) db.Schedule {
	keepAlive := c.Info().KeepAlive
	_, keyed := c.(connectors.CredentialConnector)
	return func(id pg.ID, obtained time.Time, lifetime, refreshLifetime time.Duration, used bool) time.Time {
		if keyed {
			refreshLifetime = 0
		}
		return Due(keepAlive, id, obtained, lifetime, refreshLifetime, used)
	}
}

// Due is when a grant obtained at a time is renewed next: a used one before its token ends, an unused one every keepAlive, both
// before the right to renew ends. The zero time means never: nobody uses it and nothing has to be kept alive.
func Due(keepAlive time.Duration, id pg.ID, obtained time.Time, lifetime, refreshLifetime time.Duration, used bool) time.Time {
	wait := time.Duration(math.MaxInt64)
	if used && lifetime > 0 {
		wait = before(lifetime, 15*time.Minute, id)
	}
	if !used || lifetime == 0 {
		if keepAlive > 0 {
			wait = keepAlive - share(keepAlive, id)
		}
	}
	if refreshLifetime > 0 {
		wait = min(wait, before(refreshLifetime, 24*time.Hour, id))
	}
	if wait == math.MaxInt64 {
		return time.Time{}
	}
	return obtained.Add(wait)
}

// before is how long into a lifetime to renew: a margin of at most a fifth before its end, less a share of each grant's own, so that
// what was issued together is not renewed together; never before half of it.
func before(lifetime, margin time.Duration, id pg.ID) time.Duration {
	return max(lifetime/2, lifetime-min(margin, lifetime/5)-share(lifetime, id))
}

// share is up to a twentieth of d, the same for the same grant every time.
func share(d time.Duration, id pg.ID) time.Duration {
	return time.Duration(float64(d/20) * fraction(id, 0))
}

// backoff is how long after the nth failure in a row the next try is: 30 s doubling to an hour, give or take a tenth.
func backoff(n int, id pg.ID) time.Duration {
	wait := 30 * time.Second << min(max(n-1, 0), 7)
	wait = min(wait, time.Hour)
	return wait*9/10 + time.Duration(float64(wait/5)*fraction(id, n))
}

// patience is how long to wait when a provider asks for it for the nth time in a row: as long as it says, at most a day, and at
// least 10 s doubling to five minutes, so that "in a second" said again and again is no licence to hammer.
func patience(n int, asked time.Duration, id pg.ID) time.Duration {
	wait := min(10*time.Second<<min(max(n-1, 0), 5), 5*time.Minute)
	return min(max(asked, wait+time.Duration(float64(wait/5)*fraction(id, n))), 24*time.Hour)
}

func fraction(id pg.ID, n int) float64 {
	h := fnv.New64a()
	h.Write(id[:])
	h.Write([]byte{byte(n)})
	return float64(h.Sum64()%1024) / 1024
}
