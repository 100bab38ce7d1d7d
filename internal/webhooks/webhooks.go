// Package webhooks tells the platform's programs what happened, as Standard Webhooks has it (standardwebhooks.com). Events are written by
// triggers on connections and events, in the transaction of what they tell, with a delivery for each endpoint that takes them. They hold
// ids: what is sent of a connection is read when it is sent. It owns the tables webhook_….
package webhooks

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patchbay/internal/db"
	"patchbay/internal/dial"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// Type is what an event tells.
type Type string

// The types of events. The migrations' triggers write all but ConnectionExpiring and Test.
const (
	ConnectionConnected    Type = "connection.connected"
	ConnectionReconnected  Type = "connection.reconnected"
	ConnectionActionNeeded Type = "connection.action_needed" // a problem came, or became another
	ConnectionRecovered    Type = "connection.recovered"     // by itself, or because the platform or the provider acted
	ConnectionExpiring     Type = "connection.expiring"
	ConnectionDisconnected Type = "connection.disconnected"
	IncidentOpened         Type = "incident.opened"
	IncidentEnded          Type = "incident.ended"
	MerchantErased         Type = "merchant.erased"
	Test                   Type = "test" // to one endpoint, when it is asked for
)

// Types lists every Type.
func Types() []Type {
	return []Type{
		ConnectionConnected, ConnectionReconnected, ConnectionActionNeeded, ConnectionRecovered, ConnectionExpiring, ConnectionDisconnected,
		IncidentOpened, IncidentEnded, MerchantErased, Test,
	}
}

// Options are what Webhooks is made of.
type Options struct {
	DB        *db.DB
	Providers status.Providers // as their settings have them: incidents are read
	Private   bool             // private addresses and plain http may be called
	Log       *slog.Logger
}

// Webhooks keeps endpoints and, in Run, sends to them. It is safe for concurrent use.
type Webhooks struct {
	Options
	client       *http.Client
	tries        *prometheus.CounterVec
	mail         notify.Queue  // set by Run
	pollInterval time.Duration // how often it is looked for what is due; shorter in tests

	mu   sync.Mutex
	busy map[pg.ID]bool // the endpoints that this process sends to just now
}

// Errors of endpoints.
var (
	ErrURL     = errors.New("not an address that may be called")
	ErrType    = errors.New("no such type of event")
	ErrTooMany = errors.New("there are as many endpoints as there may be")
)

// New makes Webhooks.
func New(o Options) *Webhooks {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	proxy := http.ProxyFromEnvironment
	if !o.Private { // a proxy resolves names itself, and would call what we may not
		dialer.ControlContext, proxy = dial.PublicOnly, nil
	}
	return &Webhooks{
		Options: o,
		client: &http.Client{
			Timeout: Timeout,
			Transport: &http.Transport{
				Proxy: proxy, DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
				MaxIdleConnsPerHost: Concurrency, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		tries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patchbay_webhook_tries_total", Help: "Tries to deliver a webhook to the platform, by outcome: delivered, or failed.",
		}, []string{"outcome"}),
		busy: map[pg.ID]bool{}, pollInterval: time.Second,
	}
}

// known reports whether t is one of Types.
func (t Type) known() bool { return slices.Contains(Types(), t) }
