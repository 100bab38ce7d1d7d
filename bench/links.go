package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"
)

const benchReturnURL = "https://platform.example/settings"

// links makes connect links for a merchant that is known, against a floor of one INSERT: one after the other, and 16 at once.
func (b *bench) links(ctx context.Context) error {
	s, err := b.sides(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	body := []byte(`{"merchant": {"external_id": "shop-17", "name": "CH168 Shop", "locale": "km"}, "user": {"external_id": "u-42", "name": "Sok Dara"},
		"provider": "bench", "return_url": "` + benchReturnURL + `/connections?tab=1", "return": "redirect"}`)
	makes := func(address string) func(int64) error {
		return func(int64) error {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
			if err != nil {
				return err
			}
			r.Header.Set("Authorization", s.key)
			r.Header.Set("Content-Type", "application/json")
			return once(s.client, r)
		}
	}
	floor, ours := makes(s.floor.address+"/links"), makes(s.ours.address+"/api/v1/connect-links")
	if err := ours(0); err != nil { // adds the merchant
		return err
	}
	for _, callers := range []int{1, callers} {
		f, o, err := b.turns(ctx,
			func(each time.Duration) (float64, error) { return repeatBy(ctx, callers, each, floor) },
			func(each time.Duration) (float64, error) { return repeatBy(ctx, callers, each, ours) })
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("connect link made, callers: %d", callers), fmt.Sprintf("%.0f/s", f), fmt.Sprintf("%.0f/s", o), o/f, "0.50", o/f > 0.50)
	}
	return nil
}
