package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheBrandIsChecked(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const svg = `<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M0 0h1v1z"/></svg>`
	for setting, fault := range map[string]string{
		"BRAND_NAME=Angkor Market": "", "BRAND_COLOR=#1A4D8F": "", "BRAND_URL=https://market.example/": "", "SUPPORT_EMAIL=help@market.example": "",
		"SUPPORT_PHONE=+855 23 000 000": "", "TERMS_URL=https://market.example/terms": "", "BRAND_LOGO_FILE=" + file("ok.svg", svg): "",
		"BRAND_COLOR=#ffff00":                      "is the nearest",
		"BRAND_COLOR=yellow":                       "not #rrggbb",
		"BRAND_NAME=" + strings.Repeat("x", 61):    "over 60",
		"BRAND_URL=javascript:alert(1)":            "BRAND_URL is not",
		"TERMS_URL=/terms":                         "TERMS_URL is not",
		"PRIVACY_URL=https://u:p@market.example":   "PRIVACY_URL is not",
		"SUPPORT_EMAIL=Help <help@market.example>": "SUPPORT_EMAIL is not",
		"SUPPORT_PHONE=call us":                    "SUPPORT_PHONE is not",
		"BRAND_LOGO_FILE=" + file("large.svg", svg+strings.Repeat(" ", 64<<10)): "over 64 KB",
		"BRAND_LOGO_FILE=" + file("page.svg", "<html></html>"):                  "neither PNG nor SVG",
		"BRAND_LOGO_FILE=" + file("cut.svg", "<svg>"):                           "neither PNG nor SVG",
		"BRAND_LOGO_FILE=" + file("gif.png", "GIF89a"):                          "neither PNG nor SVG",
		"BRAND_LOGO_FILE=" + filepath.Join(dir, "none"):                         "BRAND_LOGO_FILE",
		"BRAND_COLOUR=#000000":                                                  "did you mean BRAND_COLOR?",
	} {
		_, err := readSettings(append(complete(t), setting))
		if fault == "" && err != nil || fault != "" && (err == nil || !strings.Contains(err.Error(), fault)) {
			t.Errorf("%s: %v", setting, err)
		}
	}
}
