package connectors

import (
	"maps"
	"net/url"
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

// maxTyped is how long a text may be that goes into no address, in characters: some keys are JWTs.
const maxTyped = 4096

var (
	label   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	segment = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	// keyPath is a secret in a path, such as 110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw.
	keyPath = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~:=+-]*$`)
	topHost = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])$`) // no number: no IP address ends so
)

// clean returns what is kept of a typed value, or the code of what is wrong with it. What it returns cannot leave its place in an address:
// a label holds neither dot nor colon, a segment no slash, and neither an @, a % or a backslash.
func (i Input) clean(typed string) (value, code string) {
	value = text.Clean(typed)
	switch {
	case strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 || r > 0x7e }):
		return "", InputNotASCII
	case value == "" && len(i.Options) > 0 && !i.Optional:
		return i.Options[0].Key, ""
	case value == "" && i.Optional:
		return "", ""
	case value == "":
		return "", InputMissing
	case len(value) > maxTyped:
		return "", InputTooLong
	}
	if len(i.Options) > 0 {
		if !slices.ContainsFunc(i.Options, func(o Option) bool { return o.Key == value }) {
			return "", InputNotOffered
		}
		return value, ""
	}
	switch i.Kind {
	case "label":
		value = strings.TrimSuffix(hostPasted(value), strings.ToLower(i.Suffix))
		if !label.MatchString(value) {
			return "", InputMalformed
		}
	case "host":
		value = hostPasted(value)
		labels := strings.Split(value, ".")
		last := len(labels) - 1
		if len(value) > 253 || last < 1 || !topHost.MatchString(labels[last]) || slices.ContainsFunc(labels, func(l string) bool { return !label.MatchString(l) }) {
			return "", InputMalformed
		}
	case "segment":
		if i.Secret && !keyPath.MatchString(value) || !i.Secret && !segment.MatchString(value) {
			return "", InputMalformed
		}
	}
	if i.Pattern != "" {
		pattern, err := regexp.Compile(i.Pattern) // it was checked
		if err != nil || !pattern.MatchString(value) {
			return "", InputMalformed
		}
	}
	return value, ""
}

// hostPasted returns what is a host in an address that was copied from a browser, in lower case.
func hostPasted(value string) string {
	value = strings.ToLower(value)
	for _, scheme := range []string{"https://", "http://"} {
		value = strings.TrimPrefix(value, scheme)
	}
	if end := strings.IndexAny(value, "/?#"); end >= 0 {
		value = value[:end]
	}
	return value
}

// stands returns what stands for a value in addresses and parameters: of options the operator's value.
func (i Input) stands(value string) string {
	for _, o := range i.Options {
		if o.Key == value {
			return o.Value
		}
	}
	return value
}

// fields returns the form for the inputs that a merchant types.
func (in Inputs) fields() (fields []Field) {
	for _, i := range in {
		if i.From != "" {
			continue
		}
		f := Field{Name: i.Name, Secret: i.Secret, Optional: i.Optional, MaxLen: maxTyped, Title: i.Title, Help: i.Help, Example: i.Example, Suffix: i.Suffix}
		for _, o := range i.Options {
			f.Options = append(f.Options, o.Key)
		}
		fields = append(fields, f)
	}
	return fields
}

// shown returns those of the values that are no secret.
func (in Inputs) shown(values map[string]string) map[string]string {
	var shown map[string]string
	for _, i := range in {
		if value := values[i.Name]; value != "" && !i.Secret {
			if shown == nil {
				shown = map[string]string{}
			}
			shown[i.Name] = value
		}
	}
	return shown
}

// read returns what is kept of a form. It returns *InputError for the first field with a mistake.
func (in Inputs) read(typed map[string]string) (map[string]string, error) {
	values := map[string]string{}
	for _, i := range in {
		if i.From != "" {
			continue
		}
		value, code := i.clean(typed[i.Name])
		if code != "" {
			return nil, &InputError{Field: i.Name, Code: code}
		}
		if value != "" {
			values[i.Name] = value
		}
	}
	return values, checkSwapped(values["client_id"], values["client_secret"])
}

// answered returns the values with those that the callback names. It returns *TemporaryError as for an answer of another server if the
// callback repeats a typed value and it differs, or if what it names is not one that the entry takes: nothing is called by it then.
func (in Inputs) answered(values map[string]string, callback url.Values) (map[string]string, error) {
	all := maps.Clone(values)
	for _, i := range in {
		member, named := strings.CutPrefix(string(i.From), "callback.")
		if !named {
			member = i.Name
		}
		if i.Secret || !named && !callback.Has(member) {
			continue
		}
		said := i.keyOf(callback.Get(member))
		value, code := i.clean(said)
		if i.Kind == "label" && strings.ToLower(said) != value && strings.ToLower(said) != value+i.Suffix { // what people paste, no provider says
			code = InputMalformed
		}
		if code != "" || !named && value != values[i.Name] {
			return nil, &TemporaryError{Reason: ReasonWrongIssuer, Detail: member + " of the callback"}
		}
		if value != "" && named {
			if all == nil {
				all = map[string]string{}
			}
			all[i.Name] = value
		}
	}
	return all, nil
}

// keyOf returns the key of an option that a provider names by its value, also as an address. Anything else comes back as it is.
func (i Input) keyOf(said string) string {
	for _, o := range i.Options {
		if said != o.Key && hostPasted(said) == strings.ToLower(o.Value) {
			return o.Key
		}
	}
	return said
}
