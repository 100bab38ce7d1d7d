package connectors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"patchbay/internal/text"
)

// This file decodes the entries of CONNECTORS_FILE. encoding/json would stop at the first fault, take Name for name, and forget the
// order of inputs.

// ReadEntries decodes CONNECTORS_FILE, an object of the list each. faults are those of an entry, by its number in the list: unknown
// keys, keys that are there twice, and values of a wrong type. It returns an error if raw is no JSON list.
func ReadEntries(raw []byte) (entries []Entry, faults [][]string, err error) {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, nil, errors.New("must hold a JSON list of objects" + syntaxFault(raw, err))
	}
	entries, faults = make([]Entry, len(list)), make([][]string, len(list))
	for i, one := range list {
		faults[i] = decode(one, reflect.ValueOf(&entries[i]).Elem(), "")
	}
	return entries, faults, nil
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

// decoder is a type with a JSON form of its own. decodeKey returns what is wrong with the value of the key at.
type decoder interface {
	decodeKey(raw json.RawMessage, at string) []string
}

// member is one of a JSON object.
type member struct {
	key   string
	value json.RawMessage
}

// membersOf returns an object's members in their order. ok is false if raw is no object.
func membersOf(raw json.RawMessage) (members []member, ok bool) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, false
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, false
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil, false
		}
		members = append(members, member{fmt.Sprint(key), value})
	}
	return members, true
}

// decode sets a value from JSON and returns every fault. at is the key that raw is the value of, "" for a whole entry.
func decode(raw json.RawMessage, into reflect.Value, at string) []string {
	if string(raw) == "null" && at != "" { // as if the key were left out
		return nil
	}
	if d, ok := into.Addr().Interface().(decoder); ok {
		return d.decodeKey(raw, at)
	}
	switch into.Kind() {
	case reflect.Struct:
		return decodeStruct(raw, into, at)
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		return decode(raw, into.Elem(), at)
	case reflect.Map:
		return decodeMap(raw, into, at)
	}
	if json.Unmarshal(raw, into.Addr().Interface()) != nil {
		return []string{at + " has the wrong type"}
	}
	return nil
}

// decodeStruct decodes an object whose keys are the JSON names of the struct's fields.
func decodeStruct(raw json.RawMessage, into reflect.Value, at string) (wrong []string) {
	members, ok := membersOf(raw)
	if !ok {
		return []string{strings.TrimSpace(at + " must be an object")}
	}
	wrong = repeated(members, at)
	keys := keysOf(into.Type())
	for _, m := range members {
		field, known := keys[m.key]
		switch {
		case m.key == "client_secret" && at == "":
			wrong = append(wrong, "client_secret does not belong here: name the setting that holds it in client_secret_env")
		case known:
			wrong = append(wrong, decodeField(m.value, into.FieldByIndex(field.Index), field, below(at, m.key))...)
		default:
			fault := strings.TrimSpace(at + " has the unknown key " + text.Clean(m.key))
			if near := Nearest(m.key, slices.Sorted(maps.Keys(keys))); near != "" {
				fault += ": did you mean " + near + "?"
			}
			wrong = append(wrong, fault)
		}
	}
	return wrong
}

// decodeField decodes a field and holds it to its enum tag.
func decodeField(raw json.RawMessage, into reflect.Value, field reflect.StructField, at string) []string {
	wrong := decode(raw, into, at)
	if enum, ok := field.Tag.Lookup("enum"); ok && into.String() != "" {
		if values := strings.Split(enum, "|"); !slices.Contains(values, into.String()) {
			return []string{at + " must be " + orList(values)}
		}
	}
	return wrong
}

// orList joins values as a sentence does: a, b or c.
func orList(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = v
		if strings.Trim(v, " ,") == "" {
			quoted[i] = `"` + v + `"`
		}
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}

// decodeMap decodes an object with keys of the operator's own and texts as values.
func decodeMap(raw json.RawMessage, into reflect.Value, at string) (wrong []string) {
	members, ok := membersOf(raw)
	if !ok {
		return []string{at + " must be an object"}
	}
	wrong = repeated(members, at)
	into.Set(reflect.MakeMap(into.Type()))
	for _, m := range members {
		value := reflect.New(into.Type().Elem()).Elem()
		wrong = append(wrong, decode(m.value, value, below(at, text.Clean(m.key)))...)
		into.SetMapIndex(reflect.ValueOf(m.key), value)
	}
	return wrong
}

// repeated returns a fault for each key that is there twice: a second one would outweigh the first without a word.
func repeated(members []member, at string) (wrong []string) {
	seen := map[string]bool{}
	for _, m := range members {
		if seen[m.key] {
			wrong = append(wrong, strings.TrimSpace(at+" has the key "+text.Clean(m.key)+" twice"))
		}
		seen[m.key] = true
	}
	return wrong
}

// keysOf returns the fields of a struct by their JSON names.
func keysOf(t reflect.Type) map[string]reflect.StructField {
	keys := map[string]reflect.StructField{}
	for _, field := range reflect.VisibleFields(t) {
		if key := field.Tag.Get("json"); key != "-" {
			keys[key] = field
		}
	}
	return keys
}

func below(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

func (in *Inputs) decodeKey(raw json.RawMessage, at string) (wrong []string) {
	members, ok := membersOf(raw)
	if !ok {
		return []string{at + " must be an object"}
	}
	wrong = repeated(members, at)
	for _, m := range members {
		one := Input{Name: m.key}
		wrong = append(wrong, decode(m.value, reflect.ValueOf(&one).Elem(), below(at, text.Clean(m.key)))...)
		*in = append(*in, one)
	}
	return wrong
}

func (o *Options) decodeKey(raw json.RawMessage, at string) (wrong []string) {
	members, ok := membersOf(raw)
	if !ok {
		return []string{at + " must be an object"}
	}
	wrong = repeated(members, at)
	for _, m := range members {
		one := Option{Key: m.key}
		wrong = append(wrong, decode(m.value, reflect.ValueOf(&one.Value).Elem(), below(at, text.Clean(m.key)))...)
		*o = append(*o, one)
	}
	return wrong
}

func (r *Revocation) decodeKey(raw json.RawMessage, at string) []string {
	if string(raw) == "false" {
		r.Never = true
		return nil
	}
	return decodeStruct(raw, reflect.ValueOf(r).Elem(), at)
}

func (w *Words) decodeKey(raw json.RawMessage, at string) (wrong []string) {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*w = Words{"": one}
		return nil
	}
	members, ok := membersOf(raw)
	if !ok {
		return []string{at + " must be a text, or an object of texts by language"}
	}
	wrong = repeated(members, at)
	*w = Words{}
	for _, m := range members {
		switch {
		case !slices.Contains(languages, m.key):
			wrong = append(wrong, at+" has the unknown language "+text.Clean(m.key)+": it must be "+orList(languages))
		case json.Unmarshal(m.value, &one) != nil:
			wrong = append(wrong, below(at, m.key)+" has the wrong type")
		default:
			(*w)[m.key] = one
		}
	}
	return wrong
}

func (d *Duration) decodeKey(raw json.RawMessage, at string) []string {
	var written string
	if json.Unmarshal(raw, &written) != nil {
		return []string{at + " has the wrong type"}
	}
	length, err := time.ParseDuration(written)
	if written != "" && (err != nil || length < time.Minute) {
		return []string{at + " must be a duration such as 168h, of a minute or more"}
	}
	*d = Duration(length)
	return nil
}
