package connectors

import (
	"slices"
	"strings"
)

// plainScopes say what is told about the person or how long access lasts. A provider that leaves them out of its answer has not
// refused anything that programs call.
var plainScopes = []string{"openid", "email", "profile", "address", "phone", "offline_access"}

const googleScope = "https://www.googleapis.com/auth/"

// missingScopes returns the scopes that were asked for and are not among those granted. An answer without any means as asked (RFC
// 6749 section 5.1). Google's long names stand for the short ones, and what may be written may be read.
func missingScopes(asked, granted []string) []string {
	var missing []string
	if len(granted) == 0 {
		return nil
	}
	for _, scope := range asked {
		if !slices.Contains(plainScopes, scope) && !slices.ContainsFunc(granted, func(g string) bool { return covers(g, scope) }) {
			missing = append(missing, scope)
		}
	}
	return missing
}

// covers says whether what was granted holds what was asked for.
func covers(granted, asked string) bool {
	granted, asked = strings.TrimPrefix(granted, googleScope), strings.TrimPrefix(asked, googleScope)
	if strings.EqualFold(granted, asked) {
		return true
	}
	for _, form := range []struct{ read, write string }{{"read_", "write_"}, {"read:", "write:"}} {
		if what, ok := strings.CutPrefix(asked, form.read); ok && granted == form.write+what {
			return true
		}
	}
	for _, form := range []struct{ read, write string }{{".read", ".write"}, {":read", ":write"}, {"_read", "_write"}, {".read", ".readwrite"}, {".Read", ".ReadWrite"}} {
		if what, ok := strings.CutSuffix(asked, form.read); ok && granted == what+form.write {
			return true
		}
	}
	return false
}
