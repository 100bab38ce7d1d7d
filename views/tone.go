package views

import "patchbay/internal/status"

// tone is how a page means what it says: an icon and a colour show it beside the words. Its value ends the names of the classes in app.css.
type tone string

// The tones.
const (
	toneGood    tone = "fine"
	toneWarning tone = "retrying"
	toneBad     tone = "action-needed"
	toneNeutral tone = "disconnected"
)

// toneOf returns the tone of what is said of connections with this health.
func toneOf(h status.Health) tone {
	switch h {
	case status.Fine:
		return toneGood
	case status.Retrying:
		return toneWarning
	case status.ActionNeeded:
		return toneBad
	default:
		return toneNeutral
	}
}
