package handlers

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/resource"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

// strict imitates a provider that keeps one grant per person: revoking one of its tokens ends them all, as RFC 7009 section 2.1 allows.
type strict struct {
	*httptest.Server
	members string // what its token answer says besides, such as `,"team_id":"T1"`
	nobody  bool   // userinfo names no person

	mu    sync.Mutex
	next  int
	alive map[string]string // a refresh token's person
	ended int               // revocations
	only  bool              // a person has one refresh token: another grant ends it
}

func newStrict(t *testing.T) *strict {
	t.Helper()
	p := &strict{alive: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /userinfo", func(w http.ResponseWriter, r *http.Request) {
		person, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer access-"), "-")
		if p.nobody {
			fmt.Fprint(w, `{}`)
			return
		}
		fmt.Fprintf(w, `{"sub":%q,"name":"Sok Dara"}`, person)
	})
	mux.HandleFunc("POST /revoke", func(_ http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ended++
		whose := p.alive[r.FormValue("token")]
		for token, person := range p.alive {
			if person == whose {
				delete(p.alive, token)
			}
		}
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// token answers with tokens of the person whose name is the code, up to its first dash.
func (p *strict) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	person, _, _ := strings.Cut(r.FormValue("code"), "-")
	w.Header().Set("Content-Type", "application/json")
	if r.FormValue("grant_type") == "refresh_token" {
		spent := r.FormValue("refresh_token")
		if person = p.alive[spent]; person == "" {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":"invalid_grant"}`)
			return
		}
		delete(p.alive, spent)
	}
	if p.only {
		maps.DeleteFunc(p.alive, func(_, whose string) bool { return whose == person })
	}
	refresh := fmt.Sprintf("refresh-%d", p.next)
	p.alive[refresh] = person
	fmt.Fprintf(w, `{"access_token":"access-%s-%d","token_type":"Bearer","expires_in":3600,"refresh_token":%q,"scope":"orders.read"%s}`, person, p.next, refresh, p.members)
}

func (p *strict) revocations() (ended, alive int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended, len(p.alive)
}

// connector returns the connector of an entry for the provider.
func (p *strict) connector(t *testing.T) connectors.Connector {
	t.Helper()
	return p.connectorWith(t, "")
}

// connectorWith is connector with more keys, such as `,"pkce":false`.
func (p *strict) connectorWith(t *testing.T, keys string) connectors.Connector {
	t.Helper()
	entry := fmt.Sprintf(`[{"name":"books","title":"Books","authorize_url":"%[1]s/authorize","token_url":"%[1]s/token","userinfo_url":"%[1]s/userinfo",
		"revoke_url":"%[1]s/revoke","client_id":"patchbay","client_secret_env":"SECRET","scopes":["orders.read","orders.write"],"environment":"sandbox"%[2]s}]`, p.URL, keys)
	providers, err := connectors.Load(func(name string) string { return map[string]string{"SECRET": "s3cret-of-books"}[name] }, []byte(entry), connectors.NewClient(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	return providers[len(providers)-1].Connector
}

// returns comes back from books with these members in the callback, after the answer to a form that left for it.
func (p *person) returns(left answer, code string, members ...string) (path string, page answer) {
	p.t.Helper()
	at, err := url.Parse(left.location)
	if err != nil || left.status != http.StatusSeeOther || at.Query().Get("state") == "" {
		p.t.Fatalf("did not leave: %d %q", left.status, left.location)
	}
	q := url.Values{"code": {code + "-" + string(pg.NewSecret())}, "state": {at.Query().Get("state")}}
	for i := 0; i < len(members); i += 2 {
		q.Set(members[i], members[i+1])
	}
	return p.comeBack("/connect/books/callback?" + q.Encode())
}

func (p *person) reconnects(id pg.ID) answer {
	p.t.Helper()
	return p.post("/connections/" + id.String() + "/reconnect")
}

const (
	booksConnected = "Books is connected"
	booksAgain     = "Books is connected again"
	booksDiffers   = "This is another account than before"
	booksThere     = "This account is already connected"
)

// TestTwoCompaniesOfOnePerson is report 9: the company is only in the callback's realmId.
func TestTwoCompaniesOfOnePerson(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withConnector(newStrict(t).connector(t)))
	p := s.merchant("Two Companies")
	_, page := p.returns(p.post("/connect/books"), "U1", "realmId", "4620816365000001")
	wantH1(t, page, booksConnected)
	_, page = p.returns(p.post("/connect/books"), "U1", "realmId", "4620816365000002")
	wantH1(t, page, booksConnected)
	list := p.connections()
	if len(list) != 2 || list[0].Account.ID != "U1/4620816365000001" || list[1].Account.ID != "U1/4620816365000002" || list[1].Account.Values["realmId"] != "4620816365000002" {
		t.Fatalf("connections: %+v", list)
	}
	home := p.get("/")
	for _, c := range list {
		if !strings.Contains(home.body, c.Account.ID) {
			t.Errorf("the list does not tell %s from the other", c.Account.ID)
		}
		if page := p.get("/connections/" + c.ID.String()); !strings.Contains(page.body, "realmId") {
			t.Error("the connection's page does not show realmId")
		}
	}

	_, page = p.returns(p.post("/connect/books"), "U1", "realmId", "4620816365000002")
	wantH1(t, page, booksThere)
	_, page = p.returns(p.reconnects(list[0].ID), "U1", "realmId", "4620816365000001")
	wantH1(t, page, booksAgain)
	path, page := p.returns(p.reconnects(list[0].ID), "U1", "realmId", "4620816365000003")
	wantH1(t, page, booksDiffers)
	if !strings.Contains(page.body, "U1/4620816365000001") || !strings.Contains(page.body, "U1/4620816365000003") {
		t.Error("the question does not tell the companies apart")
	}
	if now := p.connections(); len(now) != 2 || now[0].Account.ID != "U1/4620816365000001" {
		t.Fatal("overwritten without a question")
	}
	p.post(path+"/choice", "choice", "keep-both")
	if now := p.connections(); len(now) != 3 {
		t.Errorf("%d connections, want 3", len(now))
	}
	_, page = p.returns(p.reconnects(list[0].ID), "U1") // the provider says nothing this time
	wantH1(t, page, booksDiffers)
	_, page = p.returns(p.reconnects(list[1].ID), "U1", "realmId", "4620816365000001") // another one that is connected
	wantH1(t, page, booksDiffers)
}

// TestWhatStandsBesideTheTokenTellsAccountsApart has a row for each way in which a second account differs from the first.
func TestWhatStandsBesideTheTokenTellsAccountsApart(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		name, first, second string // members of the token answer
		nobody, same        bool
	}{
		{name: "two teams", first: `,"team":{"id":"T1","name":"One"}`, second: `,"team":{"id":"T2","name":"One"}`, nobody: true},
		{name: "two workspaces of one person", first: `,"workspace_id":"1"`, second: `,"workspace_id":"2"`},
		{name: "two merchants", first: `,"merchant_id":"M1"`, second: `,"merchant_id":"M2"`, nobody: true},
		{name: "two locations of one company", first: `,"companyId":"C","locationId":"1"`, second: `,"companyId":"C","locationId":"2"`},
		{name: "two instances", first: `,"instance_url":"https://one.example"`, second: `,"instance_url":"https://two.example"`},
		{name: "two people where nothing else is named", first: `,"user_id":1`, second: `,"user_id":2`, nobody: true},
		{name: "a team that was renamed is the same", first: `,"team":{"id":"T1","name":"One"}`, second: `,"team":{"id":"T1","name":"Two"}`, same: true},
		{name: "what only programs need makes no other account", first: `,"region":"eu"`, second: `,"region":"us"`, same: true},
		{name: "nor does another colleague of the same team", first: `,"team_id":"T","user_id":1`, second: `,"team_id":"T","user_id":2`, nobody: true, same: true},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			books := newStrict(t)
			books.nobody, books.members = one.nobody, one.first
			s := newTestServer(t, withConnector(books.connector(t)))
			p := s.merchant("Shop")
			_, page := p.returns(p.post("/connect/books"), "U1")
			wantH1(t, page, booksConnected)
			books.members = one.second
			_, page = p.returns(p.post("/connect/books"), "U1")
			_, again := p.returns(p.reconnects(p.connections()[0].ID), "U1")
			if one.same {
				wantH1(t, page, booksThere)
				wantH1(t, again, booksAgain)
				return
			}
			wantH1(t, page, booksConnected)
			wantH1(t, again, booksDiffers)
		})
	}
}

// TestConnectionsFromBefore: those that were connected before it was known what stands beside the token are recognised, and known by
// it from then on.
func TestConnectionsFromBefore(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		name     string
		state    dbtest.State // of the connection to U1
		code     string       // of another person than U1
		nobody   bool
		pinned   bool
		choice   string
		h1       string // of the question, or of the end
		end      string // after the choice
		accounts []string
	}{
		{name: "reconnecting it asks nothing", state: dbtest.Working(), pinned: true, h1: booksAgain, accounts: []string{"U1/R1"}},
		{name: "another person's still differs", state: dbtest.Working(), code: "U2", pinned: true, h1: booksDiffers, choice: "cancel", end: "Not connected, as you chose", accounts: []string{"U1"}},
		{name: "another account may be it", state: dbtest.Working(), h1: booksThere, choice: "connect", end: booksAgain, accounts: []string{"U1/R1"}},
		{name: "or may not", state: dbtest.Working(), h1: booksThere, choice: "keep-both", end: booksConnected, accounts: []string{"U1", "U1/R1"}},
		{name: "or is not wanted", state: dbtest.Working(), h1: booksThere, choice: "cancel", end: "Not connected, as you chose", accounts: []string{"U1"}},
		{name: "one without a name is asked about as ever", state: dbtest.Nameless(), nobody: true, pinned: true, h1: isThisYours, choice: "connect", end: booksAgain, accounts: []string{"R1"}},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			books := newStrict(t)
			books.nobody = one.nobody
			s := newTestServer(t, withConnector(books.connector(t)))
			p := s.merchant("Shop")
			id := dbtest.Connection(t, s.db, p.merchant, "books", "U1", "Sok Dara", one.state)
			left := p.post("/connect/books")
			if one.pinned {
				left = p.reconnects(id)
			}
			path, page := p.returns(left, cmp.Or(one.code, "U1"), "realmId", "R1")
			wantH1(t, page, one.h1)
			if one.choice != "" {
				p.post(path+"/choice", "choice", one.choice)
				wantH1(t, p.get(path), one.end)
			}
			var accounts []string
			for _, c := range p.connections() {
				accounts = append(accounts, c.Account.ID)
			}
			if fmt.Sprint(accounts) != fmt.Sprint(one.accounts) {
				t.Errorf("connected are %q, want %q", accounts, one.accounts)
			}
			if kept := p.connections()[0]; kept.ID != id {
				t.Error("the connection lost its id")
			}
		})
	}
}

func TestValuesAndScopesAreGivenToPrograms(t *testing.T) {
	t.Parallel()
	books := newStrict(t)
	books.members = `,"team":{"id":"T1","name":"Acme"},"livemode":true,"hub_id":62515`
	s := newTestServer(t, withConnector(books.connector(t)))
	p := s.merchant("Shop")
	_, page := p.returns(p.post("/connect/books"), "U1", "realmId", "R1", "state_of_mind", "x")
	if !page.says("flow.next-missing", "Provider", "Books", "Scopes", "orders.write") {
		t.Error("the page does not say that a scope is missing")
	}
	c := p.connections()[0]
	if page := p.get("/connections/" + c.ID.String()); !strings.Contains(page.body, "orders.write") {
		t.Error("nor does the connection's")
	}
	_, key, err := s.db.AddAPIKey(context.Background(), audit.System, db.APIKey{Name: "test", Scopes: []string{db.ScopeConnections, db.ScopeTokens}})
	if err != nil {
		t.Fatal(err)
	}
	r := request(t, http.MethodGet, s.url+"/api/v1/connections/"+c.ID.String()+"/token", nil)
	r.Header.Set("Authorization", "Bearer "+string(key))
	var token struct {
		Account struct {
			ID     string
			Values connectors.Values
			Input  map[string]string
		}
	}
	if got := p.do(r); json.Unmarshal([]byte(got.body), &token) != nil || token.Account.ID != c.Account.ID || token.Account.Values["realmId"] != "R1" || token.Account.Input == nil {
		t.Errorf("the token's account: %s", got.body)
	}
	r = request(t, http.MethodGet, s.url+"/api/v1/connections/"+c.ID.String(), nil)
	r.Header.Set("Authorization", "Bearer "+string(key))
	got := p.do(r)
	var shown struct {
		Account struct {
			ID     string
			Values connectors.Values
		}
		Scopes resource.Scopes
	}
	if err := json.Unmarshal([]byte(got.body), &shown); err != nil {
		t.Fatal(err)
	}
	if shown.Account.ID != "U1/62515/R1/T1" || fmt.Sprint(shown.Account.Values) != "map[hub_id:62515 livemode:true realmId:R1 team.id:T1 team.name:Acme]" {
		t.Errorf("account: %+v", shown.Account)
	}
	if fmt.Sprint(shown.Scopes) != "{[orders.read] [orders.write]}" {
		t.Errorf("scopes: %+v", shown.Scopes)
	}
}

// TestNothingIsRevokedThatIsInUse: a provider may end everything that a person gave with one token of it.
func TestNothingIsRevokedThatIsInUse(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		name        string
		do          func(p, other *person, books *strict)
		revocations int
		alive       int
	}{
		{"cancelled while the same merchant has the account", func(p, _ *person, _ *strict) {
			p.returns(p.post("/connect/books"), "U1")
			path, _ := p.returns(p.post("/connect/books"), "U1")
			p.post(path+"/choice", "choice", "cancel")
		}, 0, 2},
		{"cancelled while another merchant has it", func(p, other *person, _ *strict) {
			other.returns(other.post("/connect/books"), "U1")
			p.returns(p.post("/connect/books"), "U2")
			path, _ := p.returns(p.reconnects(p.connections()[0].ID), "U1")
			p.post(path+"/choice", "choice", "cancel")
		}, 0, 3},
		{"cancelled while another company of the person is connected", func(p, other *person, _ *strict) {
			other.returns(other.post("/connect/books"), "U1", "realmId", "1")
			p.returns(p.post("/connect/books"), "U2")
			path, _ := p.returns(p.reconnects(p.connections()[0].ID), "U1", "realmId", "2")
			p.post(path+"/choice", "choice", "cancel")
		}, 0, 3},
		{"cancelled while another merchant is choosing about it", func(p, other *person, _ *strict) {
			p.returns(p.post("/connect/books"), "U2")
			other.returns(other.post("/connect/books"), "U3")
			other.returns(other.reconnects(other.connections()[0].ID), "U1")
			path, _ := p.returns(p.reconnects(p.connections()[0].ID), "U1")
			p.post(path+"/choice", "choice", "cancel")
		}, 0, 4},
		{"cancelled and nobody has it", func(p, _ *person, _ *strict) {
			p.returns(p.post("/connect/books"), "U2")
			path, _ := p.returns(p.reconnects(p.connections()[0].ID), "U1")
			p.post(path+"/choice", "choice", "cancel")
		}, 2, 1},
		{"cancelled where the provider names nobody and something is connected", func(p, _ *person, books *strict) {
			p.returns(p.post("/connect/books"), "U2")
			books.nobody = true
			path, _ := p.returns(p.post("/connect/books"), "U1")
			p.post(path+"/choice", "choice", "cancel")
		}, 0, 2},
		{"disconnected while another merchant has it", func(p, other *person, _ *strict) {
			other.returns(other.post("/connect/books"), "U1")
			p.returns(p.post("/connect/books"), "U1")
			p.post("/connections/" + p.connections()[0].ID.String() + "/disconnect")
		}, 0, 2},
		{"replaced while another merchant has it", func(p, other *person, _ *strict) {
			other.returns(other.post("/connect/books"), "U1")
			p.returns(p.post("/connect/books"), "U1")
			path, _ := p.returns(p.reconnects(p.connections()[0].ID), "U2")
			p.post(path+"/choice", "choice", "replace")
		}, 0, 3},
		{"disconnected by the last who had it", func(p, _ *person, _ *strict) {
			p.returns(p.post("/connect/books"), "U1")
			p.post("/connections/" + p.connections()[0].ID.String() + "/disconnect")
		}, 2, 0},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			books := newStrict(t)
			s := newTestServer(t, withConnector(books.connector(t)))
			one.do(s.merchant("Shop"), s.merchant("Other"), books)
			if ended, alive := books.revocations(); ended != one.revocations || alive != one.alive {
				t.Errorf("%d revocations, %d grants alive: want %d and %d", ended, alive, one.revocations, one.alive)
			}
		})
	}
}

// TestAGrantThatWasNotChosenIsKept: the provider ends a person's earlier grant as it gives another, and the person does not connect it.
func TestAGrantThatWasNotChosenIsKept(t *testing.T) {
	t.Parallel()
	for name, turnedDown := range map[string]func(s *testServer, p *person, path string){
		"cancelled": func(_ *testServer, p *person, path string) { p.post(path+"/choice", "choice", "cancel") },
		"waited in vain, and somebody looked": func(s *testServer, p *person, path string) {
			s.clock.Advance(31 * time.Minute)
			p.get(path)
		},
		"waited in vain, and nobody looked": func(s *testServer, _ *person, _ string) {
			s.clock.Advance(31 * time.Minute)
			if _, err := s.db.ExpireFlows(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"refused while it waited": func(s *testServer, p *person, path string) {
			id := p.connections()[0].ID
			if out, err := s.engine.RefreshNow(t.Context(), id, audit.System); err != nil || out.Outcome != status.Rejected {
				t.Errorf("refreshed with the ended grant: %s %v", out.Outcome, err)
			}
			p.post(path+"/choice", "choice", "cancel")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			books := newStrict(t)
			books.only = true
			clock := dbtest.NewClock(time.Now())
			s := newTestServer(t, withConnector(books.connector(t)), withClock(clock))
			p, other := s.merchant("Shop"), s.merchant("Other")
			p.returns(p.post("/connect/books"), "U1")
			other.returns(other.post("/connect/books"), "U2")
			path, page := p.returns(p.post("/connect/books"), "U1")
			wantH1(t, page, booksThere)
			turnedDown(s, p, path)
			for _, whose := range []*person{p, other} {
				out, err := s.engine.RefreshNow(t.Context(), whose.connections()[0].ID, audit.System)
				if err != nil || out.Outcome != status.OK {
					t.Errorf("refreshed: %s %v", out.Outcome, err)
				}
			}
			if found := p.connections(); len(found) != 1 || found[0].Problem != "" {
				t.Errorf("%d connections, problem %q", len(found), found[0].Problem)
			}
		})
	}
}

// TestCancelRevokesNothingInUseAtTheSandbox is the same at the sandbox's standard provider, which ends a grant's family.
func TestCancelRevokesNothingInUseAtTheSandbox(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p, other := s.merchant("Shop"), s.merchant("Other")
	p.connect("acme", "acme-user-001")
	path, page := p.comeBack(p.consent(p.leave("acme"), "acme-user-001", "allow"))
	wantH1(t, page, booksThere)
	p.post(path+"/choice", "choice", "cancel")
	other.connect("acme", "acme-user-002")
	path, page = other.back(other.connections()[0].ID, "acme-user-001")
	wantH1(t, page, booksDiffers)
	other.post(path+"/choice", "choice", "cancel")
	if n := s.sandbox.Calls("acme", "revoke"); n != 0 {
		t.Errorf("%d revocations while the account is connected", n)
	}
	p.post("/connections/" + p.connections()[0].ID.String() + "/disconnect")
	if n := s.sandbox.Calls("acme", "revoke"); n == 0 {
		t.Error("access that nobody else has was not revoked")
	}
}
