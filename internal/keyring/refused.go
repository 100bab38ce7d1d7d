package keyring

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

const (
	reportEvery   = time.Hour   // of one row
	maxReports    = 1000        // of a process, within reportEvery
	missingKeyFor = time.Minute // for how long a process is not ready after it met a row whose key it lacks, and how often the log says so
	filterFor     = missingKeyFor / 2
)

// refusedRows are the signed rows that this process has refused, and what it met that another process may open. The log, events, figures
// and /readyz report them.
type refusedRows struct {
	mu               sync.Mutex
	counts           map[string]int64     // of forged ones, by table
	reported         map[string]time.Time // forged ones, by table and id
	missing          uint32               // the key that was met last and that the keyset lacks
	missingAt        time.Time
	missingOutsideAt time.Time // when it was something else than a grant
	loggedAt         time.Time // the last line about such a key
}

// report notes that a row was refused. A forged one is an event and a line of the log, one an hour for each row.
func (f *refusedRows) report(k *Keyring, r SignedRows, text string, mac []byte, reason error) {
	id, _, _ := strings.Cut(text, "|")
	row, now := r.name()+" "+id, time.Now()
	if errors.Is(reason, seal.ErrUnknownKey) {
		f.reportUnknownKey(k, seal.MACKeyID(mac), row)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts == nil {
		f.counts, f.reported = map[string]int64{}, map[string]time.Time{}
	}
	f.counts[r.name()]++
	if now.Sub(f.reported[row]) < reportEvery {
		return
	}
	if len(f.reported) >= maxReports {
		maps.DeleteFunc(f.reported, func(_ string, at time.Time) bool { return now.Sub(at) >= reportEvery })
		if len(f.reported) >= maxReports {
			return
		}
	}
	f.reported[row] = now
	k.Log.Error("a row that gives authority has no valid MAC, and gives none: it was written without the keyset", "row", row)
	go func() { // the caller holds a connection
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		wait, err := k.Allow(ctx, "forged "+row, pg.Limit{Burst: 1, Every: reportEvery})
		if err == nil && wait == 0 {
			err = k.Audit.Record(ctx, audit.Event{Kind: status.RowForged, Code: r.name(), Note: row})
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			k.Log.Warn("event not written", "kind", status.RowForged, "err", err)
		}
	}()
}

// reportUnknownKey notes and logs that a row is sealed or signed by a key that the keyset lacks.
func (f *refusedRows) reportUnknownKey(k *Keyring, key uint32, row string) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.loggedAt) > missingKeyFor {
		f.loggedAt = now
		k.Log.Error("key unknown: a row is sealed or signed by a key that this process lacks, and another may have; it is left as it is", "key", key, "row", row)
	}
	f.missing, f.missingAt = key, now
	if !strings.HasPrefix(row, "grants ") {
		f.missingOutsideAt = now
	}
}

// ForgedRows returns how often this process has refused a row without a valid MAC, by table.
func (k *Keyring) ForgedRows() map[string]int64 {
	k.refused.mu.Lock()
	defer k.refused.mu.Unlock()
	counts := map[string]int64{}
	for _, r := range allSigned() {
		counts[r.name()] = k.refused.counts[r.name()]
	}
	return counts
}

// missingOutsideGrants reports whether something else than a grant was met within a minute whose key the keyset lacks.
func (f *refusedRows) missingOutsideGrants() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.missingOutsideAt) <= missingKeyFor
}

// LacksKey returns the id of a key by which a row is sealed or signed that this process met within a minute, and that its keyset lacks; 0
// if there is none.
func (k *Keyring) LacksKey() uint32 {
	k.refused.mu.Lock()
	defer k.refused.mu.Unlock()
	if time.Since(k.refused.missingAt) > missingKeyFor {
		return 0
	}
	return k.refused.missing
}

// SealedBy is an SQL condition: a column is sealed by one of the keys of the argument, whose ids are as Prefixes returns them.
func SealedBy(column, argument string) string {
	return `(substring(` + column + ` FROM 1 FOR 1) = '\x01' AND substring(` + column + ` FROM 2 FOR 4) = ANY (` + argument + `::bytea[]))`
}

// UnknownSeal is an SQL condition: what a column has sealed names a key that is not among those of the argument, which are KnownKeys.
// It is NULL for a column that is NULL.
func UnknownSeal(column, argument string) string {
	return `(substring(` + column + ` FROM 1 FOR 1) = '\x01' AND substring(` + column + ` FROM 2 FOR 4) <> ALL (` + argument + `::bytea[]))`
}

// KnownKeys returns the ids of the keyset's keys, as ciphertexts name them.
func (k *Keyring) KnownKeys() [][]byte { return Prefixes(k.Keyset.IDs()) }

// KeyFilter returns KnownKeys if this process has just met a key that it lacks, and nil else. A search for what is due leaves out what other
// keys have sealed, and looks at it again twice a minute.
func (k *Keyring) KeyFilter() [][]byte {
	k.refused.mu.Lock()
	defer k.refused.mu.Unlock()
	if time.Since(k.refused.missingAt) > filterFor {
		return nil
	}
	return k.KnownKeys()
}
