// Package schedule computes when a grant is refreshed next. It is arithmetic alone, apart from refresh so that db can write the
// first due time of a new grant in the transaction that makes it.
package schedule

import (
	"hash/fnv"
	"math"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/pg"
)

// InUse is how long after its last use a connection is kept warm.
const InUse = 24 * time.Hour

// Due is when a grant that was obtained at a time is refreshed next; zero for never. used is whether the connection was used within InUse. What a merchant typed gives new access whenever a refresh
// token has ended, so that its end forces nothing. A grant that nothing renews is due when its token ends, so that the engine
// finds out that access is over, and never if no end is known.
func Due(info connectors.Info, id pg.ID, g connectors.Grant, obtained time.Time, used bool) time.Time {
	switch {
	case !info.Renewable(g) && g.Lifetime > 0:
		return obtained.Add(g.Lifetime)
	case !info.Renewable(g):
		return time.Time{}
	}
	refreshLifetime := g.RefreshLifetime
	if info.Typed(g) {
		refreshLifetime = 0
	}
	return DueAfter(info.KeepAlive, id, obtained, g.Lifetime, refreshLifetime, used)
}

// DueAfter is Due by the lifetimes of the access token and of the refresh token, 0 where unknown, and the provider's keepAlive: every
// keepAlive, before the refresh token ends, and a used grant before its token ends. It returns the zero time when the grant is unused
// and nothing has to be kept alive.
func DueAfter(keepAlive time.Duration, id pg.ID, obtained time.Time, lifetime, refreshLifetime time.Duration, used bool) time.Time {
	wait := time.Duration(math.MaxInt64)
	if keepAlive > 0 {
		wait = keepAlive - jitter(keepAlive, id)
	}
	if used && lifetime > 0 {
		wait = min(wait, beforeEnd(lifetime, 15*time.Minute, id))
	}
	if refreshLifetime > 0 {
		wait = min(wait, beforeEnd(refreshLifetime, 24*time.Hour, id))
	}
	if wait == math.MaxInt64 {
		return time.Time{}
	}
	return obtained.Add(wait)
}

// Possible says whether a token can end at a time: it cannot if, by its lifetime, it would have been obtained in the future. Then it
// was obtained while the clock was ahead, and when it ends is unknown. Processes' clocks differ a little: an end that is off by less
// than Reserve is believed.
func Possible(end time.Time, lifetime time.Duration, now time.Time) bool {
	return end.IsZero() || lifetime <= 0 || end.Sub(now) <= lifetime+Reserve(lifetime)
}

// Reserve is how long a token that is handed out is good for, unless the caller says otherwise: a fifth of its lifetime, at most a
// minute.
func Reserve(lifetime time.Duration) time.Duration {
	if lifetime > 0 {
		return min(time.Minute, lifetime/5)
	}
	return time.Minute
}

// beforeEnd is how long into a lifetime to refresh: a margin of at most a fifth before its end, less the grant's jitter, so that
// what was issued together is not refreshed together; never before half of it.
func beforeEnd(lifetime, margin time.Duration, id pg.ID) time.Duration {
	return max(lifetime/2, lifetime-min(margin, lifetime/5)-jitter(lifetime, id))
}

// jitter is up to a twentieth of d, the same for the same grant every time.
func jitter(d time.Duration, id pg.ID) time.Duration {
	return time.Duration(float64(d/20) * fraction(id, 0))
}

// Backoff is how long after the nth failure in a row the next try is: 30 s doubling to an hour, give or take a tenth.
func Backoff(n int, id pg.ID) time.Duration {
	wait := 30 * time.Second << min(max(n-1, 0), 7)
	wait = min(wait, time.Hour)
	return wait*9/10 + time.Duration(float64(wait/5)*fraction(id, n))
}

// LongBackoff is how long until the next try of what has failed for days: an eighth part of a day in the third, growing to a day.
func LongBackoff(failing time.Duration) time.Duration {
	return min(failing/24, 24*time.Hour)
}

// RetryAfter is how long to wait when a provider asks for it for the nth time in a row: as long as it says, at most a day, and at
// least 10 s doubling to five minutes, so that "in a second" said again and again is no licence to hammer.
func RetryAfter(n int, asked time.Duration, id pg.ID) time.Duration {
	wait := min(10*time.Second<<min(max(n-1, 0), 5), 5*time.Minute)
	return min(max(asked, wait+time.Duration(float64(wait/5)*fraction(id, n))), 24*time.Hour)
}

// fraction is from 0 to 1, by the grant and n.
func fraction(id pg.ID, n int) float64 {
	h := fnv.New64a()
	h.Write(id[:])
	h.Write([]byte{byte(n)})
	return float64(h.Sum64()%1024) / 1024
}
