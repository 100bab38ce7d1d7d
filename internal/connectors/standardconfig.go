package connectors

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"patchbay/internal/text"
)

// standardConfig is one entry of CONNECTORS_FILE.
type standardConfig struct {
	Name            string   `json:"name"`
	Title           string   `json:"title"`
	Issuer          string   `json:"issuer"`
	AuthorizeURL    string   `json:"authorize_url"`
	TokenURL        string   `json:"token_url"`
	RevokeURL       string   `json:"revoke_url"`
	UserinfoURL     string   `json:"userinfo_url"`
	ClientID        string   `json:"client_id"`
	ClientSecretEnv string   `json:"client_secret_env"`
	ClientAuth      string   `json:"client_auth"`
	Scopes          []string `json:"scopes"`
	Environment     string   `json:"environment"`
	KeepAlive       string   `json:"keep_alive"`
	ReplaySafe      bool     `json:"replay_safe"`
}

// defaultKeepAlive is how often an unused grant of a standard provider is refreshed.
const defaultKeepAlive = 7 * 24 * time.Hour

var entryName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// loadStandard reads CONNECTORS_FILE. taken are the names of the built-in providers. It returns a connector for each
// entry that is right, and all that is wrong with the others.
func loadStandard(getenv func(string) string, raw []byte, taken []string, client *Client) ([]Connector, Errors) {
	if raw == nil {
		return nil, nil
	}
	var entries []json.RawMessage
	if err := json.Unmarshal(raw, &entries); err != nil {
		return nil, Errors{"CONNECTORS_FILE must hold a JSON list of objects" + syntaxFault(raw, err)}
	}
	var out []Connector
	var errs Errors
	for i, entry := range entries {
		c, wrong := parseConfig(entry)
		where := fmt.Sprintf("CONNECTORS_FILE entry %d: ", i+1)
		if entryName.MatchString(c.Name) {
			where = fmt.Sprintf("CONNECTORS_FILE entry %s: ", c.Name)
			if slices.Contains(taken, c.Name) {
				wrong = append(wrong, "name is taken already")
			}
			taken = append(taken, c.Name)
		} else {
			wrong = append(wrong, "name must be lower-case letters, digits and hyphens, at most 32")
		}
		wrong = append(wrong, c.check(getenv)...)
		for _, w := range wrong {
			errs = append(errs, where+w)
		}
		if len(wrong) == 0 {
			out = append(out, c.connector(strings.TrimSpace(getenv(c.ClientSecretEnv)), client))
		}
	}
	return out, errs
}

// syntaxFault says where raw is no JSON, "" if err is about something else.
func syntaxFault(raw []byte, err error) string {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return ""
	}
	before := string(raw[:max(0, min(int(syntax.Offset)-1, len(raw)))]) // Offset counts the byte at fault
	line := before[strings.LastIndexByte(before, '\n')+1:]
	return fmt.Sprintf(", and is no JSON at line %d, column %d: %v", strings.Count(before, "\n")+1, utf8.RuneCountInString(line)+1, err)
}

// parseConfig decodes an entry and returns every key that is unknown or of the wrong type.
func parseConfig(raw json.RawMessage) (c standardConfig, wrong []string) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || members == nil {
		return c, []string{"must be an object"}
	}
	for _, key := range slices.Sorted(maps.Keys(members)) {
		if key == "client_secret" {
			wrong = append(wrong, "client_secret does not belong here: name the setting that holds it in client_secret_env")
		} else if err := c.set(key, members[key]); err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	return c, wrong
}

// configKeys are the keys that an entry may have: the JSON names of standardConfig's fields.
var configKeys = func() (keys []string) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[standardConfig]()) {
		keys = append(keys, field.Tag.Get("json"))
	}
	return keys
}()

// set decodes one member of an entry. Members are decoded one by one because a json.Decoder stops at the first that is
// unknown, and takes Name for name.
func (c *standardConfig) set(key string, value json.RawMessage) error {
	if !slices.Contains(configKeys, key) {
		if near := Nearest(key, configKeys); near != "" {
			return fmt.Errorf("has the unknown key %s: did you mean %s?", text.Clean(key), near)
		}
		return fmt.Errorf("has the unknown key %s", text.Clean(key))
	}
	member, err := json.Marshal(map[string]json.RawMessage{key: value})
	if err != nil || json.Unmarshal(member, c) != nil {
		return fmt.Errorf("%s has the wrong type", key)
	}
	return nil
}

// check returns all that is wrong with the values of an entry.
func (c standardConfig) check(getenv func(string) string) (wrong []string) {
	for _, a := range []struct {
		key, value string
		required   bool
	}{
		{"issuer", c.Issuer, false},
		{"authorize_url", c.AuthorizeURL, c.Issuer == ""},
		{"token_url", c.TokenURL, c.Issuer == ""},
		{"revoke_url", c.RevokeURL, false},
		{"userinfo_url", c.UserinfoURL, false},
	} {
		if a.value == "" && a.required {
			wrong = append(wrong, a.key+" is missing, and there is no issuer to ask for it")
		} else if a.value != "" {
			if w := urlFault(a.value, c.Environment, a.key != "issuer"); w != "" {
				wrong = append(wrong, a.key+" "+w)
			}
		}
	}
	if c.ClientID == "" {
		wrong = append(wrong, "client_id is missing")
	}
	switch {
	case c.ClientSecretEnv == "":
		wrong = append(wrong, "client_secret_env is missing")
	case getenv(c.ClientSecretEnv) == "":
		wrong = append(wrong, "client_secret_env names "+text.Clean(c.ClientSecretEnv)+", which is not set")
	}
	if !slices.Contains([]string{"", "basic", "post"}, c.ClientAuth) {
		wrong = append(wrong, "client_auth must be basic or post")
	}
	if !isEnvironment(c.Environment) {
		wrong = append(wrong, "environment must be sandbox or production")
	}
	if slices.ContainsFunc(c.Scopes, func(scope string) bool { return !scopeToken.MatchString(scope) }) {
		wrong = append(wrong, "scopes must be one scope each")
	}
	if d, err := time.ParseDuration(c.KeepAlive); c.KeepAlive != "" && (err != nil || d < time.Minute) {
		wrong = append(wrong, "keep_alive must be a duration such as 168h, of a minute or more")
	}
	return wrong
}

// scopeToken is RFC 6749 appendix A.4.
var scopeToken = regexp.MustCompile(`^[!#-\[\]-~]+$`)

// markColors are given to standard providers by their names.
var markColors = []string{"#1f5f8b", "#8a3b12", "#3d6b21", "#7a2e6e", "#4a4e9e", "#8c2f39", "#0f6466", "#5b4a1f"}

// connector returns the connector of an entry that has been checked.
func (c standardConfig) connector(secret string, client *Client) Connector {
	s := &standard{client: client, config: c, secret: secret, discovering: make(chan struct{}, 1), info: Info{
		Name: c.Name, Title: cmp.Or(text.Name(c.Title), c.Name), Environment: c.Environment, ReplaySafe: c.ReplaySafe, KeepAlive: defaultKeepAlive,
	}}
	if c.Issuer != "" {
		s.info.HomeURL = origin(c.Issuer)
	}
	if d, err := time.ParseDuration(c.KeepAlive); err == nil {
		s.info.KeepAlive = d
	}
	sum := 0
	for _, b := range []byte(c.Name) {
		sum = sum*31 + int(b)
	}
	s.info.Color = markColors[uint(sum)%uint(len(markColors))]
	if c.RevokeURL != "" || c.Issuer != "" {
		return standardRevoker{s}
	}
	return s
}
