package handlers

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

func TestAProgramDisconnects(t *testing.T) {
	t.Parallel()
	o := newTestAPI(t)
	id := o.connection(o.shop, "KHUID00001234", time.Minute)
	path := "/api/v1/connections/" + id.String()
	o.ask("DELETE", path, "", "").is(o, http.StatusUnauthorized, "unauthorized")
	o.ask("DELETE", path, o.key(pg.ID{}, db.ScopeConnections, db.ScopeTokens, db.ScopeRefresh, db.ScopeLinks, db.ScopeMerchants, db.ScopeWebhooks), "").is(o, http.StatusForbidden, "forbidden")
	o.ask("DELETE", path, o.key(o.other.ID), "").is(o, http.StatusNotFound, "not-found")
	o.ask("DELETE", "/api/v1/connections/x", o.key(pg.ID{}), "").is(o, http.StatusNotFound, "not-found")
	key := o.key(o.shop.ID, db.ScopeDisconnect)
	first := o.ask("DELETE", path, key, "")
	first.is(o, http.StatusOK, "")
	if first.body["id"] != id.String() || first.body["revoked"] != string(status.RevokedNotOffered) || first.body["access_until"] == nil {
		t.Errorf("the receipt is %s", first.text)
	}
	again := o.ask("DELETE", path, key, "")
	if again.is(o, http.StatusOK, ""); again.text != first.text {
		t.Errorf("the second receipt is %s after %s", again.text, first.text)
	}
	if n := o.events(status.ConnectionDisconnected); n != 1 {
		t.Errorf("%d events", n)
	}
	o.ask("GET", path+"/token", o.key(pg.ID{}), "").is(o, http.StatusConflict, "action-needed")
	if shown := o.ask("GET", path, o.key(pg.ID{}), ""); shown.body["health"] != "disconnected" {
		t.Errorf("afterwards it is %s", shown.text)
	}
}

func TestAProgramReadsTheProviders(t *testing.T) {
	t.Parallel()
	o := newTestAPI(t)
	o.ask("GET", "/api/v1/providers", "", "").is(o, http.StatusUnauthorized, "unauthorized")
	o.ask("GET", "/api/v1/providers", o.key(pg.ID{}, db.ScopeLinks), "").is(o, http.StatusForbidden, "forbidden")
	got := o.ask("GET", "/api/v1/providers", o.key(o.shop.ID, db.ScopeConnections), "")
	got.is(o, http.StatusOK, "")
	for _, part := range []string{`"name":"acme"`, `"title":"Acme"`, `"environment":"sandbox"`, `"access":"redirect"`, `"inputs":[]`, `"incident":null`} {
		if !strings.Contains(got.text, part) {
			t.Errorf("no %s in %s", part, got.text)
		}
	}
}

func TestAProgramReadsWhatMerchantsAreToldOfAnIncident(t *testing.T) {
	t.Parallel()
	o := newTestAPI(t)
	if err := o.engine.OpenIncident(t.Context(), "acme", status.ReasonDeclared, audit.System); err != nil {
		t.Fatal(err)
	}
	until := o.db.Now().Add(time.Hour).Truncate(time.Minute)
	said := connectors.Words{"en": "Acme is being serviced.", "km": "Acme កំពុងត្រូវបានថែទាំ។"}
	if err := o.engine.SetIncidentMessage(t.Context(), "acme", said, until, audit.System); err != nil {
		t.Fatal(err)
	}
	got := o.ask("GET", "/api/v1/providers", o.key(o.shop.ID, db.ScopeConnections), "")
	got.is(o, http.StatusOK, "")
	for _, part := range []string{`"reason":"declared"`, `"message":{"en":"Acme is being serviced.","km":"Acme កំពុងត្រូវបានថែទាំ។"}`, `"until":"` + until.UTC().Format(time.RFC3339) + `"`} {
		if !strings.Contains(got.text, part) {
			t.Errorf("no %s in %s", part, got.text)
		}
	}
}

func TestAProgramFindsAConnectionByItsReference(t *testing.T) {
	t.Parallel()
	o := newTestAPI(t)
	id, foreign := o.connection(o.shop, "KHUID00001234", time.Minute), o.connection(o.other, "KHUID00001235", time.Minute)
	all, own := o.key(pg.ID{}, db.ScopeConnections), o.key(o.shop.ID, db.ScopeConnections)
	of := func(id pg.ID) string {
		reference := o.ask("GET", "/api/v1/connections/"+id.String(), all, "").body["reference"]
		if reference == nil || db.Reference(reference.(string)) != reference {
			t.Fatalf("the reference is %v", reference)
		}
		return reference.(string)
	}
	mine, theirs := of(id), of(foreign)
	for name, c := range map[string]struct {
		key, query string
		want       []string
	}{
		"as it is given":                {all, mine, []string{id.String()}},
		"as a person types it":          {all, "%20" + strings.ToLower(strings.Replace(mine, "-", "%20", 1)), []string{id.String()}},
		"by a merchant's own key":       {own, mine, []string{id.String()}},
		"of another merchant":           {own, theirs, nil},
		"of nothing":                    {all, "0000-0000", nil},
		"of its merchant":               {all, mine + "&merchant=" + o.shop.ID.String(), []string{id.String()}},
		"of a merchant that has it not": {all, mine + "&merchant=" + o.other.ID.String(), nil},
	} {
		got := o.ask("GET", "/api/v1/connections?reference="+c.query, c.key, "")
		got.is(o, http.StatusOK, "")
		var ids []string
		for _, one := range got.body["connections"].([]any) {
			ids = append(ids, one.(map[string]any)["id"].(string))
		}
		if !slices.Equal(ids, c.want) {
			t.Errorf("%s: %v, want %v", name, ids, c.want)
		}
	}
	o.ask("GET", "/api/v1/connections?reference=CH168", all, "").is(o, http.StatusBadRequest, "invalid")
}

// TestAProgramReadsWhatMerchantsAreAsked reads fields with an operator's words, with ours, and with none.
func TestAProgramReadsWhatMerchantsAreAsked(t *testing.T) {
	t.Parallel()
	o := newTestAPI(t)
	o.server.Providers = append(o.server.Providers, connectors.Provider{Name: "depot", Title: "Depot", Environment: "sandbox", Connector: asking{fields: []connectors.Field{
		{Name: "shop", Title: connectors.Words{"en": "Your shop", "km": "K"}, Help: connectors.Words{"": "As in its address"}, Example: "canal-street", Suffix: ".depot.example"},
		{Name: "client_secret", Secret: true},
		{Name: "store_hash", Optional: true},
		{Name: "region", Options: []string{"eu", "us"}},
	}}})
	got := o.ask("GET", "/api/v1/providers", o.key(pg.ID{}), "")
	got.is(o, http.StatusOK, "")
	for field, want := range map[string]string{
		"the operator's words": `{"name":"shop","title":"Your shop","help":"As in its address","example":"canal-street","suffix":".depot.example","secret":false,"optional":false,"options":[]}`,
		"ours":                 `{"name":"client_secret","title":"Client secret","help":"Beside the ID in Depot’s portal. It is never shown again once you have sent it.","example":"","suffix":"","secret":true,"optional":false,"options":[]}`,
		"none, made readable":  `{"name":"store_hash","title":"Store hash","help":"","example":"","suffix":"","secret":false,"optional":true,"options":[]}`,
		"a choice":             `{"name":"region","title":"Region","help":"","example":"","suffix":"","secret":false,"optional":false,"options":["eu","us"]}`,
	} {
		if !strings.Contains(got.text, want) {
			t.Errorf("%s: no %s in %s", field, want, got.text)
		}
	}
}

// asking is a provider of which only the form is used.
type asking struct {
	connectors.CredentialConnector
	fields []connectors.Field
}

func (a asking) Fields() []connectors.Field { return a.fields }
func (asking) Info() connectors.Info        { return connectors.Info{} }

// TestAConnectLinkIsCheckedWhenItIsMade sends what cannot be meant.
func TestAConnectLinkIsCheckedWhenItIsMade(t *testing.T) {
	t.Parallel()
	o := newTestAPI(t)
	o.server.ReturnURLs = append(o.server.ReturnURLs, prefix(t, platform))
	key, its := o.key(pg.ID{}), o.key(o.shop.ID)
	own, foreign := o.connection(o.shop, "KHUID00001234", time.Minute), o.connection(o.other, "KHUID00001235", time.Minute)
	shop := `"merchant":{"external_id":"shop-17"}`
	for name, c := range map[string]struct {
		key, body string
		status    int
	}{
		"the least":                       {key, `{` + shop + `}`, 201},
		"a provider":                      {key, `{` + shop + `,"provider":"acme"}`, 201},
		"a connection":                    {key, `{` + shop + `,"connection":"` + own.String() + `"}`, 201},
		"a connection and its provider":   {key, `{` + shop + `,"provider":"acme","connection":"` + own.String() + `"}`, 201},
		"a merchant's own key":            {its, `{` + shop + `}`, 201},
		"a new merchant":                  {key, `{"merchant":{"external_id":"new-1","name":"New","locale":"km"}}`, 201},
		"a minute":                        {key, `{` + shop + `,"expires_in":60}`, 201},
		"seven days":                      {key, `{` + shop + `,"expires_in":604800}`, 201},
		"an address below":                {key, `{` + shop + `,"return_url":"` + platform + `/x?a=b","return":"redirect","confirm":true}`, 201},
		"what is added later":             {key, `{` + shop + `,"tomorrow":1}`, 201},
		"no merchant":                     {key, `{}`, 400},
		"an invisible merchant":           {key, `{"merchant":{"external_id":"\u200b"}}`, 400},
		"a long merchant":                 {key, `{"merchant":{"external_id":"` + strings.Repeat("x", 201) + `"}}`, 400},
		"an unknown merchant, no name":    {key, `{"merchant":{"external_id":"new-2"}}`, 400},
		"an unknown merchant, long name":  {key, `{"merchant":{"external_id":"new-2","name":"` + strings.Repeat("x", 201) + `"}}`, 400},
		"another language":                {key, `{"merchant":{"external_id":"shop-17","locale":"nl"}}`, 400},
		"a long user":                     {key, `{` + shop + `,"user":{"name":"` + strings.Repeat("x", 201) + `"}}`, 400},
		"an unknown provider":             {key, `{` + shop + `,"provider":"nobody"}`, 400},
		"a connection that is none":       {key, `{` + shop + `,"connection":"x"}`, 400},
		"an unknown connection":           {key, `{` + shop + `,"connection":"` + pg.NewID().String() + `"}`, 400},
		"another merchant's connection":   {key, `{` + shop + `,"connection":"` + foreign.String() + `"}`, 400},
		"59 seconds":                      {key, `{` + shop + `,"expires_in":59}`, 400},
		"over seven days":                 {key, `{` + shop + `,"expires_in":604801}`, 400},
		"no time at all":                  {key, `{` + shop + `,"expires_in":0}`, 400},
		"a time before now":               {key, `{` + shop + `,"expires_in":-60}`, 400},
		"half a second":                   {key, `{` + shop + `,"expires_in":60.5}`, 400},
		"another site":                    {key, `{` + shop + `,"return_url":"https://evil.example/"}`, 400},
		"a host that begins alike":        {key, `{` + shop + `,"return_url":"https://platform.example.evil.example/settings"}`, 400},
		"a script":                        {key, `{` + shop + `,"return_url":"javascript:alert(1)"}`, 400},
		"another way of returning":        {key, `{` + shop + `,"return":"popup"}`, 400},
		"confirm without a way back":      {key, `{` + shop + `,"confirm":true}`, 400},
		"inputs for no provider":          {key, `{` + shop + `,"inputs":{"shop":"ch168"}}`, 400},
		"inputs that the provider lacks":  {key, `{` + shop + `,"provider":"acme","inputs":{"shop":"ch168"}}`, 400},
		"a list":                          {key, `[]`, 400},
		"NUL":                             {key, `{"merchant":{"external_id":"a\u0000b","name":"x"}}`, 400},
		"no JSON":                         {key, `merchant=1`, 400},
		"another merchant's key":          {its, `{"merchant":{"external_id":"shop-18"}}`, 403},
		"a merchant's key, a new one":     {its, `{"merchant":{"external_id":"new-3","name":"New"}}`, 403},
		"a key without the scope":         {o.key(pg.ID{}, db.ScopeConnections, db.ScopeMerchants), `{` + shop + `}`, 403},
		"no key":                          {"", `{` + shop + `}`, 401},
		"a key of somebody else's making": {"pb_" + string(pg.NewSecret()), `{` + shop + `}`, 401},
	} {
		got := o.ask("POST", "/api/v1/connect-links", c.key, c.body)
		if got.status != c.status {
			t.Errorf("%s: %d %s", name, got.status, got.text)
		}
		if got.status == 201 && !strings.HasPrefix(got.body["url"].(string), o.url+"/links/") {
			t.Errorf("%s: %s", name, got.text)
		}
	}
	listed := o.ask("GET", "/api/v1/connect-links?merchant=shop-17&limit=3", key, "")
	if links, _ := listed.body["connect_links"].([]any); len(links) != 3 || listed.body["next"] == "" || strings.Contains(listed.text, `"url"`) {
		t.Errorf("the list is %s", listed.text)
	}
	next := o.ask("GET", "/api/v1/connect-links?limit=200&cursor="+listed.body["next"].(string), key, "")
	if links, _ := next.body["connect_links"].([]any); len(links) == 0 {
		t.Errorf("its next page is %s", next.text)
	}
	o.ask("GET", "/api/v1/connect-links?cursor=!", key, "").is(o, http.StatusBadRequest, "invalid")
	if others := o.ask("GET", "/api/v1/connect-links?merchant=shop-18", its, ""); len(others.body["connect_links"].([]any)) != 0 {
		t.Errorf("another merchant's links are %s", others.text)
	}
}
