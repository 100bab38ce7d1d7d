package views

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
)

// Brand is the platform's own face on every page and in mail. The zero Brand is Patchbay.
type Brand struct {
	Name         string
	HomeURL      string
	Color        string // #rrggbb; "" for Patchbay's
	Logo         []byte // PNG or SVG; nil for Patchbay's mark
	LogoType     string // its media type
	SupportEmail string
	SupportPhone string
	SupportURL   string
	TermsURL     string
	PrivacyURL   string
}

type brandKey struct{}

// WithBrand returns a context under which every component shows the brand.
func WithBrand(ctx context.Context, b *Brand) context.Context {
	return context.WithValue(ctx, brandKey{}, b)
}

var patchbay = &Brand{}

func brandOf(ctx context.Context) *Brand {
	if b, ok := ctx.Value(brandKey{}).(*Brand); ok && b != nil {
		return b
	}
	return patchbay
}

// brandName returns the name under which pages and mail speak.
func brandName(ctx context.Context) string { return cmp.Or(brandOf(ctx).Name, T(ctx, "layout.name")) }

// The addresses at which a brand's logo and colours are served, under names that change with their content.
const (
	BrandPath = "/brand/"
	logoName  = "logo."
	sheetName = "colors."
)

func hashed(name string, content []byte, ending string) string {
	sum := sha256.Sum256(content)
	return BrandPath + name + hex.EncodeToString(sum[:6]) + ending
}

// LogoURL returns the address of the logo, "" if there is none.
func (b *Brand) LogoURL() string {
	if b == nil || len(b.Logo) == 0 {
		return ""
	}
	return hashed(logoName, b.Logo, map[string]string{"image/png": ".png", "image/svg+xml": ".svg"}[b.LogoType])
}

// SheetURL returns the address of the style sheet with the brand's colours, "" if it has Patchbay's.
func (b *Brand) SheetURL() string {
	if b == nil || b.Color == "" {
		return ""
	}
	return hashed(sheetName, []byte(b.Sheet()), ".css")
}

// supported reports whether there is a way of reaching support.
func (b *Brand) supported() bool {
	return b.SupportEmail != "" || b.SupportPhone != "" || b.SupportURL != ""
}

// The grounds on which the accent is text, in the light and in the dark scheme; the one with the least contrast is what counts.
var (
	lightGrounds = []shade{{0xff, 0xff, 0xff}, {0xfa, 0xf8, 0xf4}, {0xf2, 0xee, 0xe7}}
	darkGrounds  = []shade{{0x18, 0x16, 0x13}, {0x22, 0x1f, 0x1b}, {0x1d, 0x1a, 0x16}}
	white, black = shade{0xff, 0xff, 0xff}, shade{0, 0, 0}
)

// leastContrast is that of text (WCAG 2.2, 1.4.3).
const leastContrast = 4.5

// shade is a colour in sRGB.
type shade struct{ r, g, b uint8 }

func (s shade) String() string { return fmt.Sprintf("#%02x%02x%02x", s.r, s.g, s.b) }

// mixed returns the colour with a part of another, from 0 to 1.
func (s shade) mixed(with shade, part float64) shade {
	mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a)*(1-part) + float64(b)*part)) }
	return shade{mix(s.r, with.r), mix(s.g, with.g), mix(s.b, with.b)}
}

// luminance is the relative luminance of WCAG 2.2.
func (s shade) luminance() float64 {
	linear := func(c uint8) float64 {
		v := float64(c) / 255
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(s.r) + 0.7152*linear(s.g) + 0.0722*linear(s.b)
}

// contrast is the contrast ratio of WCAG 2.2, from 1 to 21.
func (s shade) contrast(with shade) float64 {
	a, b := s.luminance(), with.luminance()
	return (max(a, b) + 0.05) / (min(a, b) + 0.05)
}

// readable reports whether text of the colour can be read on each ground.
func (s shade) readable(grounds []shade) bool {
	for _, ground := range grounds {
		if s.contrast(ground) < leastContrast {
			return false
		}
	}
	return true
}

// towards returns the colour with as little of another as makes it readable on the grounds.
func (s shade) towards(other shade, grounds []shade) shade {
	for part := 0.0; part < 1; part += 0.01 {
		if mixed := s.mixed(other, part); mixed.readable(grounds) {
			return mixed
		}
	}
	return other
}

// CheckColor returns the nearest colour that can be the brand's: the one given, if text of it can be read on the light pages and white text
// on it. Dark pages have it lighter, as far as they need. ok is false for what is not #rrggbb.
func CheckColor(hex string) (nearest string, ok bool) {
	r, g, b, ok := rgb(hex)
	if !ok {
		return "", false
	}
	return shade{r, g, b}.towards(black, lightGrounds).String(), true
}

// accents are the brand's colours in one scheme.
type accents struct {
	accent, strong, soft shade
	on                   shade // text on accent
}

// accents returns the brand's colours in the light and in the dark scheme.
func (b *Brand) accents() (light, dark accents) {
	red, green, blue, _ := rgb(cmp.Or(b.Color, patchbayColor))
	light = accents{accent: shade{red, green, blue}.towards(black, lightGrounds), on: white}
	light.soft = lightGrounds[0].mixed(light.accent, 0.1)
	light.strong = light.accent.mixed(black, 0.25).towards(black, []shade{light.soft})
	dark = accents{accent: light.accent.towards(white, darkGrounds)}
	dark.soft = darkGrounds[1].mixed(dark.accent, 0.12)
	dark.strong = dark.accent.mixed(white, 0.3).towards(white, []shade{dark.soft})
	dark.on = dark.accent.mixed(black, 0.9).towards(black, []shade{dark.accent})
	return light, dark
}

// patchbayColor is --accent of static/app.css in the light scheme.
const patchbayColor = "#0f5e5c"

// Sheet returns the style sheet with the brand's colours for both schemes.
func (b *Brand) Sheet() string {
	light, dark := b.accents()
	return fmt.Sprintf(`:root {
  --accent: light-dark(%s, %s);
  --accent-strong: light-dark(%s, %s);
  --accent-soft: light-dark(%s, %s);
  --on-accent: light-dark(%s, %s);
}
`, light.accent, dark.accent, light.strong, dark.strong, light.soft, dark.soft, light.on, dark.on)
}

// dialled returns a telephone number as tel: addresses have it (RFC 3966).
func dialled(phone string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == '+' {
			return r
		}
		return -1
	}, phone)
}

// contact is a way of reaching support.
type contact struct{ Text, Link string }

// supportContacts are the ways of reaching support, as mails have them.
func (b *Brand) supportContacts() (all []contact) {
	if b.SupportEmail != "" {
		all = append(all, contact{b.SupportEmail, "mailto:" + b.SupportEmail})
	}
	if b.SupportPhone != "" {
		all = append(all, contact{b.SupportPhone, "tel:" + dialled(b.SupportPhone)})
	}
	if b.SupportURL != "" {
		all = append(all, contact{b.SupportURL, b.SupportURL})
	}
	return all
}
