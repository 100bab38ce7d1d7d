package connectors

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// fault is whom a provider's "no" is about.
type fault int

const (
	unknownFault fault = iota // the provider does not say
	grantFault                // the merchant's grant: a person must connect again
	clientFault               // our own registration with the provider
	passing                   // neither: another request is under way, or there were too many, and a later one may succeed
)

// faultCodes are the error codes of RFC 6749 section 5.2 and those that providers use in their place, as spelledCode
// writes them.
var faultCodes = map[string]fault{
	"invalid_grant": grantFault, "bad_refresh_token": grantFault, "invalid_refresh_token": grantFault,
	"refresh_token_expired": grantFault, "refresh_token_revoked": grantFault, "refresh_token_invalid": grantFault,
	"expired_refresh_token": grantFault, "revoked_refresh_token": grantFault, "refresh_token_not_found": grantFault,
	"refresh_token_used": grantFault, "refresh_token_reused": grantFault, "refresh_token_already_used": grantFault,
	"invalid_token": grantFault, "token_invalid": grantFault, "expired_token": grantFault, "token_expired": grantFault,
	"token_revoked": grantFault, "revoked_token": grantFault, "token_not_found": grantFault, "token_inactive": grantFault,
	"bad_token": grantFault, "invalid_access_token": grantFault, "access_token_expired": grantFault, "access_token_revoked": grantFault,
	"grant_expired": grantFault, "grant_revoked": grantFault, "expired_grant": grantFault, "grant_not_found": grantFault,
	"consent_revoked": grantFault, "authorization_revoked": grantFault, "access_revoked": grantFault, "account_inactive": grantFault,
	"bad_verification_code": grantFault, "invalid_code": grantFault, "code_expired": grantFault, "code_already_used": grantFault,
	"invalid_auth_code": grantFault, "invalid_authorization_code": grantFault, "expired_code": grantFault, "bad_auth_code": grantFault,
	"expired_authorization_code": grantFault, "authorization_code_expired": grantFault, "bad_authorization_code": grantFault,
	"invalid_auth_token": grantFault, "interaction_required": grantFault, "login_required": grantFault, "consent_required": grantFault,
	"oauthexception_190": grantFault, // Meta's

	"invalid_client": clientFault, "incorrect_client_credentials": clientFault, "invalid_client_credentials": clientFault,
	"invalid_client_id": clientFault, "bad_client_id": clientFault, "bad_client_secret": clientFault, "invalid_client_secret": clientFault,
	"client_not_found": clientFault, "unknown_client": clientFault, "client_disabled": clientFault, "invalid_app_id": clientFault,
	"client_authentication_failed": clientFault,
}

// requestCodes are the codes that say that our request or our registration is not as the provider wants it.
var requestCodes = []string{
	"invalid_scope", "unsupported_grant_type", "unsupported_response_type", "invalid_target", "redirect_uri_mismatch",
	"invalid_redirect_uri", "bad_redirect_uri",
}

// refusal is what a response says of why it is no success.
type refusal struct {
	codes []string // as spelledCode writes them, the likeliest to mean something first
	prose string   // in lower case and one spelling; it is searched for words and never kept
}

// refusal reads the codes and the prose of an error from wherever providers put them: at the top, in an object or a list
// under "error" or "errors".
func (o object) refusal() refusal {
	var r refusal
	var prose []string
	read := func(o object) {
		for _, key := range []string{"error", "error_code", "errorCode", "code", "status", "type", "reason", "name"} {
			if s := o.str(key); errorCodeShape.MatchString(s) {
				r.codes = append(r.codes, spelledCode(s))
			}
		}
		if kind, number := o.str("type"), o.displayString("code"); kind != "" && errorCodeShape.MatchString(kind+number) {
			r.codes = append(r.codes, spelledCode(kind+"_"+number))
		}
		if s := o.str("error"); !errorCodeShape.MatchString(s) {
			prose = append(prose, s)
		}
		prose = append(prose, o.text("errors", "error_description", "errorDescription", "error_message", "errorMessage",
			"message", "messages", "msg", "respMsg", "description", "detail", "details", "title", "reason"))
	}
	read(o)
	for _, key := range []string{"error", "errors"} {
		read(o.object(key))
		list, _ := o[key].([]any)
		for _, one := range list[:min(len(list), 5)] {
			if inner, ok := one.(map[string]any); ok {
				read(inner)
			}
		}
	}
	r.prose = spelledProse(strings.Join(prose, "\n"))
	return r
}

// has returns the first of these codes that is among the refusal's, or "".
func (r refusal) has(codes ...string) string {
	for _, code := range codes {
		if slices.Contains(r.codes, code) {
			return code
		}
	}
	return ""
}

var (
	humps          = regexp.MustCompile(`([a-z0-9])([A-Z])`)
	codeSeparators = strings.NewReplacer("-", "_", " ", "_", ".", "_")
	proseMarks     = regexp.MustCompile("[\"'`´‘’“”*_-]+")
)

// spelledCode writes invalidGrant, INVALID-GRANT and invalid.grant as invalid_grant.
func spelledCode(code string) string {
	if strings.ToUpper(code) != code {
		code = humps.ReplaceAllString(code, "${1}_$2")
	}
	return codeSeparators.Replace(strings.ToLower(code))
}

// spelledProse writes refreshToken, "refresh_token" and Refresh-Token as refresh token.
func spelledProse(s string) string {
	s = strings.ToLower(humps.ReplaceAllString(s, "$1 $2"))
	s = proseMarks.ReplaceAllString(s, " ")
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' }), " ")
}

var (
	// otherSubjects are words that hold "token", "grant" or "code" and are about neither the merchant's grant nor a code.
	otherSubjects = regexp.MustCompile(`\b(grant|token|response) ?types?\b|\bcode (verifier|challenge)\b|\b(error|status|country|response) ?codes?\b` +
		`|\b(csrf|xsrf|unexpected) tokens?\b|\btoken (endpoint|url|uri|address|server|request)\b|\bclient tokens?\b`)
	// grantSubjects name what we hold of a merchant beyond doubt; tokenSubjects probably do.
	grantSubjects = regexp.MustCompile(`\b(refresh ?token|auth ?token|authori[sz]ation (code|grant)|auth ?code|grant|consent)s?\b`)
	tokenSubjects = regexp.MustCompile(`\b(token|code|authori[sz]ation|session)s?\b`)
	// noLongerGood is what is said of them.
	noLongerGood = regexp.MustCompile(`\b(in|not )valid\b|\binvalid|\bexpire[sd]?\b|\bhas ended\b|\brevoked\b|\bwithdrawn\b|\bcancell?ed\b` +
		`|\b(already|been|was|is|were) (used|claimed|consumed|redeemed|exchanged|spent|rotated|replaced|deleted|removed)\b|\b(used|claimed|redeemed) (already|before|twice|more than)\b|\bre ?used\b` +
		`|\bnot (be )?(found|known|active|recogni[sz]ed|exist)\b|\b(does not|doesn t|do not) (exist|match)\b|\bunknown\b|\bunrecogni[sz]ed\b|\binactive\b|\bno longer\b|\bno such\b` +
		`|\bincorrect\b|\bmalformed\b|\bwrong\b|\bbad\b|\bunable to (parse|decode|decrypt|find|verify)\b|\bhas not authori[sz]ed\b`)
	// busy is said of a request that may succeed later, also under a code that says otherwise: Salesforce answers invalid_grant to
	// the second of two requests at once. It counts only where nothing is said to be no longer good.
	busy = regexp.MustCompile(`\b(is|are|already|currently|still) (being )?(processed|processing|refreshed|refreshing|renewed|rotated|exchanged|redeemed|locked|pending|busy|in use)\b` +
		`|\b(in|under) (process|progress|way)\b|\bunderway\b|\bconcurren|\bsimultaneous|\bat the same time\b|\btemporarily unavailable\b|\btemporary (error|failure|problem)\b` +
		`|\bplease retry\b|\b(re)?try (again )?(later|shortly|soon|in an?|in \d+)\b|\btry again in\b|\btoo many ([a-z]+ ){0,3}(requests|calls|attempts|refreshes)\b|\btoo (often|fast)\b|\brate limit|\bthrottl`)
	throttled      = regexp.MustCompile(`\btoo (many|often|fast)\b|\brate limit|\bthrottl`)
	clientSubjects = regexp.MustCompile(`\bclients?\b|\bcredentials?\b|\bapp(lication)? (id|secret|key)\b|\bconsumer (key|secret)\b`)
)

// fault says whom the refusal is about: by its codes, else by the words of its prose, of which one sentence must name the
// token, grant or code and say that it is no longer good. sure is for a status with which the provider's own program
// answers: with any other, prose that only speaks of some token may be a firewall's.
//
// Prose that speaks of another request under way goes before any code.
//
// unauthorized_client is about the client only when the prose does not speak of the grant: Forgejo answers so to a
// refresh token that was used already.
func (r refusal) fault(sure bool) fault {
	if busy.MatchString(r.prose) && !noLongerGood.MatchString(strings.ReplaceAll(r.prose, "invalid grant", "")) {
		return passing
	}
	for _, code := range r.codes {
		if f := faultCodes[code]; f != unknownFault {
			return f
		}
	}
	if throttled.MatchString(r.prose) {
		return unknownFault
	}
	client, token := false, false
	for sentence := range strings.FieldsFuncSeq(r.prose, func(r rune) bool { return r == '.' || r == ';' || r == '\n' }) {
		sentence = otherSubjects.ReplaceAllString(sentence, " ")
		bad := noLongerGood.MatchString(sentence)
		switch {
		case bad && grantSubjects.MatchString(sentence):
			return grantFault
		case clientSubjects.MatchString(sentence):
			client = true
		case bad && tokenSubjects.MatchString(sentence), strings.TrimSpace(sentence) == "expired", strings.TrimSpace(sentence) == "revoked":
			token = true
		}
	}
	switch {
	case token && !client && sure:
		return grantFault
	case client && sure, r.has("unauthorized_client") != "":
		return clientFault
	}
	return unknownFault
}

// faultOf returns whom a response that is no success is about.
func faultOf(r response) fault {
	return r.object().refusal().fault(r.status < 400 || r.status == http.StatusBadRequest || r.status == http.StatusUnauthorized)
}

// passing is the error of a response whose fault passes by itself.
func (r response) passing() error {
	after, _ := r.retryAfter()
	return &TemporaryError{Reason: ReasonBusy, Detail: r.statusText() + r.codeText(), RetryAfter: min(max(after, 0), maxRetryAfter)}
}

// callbackError returns the outcome that a callback's error parameter stands for (RFC 6749 section 4.1.2.1), or nil if
// it has none. Providers that document no denial spell it in many ways.
func callbackError(callback url.Values) error {
	code := strings.ToLower(strings.TrimSpace(callback.Get("error")))
	if code == "" {
		return nil
	}
	for _, word := range []string{"denied", "cancel", "declin", "reject"} {
		if strings.Contains(code, word) {
			return &AccessDeniedError{}
		}
	}
	switch code {
	case "server_error", "temporarily_unavailable":
		return &TemporaryError{Reason: "status"}
	case "invalid_client", "unauthorized_client", "invalid_request", "invalid_scope", "unsupported_response_type":
		return &RejectedError{Reason: code, ClientFault: true}
	case "login_required", "interaction_required", "consent_required", "account_selection_required", "invalid_grant":
		return &RejectedError{Reason: code}
	}
	return &RejectedError{Reason: "callback-error"}
}

// callbackParams are the parameters that a callback may carry.
var callbackParams = []string{"authToken", "authorizationCode", "code", "state", "error", "error_description", "iss"}

// FixDoubledQuery undoes a second "?": a provider that appends "?authToken=…" to an address with a query makes it part
// of the last value (…?a=b?authToken=…). Other callbacks come back as they are.
func FixDoubledQuery(callback url.Values) url.Values {
	out, doubled := make(url.Values, len(callback)), make(url.Values)
	for _, key := range slices.Sorted(maps.Keys(callback)) {
		for _, value := range callback[key] {
			if head, name, ok := cutDoubled(key + "="); ok && head == "" {
				doubled.Set(name, value)
			} else if head, name, ok := cutDoubled(value); ok {
				out.Add(key, head)
				doubled.Set(name, value[len(head)+len("?")+len(name)+len("="):])
			} else {
				out.Add(key, value)
			}
		}
	}
	for name := range doubled {
		if !out.Has(name) {
			out.Set(name, doubled.Get(name))
		}
	}
	return out
}

// cutDoubled finds "?name=" in s, for one of callbackParams, and returns what is before it.
func cutDoubled(s string) (head, name string, ok bool) {
	for _, name := range callbackParams {
		if i := strings.Index(s, "?"+name+"="); i >= 0 {
			return s[:i], name, true
		}
	}
	return "", "", false
}
