package sandbox

import (
	"regexp"
	"strings"
)

var (
	addressKey  = regexp.MustCompile(`"(issuer|url|authorize_url|token_url|refresh_url|revoke_url|userinfo_url)"(\s*:\s*)"https://([^"]*)"`)
	chosenHost  = regexp.MustCompile(`^(\{\w+\})\.([^/]+)`)
	clientID    = regexp.MustCompile(`"client_id"\s*:\s*"[^"]*"`)
	entryName   = regexp.MustCompile(`"name"\s*:\s*"([a-z0-9-]+)"`)
	environment = regexp.MustCompile(`"environment"\s*:\s*"production"`)
)

// Local points an entry of CONNECTORS_FILE for a well-known provider to its imitation here: each address to its like below /at/, and the
// client to the one that the imitation knows. Everything else stays as it is.
func (s *Sandbox) Local(entry []byte) []byte {
	text := addressKey.ReplaceAllStringFunc(string(entry), func(found string) string {
		m := addressKey.FindStringSubmatch(found)
		return `"` + m[1] + `"` + m[2] + `"` + s.LocalAddress("https://"+m[3]) + `"`
	})
	if m := entryName.FindStringSubmatch(text); m != nil {
		text = clientID.ReplaceAllString(text, `"client_id": "`+rules{name: m[1]}.clientID()+`"`)
	}
	return []byte(environment.ReplaceAllString(text, `"environment": "sandbox"`))
}

// LocalAddress returns where an address of a well-known provider is imitated.
func (s *Sandbox) LocalAddress(address string) string {
	at, ok := strings.CutPrefix(address, "https://")
	if !ok {
		return address
	}
	return s.o.BaseURL + "/at/" + chosenHost.ReplaceAllString(at, "$2/$1")
}

// KnownSettings returns the client secrets of the imitations of well-known providers, by the settings that their entries name.
func (s *Sandbox) KnownSettings() map[string]string {
	settings := map[string]string{}
	for _, r := range wellKnown() {
		if r.token != "" {
			settings[r.secretSetting()] = r.clientSecret()
		}
	}
	return settings
}
