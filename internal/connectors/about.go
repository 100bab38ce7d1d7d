package connectors

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// About is what an operator says of a provider for people.
type About struct {
	Description Words // in place of our sentence
	Category    Words
	PortalURL   Words // where its people manage their account; "" if it is not said
	HelpURL     Words
	LogoFile    string // path of the image that ReadLogos reads
}

// Logo is an image that pages show: a provider's, or the platform's.
type Logo struct {
	Image []byte // nil if there is none
	Type  string // its media type
}

// ParseLogo says which of the two an image is: a PNG, or an SVG that is well-formed XML. Its error ends a sentence that begins with
// where the image is from.
func ParseLogo(image []byte) (Logo, error) {
	_, err := png.DecodeConfig(bytes.NewReader(image))
	switch {
	case len(image) > maxLogo:
		return Logo{}, errors.New("has over 64 KB")
	case err == nil:
		return Logo{image, "image/png"}, nil
	case isSVG(image):
		return Logo{image, "image/svg+xml"}, nil
	}
	return Logo{}, errors.New("is neither PNG nor SVG")
}

// isSVG reports whether a file is well-formed XML whose root is svg.
func isSVG(b []byte) bool {
	d := xml.NewDecoder(bytes.NewReader(b))
	root := ""
	for {
		token, err := d.Token()
		if err != nil {
			return root == "svg" && errors.Is(err, io.EOF)
		}
		if start, ok := token.(xml.StartElement); ok && root == "" {
			root = start.Name.Local
		}
	}
}

// about returns what an entry says of its provider.
func (e Entry) about() About {
	return About{Description: e.Description, Category: e.Category, PortalURL: e.PortalURL, HelpURL: e.HelpURL, LogoFile: e.LogoFile}
}

// ReadLogos reads the logos that entries name. read returns the content of a file. It returns all that is wrong with them.
func ReadLogos(providers []Provider, read func(path string) ([]byte, error)) (errs Errors) {
	for i, p := range providers {
		if p.Connector == nil || p.Connector.Info().About.LogoFile == "" {
			continue
		}
		image, err := read(p.Connector.Info().About.LogoFile)
		if err != nil {
			err = errors.New("cannot be read")
		} else {
			providers[i].Logo, err = ParseLogo(image)
		}
		if err != nil {
			errs = append(errs, "CONNECTORS_FILE entry "+p.Name+": logo_file "+err.Error())
		}
	}
	return errs
}

var (
	colorShape = regexp.MustCompile(`^#[0-9A-Fa-f]{6}$`)
	lineBreak  = regexp.MustCompile(`[\r\n]`)
)

const (
	maxDescription = 500 // bytes
	maxCategory    = 60
	maxLogo        = 64 << 10
)

// aboutFaults says what is wrong with what people are told.
func (e Entry) aboutFaults() (wrong []string) {
	if e.Color != "" && !colorShape.MatchString(e.Color) {
		wrong = append(wrong, "color must be #rrggbb")
	}
	for _, one := range []struct {
		key   string
		words Words
		most  int
		url   bool
	}{{"description", e.Description, maxDescription, false}, {"category", e.Category, maxCategory, false}, {"portal_url", e.PortalURL, 2000, true}, {"help_url", e.HelpURL, 2000, true}} {
		for _, language := range slices.Sorted(maps.Keys(one.words)) {
			key, said := strings.TrimSuffix(one.key+"."+language, "."), one.words[language]
			if fault := urlFault(said, e.Environment, true); one.url && said != "" && fault != "" {
				wrong = append(wrong, key+" "+fault)
			}
			if len(said) > one.most || lineBreak.MatchString(said) {
				wrong = append(wrong, key+" must be one line, and not so long")
			}
		}
	}
	return wrong
}

// MarshalJSON writes a text for all languages as such, and others by language, as an entry has them.
func (w Words) MarshalJSON() ([]byte, error) {
	if one, ok := w[""]; ok || len(w) == 0 {
		return json.Marshal(one)
	}
	return json.Marshal(map[string]string(w))
}
