package connectors

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"patchbay/internal/text"
)

// redirects says whether the browser goes to the provider.
func (e Entry) redirects() bool { return e.Kind == "" || e.Kind == OAuth2 }

// keysOfKind are the keys that an entry of the kind may have, where it may not have all.
var keysOfKind = map[Kind][]string{
	ClientCredentials: {
		"token_url", "refresh_url", "revoke_url", "client_auth", "scopes", "scope_separator", "token_params", "refresh_params", "body",
		"answer", "refresh_life", "revoke", "replay_safe",
	},
	KeyTyped: {"send", "check", "body"},
}

// keysOfAll are the keys that an entry of any kind may have.
var keysOfAll = []string{
	"name", "kind", "title", "environment", "description", "category", "color", "logo_file", "portal_url", "help_url", "inputs", "account",
	"keep_alive", "grant_life",
}

// kindFaults says which keys do not belong to the entry's kind, and which are missing.
func (e Entry) kindFaults() (wrong []string) {
	kind := e.Kind
	if e.redirects() {
		kind = OAuth2
	}
	keys := keysOf(reflect.TypeFor[Entry]())
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		belongs := slices.Contains(keysOfAll, key) || slices.Contains(keysOfKind[kind], key) ||
			kind == OAuth2 && key != "send" && key != "check"
		if !belongs && !reflect.ValueOf(e).FieldByIndex(keys[key].Index).IsZero() {
			wrong = append(wrong, fmt.Sprintf("%s does not belong to the kind %s", key, kind))
		}
	}
	switch kind {
	case ClientCredentials:
		for _, name := range []string{"client_id", "client_secret"} {
			if _, ok := e.Inputs.named(name); !ok {
				wrong = append(wrong, "inputs."+name+" is missing: the merchant types it")
			}
		}
		if e.ClientAuth == "private_key_jwt" {
			wrong = append(wrong, "client_auth must be basic, post or none: the merchant types a secret")
		}
	case KeyTyped:
		wrong = append(wrong, e.sendFaults()...)
	}
	return wrong
}

// inputName is a name of a field, and of a placeholder. fieldNames are those that a form or a callback of ours has itself.
var (
	inputName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)
	fieldNames = []string{"connection", "lang", "code", "state", "error", "iss", "scope", "token", "account", "client"}
)

// inputFaults says what is wrong with inputs, and with the places where they stand.
func (e Entry) inputFaults() (wrong []string) {
	for _, i := range e.Inputs {
		for _, w := range i.faults(e.redirects()) {
			wrong = append(wrong, "inputs."+text.Clean(i.Name)+" "+w)
		}
	}
	used := map[string]bool{}
	for _, u := range e.places() {
		for _, name := range namesIn(u.address) {
			used[name] = true
			i, known := e.Inputs.named(name)
			switch {
			case !known && u.strict:
				wrong = append(wrong, u.key+" names {"+text.Clean(name)+"}, and there is no such input")
			case known && i.Secret && e.redirects() && !strings.HasPrefix(u.key, "token_params") && !strings.HasPrefix(u.key, "refresh_params"):
				wrong = append(wrong, u.key+" names {"+text.Clean(name)+"}, which is secret")
			case known && i.From != "" && (strings.HasPrefix(u.key, "authorize") || u.key == "issuer"):
				wrong = append(wrong, u.key+" names {"+text.Clean(name)+"}, which the callback brings")
			}
		}
	}
	if e.Account != nil {
		for _, p := range append(slices.Collect(maps.Values(e.Account.Keep)), e.Account.ID, e.Account.Name) {
			if name, ok := strings.CutPrefix(string(p), "input."); ok {
				used[name] = true
			}
		}
	}
	if e.Kind == ClientCredentials {
		used["client_id"], used["client_secret"] = true, true
	}
	if e.Send != nil {
		for _, half := range e.Send.Basic {
			for _, name := range e.Inputs.namedIn(half) {
				used[name] = true
			}
		}
		if e.Send.Query+e.Send.Body != "" && e.Send.Value == "" && len(e.Inputs) > 0 {
			used[(&keyConnector{entry: e}).secretField()] = true
		}
	}
	for _, i := range e.Inputs {
		if i.Suffix != "" && !e.suffixed(i) {
			wrong = append(wrong, "inputs."+text.Clean(i.Name)+".suffix, "+i.Suffix+", follows {"+text.Clean(i.Name)+"} in no host")
		}
		if !used[i.Name] {
			wrong = append(wrong, "inputs."+text.Clean(i.Name)+" is used nowhere")
		}
	}
	var hosts []keyedAddress
	for _, u := range e.places() {
		if u.host {
			hosts = append(hosts, u.keyedAddress)
		}
	}
	return append(wrong, e.Inputs.sharedFault(hosts)...)
}

// suffixed says whether the suffix of an input follows it in a host, if it stands in any: sharedFault holds the others to its domain.
func (e Entry) suffixed(i Input) bool {
	name, inHost := "{"+i.Name+"}", false
	for _, p := range e.places() {
		if !p.host {
			continue
		}
		for _, host := range e.Inputs.hostsOf(splitAddress(p.address).host) {
			if _, after, ok := strings.Cut(host, name); ok {
				if after == i.Suffix {
					return true
				}
				inHost = true
			}
		}
	}
	return !inHost
}

// place is a text of an entry in which placeholders may stand.
type place struct {
	keyedAddress
	host   bool // it is an address
	strict bool // only inputs may be named in it
}

// places returns all of them.
func (e Entry) places() (all []place) {
	address := func(key, value string, strict bool) {
		if value != "" {
			all = append(all, place{keyedAddress{key, value}, true, strict})
		}
	}
	params := func(key string, of map[string]string, strict bool) {
		for _, name := range slices.Sorted(maps.Keys(of)) {
			all = append(all, place{keyedAddress{key + "." + text.Clean(name), of[name]}, false, strict})
		}
	}
	address("issuer", e.Issuer, true)
	address("authorize_url", e.AuthorizeURL, true)
	address("token_url", e.TokenURL, true)
	address("refresh_url", e.RefreshURL, true)
	address("revoke_url", e.RevokeURL, true)
	address("userinfo_url", e.UserinfoURL, true)
	params("authorize_params", e.AuthorizeParams, true)
	params("token_params", e.TokenParams, true)
	params("refresh_params", e.RefreshParams, true)
	if e.Account != nil {
		address("account.url", e.Account.URL, false)
	}
	address("revoke.url", e.Revoke.URL, false)
	params("revoke.params", e.Revoke.Params, false)
	if e.Check != nil {
		address("check.url", e.Check.URL, true)
		params("check.params", e.Check.Params, true)
	}
	if e.Send != nil {
		all = append(all, place{keyedAddress{"send.value", e.Send.Value}, false, true})
		all = append(all, place{keyedAddress{"send.path", e.Send.Path}, false, true})
		for _, half := range e.Send.Basic {
			all = append(all, place{keyedAddress{"send.basic", half}, false, true})
		}
		params("send.headers", e.Send.Headers, true)
		params("send.params", e.Send.Params, true)
	}
	return all
}

// suffix is what may follow a label: a domain with two labels at least, or one of this machine.
var suffix = regexp.MustCompile(`^(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$`)

var optionKey = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// faults says what is wrong with an input by itself.
func (i Input) faults(redirects bool) (wrong []string) {
	inAddress := i.Suffix != "" || i.Kind != "" || len(i.Options) > 0
	for _, one := range []struct {
		is   bool
		what string
	}{
		{!inputName.MatchString(i.Name), "must be called by letters, digits, _ and -, at most 64"},
		{slices.Contains(fieldNames, i.Name), "has a name that is ours"},
		{i.Secret && inAddress && (redirects || i.Kind != "segment"), "is secret, and must not be of a kind that stands in an address"},
		{i.Secret && i.From != "", "is secret, and must not come from the callback"},
		{len(i.Options) > 0 && (i.Suffix != "" || i.Kind != "" || i.Pattern != ""), "has options, and needs neither kind, suffix nor pattern"},
		{i.Suffix != "" && i.Kind != "" && i.Kind != "label", "has a suffix, which only a label may have"},
		{i.Suffix != "" && !suffix.MatchString(i.Suffix), "has a suffix that is no domain such as .example.com"},
		{i.Kind == "host" && redirects, "must not be of the kind host: our client secret would be sent to a host that a merchant names"},
		{i.From != "" && !redirects, "must not come from a callback: there is none"},
		{i.From != "" && !callbackMember.MatchString(string(i.From)), "must come from a member of the callback, as in callback.domain_prefix"},
		{i.From != "" && i.Optional, "comes from the callback, and must not be optional"},
	} {
		if one.is {
			wrong = append(wrong, one.what)
		}
	}
	if _, err := regexp.Compile(i.Pattern); err != nil {
		wrong = append(wrong, "has a pattern that is no RE2")
	}
	for _, o := range i.Options {
		if !optionKey.MatchString(o.Key) || strings.TrimSpace(o.Value) == "" || strings.ContainsAny(o.Value, "{}@\\#?") {
			wrong = append(wrong, "has the option "+text.Clean(o.Key)+", which must be called by letters and digits and stand for a text")
		}
	}
	return wrong
}

var callbackMember = regexp.MustCompile(`^callback\.[A-Za-z0-9_.-]{1,64}$`)

// settled returns the inputs with the kind of those that say none: a label if it stands in an address, with what follows it there, so that
// a whole address may be pasted; else any text.
func (e Entry) settled() Inputs {
	settled := slices.Clone(e.Inputs)
	for n, i := range settled {
		if i.Kind != "" || len(i.Options) > 0 {
			continue
		}
		for _, p := range e.places() {
			if !strings.Contains(p.address, "{"+i.Name+"}") {
				continue
			}
			if p.key == "send.path" && settled[n].Kind == "" {
				settled[n].Kind = "segment"
			}
			if !p.host {
				continue
			}
			if i.Secret && !strings.Contains(splitAddress(p.address).host, "{"+i.Name+"}") {
				if strings.Contains(splitAddress(p.address).path, "{"+i.Name+"}") {
					settled[n].Kind = "segment"
				}
				continue
			}
			settled[n].Kind = "label"
			_, after, inHost := strings.Cut(splitAddress(p.address).host, "{"+i.Name+"}")
			if inHost && i.Suffix == "" && suffix.MatchString(after) {
				settled[n].Suffix = after
			}
			break
		}
		if i.Suffix != "" {
			settled[n].Kind = "label"
		}
	}
	return settled
}
