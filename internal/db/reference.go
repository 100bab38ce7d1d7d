package db

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
)

// Crockford's letters: none that a person reading them out can mistake.
const referenceLetters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

const referenceLength = 8

func newReference() string {
	b := make([]byte, referenceLength)
	rand.Read(b)
	return encodeReference(b)
}

// encodeReference returns the reference whose letters are given by the last five bits of each byte.
func encodeReference(b []byte) string {
	for i := range b {
		b[i] = referenceLetters[b[i]%32]
	}
	return string(b[:4]) + "-" + string(b[4:])
}

// Reference returns what people call the connection when they talk to support: the last 40 bits of its id, which are random. Several
// may share one.
func (c Connection) Reference() string {
	bits := binary.BigEndian.Uint64(c.ID[8:])
	b := make([]byte, referenceLength)
	for i := range b {
		b[i] = byte(bits >> (5 * (referenceLength - 1 - i)))
	}
	return encodeReference(b)
}

// idSuffix returns the last ten digits of the ids that have a reference.
func idSuffix(reference string) string {
	var bits uint64
	for _, letter := range strings.ReplaceAll(reference, "-", "") {
		bits = bits<<5 | uint64(strings.IndexRune(referenceLetters, letter))
	}
	return fmt.Sprintf("%010x", bits)
}

// Reference reads what a person typed as a reference and returns it as it is kept; "" when it is none.
func Reference(typed string) string {
	s := strings.NewReplacer("-", "", " ", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(strings.TrimSpace(typed)))
	if len(s) != referenceLength || strings.Trim(s, referenceLetters) != "" {
		return ""
	}
	return s[:4] + "-" + s[4:]
}
