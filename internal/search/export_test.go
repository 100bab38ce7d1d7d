package search

import "testing"

// WalkAtMost has a walk end after so few rows until a test is over, so that what follows it is tested with few connections. Nothing else may search meanwhile.
func WalkAtMost(t *testing.T, rows int) {
	before, lookups := walked, walkedLookups
	walked, walkedLookups = rows, min(rows, lookups)
	t.Cleanup(func() { walked, walkedLookups = before, lookups })
}
