package views

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"
)

func shadeOf(t *testing.T, hex string) shade {
	t.Helper()
	r, g, b, ok := rgb(hex)
	if !ok {
		t.Fatalf("%q is no colour", hex)
	}
	return shade{r, g, b}
}

func TestContrast(t *testing.T) {
	for pair, want := range map[[2]string]float64{
		{"#000000", "#ffffff"}: 21, {"#ffffff", "#ffffff"}: 1, {"#777777", "#ffffff"}: 4.478, {"#ff0000", "#ffffff"}: 3.998, {"#0000ff", "#ffffff"}: 8.592,
	} {
		got := shadeOf(t, pair[0]).contrast(shadeOf(t, pair[1]))
		if got < want-0.001 || got > want+0.001 {
			t.Errorf("%v: %.3f, want %.3f", pair, got, want)
		}
	}
}

// TestABrandsColoursCanBeRead works out the sheet of colours of every kind, and the colours that CheckColor names.
func TestABrandsColoursCanBeRead(t *testing.T) {
	value := regexp.MustCompile(`--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)`)
	for hex, good := range map[string]bool{
		"#0f5e5c": true, "#1a4d8f": true, "#000000": true, "#a3211a": true, "#5b2a86": true, "#0000ff": true, "#333333": true,
		"#ffff00": false, "#ffffff": false, "#ff9900": false, "#00ff00": false, "#1da1f2": false, "#ff69b4": false, "#888888": false,
	} {
		nearest, ok := CheckColor(hex)
		if !ok || (nearest == hex) != good {
			t.Errorf("%s: the nearest is %s", hex, nearest)
		}
		if again, ok := CheckColor(nearest); !ok || again != nearest {
			t.Errorf("%s: %s, which was named, becomes %s", hex, nearest, again)
		}
		sheet := (&Brand{Color: nearest}).Sheet()
		light, dark := map[string]shade{}, map[string]shade{}
		for _, m := range value.FindAllStringSubmatch(sheet, -1) {
			light[m[1]], dark[m[1]] = shadeOf(t, m[2]), shadeOf(t, m[3])
		}
		if light["accent"].String() != nearest {
			t.Errorf("%s: the light accent is %s", nearest, light["accent"])
		}
		for scheme, c := range map[string]map[string]shade{"light": light, "dark": dark} {
			grounds := map[string][]shade{"light": lightGrounds, "dark": darkGrounds}[scheme]
			for what, pair := range map[string][2]shade{
				"a button's text": {c["on-accent"], c["accent"]}, "a button's text under the pointer": {c["on-accent"], c["accent-strong"]},
				"text on soft ground": {c["accent-strong"], c["accent-soft"]},
			} {
				if pair[0].contrast(pair[1]) < leastContrast {
					t.Errorf("%s, %s: %s has %.2f on %s (%s)", hex, scheme, what, pair[0].contrast(pair[1]), pair[1], pair[0])
				}
			}
			if !c["accent"].readable(grounds) || !c["accent-strong"].readable(grounds) {
				t.Errorf("%s, %s: a link cannot be read (%s, %s)", hex, scheme, c["accent"], c["accent-strong"])
			}
		}
	}
	for _, hex := range []string{"", "red", "#fff", "#12345g", "0f5e5c", "#0f5e5c;", "#0f5e5c}"} {
		if _, ok := CheckColor(hex); ok {
			t.Errorf("%q is a colour", hex)
		}
	}
}

// TestEveryPageShowsTheBrand draws an error page, whose reference is to be quoted, and a mail, with a brand and without.
func TestEveryPageShowsTheBrand(t *testing.T) {
	brand := &Brand{
		Name: "Angkor Market", HomeURL: "https://market.example/", Color: "#1a4d8f", Logo: []byte("<svg/>"), LogoType: "image/svg+xml",
		SupportEmail: "help@market.example", SupportPhone: "+855 23 000 000", SupportURL: "https://market.example/help",
		TermsURL: "https://market.example/terms", PrivacyURL: "https://market.example/privacy",
	}
	plain := WithLocale(context.Background(), "en", time.Now(), nil)
	draw := func(ctx context.Context) (page, mail string) {
		var p, m strings.Builder
		if err := Error(ErrorPage{Status: 500, Reference: "K7M2-4QXD"}).Render(ctx, &p); err != nil {
			t.Fatal(err)
		}
		one := Mail{Kind: "invitation", Link: "https://connect.example.com/x"}
		if err := MailHTML(one).Render(ctx, &m); err != nil {
			t.Fatal(err)
		}
		return p.String(), one.Subject(ctx) + one.Text(ctx) + m.String()
	}
	page, mail := draw(WithBrand(plain, brand))
	for _, part := range []string{"· Angkor Market</title>", "<bdi>Angkor Market</bdi>", brand.LogoURL(), brand.SheetURL(), "mailto:help@market.example", "tel:+85523000000", brand.SupportURL, brand.TermsURL, brand.PrivacyURL, brand.HomeURL} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %s", part)
		}
	}
	if strings.Count(page, "mailto:") != 2 {
		t.Error("support is not named beside the reference and at the foot")
	}
	for _, part := range []string{"Your invitation to Angkor Market", "back office of Angkor Market", "help@market.example"} {
		if !strings.Contains(mail, part) {
			t.Errorf("the mail lacks %s", part)
		}
	}
	if strings.Contains(page+mail, "Patchbay") {
		t.Error("Patchbay is named")
	}
	page, mail = draw(plain)
	if !strings.Contains(page, "· Patchbay</title>") || !strings.Contains(mail, "Patchbay") || strings.Contains(page, BrandPath) || strings.Contains(page, "mailto:") {
		t.Error("without a brand it is not Patchbay")
	}
}
