package connectors_test

import (
	"image"
	"image/png"
	"io/fs"
	"strings"
	"testing"

	"patchbay/internal/connectors"
)

// png is the smallest PNG that is one by its first bytes.
// onePixel is a PNG.
var onePixel = func() string {
	var b strings.Builder
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		panic(err)
	}
	return b.String()
}()

func TestWhatPeopleAreTold(t *testing.T) {
	for _, one := range []struct{ keys, fault string }{ // a fault of "" is a right entry
		{`"color":"#1f5F8b"`, ""},
		{`"color":"red"`, "color must be #rrggbb"},
		{`"color":"#12345"`, "color must be #rrggbb"},
		{`"color":"#12345g"`, "color must be #rrggbb"},
		{`"description":{"en":"Orders","km":"ការបញ្ជាទិញ"},"category":"Shops"`, ""},
		{`"description":"` + strings.Repeat("a", 501) + `"`, "description must be one line, and not so long"},
		{`"category":{"fr":"a\nb"}`, "category.fr must be one line"},
		{`"portal_url":"https://acme.example/apps?x=1","help_url":{"en":"https://help.example/en","km":"https://help.example/km"}`, ""},
		{`"portal_url":"acme.example"`, "portal_url must be a whole address"},
		{`"help_url":{"en":"javascript:alert(1)"}`, "help_url.en must be a whole address"},
		{`"help_url":"http://help.example"`, "help_url must begin with https"},
	} {
		entry := `[{"name":"acme","authorize_url":"https://x.example/a","token_url":"https://x.example/t","client_id":"i","client_secret_env":"S","environment":"production",` + one.keys + `}]`
		_, err := connectors.Load(func(name string) string { return map[string]string{"S": "s"}[name] }, []byte(entry), connectors.NewClient(nil, nil))
		if one.fault == "" && err != nil || one.fault != "" && (err == nil || !strings.Contains(err.Error(), "entry acme: "+one.fault)) {
			t.Errorf("%s: %v; want %q", one.keys, err, one.fault)
		}
	}
	k := keyedProvider(t, `,"color":"#123456","description":{"en":"Orders","km":"K"},"category":"Shops","help_url":"https://help.example"`, nil, nil)
	info := k.Info()
	if a := info.About; info.Color != "#123456" || a.Description.In("km") != "K" || a.Description.In("fr") != "Orders" || a.Category.In("fr") != "Shops" || a.HelpURL.In("en") != "https://help.example" ||
		a.PortalURL.In("en") != "" {
		t.Errorf("%+v", info)
	}
}

func TestLogos(t *testing.T) {
	files := map[string]string{
		"logo.png": onePixel, "logo.svg": `<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>`, "logo.html": "<!doctype html>", "logo.gif": "GIF89a",
		"cut.svg": "<svg>", "page.html": "<html><body><svg></svg></body></html>", "signature.png": onePixel[:8],
		"large.png": onePixel + strings.Repeat("x", 64<<10), "empty": "",
	}
	read := func(path string) ([]byte, error) {
		content, ok := files[path]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return []byte(content), nil
	}
	for path, want := range map[string]struct{ kind, fault string }{
		"logo.png": {"image/png", ""}, "logo.svg": {"image/svg+xml", ""}, "logo.html": {"", "is neither PNG nor SVG"}, "logo.gif": {"", "is neither PNG nor SVG"},
		"cut.svg": {"", "is neither PNG nor SVG"}, "page.html": {"", "is neither PNG nor SVG"}, "signature.png": {"", "is neither PNG nor SVG"},
		"large.png": {"", "has over 64 KB"}, "empty": {"", "is neither PNG nor SVG"}, "nowhere": {"", "cannot be read"},
	} {
		k := keyedProvider(t, `,"logo_file":"`+path+`"`, nil, nil)
		providers := []connectors.Provider{{Name: "acme", Connector: k.Redirector}}
		errs := connectors.ReadLogos(providers, read)
		if providers[0].Logo.Type != want.kind || (providers[0].Logo.Image != nil) != (want.kind != "") || want.fault == "" && errs != nil || want.fault != "" && errs.Error() != "CONNECTORS_FILE entry acme: logo_file "+want.fault {
			t.Errorf("%s: %q, %v", path, providers[0].Logo.Type, errs)
		}
	}
}
