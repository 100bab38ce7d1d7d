package connectors

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// typed trims what the merchant typed, fills in the default of each choice and finds what is wrong with it before
// anything is sent. Values under other names are dropped.
func typed(fields []Field, inputs map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(fields))
	for _, f := range fields {
		value := trimmed(inputs[f.Name])
		if value == "" && len(f.Options) > 0 {
			value = f.Options[0]
		}
		most := f.MaxLen
		if most == 0 {
			most = 200
		}
		switch {
		case value == "" && !f.Optional:
			return nil, &InputError{Field: f.Name, Code: InputMissing}
		case utf8.RuneCountInString(value) > most:
			return nil, &InputError{Field: f.Name, Code: InputTooLong}
		case strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 || r > 0x7e }):
			return nil, &InputError{Field: f.Name, Code: InputNotASCII}
		case len(f.Options) > 0 && !slices.Contains(f.Options, value):
			return nil, &InputError{Field: f.Name, Code: InputNotOffered}
		}
		out[f.Name] = value
	}
	return out, swapped(out["client_id"], out["client_secret"])
}

// trimmed also drops what pasting from a portal brings along: no-break and zero-width spaces.
func trimmed(s string) string {
	return strings.TrimFunc(s, func(r rune) bool {
		return r <= ' ' || r == '\u00a0' || r == '\u200b' || r == '\u2060' || r == '\ufeff' || r == '\u3000'
	})
}

// swapped recognises the secret in the id's field where that is beyond doubt: a wrong guess would keep a merchant out.
func swapped(id, secret string) error {
	named := regexp.MustCompile(`(?i)^(client[_-])?secret[_-]`) // and not secretgarden, which is a name
	if id == secret || named.MatchString(id) && !named.MatchString(secret) {
		return &InputError{Field: "client_id", Code: InputSwapped}
	}
	return nil
}

// guidShaped is 8-4-4-4-12 characters, as client ids often are.
func guidShaped(s string) bool {
	parts := strings.Split(s, "-")
	if len(parts) != 5 {
		return false
	}
	for i, n := range []int{8, 4, 4, 4, 12} {
		if len(parts[i]) != n {
			return false
		}
	}
	return true
}

// unknownCredentials explains a refusal of typed credentials: the best guess at the mistake, now that there is one.
func unknownCredentials(inputs map[string]string, environment string) error {
	id, secret := inputs["client_id"], inputs["client_secret"]
	other := []string{"live", "prod"}
	if environment == "production" {
		other = []string{"test", "sandbox", "sb_", "sb-"}
	}
	for _, word := range other {
		if strings.HasPrefix(strings.ToLower(id), word) || strings.HasPrefix(strings.ToLower(secret), word) {
			return &InputError{Field: "client_id", Code: InputEnvironment}
		}
	}
	return &InputError{Field: "client_secret", Code: InputRefused}
}
