package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"patchbay/docs/providers"
	"patchbay/internal/sandbox"
)

// serveSandbox serves the providers' imitations, and prints the settings an app needs to use them.
func serveSandbox(ctx context.Context, t terminal, args []string) error {
	f := t.flags("sandbox", "[flags]")
	listen := f.String("listen", "127.0.0.1:8081", "`host:port` to listen on")
	public := f.String("url", "", "the sandbox's `address` for browsers and the app (default http://localhost:PORT)")
	app := f.String("app", "http://127.0.0.1:8080", "PUBLIC_URL of the app, whose callback addresses are known beforehand")
	state := f.String("state", "", "`file` that keeps grants and registrations between runs (default: none is kept)")
	if err := parse(f, args); err != nil {
		return err
	}
	listener, err := listenOn(*listen)
	if err != nil {
		return err
	}
	if *public == "" {
		*public = "http://localhost:" + port(listener)
	}
	if u, err := url.Parse(*public); err != nil || u.Host == "" {
		return fmt.Errorf("-url %s is not an address like http://localhost:8081", *public)
	}
	s := sandbox.New(sandbox.Options{BaseURL: *public, AppURLs: []string{*app}, StateFile: *state})
	if err := s.Err(); err != nil {
		return err
	}
	// A folder of a new name: in one that everybody may write to, a known name may be a link to another's file.
	folder, err := os.MkdirTemp("", "patchbay-sandbox-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	connectorsFile := filepath.Join(folder, "connectors.json")
	entries, err := providers.Entries()
	if err != nil {
		return err
	}
	if err := os.WriteFile(connectorsFile, s.ConnectorsFile(entries...), 0o600); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "The sandboxes of all providers are at %s\n\nSettings of an app that uses them:\n", *public)
	settings := s.Settings()
	maps.Copy(settings, s.KnownSettings())
	settings["CONNECTORS_FILE"] = connectorsFile
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(t.out, "%s=%s\n", name, settings[name])
	}
	return errors.Join(serveUntil(ctx, listener, s, time.Second), s.Close())
}

// newServer returns a server that holds no connection for ever, whatever the other end sends, leaves out or does not read.
func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      3 * time.Minute, // of an answer that nobody reads; a wait for a token takes a minute, and exports move theirs
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		// Whatever a handler has to say it says itself; these are complaints about clients that went away.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// serveUntil answers requests until ctx ends. Then those under way have grace to finish.
func serveUntil(ctx context.Context, listener net.Listener, h http.Handler, grace time.Duration) error {
	server := newServer(h)
	connections := newBounded(listener, connectionLimit())
	server.ConnState = connections.state
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(connections) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return server.Close()
	}
	return nil
}

// listenOn opens a port. It returns a readable error if the port is taken.
func listenOn(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s, choose another with -listen or LISTEN: %w", address, errors.Unwrap(err))
	}
	return listener, nil
}

func port(l net.Listener) string {
	return fmt.Sprint(netip.MustParseAddrPort(l.Addr().String()).Port())
}
