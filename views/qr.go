package views

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// qrQuiet is how many modules are left free around a QR code (ISO/IEC 18004).
const qrQuiet = 4

// qrPath returns a text as a QR code: the path of its dark modules in SVG, and how many modules wide it is with what is left free
// around it. It returns "" for a text that no QR code holds.
func qrPath(text string) (path string, size int) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", 0
	}
	var b strings.Builder
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			run := 0
			for x+run < code.Size && code.Black(x+run, y) {
				run++
			}
			if run > 0 {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", x+qrQuiet, y+qrQuiet, run, run)
				x += run
			}
		}
	}
	return b.String(), code.Size + 2*qrQuiet
}
