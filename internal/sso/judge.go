package sso

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
)

// Person is somebody whom the provider has authenticated. Issuer and subject identify them, and nothing else does.
type Person struct {
	Issuer, Subject string
	Name, Email     string // for display; as the provider says, of any length
	Admin, Support  bool
	Merchants       []string // external ids: of somebody who acts for one merchant, exactly one
}

// claims are those of an ID token or of userinfo. Numbers are json.Number.
type claims map[string]any

// UnmarshalJSON keeps numbers as they are written: an id of 17 digits is no float.
func (c *claims) UnmarshalJSON(b []byte) error {
	all, err := parseObject(b)
	*c = all
	return err
}

// text returns a claim that is a string, else "".
func (c claims) text(name string) string {
	text, _ := c[name].(string)
	return text
}

// values returns the strings and numbers of a claim that is one of them or an array of them, each once.
func (c claims) values(name string) (all []string) {
	list, ok := c[name].([]any)
	if !ok {
		list = []any{c[name]}
	}
	for _, one := range list {
		value := ""
		switch one := one.(type) {
		case string:
			value = one
		case json.Number:
			value = one.String()
		}
		if value != "" {
			all = append(all, value)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// judge says who a person with verified claims is, and what their claims make of them.
func (p *Provider) judge(issuer string, c claims) Person {
	who := Person{Issuer: issuer, Subject: c.text("sub"), Name: cmp.Or(c.text("name"), c.text("preferred_username"))}
	if verified, said := c["email_verified"]; !said || verified == true || verified == strconv.FormatBool(true) {
		who.Email = c.text("email")
	}
	for _, role := range c.values(p.o.RoleClaim) {
		who.Admin = who.Admin || slices.Contains(p.o.Admin, role)
		who.Support = who.Support || slices.Contains(p.o.Support, role)
	}
	if p.o.MerchantClaim != "" {
		who.Merchants = c.values(p.o.MerchantClaim)
	}
	return who
}
