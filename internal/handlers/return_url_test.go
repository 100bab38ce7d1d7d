package handlers

import (
	"net/url"
	"testing"
)

// TestAConnectLinkLeadsBackOnlyToThePlatform tries addresses that look like one of RETURN_URLS.
func TestAConnectLinkLeadsBackOnlyToThePlatform(t *testing.T) {
	s := &Server{}
	for _, text := range []string{"https://platform.example/settings", "https://whole.example", "http://127.0.0.1:9000/back/", "https://port.example:8443/x"} {
		prefix, err := ParseReturnPrefix(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		s.ReturnURLs = append(s.ReturnURLs, prefix)
	}
	for address, allowed := range map[string]bool{
		"https://platform.example/settings":                   true,
		"https://platform.example/settings/":                  true,
		"https://platform.example/settings/connections?tab=1": true,
		"https://platform.example/settings?next=//evil":       true,
		"https://platform.example/settings#done":              true,
		"https://platform.example:443/settings":               true,
		"https://PLATFORM.example/settings":                   true,
		"HTTPS://platform.example/settings":                   true,
		"https://platform.example/settings//x":                true,
		"https://platform.example/settings/a%20b":             true,
		"https://whole.example":                               true,
		"https://whole.example/":                              true,
		"https://whole.example?x=1":                           true,
		"https://whole.example//evil.example/":                true, // a path of that host
		"http://127.0.0.1:9000/back":                          true,
		"http://127.0.0.1:9000/back/x":                        true,
		"https://port.example:8443/x":                         true,

		"":                                                       false,
		"/settings":                                              false,
		"//platform.example/settings":                            false,
		"platform.example/settings":                              false,
		"https:platform.example/settings":                        false,
		"https:/platform.example/settings":                       false,
		"https:///platform.example/settings":                     false,
		"http://platform.example/settings":                       false,
		"https://platform.example":                               false,
		"https://platform.example/":                              false,
		"https://platform.example/Settings":                      false,
		"https://platform.example/settingsx":                     false,
		"https://platform.example/settings.evil":                 false,
		"https://platform.example/settings-2":                    false,
		"https://platform.example/settings/..":                   false,
		"https://platform.example/settings/../admin":             false,
		"https://platform.example/settings/./x":                  false,
		"https://platform.example/settings/%2e%2e/admin":         false,
		"https://platform.example/settings/%2E./admin":           false,
		"https://platform.example/settings/..;/admin":            false,
		"https://platform.example/settings/..%2fadmin":           false,
		"https://platform.example/settings/%5c..%5cadmin":        false,
		"https://platform.example/settings/%252e%252e/admin":     false,
		`https://platform.example/settings/..\admin`:             false,
		`https://platform.example\@evil.example/settings`:        false,
		`https:\\platform.example\settings`:                      false,
		"https://platform.example/other/settings":                false,
		"https://platform.example:444/settings":                  false,
		"https://platform.example:/settings":                     false,
		"https://platform.example./settings":                     false,
		"https://platform.example@evil.example/settings":         false,
		"https://user@platform.example/settings":                 false,
		"https://user:pass@platform.example/settings":            false,
		"https://evil.example/https://platform.example/settings": false,
		"https://evil.example#https://platform.example/settings": false,
		"https://platform.example.evil.example/settings":         false,
		"https://xplatform.example/settings":                     false,
		"https://sub.platform.example/settings":                  false,
		"https://platform.example%2f.evil.example/settings":      false,
		"https://platform.example%00.evil.example/settings":      false,
		"https://platform.example,evil.example/settings":         false,
		"https://ｐlatform.example/settings":                      false,
		"https://platform.exampIe/settings":                      false,
		" https://platform.example/settings":                     false,
		"https://platform.example/settings ":                     false,
		"https://platform.example/set\ttings":                    false,
		"https://platform.example/settings\r\nLocation: //evil":  false,
		"https://plat\nform.example/settings":                    false,
		"javascript:alert(1)//https://platform.example/settings": false,
		"data:text/html,https://platform.example/settings":       false,
		"ftp://platform.example/settings":                        false,
		"http://127.0.0.1:9001/back":                             false,
		"http://127.0.0.1/back":                                  false,
		"http://127.1:9000/back":                                 false,
		"http://2130706433:9000/back":                            false,
		"http://127.0.0.1:9000/backdoor":                         false,
		"https://port.example/x":                                 false,
		"https://whole.example.":                                 false,
		"https://whole.example:8443/":                            false,
		"https://[::1]/":                                         false,
		"https://%77hole.example/":                               false,
		"https://whole.example\x00/":                             false,
		"https://whole.example/ស":                                false,
		"https://whole.example/%2e%2e":                           false,
	} {
		if _, ok := s.returnURL(address); ok != allowed {
			t.Errorf("%q is allowed: %v", address, ok)
		}
	}
	for _, text := range []string{"", "platform.example", "https://", "https://u@platform.example", "https://platform.example/?x", "https://platform.example/#", "https://*.example", "https://platform.example/../x", "ftp://platform.example"} {
		if _, err := ParseReturnPrefix(text); err == nil {
			t.Errorf("%q is an entry of RETURN_URLS", text)
		}
	}
}

func TestTheWayBackKeepsThePlatformsQuery(t *testing.T) {
	values := url.Values{"patchbay_state": {"connected"}, "patchbay_link": {"1"}}
	for address, want := range map[string]string{
		"https://p.example/x":                                    "https://p.example/x?patchbay_link=1&patchbay_state=connected",
		"https://p.example/x?":                                   "https://p.example/x?patchbay_link=1&patchbay_state=connected",
		"https://p.example/x?tab=1&b=%20;c":                      "https://p.example/x?tab=1&b=%20;c&patchbay_link=1&patchbay_state=connected",
		"https://p.example/x?tab=1#there":                        "https://p.example/x?tab=1&patchbay_link=1&patchbay_state=connected#there",
		"https://p.example/x?patchbay_state=denied&a=1":          "https://p.example/x?a=1&patchbay_link=1&patchbay_state=connected",
		"https://p.example/x?patchbay%5Fcode=stolen&patchbay_=x": "https://p.example/x?patchbay_link=1&patchbay_state=connected",
	} {
		u, err := parseReturn(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := withOutcome(u, values); got != want {
			t.Errorf("%s leads to %s", address, got)
		}
	}
}
