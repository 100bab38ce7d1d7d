package status

// MustReconnect is the SQL condition that Of gives connection c with grant g a ReconnectBy that is later than one time and not later than
// another: what lists, mails and webhooks of access that ends are about. from and to are placeholders of those times, names and
// environments of what Reconnecting returns.
func MustReconnect(from, to, names, environments string) string {
	return `(g.refresh_expiry_fixed AND g.refresh_expires_at > ` + from + ` AND g.refresh_expires_at <= ` + to + `
		AND (c.provider, c.environment) IN (SELECT * FROM unnest(` + names + `::text[], ` + environments + `::text[])) AND c.problem = '' AND c.disconnected_at IS NULL)`
}

// Reconnecting returns the providers of which a connection may have a ReconnectBy, with the present environment of each.
func (ps Providers) Reconnecting() (names, environments []string) {
	for name, p := range ps {
		if p.SetUp && !p.Credentials {
			names, environments = append(names, name), append(environments, p.Environment)
		}
	}
	return names, environments
}
