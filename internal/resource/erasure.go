package resource

import (
	"fmt"
	"time"

	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// Erasure is the receipt of a merchant that was erased.
type Erasure struct {
	ID         pg.ID           `json:"id"`
	ExternalID string          `json:"external_id"` // as it was asked for: it is not kept
	ErasedAt   time.Time       `json:"erased_at"`
	Erased     db.ErasedCounts `json:"erased"`
	Events     int64           `json:"events_emptied"`
	Revoked    Ended           `json:"revoked"`
	Complete   bool            `json:"complete"` // nothing is left to be done
	Remains    []Remains       `json:"remains"`
}

// Ended is how many accesses ended in which way at their providers.
type Ended struct {
	Done       int64 `json:"done"`
	Pending    int64 `json:"owed"` // it has not confirmed yet, or not been asked: it is asked again
	Failed     int64 `json:"failed"`
	NotAsked   int64 `json:"untold"`
	Kept       int64 `json:"kept"`
	NotOffered int64 `json:"not_offered"`
}

// Remains is something that an erasure leaves.
type Remains struct {
	What  string     `json:"what"`
	Why   string     `json:"why"`
	For   string     `json:"for"`
	Until *time.Time `json:"until"` // null if no time is known
}

// ErasureOf returns the receipt of a merchant that was asked for by an external id. Events are kept for so many months; 0 for ever.
func ErasureOf(e db.Erasure, externalID string, months int) Erasure {
	a := Erasure{
		ID: e.MerchantID, ExternalID: externalID, ErasedAt: e.At.UTC(), Erased: e.Counts, Events: e.Emptied, Complete: e.Complete(),
		Revoked: Ended{
			Done: e.Revoked[status.RevokedDone], Pending: e.Pending, Failed: e.Revoked[status.RevokedFailed], NotAsked: e.Revoked[status.RevokedNotAsked],
			Kept: e.Revoked[status.RevokedKept], NotOffered: e.Revoked[status.RevokedNotOffered],
		},
	}
	events := "as long as events are kept: without end, as it is set"
	if months > 0 {
		events = fmt.Sprintf("as long as events are kept: %d months, as it is set", months)
	}
	add := func(what, why, how string, until time.Time) {
		a.Remains = append(a.Remains, Remains{what, why, how, TimeOrNull(until)})
	}
	add("events", "the audit trail says what was done and when: ids, kinds, times and outcomes, without names, notes and addresses", events, time.Time{})
	add("receipt", "this receipt is found again by it: the merchant's id, a keyed hash of its external_id, and numbers", "without end", time.Time{})
	add("token-reads", "which key was given tokens of which connection, and when: ids only", "100 days", e.At.AddDate(0, 0, 100))
	add("accounts", "an account whose access was ended is connected only by what was given afterwards: a hash of its id", "a day after its provider was asked", time.Time{})
	if e.Webhooks {
		add("webhooks", "the platform is told, also later: ids, and the external_id in merchant.erased", "30 days", e.At.AddDate(0, 0, 30))
	}
	if e.Pending > 0 {
		add("access", "a provider has not confirmed that access has ended and is asked again: what is needed for that, sealed", "until it confirms, at most a day", e.PendingUntil)
	}
	add("backups", "backups, the write-ahead log and replicas of the database hold what it held", "as long as the operator keeps them", time.Time{})
	return a
}
