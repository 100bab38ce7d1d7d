package handlers

import (
	"cmp"
	"net/http"
	"strings"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/views"
)

// provider finds a provider that is set up, by its name. It returns ErrNotFound if there is none.
func (s *Server) provider(name string) (connectors.Provider, error) {
	provider, err := s.anyProvider(name)
	if err == nil && provider.Connector == nil {
		err = pg.ErrNotFound
	}
	return provider, err
}

// anyProvider finds a provider by its name, set up or not. It returns ErrNotFound if there is none.
func (s *Server) anyProvider(name string) (connectors.Provider, error) {
	for _, provider := range s.Providers {
		if provider.Name == name {
			return provider, nil
		}
	}
	return connectors.Provider{}, pg.ErrNotFound
}

// callbackURL returns the redirect_uri that is registered with a provider. It has no query.
func (s *Server) callbackURL(provider string) string {
	return strings.TrimSuffix(s.PublicURL.String(), "/") + "/connect/" + provider + "/callback"
}

// fieldsOf returns what a provider asks the merchant to type; none if its browser is sent off at once.
func fieldsOf(provider connectors.Provider) []connectors.Field {
	switch c := provider.Connector.(type) {
	case connectors.CredentialConnector:
		return c.Fields()
	case connectors.Asker:
		return c.Fields()
	}
	return nil
}

// logo serves a provider's logo.
func (s *Server) logo(w http.ResponseWriter, r *http.Request) error {
	provider, err := s.provider(r.PathValue("provider"))
	if err != nil {
		return err
	}
	if provider.Logo.Image == nil {
		return pg.ErrNotFound
	}
	writeOperatorFile(w, provider.Logo.Type, "public, max-age=3600", provider.Logo.Image)
	return nil
}

func viewProvider(provider connectors.Provider) views.Provider {
	p := views.Provider{Name: provider.Name, Title: provider.Title, Environment: provider.Environment, Logo: provider.Logo.Image != nil}
	if provider.Connector != nil {
		_, p.Keyed = provider.Connector.(connectors.CredentialConnector)
		if key, ok := provider.Connector.(connectors.KeyConnector); ok {
			p.Key, p.Unproved = true, !key.Proves()
		}
		info := provider.Connector.Info()
		p.Color, p.HomeURL, p.About = info.Color, info.HomeURL, info.About
	}
	return p
}

// viewProviderOf shows the provider of a connection, also one whose settings are gone.
func (s *Server) viewProviderOf(name, environment string) views.Provider {
	provider, err := s.anyProvider(name)
	if err != nil {
		provider = connectors.Provider{Name: name, Title: name}
	}
	p := viewProvider(provider)
	p.Environment = environment
	return p
}

// viewAccount returns an account with its provider's keys. self is the id of its connection, "" while there is none.
func (s *Server) viewAccount(provider string, a connectors.Account, self string) views.Account {
	p, _ := s.anyProvider(provider) // an unknown provider declares no keys
	return views.Account{Account: a, Keys: p.AccountKeys, At: cmp.Or(p.Title, provider), Self: self}
}

// accountOf returns the account of a connection, with its nickname.
func (s *Server) accountOf(c db.Connection) views.Account {
	a := s.viewAccount(c.Provider, c.Account, c.ID.String())
	a.Nickname = c.Nickname
	return a
}
