package views

import (
	"context"
	"io"
	"testing"
	"time"
)

// BenchmarkConnections is what drawing the merchant's main page costs, apart from everything that leads to it.
func BenchmarkConnections(b *testing.B) {
	page := stories()["connections"]
	ctx := WithLocale(context.Background(), "km", storyNow, time.UTC)
	b.ReportAllocs()
	for b.Loop() {
		if err := page.Render(ctx, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
