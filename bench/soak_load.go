package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
)

// tally counts what was asked for, by what came of it.
type tally struct {
	mu  sync.Mutex
	all map[string]map[string]int
}

func (t *tally) count(what, outcome string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all[what] == nil {
		t.all[what] = map[string]int{}
	}
	t.all[what][outcome]++
}

// held is a connection that Patchbay holds.
type held struct {
	id                pg.ID
	merchant          pg.ID
	provider, account string
}

// caller is one client of the load, with luck of its own.
type caller struct {
	*soak
	*http.Client
	luck *rand.Rand
}

func (s *soak) caller(n uint64) *caller {
	return &caller{s, &http.Client{Timeout: 70 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 2}}, rand.New(rand.NewPCG(s.seed, n))}
}

// load begins everything that is done until ctx ends.
func (s *soak) load(ctx context.Context, all *sync.WaitGroup) {
	none := []held{}
	s.connections.Store(&none)
	n := uint64(0)
	begin := func(callers int, rest time.Duration, do func(*caller, context.Context)) {
		for range callers {
			n++
			c := s.caller(n)
			all.Go(func() {
				for pause(ctx, rest/2+time.Duration(c.luck.Int64N(int64(rest)))) {
					do(c, ctx)
				}
			})
		}
	}
	begin(6, 15*time.Millisecond, (*caller).readToken)
	begin(3, 150*time.Millisecond, (*caller).refresh)
	begin(6, 300*time.Millisecond, (*caller).connect)
	begin(1, 3*time.Second, (*caller).disconnect)
	begin(3, 150*time.Millisecond, (*caller).merchantPage)
	begin(2, 400*time.Millisecond, (*caller).adminPage)
	begin(1, 500*time.Millisecond, (*caller).webhook)
	begin(1, 40*time.Second, (*caller).bulk)
	begin(1, 8*time.Second, (*caller).export)
	begin(2, time.Second, (*caller).halfRequest)
	begin(1, 5*time.Second, (*caller).slowExport)
}

// watch keeps the list of connections, and notes every problem that any of them has.
func (s *soak) watch(ctx context.Context) {
	for pause(ctx, time.Second) {
		if err := s.look(ctx); err != nil && ctx.Err() == nil && !s.away.Load() {
			s.tally.count("the soak's own look", "failed")
		}
	}
}

func (s *soak) look(ctx context.Context) error {
	rows, err := s.db.Pool.Query(ctx, `SELECT id, merchant_id, provider, account_id, problem, coalesce(problem_since, connected_at) FROM connections WHERE disconnected_at IS NULL`)
	if err != nil {
		return err
	}
	var list []held
	var seen []alarm
	var h held
	var problem string
	var since time.Time
	_, err = pgx.ForEachRow(rows, []any{&h.id, &h.merchant, &h.provider, &h.account, &problem, &since}, func() error {
		list = append(list, h)
		if problem != "" {
			seen = append(seen, alarm{h, problem, since.UTC()})
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.connections.Store(&list)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range seen {
		s.alarms[a] = true
	}
	return nil
}

// any returns one of the connections; false while there is none.
func (c *caller) any() (held, bool) {
	list := *c.connections.Load()
	if len(list) == 0 {
		return held{}, false
	}
	return list[c.luck.IntN(len(list))], true
}

// do sends a request and returns the answer's status and body; status 0 without an answer.
func (c *caller) do(ctx context.Context, what, method, address, authorization string, form url.Values) (int, []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Timeout) // what was begun is finished
	defer cancel()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		c.odd(what, err.Error())
		return 0, nil
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if strings.HasPrefix(authorization, "Bearer ") {
		r.Header.Set("Authorization", authorization)
	} else if authorization != "" {
		r.AddCookie(&http.Cookie{Name: "session", Value: authorization})
	}
	response, err := c.Do(r)
	if err != nil {
		c.tally.count(what, "no answer")
		return 0, nil
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		c.tally.count(what, "cut off")
		return 0, nil
	}
	c.judge(what, response, got)
	return response.StatusCode, got
}

// judge counts an answer, and notes one that nothing excuses.
func (c *caller) judge(what string, response *http.Response, body []byte) {
	c.tally.count(what, fmt.Sprint(response.StatusCode))
	switch {
	case response.StatusCode == http.StatusInternalServerError:
		c.odd(what, fmt.Sprintf("answered 500, request %s: %.200s", response.Header.Get("X-Request-Id"), body))
	case response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") == "" && !bytes.Contains(body, []byte("platform-action-needed")):
		c.odd(what, "answered 503 without Retry-After")
	}
}

// odd is a finding of the load, once for each kind of request and of fault.
func (s *soak) odd(what, words string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := what + words[:min(len(words), 20)]; !s.strange[key] {
		s.strange[key] = true
		s.findings = append(s.findings, time.Now().UTC().Format(time.TimeOnly)+" "+what+": "+words)
	}
}

func (c *caller) readToken(ctx context.Context) {
	h, ok := c.any()
	if !ok {
		return
	}
	asked := time.Now()
	status, body := c.do(ctx, "token read", http.MethodGet, c.public+"/api/v1/connections/"+h.id.String()+"/token", c.key, nil)
	if status != http.StatusOK {
		return
	}
	var answer struct {
		AccessToken string    `json:"access_token"`
		ExpiresAt   time.Time `json:"expires_at"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.AccessToken == "" {
		c.odd("token read", "an answer without a token")
		return
	}
	if !answer.ExpiresAt.After(asked) {
		c.odd("token read", fmt.Sprintf("%s of %s was handed out at %s and had ended at %s", h.account, h.provider, asked, answer.ExpiresAt))
	}
	// A token that says whose it is must be this account's.
	if parts := strings.Split(answer.AccessToken, "."); len(parts) == 3 && h.provider != sandbox.Flexiti {
		raw, err := base64.RawURLEncoding.DecodeString(parts[1])
		var claims struct {
			Endpoint string `json:"endpoint_id"`
			User     string `json:"USER_ID"`
			Exp      int64  `json:"exp"`
		}
		if err == nil {
			err = json.Unmarshal(raw, &claims)
		}
		if err != nil || claims.Endpoint+claims.User != h.account || claims.Exp <= asked.Unix() {
			c.odd("token read", fmt.Sprintf("%s of %s got a token of %q that ends at %s: %v", h.account, h.provider, claims.Endpoint+claims.User, time.Unix(claims.Exp, 0), err))
		}
	}
}

func (c *caller) refresh(ctx context.Context) {
	if h, ok := c.any(); ok {
		c.do(ctx, "refresh by a program", http.MethodPost, c.public+"/api/v1/connections/"+h.id.String()+"/refresh", c.key, nil)
	}
}

// connect goes the way of a merchant's browser: to the provider, through its consent page, and back. What is connected already is
// connected again, which is rarer.
func (c *caller) connect(ctx context.Context) {
	who, provider := c.merchants[c.luck.IntN(shops)], soakProviders[c.luck.IntN(len(soakProviders))]
	for _, h := range *c.connections.Load() {
		if h.merchant == who.id && h.provider == provider && c.luck.IntN(20) > 0 {
			return
		}
	}
	if provider == sandbox.Flexiti {
		c.do(ctx, "connect by typing", http.MethodPost, c.public+"/connect/flexiti", who.cookie, url.Values{
			"client_id": {accountOf(provider, who.n)}, "client_secret": {fmt.Sprintf("flexiti-secret-%d", who.n)}, "scope": {"merchant"},
		})
		return
	}
	outcome, err := c.browse(ctx, who, provider)
	if err != nil {
		outcome = "no answer"
	}
	c.tally.count("connect", outcome)
}

// browse is one browser's way through; it returns where it ended.
func (c *caller) browse(ctx context.Context, who shop, provider string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Timeout)
	defer cancel()
	home, err := url.Parse(c.public)
	if err != nil {
		return "", err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	jar.SetCookies(home, []*http.Cookie{{Name: "session", Value: who.cookie}})
	browser := &http.Client{Transport: c.Transport, Jar: jar}
	post := func(address string, form url.Values) (*http.Response, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		response, err := browser.Do(r)
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if response.Request.URL.Host == home.Host {
			c.judge("page of a connect", response, body)
		}
		return response, err
	}
	response, err := post(c.public+"/connect/"+provider, nil)
	if err != nil {
		return "", err
	}
	at := response.Request.URL
	if at.Host == home.Host || response.StatusCode != http.StatusOK {
		return "stopped before the provider", nil
	}
	form := at.Query()
	form.Set("account", accountOf(provider, who.n))
	form.Set("decision", "allow")
	consent := map[string]string{sandbox.CamInvoice: "/caminvoice/connect", sandbox.ELECQ: "/elecq/sign-in", "acme": "/acme/authorize"}[provider]
	if response, err = post(c.sandbox.BaseURL()+consent, form); err != nil {
		return "", err
	}
	switch at := response.Request.URL; {
	case at.Host != home.Host:
		return "stopped at the provider", nil
	case strings.HasPrefix(at.Path, "/flows/") && response.StatusCode == http.StatusOK:
		return "came back to its page", nil
	default:
		return "came back to another page", nil
	}
}

func (c *caller) disconnect(ctx context.Context) {
	h, ok := c.any()
	if !ok {
		return
	}
	for _, m := range c.merchants {
		if m.id == h.merchant {
			c.do(ctx, "disconnect", http.MethodPost, c.public+"/connections/"+h.id.String()+"/disconnect", m.cookie, url.Values{})
		}
	}
}

func (c *caller) merchantPage(ctx context.Context) {
	who := c.merchants[c.luck.IntN(shops)]
	path := "/"
	if h, ok := c.any(); ok && c.luck.IntN(2) == 0 {
		for _, m := range c.merchants {
			if m.id == h.merchant {
				who, path = m, "/connections/"+h.id.String()
			}
		}
	}
	c.do(ctx, "page of a merchant", http.MethodGet, c.public+path, who.cookie, nil)
}

var adminPaths = []string{
	"/admin", "/admin/connections", "/admin/connections?q=soak+shop+7", "/admin/connections?sort=health", "/admin/providers", "/admin/events",
	"/admin/events?kind=refresh", "/admin/merchants", "/admin/merchants?q=soak", "/admin/users", "/admin/keys",
}

func (c *caller) adminPage(ctx context.Context) {
	c.do(ctx, "page of an admin", http.MethodGet, c.public+adminPaths[c.luck.IntN(len(adminPaths))], c.admin, nil)
}

// hook registers the address of the webhook with the provider, for all accounts.
func (s *soak) hook(ctx context.Context) error {
	settings := s.sandbox.Settings()
	body := fmt.Sprintf(`{"endpoint_id":"","webhook_url":%q}`, s.public+"/hooks/caminvoice/"+hookSecret)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, settings["CAMINVOICE_API_URL"]+"/api/v1/configure/configure-webhook", strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.SetBasicAuth(settings["CAMINVOICE_CLIENT_ID"], settings["CAMINVOICE_CLIENT_SECRET"])
	return once(http.DefaultClient, r)
}

// webhook has the provider say that access of an account has ended, which is not so: anybody may write that.
func (c *caller) webhook(context.Context) {
	status := c.sandbox.Deliver(map[string]any{"type": "ENTITY.REVOKED", "endpoint_id": accountOf(sandbox.CamInvoice, c.luck.IntN(shops))})
	c.tally.count("webhook", fmt.Sprint(status))
}

// bulk makes a dry run of one provider's connections and starts it.
func (c *caller) bulk(ctx context.Context) {
	r := url.Values{"provider": {soakProviders[c.luck.IntN(len(soakProviders))]}}
	noRedirect := &caller{c.soak, &http.Client{Timeout: c.Timeout, Transport: c.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, c.luck}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.public+"/admin/bulk", strings.NewReader(r.Encode()))
	if err != nil {
		c.odd("bulk", err.Error())
		return
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.AddCookie(&http.Cookie{Name: "session", Value: c.admin})
	response, err := noRedirect.Do(request)
	if err != nil {
		c.tally.count("bulk, dry run", "no answer")
		return
	}
	response.Body.Close()
	c.tally.count("bulk, dry run", fmt.Sprint(response.StatusCode))
	if at := response.Header.Get("Location"); strings.HasPrefix(at, "/admin/bulk/") {
		c.do(ctx, "bulk, start", http.MethodPost, c.public+at, c.admin, url.Values{"do": {"start"}})
	}
}

func (c *caller) export(ctx context.Context) {
	paths := []string{"/admin/connections.csv", "/admin/connections.xlsx", "/admin/events.csv?kind=connection", "/admin/events.xlsx?kind=connection"}
	c.do(ctx, "export", http.MethodGet, c.public+paths[c.luck.IntN(len(paths))], c.admin, nil)
}

// halfRequest sends a part of a request and waits for what becomes of it.
func (c *caller) halfRequest(ctx context.Context) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.public, "http://"))
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "POST /api/v1/connections HTTP/1.1\r\nHost: half\r\nContent-Length: 100\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(15 * time.Second)) // a TCP connection takes deadlines
	_, err = io.Copy(io.Discard, conn)
	outcome := "closed by the server"
	if err != nil {
		outcome = "closed by the client"
	}
	c.tally.count("half a request", outcome)
}

// slowExport reads an export a little at a time, and goes away before its end.
func (c *caller) slowExport(ctx context.Context) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.public+"/admin/events.csv", nil)
	if err != nil {
		c.odd("slow export", err.Error())
		return
	}
	r.AddCookie(&http.Cookie{Name: "session", Value: c.admin})
	response, err := c.Do(r)
	if err != nil {
		c.tally.count("slow export", "no answer")
		return
	}
	defer response.Body.Close()
	piece := make([]byte, 512)
	for range 40 {
		if _, err := io.ReadFull(response.Body, piece); err != nil || !pause(ctx, 100*time.Millisecond) {
			break
		}
	}
	c.tally.count("slow export", fmt.Sprint(response.StatusCode))
}
