package views

import (
	"context"
	"maps"
	"slices"

	"patchbay/internal/text"
)

// match is a field in which words of a search were found.
type match struct{ Label, Value string }

// matches returns the fields that have the words of the search which nothing else in the row shows, each word once.
func (r ConnectionRow) matches(ctx context.Context) []match {
	if r.Reference() == r.Query {
		return []match{{T(ctx, "layout.reference"), r.Query}}
	}
	fields := []match{{T(ctx, "field.external_id"), r.ExternalID}, {detailLabel(ctx, r.Account.Keys.Identifier), r.Account.identifier()}}
	for _, d := range r.Account.Details {
		if shape := r.Account.shape(d); shape != "structure" && shape != "empty" {
			fields = append(fields, match{detailLabel(ctx, d.Key), d.Value})
		}
	}
	for _, d := range r.Account.Values.Texts() {
		fields = append(fields, match{d.Key, d.Value})
	}
	for _, name := range slices.Sorted(maps.Keys(r.Account.Input)) {
		fields = append(fields, match{fieldLabel(ctx, name), r.Account.Input[name]})
	}
	for _, u := range r.People {
		fields = append(fields, match{T(ctx, "filter.person"), displayName(u)}, match{T(ctx, "filter.person"), u.Email})
	}
	fields = append(fields, match{T(ctx, "admin_connection.id"), r.ID.String()}, match{T(ctx, "admin_merchants.id"), r.MerchantID.String()})

	left := r.Find.Without(append(r.Account.otherNames(ctx), r.Account.displayName(ctx), r.Account.ID, r.MerchantName)...)
	var why []match
	for _, one := range fields {
		if still := left.Without(one.Value); len(still.Words()) < len(left.Words()) {
			why, left = append(why, one), still
		}
	}
	return why
}

// part is a part of a text, marked or not.
type part struct {
	text   string
	marked bool
}

// parts cuts what people or a provider wrote at what was found in it.
func parts(find text.Finder, s string) []part {
	s = text.Clean(s)
	var all []part
	at := 0
	for _, span := range find.Spans(s) {
		all = append(all, part{s[at:span.From], false}, part{s[span.From:span.To], true})
		at = span.To
	}
	return append(all, part{s[at:], false})
}
