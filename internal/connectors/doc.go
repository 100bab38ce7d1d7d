// Package connectors speaks the providers' protocols: how access is asked for, exchanged, refreshed and revoked. It
// knows no database, no page and no environment variable. What a provider answers becomes a Grant, or an error whose
// type says who must act.
//
//	                 Connector: Info, Refresh
//	                /                        \
//	Redirector                                CredentialConnector
//	  AuthorizationURL  where the browser goes  Fields        what the merchant types
//	  Code              what came back          Authenticate  typed credentials for a Grant
//	  Exchange          the code for a Grant
//
// Each connector is one of the two. What else a provider has a call for is found by a type assertion:
//
//	Revoker            ends access at the provider
//	Prober             asks whether a grant is alive
//	Checker            asks whether the provider answers, with no grant at all
//	CallbackRegistrar  registers our callback address
//	WebhookReceiver    registers and reads webhooks
//
// A provider is either built in, as one file and one line in all.go, or standard: an entry of CONNECTORS_FILE.
//
//	connector.go       the interfaces and the values that go through them
//	errors.go          the errors, and who must act for each
//	all.go             the providers: what is built in, what the settings make of it
//	settings.go        reading a provider's settings
//	call.go            Client: the only code that talks HTTP
//	response.go        reading JSON that may have any shape; lifetime.go: lifetimes in every wording
//	oautherror.go      whom an OAuth error is about
//	inputs.go          checking what merchants type
//	entry.go           the keys of an entry of CONNECTORS_FILE; entryread.go, entrycheck.go: reading and checking them
//	discovery.go       what is learned from the issuer
//	standard.go        what a standard provider is like: profile; clientauth.go: how we prove who we are
//	authorize.go       its steps: the authorization request,
//	token.go           exchange and refresh,
//	identify.go        whose account it is; openid.go: ID tokens; beside.go: without an account in the entry; path.go: values by path
//	revoke.go          and the end of access
//
// The rules for all of them are in package connectortest, which every connector's test runs.
package connectors
