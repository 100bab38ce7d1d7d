package connectors

import (
	"strings"

	"patchbay/internal/status"
)

// Definition is a built-in provider: one that needs code. New reads its settings and returns its connector, which is
// dropped if settings are missing or wrong.
type Definition struct {
	Name, Title string
	AccountKeys AccountKeys
	New         func(*Settings, *Client) Connector
}

// SettingPrefix returns how the name of each of the provider's settings begins.
func (d Definition) SettingPrefix() string { return strings.ToUpper(d.Name) + "_" }

// AccountKeys names the details of an account that pages and exports treat specially. An empty key stands for none.
type AccountKeys struct {
	OtherName  string   // the account's name in another script, shown beside its name
	Identifier string   // its official number, such as a tax number: shown first, and easy to copy
	Export     []string // details with a column of their own in exports, in this order
}

// Provider is a provider as the settings leave it.
type Provider struct {
	Name, Title string
	Environment string    // "sandbox" or "production"; "" if it is not set
	Connector   Connector // nil if the provider is not set up: then it is not offered to merchants
	Missing     []string  // names of the settings that are required and not set
	Settings    []Setting // every setting that it reads, set or not; none for a standard provider
	AccountKeys AccountKeys
	Logo        Logo // of an entry that names one, after ReadLogos
}

// Is reports whether this is a provider, in its present environment: only then it is asked about the connections of both.
func (p Provider) Is(name, environment string) bool {
	return p.Name == name && p.Environment == environment
}

// BuiltIn lists the providers that need code.
func BuiltIn() []Definition {
	return []Definition{
		camInvoiceDefinition(),
		elecqDefinition(),
		flexitiDefinition(),
		bookingsDefinition(),
	}
}

// Load sets up every provider: the built-in ones, then those of connectorsFile, the bytes of CONNECTORS_FILE or nil.
// getenv returns the value of a setting, or "". It returns Errors if any setting or entry is wrong. A provider whose
// settings are merely missing is no error.
func Load(getenv func(string) string, connectorsFile []byte, client *Client) ([]Provider, error) {
	var providers []Provider
	var errs Errors
	var names []string
	builtIn := map[string]bool{} // settings of built-in providers
	for _, d := range BuiltIn() {
		s := &Settings{getenv: func(name string) string {
			builtIn[name] = true
			return getenv(name)
		}}
		c := d.New(s, client)
		p := Provider{
			Name: d.Name, Title: d.Title, Environment: s.environment, AccountKeys: d.AccountKeys, Settings: s.declared, Missing: s.missing,
		}
		errs = append(errs, s.errs...)
		if len(s.missing) == 0 && len(s.errs) == 0 {
			p.Connector, p.Title = c, c.Info().Title
		}
		providers, names = append(providers, p), append(names, d.Name)
	}
	standard, more := loadStandard(func(name string) string {
		if builtIn[name] {
			delete(builtIn, name) // one fault is enough
			errs = append(errs, "CONNECTORS_FILE: "+name+" is a setting of another provider's, and no secret of an entry's")
		}
		return getenv(name)
	}, connectorsFile, names, client)
	for _, c := range standard {
		info := c.Info()
		providers = append(providers, Provider{Name: info.Name, Title: info.Title, Environment: info.Environment, Connector: c})
	}
	if errs = append(errs, more...); len(errs) > 0 {
		return providers, errs
	}
	return providers, nil
}

// Statuses returns what the settings make of each provider's connections. The caller adds incidents.
func Statuses(providers []Provider) status.Providers {
	statuses := status.Providers{}
	for _, p := range providers {
		typed, ok := p.Connector.(CredentialConnector)
		endless := ok && typed.Info().GrantLife == 0 // consent that ends wants the merchant again, whatever was typed
		statuses[p.Name] = status.Provider{SetUp: p.Connector != nil, Environment: p.Environment, Credentials: endless}
	}
	return statuses
}

// Environments returns each provider's present environment, by its name.
func Environments(providers []Provider) map[string]string {
	present := make(map[string]string, len(providers))
	for _, p := range providers {
		present[p.Name] = p.Environment
	}
	return present
}
