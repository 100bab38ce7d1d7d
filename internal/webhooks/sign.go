package webhooks

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

// Secret signs what is sent to one endpoint. It is shown once and stored sealed.
type Secret string

// secretMark is what Standard Webhooks puts before a secret, which is base64.
const secretMark = "whsec_"

func newSecret() Secret {
	b := make([]byte, 32)
	rand.Read(b) // never fails: it ends the program instead
	return Secret(secretMark + base64.StdEncoding.EncodeToString(b))
}

// String keeps a secret out of prints; convert it to string on purpose.
func (Secret) String() string { return "•••" }

// GoString keeps %#v from printing a secret.
func (Secret) GoString() string { return "•••" }

// sign returns the header webhook-signature: one signature for each secret, with spaces between.
func sign(secrets []Secret, id string, at time.Time, body []byte) string {
	signatures := make([]string, 0, len(secrets))
	for _, s := range secrets {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(s), secretMark))
		if err != nil {
			continue // none that newSecret made
		}
		h := hmac.New(sha256.New, key)
		h.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		h.Write(body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(h.Sum(nil)))
	}
	return strings.Join(signatures, " ")
}
