// Package trace ties together what is written about one request: its id stands in the answer, on error pages, in log lines and
// in events, and in the spans of OpenTelemetry where an endpoint is set.
package trace

import (
	"context"
	"crypto/rand"
	"log/slog"

	oteltrace "go.opentelemetry.io/otel/trace"
)

// Header is the header of an answer that names the request.
const Header = "X-Request-Id"

type key struct{}

// WithRequest returns a context that carries a new request id, and the id: 16 letters that a person can read out.
func WithRequest(ctx context.Context) (context.Context, string) {
	id := rand.Text()[:16]
	return context.WithValue(ctx, key{}, id), id
}

// Request returns the id of the request that a context belongs to; "" outside of requests.
func Request(ctx context.Context) string {
	id, _ := ctx.Value(key{}).(string)
	return id
}

// LogHandler returns a handler that adds the request's id, and its trace's if it has one, to every line written with its context.
func LogHandler(next slog.Handler) slog.Handler { return logHandler{next} }

type logHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h logHandler) Handle(ctx context.Context, line slog.Record) error {
	if id := Request(ctx); id != "" {
		line.AddAttrs(slog.String("request", id))
	}
	if span := oteltrace.SpanContextFromContext(ctx); span.IsValid() {
		line.AddAttrs(slog.String("trace", span.TraceID().String()))
	}
	return h.Handler.Handle(ctx, line)
}

// WithAttrs implements slog.Handler.
func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h logHandler) WithGroup(name string) slog.Handler { return logHandler{h.Handler.WithGroup(name)} }
