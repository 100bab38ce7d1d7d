package views

import (
	"cmp"
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/mileusna/useragent"
	"golang.org/x/net/publicsuffix"
	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"patchbay/internal/account"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/status"
	"patchbay/internal/text"
)

// wordIf returns the text of key, "" if there is none.
func wordIf(ctx context.Context, key string, pairs ...any) string {
	if !has(ctx, key) {
		return ""
	}
	return T(ctx, key, pairs...)
}

// scriptOf returns the lang attribute of a text from outside. Khmer letters need Khmer's line height and voice, whatever the
// page's language.
func scriptOf(ctx context.Context, s string) string {
	for _, r := range s {
		if unicode.Is(unicode.Khmer, r) {
			return "km"
		}
	}
	if Lang(ctx) == "km" {
		return "en"
	}
	return Lang(ctx)
}

// providerText returns the text about a provider on a subject ("asks", "kept", "ends", "where"): its own, else that of its
// kind, by redirect or by typed credentials.
func providerText(ctx context.Context, p Provider, subject string) string {
	kind := "redirect"
	if p.Keyed {
		kind = "keyed"
	}
	for _, key := range []string{
		"provider." + p.Name + "." + subject + "-" + kind, "provider." + p.Name + "." + subject,
		"provider." + subject + "-" + kind, "provider." + subject,
	} {
		if has(ctx, key) {
			return T(ctx, key, "Provider", p.Title)
		}
	}
	return ""
}

// blurb says what the provider is for: as the operator says it, else as we say it of any.
func (p Provider) blurb(ctx context.Context) string {
	if said := text.Name(p.About.Description.In(Lang(ctx))); said != "" {
		return said
	}
	return providerText(ctx, p, "blurb")
}

// category returns what kind of provider it is: as the operator says it, else as we do of the built-in ones; "" if neither is said.
func (p Provider) category(ctx context.Context) string {
	if said := text.Name(p.About.Category.In(Lang(ctx))); said != "" {
		return said
	}
	return providerText(ctx, p, "category")
}

// portal returns the address of the provider's own pages for its people, "" if it is unknown.
func (p Provider) portal(ctx context.Context) string {
	return cmp.Or(p.About.PortalURL.In(Lang(ctx)), p.HomeURL)
}

// displayName returns how the account is called: by its nickname, by its name in either script, else by its provider and id.
func (a Account) displayName(ctx context.Context) string {
	switch {
	case a.Nickname != "":
		return a.Nickname
	case text.Name(a.Name) != "":
		return text.Name(a.Name)
	case a.otherName() != "":
		return a.otherName()
	case a.nameless():
		return T(ctx, "flow.nameless")
	case text.Name(a.At) == "":
		return a.ID
	}
	return T(ctx, "account.by-id", "Provider", a.At, "ID", a.ID)
}

// otherNames returns what the account is called beside its displayName.
func (a Account) otherNames(ctx context.Context) (others []string) {
	own := a
	own.Nickname = ""
	for _, name := range []string{own.displayName(ctx), a.otherName()} {
		if name != "" && name != a.displayName(ctx) && !slices.Contains(others, name) {
			others = append(others, name)
		}
	}
	return others
}

// highlights returns up to four details that help to recognise an account, without its names and numbers.
func (a Account) highlights() []connectors.Detail {
	var out []connectors.Detail
	for _, d := range a.Details {
		if d.Value == "" || d.Value == a.Name || d.Value == a.otherName() || d.Value == a.ID || d.Value == a.identifier() || a.shape(d) == "structure" {
			continue
		}
		if out = append(out, d); len(out) == 4 {
			break
		}
	}
	return out
}

// shape returns how a detail is shown: "text", "id" with a copy button, "structure" in a folded block, or "empty".
func (a Account) shape(d connectors.Detail) string {
	v := strings.TrimSpace(d.Value)
	switch {
	case v == "" || v == "null":
		return "empty"
	case textsOf(v) != nil:
		return "text"
	case strings.HasPrefix(v, "{") || strings.HasPrefix(v, "["):
		return "structure"
	case d.Key == a.Keys.Identifier || strings.HasSuffix(strings.ToLower(d.Key), "_id") || d.Key == "sub":
		return "id"
	}
	return "text"
}

// detailText returns a detail's value in words.
func detailText(ctx context.Context, d connectors.Detail) string {
	switch d.Value {
	case "true":
		return T(ctx, "detail.yes")
	case "false":
		return T(ctx, "detail.no")
	}
	if t, err := time.Parse(time.DateOnly, d.Value); err == nil {
		l := localeOf(ctx)
		return l.dayMonth(t) + " " + strconv.Itoa(t.Year())
	}
	if d.Key == "scope" {
		return wordFor(ctx, "asks.", d.Value)
	}
	if list := textsOf(d.Value); list != nil {
		return strings.Join(list, ", ")
	}
	if region, err := language.ParseRegion(d.Value); err == nil && d.Key == "country" {
		if name := display.Regions(language.Make(Lang(ctx))).Name(region); name != "" {
			return name
		}
	}
	return d.Value
}

// textsOf returns the texts of a JSON list of a few texts, nil for all else.
func textsOf(value string) (list []string) {
	if !strings.HasPrefix(value, "[") || json.Unmarshal([]byte(value), &list) != nil || len(list) > 20 {
		return nil
	}
	return list
}

// idLabel returns what the provider calls the account's id where it is one of its details, so that it has one name on every page.
func (a Account) idLabel(ctx context.Context) string {
	for _, d := range a.Details {
		if d.Value == a.ID {
			return detailLabel(ctx, d.Key)
		}
	}
	return T(ctx, "connection.account-id")
}

// detailsFor returns the account's details for its merchant, who can read no structures of the provider's programs, or for staff.
func (a Account) detailsFor(staff bool) []connectors.Detail {
	if staff {
		return a.Details
	}
	return slices.DeleteFunc(slices.Clone(a.Details), func(d connectors.Detail) bool { return a.shape(d) == "structure" })
}

// problemText says in a sentence what is wrong and what to do, to the merchant or to staff.
func problemText(ctx context.Context, s status.Status, p Provider, staff bool) string {
	keys := []string{"problem." + string(s.Health)}
	switch {
	case s.Health == status.Retrying && s.Party == status.PartyPlatform: // in an incident in which our own client is suspected
		keys = []string{"problem.suspected"}
	case s.Stopped:
		keys = []string{"problem.stopped"}
	case s.Health == status.ActionNeeded:
		keys = []string{"problem." + string(s.Problem), "problem.who-" + string(s.Party), "problem.action-needed"}
	}
	for _, key := range keys {
		if has(ctx, key) || staff && has(ctx, "staff-"+key) {
			return textFor(ctx, staff, key, p)
		}
	}
	return ""
}

// textFor returns the text of key for the merchant, or the one for staff ("staff-" before the key) if there is one.
func textFor(ctx context.Context, staff bool, key string, p Provider) string {
	if staff && has(ctx, "staff-"+key) {
		key = "staff-" + key
	}
	return T(ctx, key, "Provider", p.Title)
}

// whoText names who must act, for the merchant.
func whoText(ctx context.Context, who status.Party, p Provider) string {
	switch who {
	case status.PartyMerchant:
		return T(ctx, "who.merchant")
	case status.PartyProvider:
		return p.Title
	case status.PartyPlatform:
		return T(ctx, "who.platform")
	}
	return T(ctx, "who.nobody")
}

func outcomeText(ctx context.Context, code string, p Provider, staff bool) string {
	if key := "outcome." + code; has(ctx, key) {
		return textFor(ctx, staff, key, p)
	}
	return T(ctx, "outcome.trouble", "Provider", p.Title)
}

// revokedText says what became of the access at the provider, and why it was left there.
func revokedText(ctx context.Context, r db.Receipt, p Provider, staff bool) string {
	key := "receipt.revoked-" + string(r.Revoked)
	if !has(ctx, key) {
		return T(ctx, "receipt.revoked-not-offered", "Provider", p.Title)
	}
	said := textFor(ctx, staff, key, p)
	switch {
	case r.Revoked != status.RevokedFailed && r.Revoked != status.RevokedLater, r.Outcome == "":
		return said
	case r.Outcome == status.Rejected || r.Outcome == status.ClientRejected:
		return T(ctx, "receipt.why-refused", "Provider", p.Title) + " " + said
	}
	return T(ctx, "receipt.why-away", "Provider", p.Title) + " " + said
}

func statusText(status int) string { return strconv.Itoa(status) }

func (v ConnectPage) title(ctx context.Context) string {
	if v.ReconnectID != "" {
		return T(ctx, "connections.reconnect", "Provider", v.Provider.Title)
	}
	return T(ctx, "connect.title", "Provider", v.Provider.Title)
}

// folds reports whether a field is shown folded: an optional one of a provider whose pages say what these are for.
func (v ConnectPage) folds(ctx context.Context, f Field) bool {
	return f.Optional && has(ctx, "provider."+v.Provider.Name+".optional")
}

func (v ConnectPage) foldedFields(ctx context.Context) bool {
	return slices.ContainsFunc(v.Fields, func(f Field) bool { return v.folds(ctx, f) })
}

// labelled returns the errors with what the form calls their fields.
func (v ConnectPage) labelled(ctx context.Context) Errors {
	errors := slices.Clone(v.Errors)
	for i, e := range errors {
		for _, f := range v.Fields {
			if f.Name == e.Field {
				errors[i].Label = f.label(ctx, v.Provider)
			}
		}
	}
	return errors
}

// optionalTouched reports whether an optional field has a value or an error, so that they must not be folded.
func (v ConnectPage) optionalTouched() bool {
	for _, f := range v.Fields {
		if f.Optional && (f.Value != "" || v.Errors.Of(f.Name) != "") {
			return true
		}
	}
	return false
}

func refusedKind(refused status.Outcome) status.Outcome {
	switch refused {
	case status.RateLimited, status.ClientRejected, status.Rejected:
		return refused
	}
	return status.Temporary
}

// Words returns what the field is called on its provider's form, and what is said beneath; "" for nothing.
func (f Field) Words(ctx context.Context, p Provider) (title, help string) {
	return f.label(ctx, p), f.help(ctx, p)
}

func (f Field) label(ctx context.Context, p Provider) string {
	if own := f.Title.In(Lang(ctx)); own != "" {
		return own
	}
	if own := wordIf(ctx, "field."+p.Name+"."+f.Name); own != "" {
		return own
	}
	return fieldLabel(ctx, f.Name)
}

func (f Field) help(ctx context.Context, p Provider) string {
	if own := f.Help.In(Lang(ctx)); own != "" || f.Title != nil {
		return own
	}
	for _, key := range []string{"field." + p.Name + "." + f.Name + ".help", "field." + f.Name + ".help"} {
		if has(ctx, key) {
			return T(ctx, key, "Provider", p.Title)
		}
	}
	return ""
}

func (f Field) input(ctx context.Context, v ConnectPage) input {
	i := input{
		Name: f.Name, Label: f.label(ctx, v.Provider), Help: f.help(ctx, v.Provider), Value: f.Value,
		Autocomplete: "off", Error: v.Errors.Of(f.Name), Optional: f.Optional, Mono: true,
		Example: f.Example, Suffix: f.Suffix,
	}
	if f.Secret {
		i.Type, i.Value = "password", ""
		i.Autocomplete = "new-password" // password managers fill in the sign-in in spite of "off"
	}
	return i
}

// outcome returns how the flow is shown: by its end, or as Choosing or UnderWay.
func (v FlowPage) outcome(ctx context.Context) status.End {
	outcome := v.Flow.Outcome
	switch {
	case v.Rejected != "":
		outcome = v.Rejected
	case v.Offer != nil:
		return Choosing
	case v.Flow.Stage == status.StageBegun, v.Flow.Stage == status.StageAnswered, v.Flow.Stage == status.StageExchanging, v.Flow.Stage == status.StageChoosing:
		return UnderWay
	case v.Flow.Stage == status.StageConfirming:
		return Confirming
	case v.Flow.Stage == status.StageConnected:
		return status.EndConnected
	case outcome == status.EndInput:
		outcome = status.EndRejected
	}
	if !has(ctx, "flow."+string(outcome)+".title") {
		return "unknown"
	}
	return outcome
}

func (v FlowPage) title(ctx context.Context) string {
	outcome := v.outcome(ctx)
	key := "flow." + string(outcome) + ".title"
	switch {
	case outcome == Choosing && v.Offer.Why == db.AskDiffers:
		key = "flow.differs.title"
	case outcome == Choosing && v.Offer.Why == db.AskConnected:
		key = "flow.already-connected.title"
	case outcome == Choosing && v.Account.nameless():
		key = "flow.nameless.title"
	case outcome == status.EndConnected && v.Flow.Outcome == status.EndRenewed:
		key = "flow.renewed.title"
	}
	return T(ctx, key, "Provider", v.Provider.Title)
}

// tone returns the tone of an ended flow's title.
func (v FlowPage) tone(ctx context.Context) tone {
	switch v.outcome(ctx) {
	case status.EndTemporary, status.EndRateLimited:
		return toneWarning
	case status.EndDenied, status.EndCancelled, status.EndExpired, status.EndUnconfirmed, status.EndLinkRevoked, UnderWay:
		return toneNeutral
	}
	return toneBad
}

// startsAgain reports whether the page offers another try.
func (v FlowPage) startsAgain(ctx context.Context) bool {
	switch v.outcome(ctx) {
	case status.EndOtherUser, status.EndLinkRevoked, status.EndClientRejected, status.EndUnverified, status.EndNoMerchant:
		return false
	}
	return v.Provider.Name != ""
}

// kept says that nothing has changed.
func (v FlowPage) kept(ctx context.Context) string {
	if v.Flow.Reconnects() {
		return T(ctx, "flow.kept-as-it-was")
	}
	return T(ctx, "flow.nothing-saved")
}

func (v FlowPage) choiceText(ctx context.Context, choice db.Choice) string {
	why := v.Offer.Why
	if why == db.AskConfirm && v.Account.nameless() {
		why = "nameless"
	}
	for _, key := range []string{"choice." + string(why) + "." + string(choice), "choice." + string(choice)} {
		if has(ctx, key) {
			return T(ctx, key, "Account", v.called(ctx, v.Account), "Before", v.called(ctx, v.Before), "Provider", v.Provider.Title)
		}
	}
	return humanised(string(choice))
}

// called returns how an account is called where the other one, of the same name, is shown beside it.
func (v FlowPage) called(ctx context.Context, a Account) string {
	name := a.displayName(ctx)
	if v.Offer.Why == db.AskDiffers && v.Account.displayName(ctx) == v.Before.displayName(ctx) && name != a.ID {
		return name + " (" + a.ID + ")"
	}
	return name
}

func (v FlowPage) choiceHelp(ctx context.Context, choice db.Choice) string {
	key := "choice." + string(v.Offer.Why) + "." + string(choice) + ".help"
	if v.Offer.HasConnection && has(ctx, key+"-there") {
		key += "-there"
	}
	return wordIf(ctx, key, "Account", v.called(ctx, v.Account), "Before", v.called(ctx, v.Before))
}

// code returns the part of the keys of an error page's texts.
func (v ErrorPage) code() string {
	switch {
	case v.Code == "link":
		return v.Code
	case v.Status == 403 || v.Status == 404 || v.Status == 413 || v.Status == 421 || v.Status == 429 || v.Status == 503:
		return strconv.Itoa(v.Status)
	case v.Status == 405:
		return "404"
	case v.Status >= 400 && v.Status < 500:
		return "400"
	}
	return "500"
}

func (v ErrorPage) tone() tone {
	switch v.code() {
	case "500":
		return toneBad
	case "429", "503":
		return toneWarning
	}
	return toneNeutral
}

// device returns the browser and the system of a session, such as "Chrome · Android".
func device(ctx context.Context, s account.Session) string {
	ua := useragent.Parse(s.Agent)
	system := ua.OS
	if ua.IsIOS() {
		system = ua.Device // iPhone or iPad
	}
	switch {
	case ua.IsUnknown() && system == "":
		return T(ctx, "account.unknown-device")
	case ua.IsUnknown():
		return system
	case system == "":
		return ua.Name
	}
	return ua.Name + " · " + system
}

// inUse reports whether the form shows a link or an error, so that it must not be folded.
func (v InviteForm) inUse() bool {
	return v.Link != "" || v.Errors.Of("email") != "" || v.Errors.Of("name") != "" || v.Errors.Of("merchant") != ""
}

func tookOrDash(ctx context.Context, d time.Duration) string {
	if d <= 0 {
		return "–"
	}
	return Took(ctx, d)
}

// displayName returns a user's name, or the e-mail address without one.
func displayName(u account.User) string { return cmp.Or(text.Name(u.Name), u.Email) }

// checkFacts says in one line how long the last live check took, and how far the provider's clock is ahead.
func (p ProviderSetup) checkFacts(ctx context.Context) string {
	parts := []string{Took(ctx, p.Record.CheckTook)}
	if p.Record.CheckSkew.Abs() >= 2*time.Second {
		parts = append(parts, T(ctx, "admin_providers.skew", "Seconds", strconv.FormatFloat(p.Record.CheckSkew.Seconds(), 'f', 0, 64)))
	}
	return strings.Join(parts, " · ")
}

func (v KeysPage) chosen(scope string) bool {
	for _, s := range v.Form.Scopes {
		if s == scope {
			return true
		}
	}
	return false
}

// attemptText returns a flow's outcome for staff, or its stage if that says more.
func attemptText(ctx context.Context, stage status.Stage, end status.End) string {
	if text := wordIf(ctx, "attempt."+string(end)); text != "" {
		return text
	}
	return wordFor(ctx, "stage.", stage)
}

// option returns what an option is called: as the operator wrote it, unless pages have words for it.
func (f Field) option(ctx context.Context, o string) string {
	if word := wordIf(ctx, "option."+f.Name+"."+o); word != "" {
		return word
	}
	return o
}

// hostParts cuts a host at the domain that its owner registered, which is the part to trust: sb-merchant. e-invoice.gov.kh. An IP
// address and a name without a domain are whole.
func hostParts(host string) (before, own, after string) {
	name, port, cut := strings.Cut(host, ":")
	if cut && !strings.Contains(port, ":") {
		after = ":" + port
	} else {
		name = host // IPv6
	}
	registered, err := publicsuffix.EffectiveTLDPlusOne(name)
	if _, notIP := netip.ParseAddr(name); err != nil || notIP == nil {
		return "", name, after
	}
	return strings.TrimSuffix(name, registered), registered, after
}
