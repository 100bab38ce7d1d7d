package connectors

import "strings"

// Provider is an odd one: code, not an entry of CONNECTORS_FILE. New reads the provider's settings and returns its
// connector; what it returns is dropped when settings are missing or wrong.
type Definition struct {
	Name, Title string
	AccountKeys AccountKeys
	New         func(*Settings, *Client) Connector
}

// SettingPrefix begins the name of each setting that the provider reads.
func (d Definition) SettingPrefix() string { return strings.ToUpper(d.Name) + "_" }

// Odd lists the providers that need code. A fifth is one more line.
func BuiltIn() []Definition {
	return []Definition{
		camInvoiceProvider(),
		elecqProvider(),
		flexitiProvider(),
		bookingsProvider(),
	}
}

// All sets up every provider: the odd ones from get, which returns a setting's value or "", then the standard ones
// from entries, the bytes of CONNECTORS_FILE, nil without one. The error is Faults and names all that is wrong; a
// provider whose settings are merely missing is no fault.
func Load(get func(string) string, entries []byte, wire *Client) ([]Provider, error) {
	var setups []Provider
	var faults Errors
	var names []string
	for _, p := range BuiltIn() {
		s := &Settings{get: get}
		c := p.New(s, wire)
		up := Provider{Name: p.Name, Title: p.Title, Environment: s.environment, AccountKeys: p.AccountKeys, Settings: s.Declared, Missing: s.missing}
		faults = append(faults, s.errors...)
		if len(s.missing) == 0 && len(s.errors) == 0 {
			up.Connector, up.Title = c, c.Info().Title
		}
		setups, names = append(setups, up), append(names, p.Name)
	}
	standard, wrong := standardProviders(get, entries, names, wire)
	for _, c := range standard {
		info := c.Info()
		setups = append(setups, Provider{Name: info.Name, Title: info.Title, Environment: info.Environment, Connector: c})
	}
	faults = append(faults, wrong...)
	if len(faults) > 0 {
		return setups, faults
	}
	return setups, nil
}
