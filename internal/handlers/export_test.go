package handlers

import "testing"

func TestNoCellRuns(t *testing.T) {
	for cell, want := range map[string]string{
		"":                            "",
		"CH168 Co., Ltd":              "CH168 Co., Ltd",
		"0198c0de-0000":               "0198c0de-0000",
		"=1+1":                        "'=1+1",
		"-5":                          "'-5",
		"\t=1+1":                      "'\t'=1+1",
		"Shop;=HYPERLINK(A1)":         "Shop;'=HYPERLINK(A1)",
		"Shop\n+1":                    "Shop\n'+1",
		"＝1+1":                        "'＝1+1",
		"ហាង;-1;@x":                   "ហាង;'-1;'@x",
		"a=b; c=d, e-f@example.com;1": "a=b; c=d, e-f@example.com;1",
	} {
		if got := escapeFormula(cell); got != want {
			t.Errorf("%q becomes %q, not %q", cell, got, want)
		}
	}
}
