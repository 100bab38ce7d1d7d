package pg

import (
	"fmt"
	"strings"
)

// Rows returns a table w of n rows whose values are the arguments from $first on, row by row. columns is a list of names and types as in
// "id uuid, name text"; the column n before them numbers the rows from 1.
func Rows(first, n int, columns string) string {
	var b strings.Builder
	b.WriteString("(VALUES ")
	names, next := "n", first
	for row := range n {
		if row > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "(%d", row+1)
		for column := range strings.SplitSeq(columns, ",") {
			name, kind, _ := strings.Cut(strings.TrimSpace(column), " ")
			fmt.Fprintf(&b, ", $%d::%s", next, kind)
			if next++; row == 0 {
				names += ", " + name
			}
		}
		b.WriteString(")")
	}
	return b.String() + ") AS w (" + names + ")"
}
