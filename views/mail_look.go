package views

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/a-h/templ"
)

// mailLogo is the Content-ID by which the HTML of a mail shows the brand's logo (RFC 2392).
const mailLogo = "logo"

// MailLogo returns the file name and the bytes of the logo that goes with every mail, and its Content-ID, which the HTML refers to. ok is
// false if the brand has none that mail clients show: they do not show SVG.
func (b *Brand) MailLogo() (name, contentID string, image []byte, ok bool) {
	if b == nil || b.LogoType != "image/png" {
		return "", "", nil, false
	}
	return "logo.png", mailLogo, b.Logo, true
}

// InlineMail returns the HTML of a mail as a browser shows it alone: the logo within it, and links that open a page of their own.
func (b *Brand) InlineMail(html string) string {
	if _, id, image, ok := b.MailLogo(); ok {
		html = strings.ReplaceAll(html, `src="cid:`+id+`"`, `src="data:image/png;base64,`+base64.StdEncoding.EncodeToString(image)+`"`)
	}
	return strings.Replace(html, "<head>", `<head><base target="_blank">`, 1)
}

// mailLook is the style attributes of a mail. Clients that drop style sheets keep these; what Sheet adds is the dark scheme.
type mailLook struct {
	Body, Ground, Surface, Cell, Brand, Logo, Title, Text, Account, Name, Line, Link, Button, ButtonCell, Small, Foot, FootLine templ.SafeCSS
	GroundColor, SurfaceColor, ButtonColor                                                                                      string
	Sheet                                                                                                                       string
}

// The neutral colours of static/app.css: --ground, --surface, --ink, --quiet, --hair.
const (
	mailGround, mailGroundDark   = "#faf8f4", "#181613"
	mailSurface, mailSurfaceDark = "#ffffff", "#221f1b"
	mailInk, mailInkDark         = "#211d18", "#f2eee7"
	mailQuiet, mailQuietDark     = "#554e45", "#bdb5a8"
	mailHair, mailHairDark       = "#e3dcd1", "#3b362f"
)

// mailLookOf returns the look of a mail with the brand's colours, in the language: Khmer needs taller lines.
func mailLookOf(ctx context.Context) mailLook {
	light, dark := brandOf(ctx).accents()
	leading, title := "1.55", "1.3"
	if Lang(ctx) == "km" {
		leading, title = "1.85", "1.65"
	}
	css := func(format string, a ...any) templ.SafeCSS { return templ.SafeCSS(fmt.Sprintf(format, a...)) }
	text := "color:" + mailInk + ";font-size:16px;line-height:" + leading + ";"
	return mailLook{
		Body:   css("margin:0;padding:0;background-color:%s;color:%s;font-family:-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'Noto Sans Khmer','Khmer OS','Leelawadee UI',sans-serif;-webkit-text-size-adjust:100%%;", mailGround, mailInk),
		Ground: css("padding:24px 12px;background-color:%s;", mailGround),
		Surface: css("width:100%%;max-width:560px;background-color:%s;border:1px solid %s;border-top:4px solid %s;border-radius:10px;border-collapse:separate;text-align:left;",
			mailSurface, mailHair, light.accent),
		Cell:       css("padding:24px 24px 20px;"),
		Brand:      css("margin:0 0 20px;%sfont-weight:bold;", text),
		Logo:       css("display:inline-block;height:32px;width:auto;border:0;vertical-align:middle;margin-right:10px;"),
		Title:      css("margin:0 0 16px;color:%s;font-size:22px;line-height:%s;font-weight:bold;overflow-wrap:anywhere;", mailInk, title),
		Text:       css("margin:0 0 16px;%soverflow-wrap:anywhere;", text),
		Account:    css("margin:0 0 16px;padding:12px 16px;border:1px solid %s;border-left:4px solid %s;border-radius:6px;", mailHair, light.accent),
		Name:       css("margin:0;%sfont-weight:bold;overflow-wrap:anywhere;", text),
		Line:       css("margin:4px 0 0;%soverflow-wrap:anywhere;", text),
		Link:       css("color:%s;text-decoration:underline;", light.accent),
		ButtonCell: css("border-radius:8px;background-color:%s;", light.accent),
		Button: css("display:inline-block;padding:12px 22px;border-radius:8px;background-color:%s;color:%s;font-size:16px;line-height:%s;font-weight:bold;text-decoration:none;",
			light.accent, light.on, leading),
		Small:    css("margin:0 0 12px;color:%s;font-size:14px;line-height:%s;overflow-wrap:anywhere;", mailQuiet, leading),
		Foot:     css("margin:20px 0 0;padding:16px 0 0;border-top:1px solid %s;", mailHair),
		FootLine: css("margin:0;color:%s;font-size:14px;line-height:%s;overflow-wrap:anywhere;", mailQuiet, leading),

		GroundColor: mailGround, SurfaceColor: mailSurface, ButtonColor: light.accent.String(),
		Sheet: fmt.Sprintf(`<style>
:root { color-scheme: light dark; supported-color-schemes: light dark; }
@media (prefers-color-scheme: dark) {
.ground { background-color: %s !important; }
.surface { background-color: %s !important; border-color: %s !important; border-top-color: %s !important; }
.ink { color: %s !important; }
.quiet { color: %s !important; }
.hair { border-color: %s !important; }
.account { border-color: %s !important; border-left-color: %s !important; }
.link { color: %s !important; }
.button { background-color: %s !important; }
a.button { color: %s !important; }
}
</style>`, mailGroundDark, mailSurfaceDark, mailHairDark, dark.accent, mailInkDark, mailQuietDark, mailHairDark, mailHairDark, dark.accent, dark.accent, dark.accent, dark.on),
	}
}
