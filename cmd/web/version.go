package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"

	"patchbay/migrations"
)

// version prints what this program is: its version, the commit it was built from, the Go it was built with and the number of
// the newest migration it brings.
func version(_ context.Context, t terminal, args []string) error {
	if err := parse(t.flags("version", ""), args); err != nil {
		return err
	}
	b := readBuild()
	fmt.Fprintf(t.out, "patchbay %s\ncommit %s\ngo %s\nschema %d\n", b.version, b.commit, b.goVersion, migrations.Newest())
	return nil
}

// build is how this program was built.
type build struct{ version, commit, goVersion string }

// readBuild reads what the Go command stamped into the program: "unknown" where it was built outside of a checkout.
func readBuild() build {
	b := build{version: "unknown", commit: "unknown", goVersion: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.version, b.goVersion = cmp.Or(info.Main.Version, b.version), info.GoVersion
	edited := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			edited = " (edited)"
		}
	}
	b.commit += edited
	return b
}
