package handlers

import (
	"strings"

	"patchbay/internal/connectors"
	"patchbay/internal/pg"
	"patchbay/views"
)

// provider finds a provider that is set up, by its name. It returns ErrNotFound if there is none.
func (s *Server) provider(name string) (connectors.Provider, error) {
	setup, err := s.anyProvider(name)
	if err == nil && setup.Connector == nil {
		err = pg.ErrNotFound
	}
	return setup, err
}

// anyProvider finds a provider by its name, set up or not. It returns ErrNotFound if there is none.
func (s *Server) anyProvider(name string) (connectors.Provider, error) {
	for _, setup := range s.Providers {
		if setup.Name == name {
			return setup, nil
		}
	}
	return connectors.Provider{}, pg.ErrNotFound
}

// callbackURL returns the redirect_uri that is registered with a provider. It has no query.
func (s *Server) callbackURL(provider string) string {
	return strings.TrimSuffix(s.PublicURL.String(), "/") + "/connect/" + provider + "/callback"
}

func viewProvider(setup connectors.Provider) views.Provider {
	p := views.Provider{Name: setup.Name, Title: setup.Title, Environment: setup.Environment}
	if setup.Connector != nil {
		_, p.Keyed = setup.Connector.(connectors.CredentialConnector)
		info := setup.Connector.Info()
		p.Color, p.HomeURL = info.Color, info.HomeURL
	}
	return p
}

// viewProviderOf shows the provider of a connection, also one whose settings are gone.
func (s *Server) viewProviderOf(name, environment string) views.Provider {
	setup, err := s.anyProvider(name)
	if err != nil {
		setup = connectors.Provider{Name: name, Title: name}
	}
	p := viewProvider(setup)
	p.Environment = environment
	return p
}

// viewAccount returns an account with its provider's keys. self is the id of its connection, "" while there is none.
func (s *Server) viewAccount(provider string, a connectors.Account, self string) views.Account {
	p, _ := s.anyProvider(provider) // an unknown provider declares no keys
	return views.Account{Account: a, Keys: p.AccountKeys, Self: self}
}
