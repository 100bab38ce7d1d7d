package main

import (
	"net/mail"
	"net/url"
	"regexp"
	"strings"

	"patchbay/internal/connectors"
	"patchbay/internal/text"
	"patchbay/views"
)

const maxBrandName = 60 // characters

var phone = regexp.MustCompile(`^\+?[0-9][0-9 ().-]{2,30}$`)

// readBrand reads the platform's own face. Without any of its settings it is Patchbay's.
func readBrand(e *env) (b views.Brand) {
	if b.Name = text.Name(e.get("BRAND_NAME")); text.Length(b.Name) > maxBrandName {
		e.fault("BRAND_NAME has over %d characters", maxBrandName)
	}
	logo := readLogo(e)
	b.Logo, b.LogoType = logo.Image, logo.Type
	if b.Color = e.get("BRAND_COLOR"); b.Color != "" {
		switch nearest, ok := views.CheckColor(b.Color); {
		case !ok:
			e.fault("BRAND_COLOR is not #rrggbb, as #0f5e5c is")
		case nearest != strings.ToLower(b.Color):
			e.fault("BRAND_COLOR: %s is too light to be read on white, and for white text on it (a contrast under 4.5:1): %s is the nearest that can be. Dark pages make it lighter by themselves", b.Color, nearest)
		}
	}
	for name, to := range map[string]*string{"BRAND_URL": &b.HomeURL, "SUPPORT_URL": &b.SupportURL, "TERMS_URL": &b.TermsURL, "PRIVACY_URL": &b.PrivacyURL} {
		*to = e.get(name)
		if u, err := url.Parse(*to); *to != "" && (err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http") {
			e.fault("%s is not an address like https://platform.example/", name)
		}
	}
	if b.SupportEmail = e.get("SUPPORT_EMAIL"); b.SupportEmail != "" {
		if a, err := mail.ParseAddress(b.SupportEmail); err != nil || a.Address != b.SupportEmail {
			e.fault("SUPPORT_EMAIL is not a mail address like help@platform.example")
		}
	}
	if b.SupportPhone = e.get("SUPPORT_PHONE"); b.SupportPhone != "" && !phone.MatchString(b.SupportPhone) {
		e.fault("SUPPORT_PHONE is not a telephone number like +855 23 000 000")
	}
	return b
}

// readLogo reads the platform's logo. It is zero if there is none.
func readLogo(e *env) connectors.Logo {
	path := e.get("BRAND_LOGO_FILE")
	if path == "" {
		return connectors.Logo{}
	}
	image, ok := e.file("BRAND_LOGO_FILE", path)
	if !ok {
		return connectors.Logo{}
	}
	logo, err := connectors.ParseLogo(image)
	if err != nil {
		e.fault("BRAND_LOGO_FILE: %s %v", path, err)
	}
	return logo
}
