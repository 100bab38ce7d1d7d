package db

import (
	"crypto/rand"
	"strings"
)

// Crockford's letters: none that a person reading them out can mistake.
const referenceLetters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

func newReference() string {
	b := make([]byte, 8)
	rand.Read(b)
	for i := range b {
		b[i] = referenceLetters[b[i]%32]
	}
	return string(b[:4]) + "-" + string(b[4:])
}

// Reference reads what a person typed as a reference and returns it as it is kept; "" when it is none.
func Reference(typed string) string {
	s := strings.NewReplacer("-", "", " ", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(strings.TrimSpace(typed)))
	if len(s) != 8 || strings.Trim(s, referenceLetters) != "" {
		return ""
	}
	return s[:4] + "-" + s[4:]
}
