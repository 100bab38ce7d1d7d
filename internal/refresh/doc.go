// Package refresh keeps access alive: one refresh of a grant at a time, across all processes on one Postgres. It calls
// connectors and asks db; it knows no SQL and no page.
//
// The life of a grant, as its columns tell it:
//
//	              claim                    saved (generation+1, failures 0)
//	   waiting ------------> leased ----------------------------------------> waiting, refresh_at by Due
//	(refresh_at)               |  |  later     refresh_at as the provider asks, 10 s doubling to 5 min at least
//	      ^                    |  |  trouble   failures+1, refresh_at doubling from 30 s to 1 h, or as a 5xx asks if that is longer
//	      |                    |  |  refused   problem: the merchant; refresh_at null
//	      |                    |  |  ours      problem: the platform; refresh_at in an hour
//	      |   lease lapsed     |  |
//	      +--------------------+  +-- anything while an incident is open: nothing is counted
//	      replay-safe: at once; else two minutes later, once, carefully
//
// A claim is an UPDATE that commits before anything is sent; it takes one of the provider's slots. An answer is saved WHERE generation and epoch are as
// they were at the claim, whoever holds the lease by then. A good answer that finds another generation becomes the
// spare; one that finds another epoch is revoked where a token can be, and dropped.
//
// For handlers and jobs:
//
//	engine.Fresh(ctx, id, minValid, by)  a token good for that long; *ActionNeededError, *ProviderTroubleError, *PlatformActionError, *MinValidTooLongError, pg.ErrNotFound
//	engine.Now(ctx, id, by)              Refresh now: the Outcome on the spot, joining an attempt under way
//	engine.Verify(ctx, provider, account) a webhook's hint: refreshed now and after 1, 10 and 60 minutes
//	engine.Count(provider, environment, kind, class, took) for charts: flows call it with kind "connect"
//	engine.Declare, engine.End           an incident, by an admin
//	db.GrantStatus(ctx, id)              next refresh and why then, generation, last use, "reconnect by"
package refresh
