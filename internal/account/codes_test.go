package account

import (
	"testing"
	"time"
)

// TestCodesAreThoseOfRFC6238 has the test vectors of its appendix B, of whose eight digits six are the last.
func TestCodesAreThoseOfRFC6238(t *testing.T) {
	for at, code := range map[int64]string{
		59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130",
	} {
		step, ok := matchingStep([]byte("12345678901234567890"), code, time.Unix(at, 0))
		if !ok || step != at/30 {
			t.Errorf("the code of %d: step %d, %t", at, step, ok)
		}
	}
}

func TestTypedCodesAreReadHoweverTheyAreWritten(t *testing.T) {
	for typed, want := range map[string]string{
		"123 456": "123456", " 123456\n": "123456", "១២៣៤៥៦": "123456", "12-34-56": "123456",
		"abcd-efgh-2345-mnop": "ABCDEFGH2345MNOP", "ABCD EFGH 2345 MNOP": "ABCDEFGH2345MNOP", "": "",
	} {
		if got := plainCode(typed); got != want {
			t.Errorf("%q is read as %q, want %q", typed, got, want)
		}
	}
}
