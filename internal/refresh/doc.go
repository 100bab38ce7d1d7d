// Package refresh keeps access alive: one refresh of a grant at a time, across all processes on one Postgres. It calls
// connectors and owns the rows by which processes agree: leases, slots, incidents, rechecks and hourly stats.
//
// The life of a grant, in terms of its columns:
//
//	              claim                    saved (generation+1, failures 0)
//	   waiting ------------> leased ----------------------------------------> waiting, refresh_at by schedule.Due
//	(refresh_at)               |  |  later     refresh_at as the provider asks, 10 s doubling to 5 min at least
//	      ^                    |  |  trouble   failures+1, refresh_at doubling from 30 s to 1 h, or as a 5xx asks if that is longer
//	      |                    |  |  refused   problem: the merchant; refresh_at null
//	      |                    |  |  ours      problem: the platform; refresh_at in an hour
//	      |   lease lapsed     |  |
//	      +--------------------+  +-- anything while an incident is open: nothing is counted
//	      replay-safe: at once; else two minutes later, once
//
// A claim is an UPDATE that commits before anything is sent; it takes one of the provider's slots. An answer is saved WHERE generation and connection_version are as
// they were at the claim, whichever process holds the lease by then. A good answer that finds another generation is kept as the
// late grant (column late_grant); one that finds another version is revoked where a token can be, and dropped.
//
// engine.go runs the sweeps, queue.go claims, lease.go saves and records, saves.go checks that answers can be saved, attempt.go makes one
// attempt, fresh.go serves callers that wait for a token, incident.go handles providers that fail for several merchants, recheck.go their revocation notices, usage.go and
// stats.go the figures.
package refresh
