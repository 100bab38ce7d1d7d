package trace

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"
)

func TestLinesNameTheirRequest(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(LogHandler(slog.NewTextHandler(&out, nil))).With("a", 1).WithGroup("g")
	ctx, id := WithRequest(t.Context())
	log.InfoContext(ctx, "inside")
	log.Info("outside")
	inside, outside, _ := strings.Cut(out.String(), "\n")
	if !strings.Contains(inside, "request="+id) || strings.Contains(outside, "request") {
		t.Errorf("request %s: %s", id, out.String())
	}
}

// TestSpansHoldNoSecret: spans of a request and of the call to a provider that it makes are one trace, named after the route, and
// hold nothing of paths and queries.
func TestSpansHoldNoSecret(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	stop := use(sdktrace.WithSyncer(spans))
	var told http.Header
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { told = r.Header }))
	defer provider.Close()
	client := &http.Client{Transport: Transport(http.DefaultTransport), Timeout: time.Minute}
	pages := http.NewServeMux()
	var trace string
	pages.HandleFunc("GET /password/{secret}", func(w http.ResponseWriter, r *http.Request) {
		ctx, _ := WithRequest(r.Context())
		trace = oteltrace.SpanContextFromContext(ctx).TraceID().String()
		call, err := http.NewRequestWithContext(ctx, http.MethodGet, provider.URL+"/canary-path?code=canary-query", http.NoBody)
		if err != nil {
			t.Error(err)
			return
		}
		answer, err := client.Do(call)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		Route(ctx, r.Pattern)
	})
	r := httptest.NewRequest(http.MethodGet, "/password/canary-link?code=canary-code", http.NoBody)
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	Handler(pages).ServeHTTP(httptest.NewRecorder(), r)
	all := fmt.Sprintf("%+v", spans.GetSpans())
	if err := stop(context.Background()); err != nil {
		t.Error(err)
	}
	if strings.Contains(all, "canary") {
		t.Errorf("a span holds a secret: %s", all)
	}
	for _, want := range []string{"GET /password/{secret}", provider.URL} {
		if !strings.Contains(all, want) {
			t.Errorf("no span has %q", want)
		}
	}
	if trace != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("the handler is in trace %s", trace)
	}
	if told.Get("Traceparent") != "" {
		t.Error("the provider is told of the trace")
	}
}
