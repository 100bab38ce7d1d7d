package handlers

import (
	"net/url"
	"slices"

	"patchbay/internal/search"
	"patchbay/views"
)

// options makes the options of a select. One that was chosen but is not in the list is added.
func options[T ~string](chosen T, values ...T) []views.Option {
	if !slices.Contains(values, chosen) {
		values = append(values, chosen)
	}
	list := make([]views.Option, len(values))
	for i, value := range values {
		list[i] = views.Option{Value: string(value), Selected: value == chosen}
	}
	return list
}

// providerOptions makes the options of a select of providers.
func (s *Server) providerOptions(chosen string) []views.Option {
	list := []views.Option{{Selected: chosen == ""}}
	known := chosen == ""
	for _, provider := range s.Providers {
		list = append(list, views.Option{Value: provider.Name, Label: providerTitle(provider), Selected: provider.Name == chosen})
		known = known || provider.Name == chosen
	}
	if !known {
		list = append(list, views.Option{Value: chosen, Label: chosen, Selected: true})
	}
	return list
}

// sortColumn makes a column's head. Its link sorts by the column or, where the list is sorted by it, reverses the order.
func sortColumn(f search.Filter, code string, latestFirst bool) views.Column {
	var column views.Column
	current := f.Sort
	if current == "" {
		current = "-" + search.SortConnected
	}
	next := code
	if latestFirst {
		next = "-" + code
	}
	switch current {
	case code:
		column.Sorted, next = "ascending", "-"+code
	case "-" + code:
		column.Sorted, next = "descending", code
	}
	f.Sort = next
	column.URL = "/admin/connections?" + FilterValues(f).Encode()
	return column
}

// pager makes the links between a list's pages. path and values are the list's address, at the cursor of this page, prev and
// next those of its neighbours, "" where there is none.
func pager(path string, values url.Values, at, prev, next string) views.Pager {
	link := func(to string) string {
		there := url.Values{"at": {to}}
		for name, v := range values {
			there[name] = v
		}
		return path + "?" + there.Encode()
	}
	var p views.Pager
	if prev != "" {
		p.Prev = link(prev)
	}
	if next != "" {
		p.Next = link(next)
	}
	if at != "" {
		p.First = path
		if len(values) > 0 {
			p.First += "?" + values.Encode()
		}
	}
	return p
}

// chosen returns the named values of a query that are not empty.
func chosen(query url.Values, names ...string) url.Values {
	kept := url.Values{}
	for _, name := range names {
		if value := query.Get(name); value != "" {
			kept.Set(name, value)
		}
	}
	return kept
}
