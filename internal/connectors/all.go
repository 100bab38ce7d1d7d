package connectors

// Provider is an odd one: code, not an entry of CONNECTORS_FILE. New reads the provider's settings and returns its
// connector; what it returns is dropped when settings are missing or wrong.
type Provider struct {
	Name, Title string
	New         func(*Settings, *Wire) Connector
}

// Odd lists the providers that need code. A fifth is one more line.
func Odd() []Provider {
	return []Provider{
		camInvoiceProvider(),
		elecqProvider(),
		flexitiProvider(),
		bookingsProvider(),
	}
}

// All sets up every provider: the odd ones from get, which returns a setting's value or "", then the standard ones
// from entries, the bytes of CONNECTORS_FILE, nil without one. The error is Faults and names all that is wrong; a
// provider whose settings are merely missing is no fault.
func All(get func(string) string, entries []byte, wire *Wire) ([]Setup, error) {
	var setups []Setup
	var faults Faults
	var names []string
	for _, p := range Odd() {
		s := &Settings{get: get}
		c := p.New(s, wire)
		up := Setup{Name: p.Name, Title: p.Title, Environment: s.environment, Settings: s.Asked, Lacks: s.lacks}
		faults = append(faults, s.faults...)
		if len(s.lacks) == 0 && len(s.faults) == 0 {
			up.Connector, up.Title = c, c.Info().Title
		}
		setups, names = append(setups, up), append(names, p.Name)
	}
	standard, wrong := standardProviders(get, entries, names, wire)
	for _, c := range standard {
		info := c.Info()
		setups = append(setups, Setup{Name: info.Name, Title: info.Title, Environment: info.Environment, Connector: c})
	}
	faults = append(faults, wrong...)
	if len(faults) > 0 {
		return setups, faults
	}
	return setups, nil
}
