package connectors_test

import (
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"patchbay/internal/connectors"
)

var update = flag.Bool("update", false, "write docs/connectors.schema.json anew")

const schemaFile = "../../docs/connectors.schema.json"

// TestSchemaIsTheEntry holds docs/connectors.schema.json to connectors.Entry and to the table of keys in docs/connectors.md, whose meanings
// are its descriptions.
func TestSchemaIsTheEntry(t *testing.T) {
	page, err := os.ReadFile("../../docs/connectors.md")
	if err != nil {
		t.Fatal(err)
	}
	meanings := meaningsOf(string(page))
	entry := schemaOf(reflect.TypeFor[connectors.Entry]())
	entry["required"] = []string{"name", "environment"}
	for key, one := range entry["properties"].(map[string]any) {
		if meaning := meanings[key]; meaning != "" {
			one.(map[string]any)["description"] = meaning
		}
	}
	raw, err := json.MarshalIndent(map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "CONNECTORS_FILE", "type": "array", "items": entry,
	}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, '\n')
	if *update {
		if err := os.WriteFile(schemaFile, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if is, err := os.ReadFile(schemaFile); err != nil || string(is) != string(raw) {
		t.Errorf("docs/connectors.schema.json is not what connectors.Entry and docs/connectors.md say (%v): run go generate ./internal/connectors", err)
	}
}

// meaningsOf reads the rows of tables whose first cell names keys.
func meaningsOf(page string) map[string]string {
	meanings := map[string]string{}
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 4 {
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cells[1], -1) {
			if meanings[m[1]] == "" {
				meanings[m[1]] = strings.ReplaceAll(strings.TrimSpace(cells[2]), "`", "")
			}
		}
	}
	return meanings
}

// schemaOf returns the JSON schema of a type that an entry holds. A type with a JSON form of its own has a case.
func schemaOf(t reflect.Type) map[string]any {
	texts := map[string]any{"type": "object", "additionalProperties": map[string]any{"type": "string"}}
	switch t {
	case reflect.TypeFor[connectors.Words]():
		languages := map[string]any{}
		for _, one := range []string{"en", "km", "fr"} {
			languages[one] = map[string]any{"type": "string"}
		}
		return map[string]any{"oneOf": []any{
			map[string]any{"type": "string"},
			map[string]any{"type": "object", "properties": languages, "additionalProperties": false},
		}}
	case reflect.TypeFor[connectors.Inputs]():
		return map[string]any{"type": "object", "additionalProperties": schemaOf(reflect.TypeFor[connectors.Input]())}
	case reflect.TypeFor[connectors.Options]():
		return texts
	case reflect.TypeFor[connectors.Duration]():
		return map[string]any{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(h|m|s))+$`}
	case reflect.TypeFor[connectors.Path]():
		return map[string]any{"type": "string", "pattern": `^(callback|answer|id_token|access_token|account|input)\..+$`}
	case reflect.TypeFor[connectors.Revocation]():
		return map[string]any{"oneOf": []any{map[string]any{"const": false}, object(t)}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.Struct:
		return object(t)
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	}
	return map[string]any{"type": "string"}
}

func object(t reflect.Type) map[string]any {
	properties := map[string]any{}
	for _, field := range reflect.VisibleFields(t) {
		key := field.Tag.Get("json")
		if key == "-" || key == "" {
			continue
		}
		one := schemaOf(field.Type)
		if enum, ok := field.Tag.Lookup("enum"); ok {
			one["enum"] = strings.Split(enum, "|")
		}
		properties[key] = one
	}
	return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
}
