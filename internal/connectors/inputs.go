package connectors

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"patchbay/internal/text"
)

// defaultMaxLen is how many characters a Field takes that does not say.
const defaultMaxLen = 200

// checkInputs cleans what the merchant typed, as pasting from a portal brings invisible characters along, and fills in the default of each choice. Values that no field names are
// dropped. It returns *InputError if a mistake shows before anything is sent.
func checkInputs(fields []Field, inputs map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(fields))
	for _, f := range fields {
		value := text.Clean(inputs[f.Name])
		if value == "" && len(f.Options) > 0 {
			value = f.Options[0]
		}
		most := f.MaxLen
		if most == 0 {
			most = defaultMaxLen
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
	return out, checkSwapped(out["client_id"], out["client_secret"])
}

// namedSecret matches an id that calls itself a secret, and not secretgarden, which is a name.
var namedSecret = regexp.MustCompile(`(?i)^(client[_-])?secret[_-]`)

// checkSwapped recognises the secret in the id's field where that is beyond doubt: a wrong guess would keep a merchant
// out.
func checkSwapped(id, secret string) error {
	if id != "" && id == secret || namedSecret.MatchString(id) && !namedSecret.MatchString(secret) {
		return &InputError{Field: "client_id", Code: InputSwapped}
	}
	return nil
}

var guid = regexp.MustCompile(`^[^-]{8}-[^-]{4}-[^-]{4}-[^-]{4}-[^-]{12}$`)

// looksLikeGUID says whether s is 8-4-4-4-12 characters, as client ids often are.
func looksLikeGUID(s string) bool { return guid.MatchString(s) }

// rejectedCredentials explains why the provider rejected typed credentials: the likeliest mistake.
func rejectedCredentials(inputs map[string]string, environment string) error {
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
