package handlers

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"patchbay/internal/pg"
)

// livez answers 200 while the program runs.
func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte("ok\n"))
}

// readyz answers 200 if the database answers, takes what is saved, has this program's schema and opens with the keyset, and no row was
// met within a minute by a key that this process lacks and needs: see db.KeyNeeded.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
	defer cancel()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	err := s.DB.Ready(ctx)
	if err == nil && s.Works != nil {
		err = s.Works(ctx)
	}
	key, needed := s.DB.LacksKey(), false
	if err == nil && key != 0 {
		needed, err = s.DB.KeyNeeded(ctx, key)
	}
	if needed {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "not ready: key unknown (%d)\n", key)
		return
	}
	if err != nil {
		s.Log.WarnContext(ctx, "not ready", "err", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		w.Write([]byte("not ready\n"))
		return
	}
	w.Write([]byte("ready\n"))
	if key != 0 {
		fmt.Fprintf(w, "key unknown (%d): no process has it; the few grants that it has sealed are left as they are: docs/operating.md, Keys\n", key)
	}
	if months, err := s.DB.Audit.MonthsAhead(ctx); err == nil && months == 0 {
		fmt.Fprintln(w, "the next month has no partition of events: nothing can be saved once this one is over")
	}
	if state := s.DB.ReplicaState(); state != pg.ReplicaNone && state != pg.ReplicaUsed {
		fmt.Fprintf(w, "lists are read from the primary, not from the replica: %s\n", state)
	}
}
