package views

import (
	"cmp"
	"context"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/status"
)

// Event is one row of a timeline or of the list of events. A name that the reader may not know is empty in it.
type Event struct {
	audit.Line
	Title  string   // of its provider, in a list that mixes providers
	Filter []Filter // of the list that was exported, or counted for bulk work
}

// recovered is the kind under which a refresh is shown that was saved after others had failed. It is never stored.
const recovered status.Kind = "recovered"

// kind returns the kind under which the event is shown.
func (e Event) kind() status.Kind {
	if e.Kind == status.RefreshSaved && e.Note == "recovered" {
		return recovered
	}
	return e.Kind
}

// note returns the event's note where that is for people, or has words under "note.".
func (e Event) note() string {
	switch {
	case e.kind() == recovered:
		return ""
	case e.Kind == status.UserSignedIn: // the text says it
		return ""
	case e.Kind.Revocation(), e.Kind == status.ConnectionDisconnected: // the receipt says it
		return ""
	case e.Kind == status.ConnectionsExported, e.Kind == status.EventsExported, e.Kind == status.BulkCounted: // Filter says it
		return ""
	}
	return e.Note
}

// Call returns the call to a provider that the event records, nil if it records none.
func (e Event) Call() *connectors.Call {
	if e.Outcome == "" || e.Kind == status.ProviderChecked {
		return nil
	}
	name, ok := e.Kind.Call()
	if !ok {
		name = string(e.Kind)
	}
	return &connectors.Call{
		Name: name, Outcome: e.Outcome, Status: e.Status, Code: e.Code, Reference: e.Reference, Took: time.Duration(e.Millis) * time.Millisecond,
		Sent: e.Note != status.NoteUnsent && e.Note != status.NoteSealed,
	}
}

// text says in words what happened.
func (e Event) text(ctx context.Context, provider string) string {
	kind := e.kind()
	key := "event." + kind.OfConnection()
	if e.Kind == status.UserSignedIn && e.Note != "" {
		return T(ctx, "event.user.signed-in-through", "Title", e.Note)
	}
	if note := e.note(); note != "" && has(ctx, key+"."+note) { // of some kinds the cause says more
		return T(ctx, key+"."+note, "Provider", provider)
	}
	if has(ctx, key) {
		return T(ctx, key, "Provider", provider)
	}
	if call, ok := kind.Call(); ok {
		return T(ctx, "event.call", "Provider", provider) + " (" + callName(ctx, call) + ")"
	}
	return humanised(string(kind))
}

// noteText returns the note in words: of some kinds it is a code, of the others a text that a person wrote, or a name.
func (e Event) noteText(ctx context.Context) string {
	note, prefix := e.note(), ""
	switch {
	case e.Kind.Refresh():
		prefix = "note."
	case e.Kind == status.IncidentOpened, e.Kind == status.IncidentEnded:
		prefix = "environment."
	}
	if prefix != "" && has(ctx, prefix+note) {
		return T(ctx, prefix+note)
	}
	return note
}

// technical says that the note is why a refresh failed, as the connector puts it, which is for staff.
func (e Event) technical(ctx context.Context) bool {
	_, failed := e.Kind.Failure()
	return failed && !has(ctx, "note."+e.note())
}

// tone returns the tone in whose colour the event is shown, "" for none.
func (e Event) tone() tone {
	if o, failed := e.Kind.Failure(); failed {
		return toneOf(o.Health())
	}
	switch e.kind() {
	case status.ConnectionConnected, status.ConnectionReconnected, status.RefreshSaved, recovered, status.IncidentEnded:
		return toneGood
	case status.IncidentOpened, status.ConnectionRevocationNoticed:
		return toneWarning
	}
	if call := e.Call(); call != nil {
		return toneOf(call.Outcome.Health())
	}
	return ""
}

// by names who did it. A failed refresh is not the doing of the user who asked for it, only found by them.
func (e Event) by(ctx context.Context) string {
	if e.Kind.Refresh() && e.tone() != toneGood {
		return T(ctx, "connection.found", "Name", e.ActorName)
	}
	return T(ctx, "connection.by", "Name", e.ActorName)
}

// link returns the address of what the event is about and its name, "" if it has none.
func (e Event) link() (address, name string) {
	switch {
	case e.Kind.Bulk():
		return "/admin/bulk/" + e.Reference, ""
	case e.AccountName != "":
		return "/connections/" + e.ConnectionID.String(), e.AccountName
	case e.FlowReference != "":
		return "/flows/" + e.FlowReference, e.FlowReference
	case e.MerchantName != "":
		return "/admin/merchants/" + e.MerchantID.String(), e.MerchantName
	}
	return "", ""
}

// actorName names an actor, "" being Patchbay itself.
func actorName(ctx context.Context, name string) string { return cmp.Or(name, brandName(ctx)) }

// kindText describes a kind of events, without naming a provider.
func kindText(ctx context.Context, kind string) string {
	text := Event{Line: audit.Line{Event: audit.Event{Kind: status.Kind(kind)}}}.text(ctx, T(ctx, "filter.the-provider"))
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:]
}

// callName names a call by its own name, or by the kind of its event.
func callName(ctx context.Context, name string) string {
	switch {
	case strings.HasPrefix(name, "refresh"):
		name = "refresh"
	case strings.Contains(name, "revoke"):
		name = "revoke"
	}
	return wordFor(ctx, "call.", name)
}

// callFigures says in one line how a call ended.
func callFigures(ctx context.Context, c connectors.Call) string {
	parts := []string{wordFor(ctx, "class.", c.Outcome)}
	if c.Status != 0 {
		parts = append(parts, "HTTP "+statusText(c.Status))
	}
	if c.Code != "" {
		parts = append(parts, c.Code)
	}
	if !c.Sent {
		return strings.Join(append(parts, T(ctx, "connection.not-sent")), " · ")
	}
	return strings.Join(append(parts, Took(ctx, c.Took)), " · ")
}
