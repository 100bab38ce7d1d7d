package connectors

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"patchbay/internal/text"
)

// KeyType is the type of a token that is what a merchant typed.
const KeyType = "key"

// A KeyConnector is a CredentialConnector of which what the merchant types is the access itself.
type KeyConnector interface {
	CredentialConnector
	// Proves says whether the provider can be asked whether what was typed is right.
	Proves() bool
	// Send says how a program sends an access token, with the values that are no secret filled in.
	Send(inputs map[string]string) Sent
}

// Sent is how a program sends an access token of the type key: in a header, after Scheme where there is one; as a parameter of the query or
// of the body; or in the path of each address. Value and Path have the token's place in braces. Headers and Params go with it as they are:
// they may hold further secrets.
type Sent struct {
	Header  string            `json:"header,omitempty"`
	Value   string            `json:"value,omitempty"`
	Scheme  string            `json:"scheme,omitempty"`
	Query   string            `json:"query,omitempty"`
	Body    string            `json:"body,omitempty"`
	Path    string            `json:"path,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Params  map[string]string `json:"params,omitempty"` // of the body with Body, else of the query
}

// keyConnector is an entry of the kind key.
type keyConnector struct {
	client *Client
	info   Info
	entry  Entry
}

var _ interface {
	KeyConnector
	Prober
	Checker
} = (*keyConnector)(nil)

func (e Entry) keyConnector(client *Client) Connector {
	info := e.info()
	info.ReplaySafe, info.Mints, info.KeepAlive = true, e.Check != nil, cmp.Or(time.Duration(e.KeepAlive), typedKeepAlive)
	return &keyConnector{client: client, entry: e, info: info}
}

func (k *keyConnector) Info() Info { return k.info }

func (k *keyConnector) Fields() []Field { return k.entry.Inputs.fields() }

// Proves says whether the entry has a check.
func (k *keyConnector) Proves() bool { return k.entry.Check != nil }

// Authenticate proves what was typed by the entry's check, if it has one.
func (k *keyConnector) Authenticate(ctx context.Context, _ Flow, inputs map[string]string) (Grant, error) {
	values, err := k.entry.Inputs.read(inputs)
	if err != nil {
		return Grant{}, err
	}
	g := Grant{Token: k.token(values), Inputs: values}
	for _, c := range g.Access {
		if c < 0x20 || c > 0x7e {
			return Grant{}, &InputError{Field: k.secretField(), Code: InputNotASCII}
		}
	}
	from := sources{input: values, accessToken: unverifiedClaims(g.Access)}
	if k.entry.Check != nil {
		from.account, err = k.prove(ctx, values)
	}
	var rejected *RejectedError
	switch {
	case errors.As(err, &rejected):
		return Grant{}, k.refused()
	case err != nil:
		return Grant{}, err
	}
	if a := k.entry.Account; a != nil {
		if a.URL != "" {
			from.account = k.askAccount(ctx, values, from)
		}
		g.Account = a.read(from, Account{}, g.Token)
	}
	k.name(&g.Account, values)
	g.Account.Input = k.entry.Inputs.shown(values)
	return g, nil
}

// name names an account that the entry does not, by what was typed that is no secret. An account without any such value has no id, and
// the merchant is not asked whose it is: they typed it.
func (k *keyConnector) name(a *Account, values map[string]string) {
	var plain []string
	for _, i := range k.entry.Inputs {
		if !i.Secret && values[i.Name] != "" {
			plain = append(plain, values[i.Name])
		}
	}
	if a.ID == "" {
		a.ID = accountID(strings.Join(plain, "/"))
	}
	a.Name = cmp.Or(a.Name, a.ID)
	a.Own = true
}

// refused explains a refusal: by the field that holds the secret.
func (k *keyConnector) refused() error {
	return &InputError{Field: k.secretField(), Code: InputRefused}
}

// secretField returns the name of the first field that is secret, else of the first.
func (k *keyConnector) secretField() string {
	at := max(0, slices.IndexFunc(k.entry.Inputs, func(i Input) bool { return i.Secret }))
	return k.entry.Inputs[at].Name
}

// Refresh asks the check whether what was typed is still accepted, and returns it.
func (k *keyConnector) Refresh(ctx context.Context, g Grant) (Token, error) {
	if k.entry.Check == nil {
		return Token{}, &RejectedError{Reason: "no-check", Unsent: true}
	}
	if _, err := k.prove(ctx, g.Inputs); err != nil {
		return Token{}, err
	}
	return k.token(g.Inputs), nil
}

// Probe makes the request of the check.
func (k *keyConnector) Probe(ctx context.Context, g Grant) error {
	if k.entry.Check == nil {
		return nil
	}
	_, err := k.prove(ctx, g.Inputs)
	return err
}

// Check asks the check's address without what a merchant would type. It returns ErrNotOffered if there is none, or if part of it is typed.
func (k *keyConnector) Check(ctx context.Context) (CheckResult, error) {
	if k.entry.Check == nil || strings.Contains(k.entry.Check.URL, "{") {
		return CheckResult{}, ErrNotOffered
	}
	return k.client.check(ctx, request{name: "check", method: k.method(), address: k.entry.Check.URL})
}

func (k *keyConnector) method() string { return cmp.Or(k.entry.Check.Method, http.MethodGet) }

// token returns what was typed as an access token: the secret, or for HTTP Basic the two halves as they go into the header.
func (k *keyConnector) token(values map[string]string) Token {
	if s := k.entry.Send; len(s.Basic) > 0 {
		user, password := s.Basic[0], ""
		if len(s.Basic) > 1 {
			password = s.Basic[1]
		}
		pair := k.half(user, values) + ":" + k.half(password, values)
		return Token{Access: base64.StdEncoding.EncodeToString([]byte(pair)), Type: KeyType}
	}
	_, secret, _ := k.split()
	access, err := k.entry.Inputs.replace(secret, values, func(_ Input, value string) string { return value })
	if err != nil { // of a value that the entry no longer takes
		access = ""
	}
	return Token{Access: access, Type: KeyType}
}

// half returns what stands for the user or the password of HTTP Basic: an input's value, or a text with names in braces.
func (k *keyConnector) half(written string, values map[string]string) string {
	if i, ok := k.entry.Inputs.named(written); ok {
		return i.stands(values[written])
	}
	filled, err := k.entry.Inputs.replace(written, values, func(_ Input, value string) string { return value })
	if err != nil { // of a value that the entry no longer takes
		return ""
	}
	return filled
}

// split returns the value that is sent in three parts: the middle one reaches from its first secret to its last. If no input is called
// secret, all are.
func (k *keyConnector) split() (before, secret, after string) {
	s := cmp.Or(k.entry.Send.Value, k.entry.Send.Path, "{"+k.secretField()+"}")
	found := namePattern.FindAllStringIndex(s, -1)
	ours := slices.DeleteFunc(slices.Clone(found), func(at []int) bool {
		i, _ := k.entry.Inputs.named(s[at[0]+1 : at[1]-1])
		return !i.Secret
	})
	if len(ours) == 0 {
		ours = found
	}
	if len(ours) == 0 {
		return s, "", ""
	}
	from, to := ours[0][0], ours[len(ours)-1][1]
	return s[:from], s[from:to], s[to:]
}

// Send says how the access token is sent. Its place is a name in braces.
func (k *keyConnector) Send(values map[string]string) Sent {
	s := k.entry.Send
	sent := Sent{Header: s.Header, Query: s.Query, Body: s.Body}
	var err error
	if sent.Headers, err = k.entry.Inputs.fillAll(s.Headers, values); err != nil { // of a value that the entry no longer takes
		sent.Headers = nil
	}
	if sent.Params, err = k.entry.Inputs.fillAll(s.Params, values); err != nil {
		sent.Params = nil
	}
	before, secret, after := k.split()
	place := "{" + k.secretField() + "}"
	if names := namesIn(secret); len(names) > 0 {
		place = "{" + names[0] + "}"
	}
	filled := func(part string) string {
		put, err := k.entry.Inputs.replace(part, values, func(_ Input, value string) string { return value })
		if err != nil {
			return part
		}
		return put
	}
	switch {
	case len(s.Basic) > 0:
		sent.Header, sent.Scheme = "Authorization", "Basic"
	case s.Header != "":
		sent.Value = filled(before) + place + filled(after)
	case s.Path != "":
		sent.Path = filled(before) + place + filled(after)
	}
	return sent
}

// request returns one to an address that was written so in the entry and was filled, with what was typed as a program would send it.
func (k *keyConnector) request(name, method, written, to string, values map[string]string) (request, error) {
	token := k.token(values).Access
	if token == "" {
		return request{}, &RejectedError{Reason: "no-credentials"}
	}
	q := request{name: name, method: method, address: to, source: k.entry.Inputs.sourceOf(written, to, k.info.Environment), hidden: k.secrets(values, token)}
	s := k.Send(values)
	q.headers = s.Headers
	params := url.Values{}
	for name, value := range s.Params {
		params.Set(name, value)
	}
	switch {
	case s.Scheme != "":
		q.header, q.headerValue = s.Header, s.Scheme+" "+token
	case s.Header != "":
		q.header = s.Header
		q.headerValue = namePattern.ReplaceAllLiteralString(s.Value, token)
	case s.Query != "" || s.Body != "":
		params.Set(cmp.Or(s.Query, s.Body), token)
	}
	if s.Body != "" {
		k.setBody(&q, params)
	} else if len(params) > 0 {
		q.address = withQuery(to, params)
	}
	return q, nil
}

// setBody adds parameters to the body of a request, in the form that the provider reads.
func (k *keyConnector) setBody(q *request, params url.Values) {
	if k.entry.Body != "json" {
		if q.form == nil {
			q.form = url.Values{}
		}
		maps.Copy(q.form, params)
		return
	}
	if q.json == nil {
		q.json = map[string]any{}
	}
	for name := range params {
		q.json[name] = params.Get(name)
	}
}

// secrets are what no log may repeat.
func (k *keyConnector) secrets(values map[string]string, token string) []string {
	secrets := []string{token}
	for _, i := range k.entry.Inputs {
		if i.Secret {
			secrets = append(secrets, values[i.Name])
		}
	}
	return secrets
}

// prove makes the request of the check and returns what it answered. It returns *RejectedError if what was typed is refused.
func (k *keyConnector) prove(ctx context.Context, values map[string]string) (answer any, err error) {
	to, err := k.entry.Inputs.fill(k.entry.Check.URL, values)
	if err != nil {
		return nil, err
	}
	q, err := k.request("check", k.method(), k.entry.Check.URL, to, values)
	if err != nil {
		return nil, err
	}
	own, err := k.entry.Inputs.fillAll(k.entry.Check.Params, values)
	if err != nil {
		return nil, err
	}
	params := url.Values{}
	for name, value := range own {
		params.Set(name, value)
	}
	switch {
	case k.method() == http.MethodPost:
		k.setBody(&q, params)
	case len(params) > 0:
		q.address = withQuery(q.address, params)
	}
	err = k.client.do(ctx, q, func(r response) error {
		answer = r.any()
		return keyError(r)
	})
	return answer, err
}

// askAccount asks the entry's account.url. It returns nil without an answer: a name is not worth a failed connect.
func (k *keyConnector) askAccount(ctx context.Context, values map[string]string, from sources) (answer any) {
	a := k.entry.Account
	address, err := k.entry.Inputs.fill(a.URL, values)
	if err != nil {
		return nil
	}
	address = fillAddress(address, func(name string) string { return from.text(cmp.Or(a.Keep[name], Path(name))) })
	if address == "" {
		return nil
	}
	q, err := k.request("account", http.MethodGet, a.URL, address, values)
	if err != nil {
		return nil
	}
	_ = k.client.do(ctx, q, func(r response) error {
		if r.saysNo() {
			return r.unexpected()
		}
		answer = r.any()
		return nil
	})
	return answer
}

// keyError judges the answer to a check, whose request holds nothing but what the merchant typed: a 401 is a no to it, and so are a 403, a
// 400 and a 422 unless a web page comes with them, which a firewall sends.
func keyError(r response) error {
	page := bytes.HasPrefix(bytes.TrimSpace(r.body), []byte("<"))
	switch said := r.object().refusal(); {
	case r.ok() && page:
		return r.unexpected()
	case r.ok() && !r.saysNo():
		return nil
	case r.status >= 500 || r.status >= 300 && r.status < 400:
		return r.unexpected()
	case said.fault(true) == passing:
		return r.passing()
	case r.ok() && said.fault(true) == unknownFault && !keyRefused(said):
		return r.unexpected()
	case r.ok(), r.status == http.StatusUnauthorized:
	case page:
		return r.unexpected()
	case r.status == http.StatusForbidden, r.status == http.StatusBadRequest, r.status == http.StatusUnprocessableEntity:
	default:
		return r.unexpected()
	}
	return &RejectedError{Reason: "key-refused"}
}

// keyRefused says whether prose or codes speak of a key that is not accepted.
func keyRefused(said refusal) bool {
	words := said.prose + " " + strings.Join(said.codes, " ")
	return slices.ContainsFunc([]string{"key", "auth", "credential", "password", "token", "login", "denied", "forbidden"}, func(word string) bool { return strings.Contains(words, word) })
}

// sendFaults says what is wrong with send and check.
func (e Entry) sendFaults() (wrong []string) {
	if len(e.Inputs) == 0 {
		return []string{"inputs is missing: what does the merchant type?"}
	}
	s := e.Send
	if s == nil {
		return []string{"send is missing: how does a program send what the merchant typed?"}
	}
	ways := 0
	for _, is := range []bool{s.Header != "", len(s.Basic) > 0, s.Query != "", s.Body != "", s.Path != ""} {
		if is {
			ways++
		}
	}
	switch {
	case ways != 1:
		wrong = append(wrong, "send must be a header with a value, basic, query, body, or path")
	case s.Header != "" && !headerName.MatchString(s.Header):
		wrong = append(wrong, "send.header is no name of a header")
	case s.Header != "" && (len(namesIn(s.Value)) == 0 || strings.ContainsAny(s.Value, "\r\n")):
		wrong = append(wrong, "send.value must hold an input's name in braces, as in {key}")
	case (len(s.Basic) > 0 || s.Path != "") && s.Value != "":
		wrong = append(wrong, "send.value belongs to a header or a parameter")
	case len(s.Basic) > 2:
		wrong = append(wrong, "send.basic must be two: user and password")
	case len(s.Basic) > 0 && !slices.ContainsFunc(s.Basic, func(half string) bool { return len(e.Inputs.namedIn(half)) > 0 }):
		wrong = append(wrong, "send.basic names no input")
	case s.Path != "" && (!strings.HasPrefix(s.Path, "/") || len(namesIn(s.Path)) == 0 || strings.ContainsAny(s.Path, "?#\\")):
		wrong = append(wrong, "send.path must be what paths begin with, with an input's name in braces, as in /bot{key}")
	case s.Body != "" && e.Account != nil && e.Account.URL != "":
		wrong = append(wrong, "account.url cannot be asked: send.body sends the key in a body")
	}
	for name, value := range s.Headers {
		if !headerName.MatchString(name) || strings.EqualFold(name, s.Header) || len(s.Basic) > 0 && strings.EqualFold(name, "Authorization") || strings.ContainsAny(value, "\r\n") {
			wrong = append(wrong, "send.headers."+text.Clean(name)+" is no header that may go with the key")
		}
	}
	for name := range s.Params {
		if name == "" || name == s.Query || name == s.Body {
			wrong = append(wrong, "send.params."+text.Clean(name)+" is no parameter that may go with the key")
		}
	}
	if e.Body != "" && s.Body == "" && (e.Check == nil || e.Check.Method != http.MethodPost) {
		wrong = append(wrong, "body belongs to a key or a check that is sent in one")
	}
	return append(wrong, e.checkFaults()...)
}

// checkFaults says what is wrong with check.
func (e Entry) checkFaults() (wrong []string) {
	c := e.Check
	if c == nil {
		return nil
	}
	secrets := slices.Clone(e.Inputs) // its address may hold them, but for its host: only we call it
	for n := range secrets {
		secrets[n].Secret = false
	}
	if c.URL == "" {
		wrong = append(wrong, "check.url is missing")
	} else if w := secrets.placeFault(c.URL, e.Environment, func(filled string) string { return urlFault(filled, e.Environment, true) }); w != "" {
		wrong = append(wrong, "check.url "+w)
	}
	if c.Method != "" && !slices.Contains([]string{"GET", "POST", "HEAD", "OPTIONS"}, c.Method) {
		wrong = append(wrong, "check.method must be GET, POST, HEAD or OPTIONS")
	}
	if e.Send.Body != "" && c.Method != http.MethodPost {
		wrong = append(wrong, "check.method must be POST: send.body sends the key in a body")
	}
	if e.Send.Path != "" && !strings.Contains(c.URL, e.Send.Path) {
		wrong = append(wrong, "check.url must hold send.path, "+text.Clean(e.Send.Path))
	}
	for name := range c.Params {
		if _, twice := e.Send.Params[name]; name == "" || twice || name == e.Send.Query || name == e.Send.Body {
			wrong = append(wrong, "check.params."+text.Clean(name)+" is sent with the key already")
		}
	}
	return wrong
}

// namedIn returns the names of the inputs that a half of HTTP Basic is made of.
func (in Inputs) namedIn(half string) (names []string) {
	if _, ok := in.named(half); ok {
		return []string{half}
	}
	for _, name := range namesIn(half) {
		if _, ok := in.named(name); ok {
			names = append(names, name)
		}
	}
	return names
}

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$") // RFC 9110 section 5.6.2
