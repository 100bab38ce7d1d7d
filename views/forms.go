package views

import (
	"context"
	"strconv"
)

// forms counts the forms of a page that have fields to type into, as they are drawn.
type forms struct{ posts, searches int }

type formsKey struct{}

func withForms(ctx context.Context) context.Context {
	return context.WithValue(ctx, formsKey{}, &forms{})
}

// formID returns the id of the next form with fields to type into. A change of language keeps what was typed into forms with such an id.
func formID(ctx context.Context) string {
	f, ok := ctx.Value(formsKey{}).(*forms)
	if !ok { // drawn without a page around it
		return "typed"
	}
	f.posts++
	return numbered("typed", f.posts)
}

// searchID is formID for a form that searches or filters.
func searchID(ctx context.Context) string {
	f, ok := ctx.Value(formsKey{}).(*forms)
	if !ok {
		return "searched"
	}
	f.searches++
	return numbered("searched", f.searches)
}

func numbered(id string, n int) string {
	if n == 1 {
		return id
	}
	return id + "-" + strconv.Itoa(n)
}

// typedForm returns the id of the form that the buttons of other languages send, the first one that is no search where there is one.
// It returns "" for a page without forms to type into. The script sends the other forms along.
func typedForm(ctx context.Context) string {
	f, ok := ctx.Value(formsKey{}).(*forms)
	switch {
	case ok && f.posts > 0:
		return "typed"
	case ok && f.searches > 0:
		return "searched"
	}
	return ""
}
