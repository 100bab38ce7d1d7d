package sandbox

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// serveControl serves what is the sandbox's own: the front page, the style sheet, and the page and API by which a
// person or another program sets faults, ends access and reads figures.
func serveControl(s *Sandbox) {
	s.mux.HandleFunc("GET /{$}", s.home)
	s.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	s.mux.HandleFunc("GET /sandbox.css", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, files, "pages/sandbox.css")
	})
	control := http.NewServeMux()
	control.HandleFunc("GET /control", s.control)
	control.HandleFunc("GET /control/state", s.controlState)
	control.HandleFunc("GET /control/settings", func(w http.ResponseWriter, r *http.Request) {
		reply(w, map[string]any{"env": s.Settings(), "connectors_file": json.RawMessage(s.ConnectorsFile())})
	})
	control.HandleFunc("GET /control/secrets", func(w http.ResponseWriter, r *http.Request) { reply(w, s.Secrets()) })
	control.HandleFunc("POST /control/mood", s.act(s.doFault))
	control.HandleFunc("POST /control/clear", s.act(func(in inputs) (string, error) {
		s.ClearFaults(in.text("provider"))
		return "Every bad day has ended.", nil
	}))
	control.HandleFunc("POST /control/revoke", s.act(func(in inputs) (string, error) {
		return counted(s.Revoke(in.text("provider"), in.text("account")), "revoked"), nil
	}))
	control.HandleFunc("POST /control/restore", s.act(func(in inputs) (string, error) {
		return counted(s.Restore(in.text("provider"), in.text("account")), "restored"), nil
	}))
	control.HandleFunc("POST /control/expire", s.act(func(in inputs) (string, error) {
		return counted(s.Expire(in.text("provider"), in.text("account"), cmp.Or(in.text("what"), "both")), "expired"), nil
	}))
	control.HandleFunc("POST /control/webhook", s.act(s.doWebhook))
	control.HandleFunc("POST /control/callback", s.act(func(in inputs) (string, error) {
		if in.text("callback") == "" {
			return "", errors.New("a callback is needed")
		}
		s.Allow(in.text("provider"), in.text("callback"))
		return "The callback is registered.", nil
	}))
	control.HandleFunc("POST /control/reset", s.act(func(inputs) (string, error) {
		s.ResetCounters()
		return "Every counter is at zero.", nil
	}))
	origins := http.NewCrossOriginProtection()
	if at, err := url.Parse(s.o.BaseURL); err == nil { // a proxy may hide the Host that the browser's Origin names
		_ = origins.AddTrustedOrigin(at.Scheme + "://" + at.Host) // fails for an address without a host: its forms need the Host then
	}
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, fmt.Sprintf("This form was sent from %s to %s, which looks like another site's. Open %s/control, or start the sandbox with -url and the address in the browser's bar.",
			r.Header.Get("Origin"), r.Host, s.o.BaseURL), http.StatusForbidden)
	}))
	guarded := origins.Handler(control)
	s.mux.Handle("/control", guarded)
	s.mux.Handle("/control/", guarded)
}

// inputs are a form's fields or a JSON object's members.
type inputs map[string]any

func (in inputs) text(name string) string {
	s, _ := in[name].(string)
	return strings.TrimSpace(s)
}

// number reads a number that a form has as text.
func (in inputs) number(name string) (float64, error) {
	switch v := in[name].(type) {
	case float64:
		return v, nil
	case string:
		if strings.TrimSpace(v) == "" {
			return 0, nil
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil {
			return 0, fmt.Errorf("%s must be a number", name)
		}
		return n, nil
	case nil:
		return 0, nil
	}
	return 0, fmt.Errorf("%s must be a number", name)
}

// act runs what a form or a JSON request asks for. A form is answered with the page, JSON with JSON.
func (s *Sandbox) act(do func(inputs) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		in := inputs{}
		isJSON := strings.HasPrefix(r.Header.Get("Content-Type"), "application/json")
		var err error
		if isJSON {
			err = json.NewDecoder(r.Body).Decode(&in)
		} else if err = r.ParseForm(); err == nil {
			for name := range r.PostForm {
				in[name] = r.PostForm.Get(name)
			}
		}
		done := ""
		if err == nil {
			done, err = do(in)
		}
		switch {
		case isJSON && err != nil:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
		case isJSON:
			reply(w, map[string]string{"done": done})
		case err != nil:
			s.controlPage(w, http.StatusBadRequest, "That did not work: "+err.Error())
		default:
			s.controlPage(w, http.StatusOK, done)
		}
	}
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(body)
}

func counted(n int, what string) string { return fmt.Sprintf("Grants %s: %d.", what, n) }

// doFault takes provider, kind, endpoint, count, probability, delay_ms, retry_after_s, limit, skew_s and lifetime.
func (s *Sandbox) doFault(in inputs) (string, error) {
	m := Fault{Kind: FaultKind(in.text("kind")), Endpoint: in.text("endpoint")}
	if at := in.text("at"); at != "" { // the page's one choice for both
		provider, endpoint, _ := strings.Cut(at, " ")
		in["provider"], m.Endpoint = provider, endpoint
	}
	var faults []error
	number := func(name string) float64 {
		n, err := in.number(name)
		if err != nil {
			faults = append(faults, err)
		}
		return n
	}
	m.Count, m.Limit, m.Probability = int(number("count")), int(number("limit")), number("probability")
	m.Delay = time.Duration(number("delay_ms") * float64(time.Millisecond))
	m.RetryAfter = time.Duration(number("retry_after_s") * float64(time.Second))
	m.Skew = time.Duration(number("skew_s") * float64(time.Second))
	if v, ok := in["lifetime"]; ok && v != "" {
		m.Lifetime = v
	}
	if len(faults) > 0 {
		return "", errors.Join(faults...)
	}
	if err := s.SetFault(in.text("provider"), m); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s is now: %s.", in.text("provider"), m.Endpoint, cmp.Or(string(m.Kind), "good")), nil
}

// doWebhook delivers any event: endpoint_id, and type (ENTITY.REVOKED by default).
func (s *Sandbox) doWebhook(in inputs) (string, error) {
	if in.text("endpoint_id") == "" {
		return "", errors.New("endpoint_id is needed")
	}
	event := map[string]any{"type": cmp.Or(in.text("type"), "ENTITY.REVOKED"), "endpoint_id": in.text("endpoint_id")}
	if id := in.text("document_id"); id != "" {
		event["document_id"] = id
	}
	status := s.Deliver(event)
	if status == 0 {
		return "No webhook is configured, or it gave no answer.", nil
	}
	return fmt.Sprintf("Delivered, answered %d.", status), nil
}

// controlState answers with everything but secrets, as JSON.
func (s *Sandbox) controlState(w http.ResponseWriter, r *http.Request) {
	calls := map[string]map[string]int{}
	for provider, names := range s.Endpoints() {
		calls[provider] = map[string]int{}
		for _, name := range names {
			calls[provider][name] = s.Calls(provider, name)
		}
	}
	s.mu.Lock()
	callbacks, hooks := map[string][]string{}, map[string]string{}
	for k, v := range s.state.Callbacks {
		callbacks[k] = append([]string{}, v...)
	}
	for k, v := range s.state.Hooks {
		hooks[k] = v
	}
	s.mu.Unlock()
	reply(w, map[string]any{
		"moods": s.Faults(), "calls": calls, "double_spends": s.DoubleSpends(), "grants": s.Grants(""),
		"deliveries": s.Deliveries(), "records": s.Records(), "callbacks": callbacks, "webhooks": hooks,
	})
}

func (s *Sandbox) control(w http.ResponseWriter, r *http.Request) {
	s.controlPage(w, http.StatusOK, "")
}

// controlPage shows the same to a person. It needs no JavaScript.
func (s *Sandbox) controlPage(w http.ResponseWriter, status int, done string) {
	type at struct{ Value, Label string }
	type faultRow struct {
		Provider string
		Fault
	}
	data := struct {
		Done       string
		At         []at
		Providers  []string
		Kinds      []FaultKind
		Faults     []faultRow
		Grants     []GrantInfo
		More       int
		Records    []Record
		Spends     int
		Deliveries []Delivery
	}{Done: done, Kinds: faultKinds, Spends: len(s.DoubleSpends()), Deliveries: s.Deliveries()}
	endpoints := s.Endpoints()
	for provider := range endpoints {
		data.Providers = append(data.Providers, provider)
	}
	slices.Sort(data.Providers)
	faults := s.Faults()
	for _, provider := range data.Providers {
		data.At = append(data.At, at{provider + " ", provider + ": all that programs call"})
		for _, name := range endpoints[provider] {
			data.At = append(data.At, at{provider + " " + name, provider + ": " + name})
		}
		for _, m := range faults[provider] {
			data.Faults = append(data.Faults, faultRow{provider, m})
		}
	}
	data.Grants = s.Grants("")
	if more := len(data.Grants) - 50; more > 0 {
		data.Grants, data.More = data.Grants[more:], more
	}
	slices.Reverse(data.Grants)
	data.Records = s.Records()
	slices.Reverse(data.Records)
	if len(data.Records) > 30 {
		data.Records = data.Records[:30]
	}
	c := &call{s: s, w: w}
	c.page(status, "control.html", data)
}

// home says what the sandbox is and what to type where.
func (s *Sandbox) home(w http.ResponseWriter, r *http.Request) {
	type row struct {
		Who    string
		Values []string
	}
	type table struct {
		Name string
		Head []string
		Rows []row
	}
	flexiti := table{Name: "Flexiti", Head: []string{"Who", "client_id", "client_secret", "merchant_username", "merchant_password"}}
	for _, m := range s.o.Flexiti.Merchants {
		flexiti.Rows = append(flexiti.Rows, row{m.MerchantName, []string{m.ClientID, m.ClientSecret, m.Username, m.Password}})
	}
	bookings := table{Name: "Sample Bookings", Head: []string{"Who", "client_id", "client_secret"}}
	for _, m := range s.o.Bookings.Merchants {
		bookings.Rows = append(bookings.Rows, row{m.Name, []string{m.ClientID, m.ClientSecret}})
	}
	elecq := table{Name: "ELECQ, with ELECQ_AUTHORIZE=credentials", Head: []string{"Who", "ClientID", "ClientSecret"}}
	for _, m := range s.o.ELECQ.Merchants {
		elecq.Rows = append(elecq.Rows, row{m.Name, []string{m.ClientID, m.ClientSecret}})
	}
	var known []table
	for _, r := range wellKnown() {
		typed := table{Name: r.title, Head: []string{"Who", "user", "key"}}
		for _, one := range r.typed {
			typed.Rows = append(typed.Rows, row{one.place.name, []string{one.user, one.secret}})
		}
		if len(typed.Rows) > 0 {
			known = append(known, typed)
		}
	}
	var settings []param
	for name, value := range s.Settings() {
		if !strings.HasSuffix(name, "SECRET") {
			settings = append(settings, param{name, value})
		}
	}
	slices.SortFunc(settings, func(a, b param) int { return cmp.Compare(a.Name, b.Name) })
	c := &call{s: s, w: w}
	c.page(http.StatusOK, "home.html", struct {
		PlatformURL string
		Settings    []param
		Typed       []table
	}{s.o.PlatformURL, settings, append([]table{flexiti, bookings, elecq}, known...)})
}
