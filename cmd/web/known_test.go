package main

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestDemoOffersWellKnownProviders clicks through the whole server and the imitations of docs/providers, as a person would.
func TestDemoOffersWellKnownProviders(t *testing.T) {
	address, _ := startDemo(t, demoFolder(t), "-empty")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &clicks{t: t, client: http.Client{Jar: jar, Timeout: 20 * time.Second}}
	b.post(address+"/login", url.Values{"email": {demoUsers()[0].Email}, "password": {demoUsers()[0].Password}})
	for _, one := range []struct {
		provider string
		typed    url.Values // before leaving, or in place of it
		chosen   string     // on the provider's page
		shows    []string   // the connection's page
	}{
		{"quickbooks", nil, "4620816365300000002", []string{"4620816365300000002"}},
		{"xero", nil, "70784a63-d24b-46a9-a4db-0e70a274b056", []string{"Maple Florist"}},
		{"slack", nil, "T0HARBOUR2", []string{"Harbour Bakery"}},
		{"shopify", url.Values{"shop": {"canal-street"}}, "canal-street", []string{"canal-street"}},
		{"brevo", url.Values{"key": {"xkeysib-1f0c2d7bcanal0street-AbCdEf"}}, "", []string{"Canal Street Café"}},
	} {
		b.get(address + "/connect/" + one.provider)
		b.post(address+"/connect/"+one.provider, one.typed)
		if one.chosen != "" {
			form := url.Values{"account": {one.chosen}, "decision": {"allow"}}
			for _, m := range hiddenInput.FindAllStringSubmatch(b.page, -1) {
				form.Add(unescape.Replace(m[1]), unescape.Replace(m[2]))
			}
			action := consentForm.FindStringSubmatch(b.page)
			if action == nil {
				t.Fatalf("%s: no consent page at %s:\n%s", one.provider, b.at, b.page)
			}
			b.post(b.at.Scheme+"://"+b.at.Host+action[1], form)
		}
		link := connectionLink.FindString(b.page)
		if link == "" {
			t.Errorf("%s: connecting ends at %s:\n%s", one.provider, b.at, b.page)
			continue
		}
		b.get(address + link)
		for _, text := range one.shows {
			if !strings.Contains(b.page, text) {
				t.Errorf("%s: the connection's page lacks %s", one.provider, text)
			}
		}
	}
}

var (
	hiddenInput    = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	consentForm    = regexp.MustCompile(`<form method="post" action="(/at/[^"]*)"`)
	connectionLink = regexp.MustCompile(`/connections/[0-9a-f-]{36}`)
	unescape       = strings.NewReplacer("&amp;", "&", "&#43;", "+", "&#34;", `"`, "&#39;", "'")
)

// clicks is a browser without scripts.
type clicks struct {
	t      *testing.T
	client http.Client
	at     *url.URL
	page   string
}

func (b *clicks) get(address string) {
	b.t.Helper()
	res, err := b.client.Get(address)
	b.read(res, err)
}

func (b *clicks) post(address string, form url.Values) {
	b.t.Helper()
	res, err := b.client.PostForm(address, form)
	b.read(res, err)
}

func (b *clicks) read(res *http.Response, err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	b.at, b.page = res.Request.URL, string(body)
}
