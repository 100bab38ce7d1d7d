package trace

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/rivertype"
	"github.com/riverqueue/rivercontrib/otelriver"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// Start begins to send spans to an OTLP endpoint over HTTP, as the OTEL_ variables of the process's environment say, which the SDK
// reads itself. stop sends what is left.
func Start(ctx context.Context, version string) (stop func(context.Context) error, err error) {
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("set up traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName("patchbay"), semconv.ServiceVersion(version)), resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil {
		return nil, fmt.Errorf("set up traces: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return use(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about)), nil
}

func use(options ...sdktrace.TracerProviderOption) (stop func(context.Context) error) {
	provider := sdktrace.NewTracerProvider(append([]sdktrace.TracerProviderOption{sdktrace.WithSpanProcessor(redactor{})}, options...)...)
	otel.SetTracerProvider(provider)
	return provider.Shutdown
}

// Handler makes a span of each request, as a part of the caller's trace if it names one (W3C Trace Context).
func Handler(next http.Handler) http.Handler {
	return otelhttp.NewHandler(next, "request", otelhttp.WithPropagators(propagation.TraceContext{}))
}

// Transport makes a span of each call to a provider. It does not tell the provider of it.
func Transport(next http.RoundTripper) http.RoundTripper {
	spans := otelhttp.NewTransport(restoring{next}, otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator()))
	return trimming{spans}
}

// trimming shows the next transport an address without path and query, which may hold a secret; restoring is the other end of it.
type trimming struct{ next http.RoundTripper }

type addressKey struct{}

// RoundTrip implements http.RoundTripper.
func (t trimming) RoundTrip(r *http.Request) (*http.Response, error) {
	trimmed := r.WithContext(context.WithValue(r.Context(), addressKey{}, r.URL))
	trimmed.URL = &url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host}
	return t.next.RoundTrip(trimmed)
}

type restoring struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t restoring) RoundTrip(r *http.Request) (*http.Response, error) {
	whole := r.WithContext(r.Context())
	if address, ok := r.Context().Value(addressKey{}).(*url.URL); ok {
		whole.URL = address
	}
	return t.next.RoundTrip(whole)
}

// Postgres makes a span of each statement, with its text and without its values.
func Postgres() pgx.QueryTracer { return otelpgx.NewTracer() }

// Jobs makes a span of each job.
func Jobs() rivertype.Middleware { return otelriver.NewMiddleware(nil) }

// Route names the span of a request after the route that served it.
func Route(ctx context.Context, pattern string) {
	span := oteltrace.SpanFromContext(ctx)
	if pattern == "" || !span.IsRecording() {
		return
	}
	span.SetName(pattern)
	_, path, _ := strings.Cut(pattern, " ")
	span.SetAttributes(semconv.HTTPRoute(path), attribute.String("request.id", Request(ctx)))
}

// redactor takes paths and queries out of the spans of requests: ours end in links' secrets and in codes.
type redactor struct{}

// OnStart implements sdktrace.SpanProcessor.
func (redactor) OnStart(_ context.Context, span sdktrace.ReadWriteSpan) {
	for _, a := range span.Attributes() {
		if a.Key == semconv.URLPathKey || a.Key == semconv.URLQueryKey {
			span.SetAttributes(a.Key.String(""))
		}
	}
}

// OnEnd implements sdktrace.SpanProcessor.
func (redactor) OnEnd(sdktrace.ReadOnlySpan) {}

// Shutdown implements sdktrace.SpanProcessor.
func (redactor) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (redactor) ForceFlush(context.Context) error { return nil }
