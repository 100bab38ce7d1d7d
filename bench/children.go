package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/handlers"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/seal"
	"patchbay/internal/webhooks"
)

// poolSize is how many connections to Postgres each side may have.
const poolSize = 16

// process is a child of ours: it says "ready ADDRESS" when it serves and ends when its input does.
type process struct {
	address string
	cmd     *exec.Cmd
	input   io.WriteCloser
}

func (b *bench) start(ctx context.Context, what string, more ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.CommandContext(ctx, self, append([]string{"child", what}, more...)...)}
	p.cmd.Env = append(os.Environ(), "BENCH_DATABASE="+b.database, "BENCH_PROVIDER="+b.provider, "BENCH_KEYSET="+b.keyset)
	p.cmd.Stderr = os.Stderr
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	address, ready := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ready {
		p.stop()
		return nil, fmt.Errorf("%s did not start", what)
	}
	p.address = "http://" + address
	return p, nil
}

func (p *process) stop() {
	p.input.Close()
	_ = p.cmd.Wait() // how it ended is told by its output
}

// resident is a process's resident memory in bytes.
func (p *process) resident() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no VmRSS")
}

func child(ctx context.Context, args []string) error {
	database, provider, keys := os.Getenv("BENCH_DATABASE"), os.Getenv("BENCH_PROVIDER"), os.Getenv("BENCH_KEYSET")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var routes http.Handler
	var end func()
	switch args[0] {
	case "provider":
		routes, end = newProvider(), func() {}
	case "floor":
		f, err := newFloor(ctx, database, keys, provider)
		if err != nil {
			return err
		}
		routes, end = f.routes(), f.pool.Close
	case "ours":
		routes, end, err = ours(ctx, database, provider, keys, len(args) > 1 && args[1] == "sweeping", "http://"+listener.Addr().String())
		if err != nil {
			return err
		}
	default:
		if routes, end, err = pagesChild(ctx, args[0], database, keys, "http://"+listener.Addr().String()); err != nil {
			return err
		}
	}
	server := &http.Server{Handler: routes}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		server.Close()
	}()
	fmt.Println("ready", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	end()
	return nil
}

// openDB opens a database of Patchbay's with a keyset.
func openDB(ctx context.Context, address, keys string, conns int32) (*db.DB, error) {
	keyset, err := seal.Parse(keys)
	if err != nil {
		return nil, err
	}
	return db.Open(ctx, address, keyset, pg.Options{MaxConns: conns})
}

// ours is Patchbay as `patchbay serve` puts it together, its log into a file. sweeping begins at POST /go.
func ours(ctx context.Context, database, provider, keys string, sweeping bool, public string) (http.Handler, func(), error) {
	d, err := openDB(ctx, database, keys, poolSize)
	if err != nil {
		return nil, nil, err
	}
	file, err := os.CreateTemp("", "patchbay-bench-log-")
	if err != nil {
		return nil, nil, err
	}
	log := slog.New(slog.NewTextHandler(file, nil))
	setups, err := providers(provider)
	if err != nil {
		return nil, nil, err
	}
	var all []connectors.Connector
	for _, setup := range setups {
		if setup.Connector != nil {
			all = append(all, setup.Connector)
		}
	}
	address, err := url.Parse(public)
	if err != nil {
		return nil, nil, err
	}
	engine := refresh.New(refresh.Options{DB: d, Connectors: all, Log: log})
	back, err := handlers.ParseReturnPrefix(benchReturnURL)
	if err != nil {
		return nil, nil, err
	}
	hooks := webhooks.New(webhooks.Options{DB: d, Providers: connectors.Statuses(setups), Private: true, Log: log})
	pages := handlers.New(handlers.Options{DB: d, Accounts: account.New(d), Providers: setups, Refresh: engine, Webhooks: hooks, Log: log, PublicURL: address, ReturnURLs: []*url.URL{back}, SessionKeys: [][]byte{make([]byte, 32)}})
	mux := http.NewServeMux()
	mux.Handle("/", pages.Routes())
	mux.HandleFunc("POST /send", func(http.ResponseWriter, *http.Request) { go hooks.Run(context.WithoutCancel(ctx), nil) }) // no endpoint is switched off, so no mail is sent
	if sweeping {
		mux.HandleFunc("POST /go", func(http.ResponseWriter, *http.Request) { go engine.Run(context.WithoutCancel(ctx)) })
	}
	return mux, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if err := engine.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "stop:", err)
		}
		d.Close()
		os.Remove(file.Name())
	}, nil
}

// providers are the four, not set up, and the benchmark's own, a standard one.
func providers(address string) ([]connectors.Provider, error) {
	if address == "" {
		address = "http://127.0.0.1:1"
	}
	entry, err := json.Marshal([]map[string]any{{
		"name": "bench", "title": "Bench", "authorize_url": address + "/authorize", "token_url": address + "/token", "userinfo_url": address + "/userinfo",
		"client_id": "bench", "client_secret_env": "BENCH_SECRET", "client_auth": "basic", "scopes": []string{"all"}, "environment": "sandbox", "keep_alive": "24h",
	}})
	if err != nil {
		return nil, err
	}
	get := func(name string) string {
		if name == "BENCH_SECRET" {
			return "secret"
		}
		return ""
	}
	return connectors.Load(get, entry, connectors.NewClient(nil, nil))
}

// newProvider gives a new token at once, or after what POST /delay?ms= said.
func newProvider() http.Handler {
	var delay, calls atomic.Int64
	token := base64.RawURLEncoding.EncodeToString(make([]byte, 450))
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if ms := delay.Load(); ms > 0 {
			time.Sleep(time.Duration(ms) * time.Millisecond)
		}
		n := calls.Add(1)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"%d-%s","token_type":"Bearer","expires_in":3600,"refresh_token":"r%d"}`, n, token, n)
	})
	mux.HandleFunc("POST /delay", func(_ http.ResponseWriter, r *http.Request) {
		ms, err := strconv.ParseInt(r.URL.Query().Get("ms"), 10, 64)
		if err == nil {
			delay.Store(ms)
		}
	})
	return mux
}
