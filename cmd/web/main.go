// Command web is Patchbay: it serves, and it has the operator's commands. See docs/ for what each does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	_ "time/tzdata" // the image holds no zones; pages tell the reader's time
)

func main() {
	// The first signal asks for an orderly stop; stop() lets a second one end us at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, terminal{os.Stdin, os.Stdout, os.Stderr, os.Environ()}, os.Args[1:]))
}

// terminal holds a command's standard streams and environment.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	environ  []string
}

type command struct {
	name, about string
	do          func(ctx context.Context, t terminal, args []string) error
}

// commands are all commands. Without a name, serve runs.
func commands() []command {
	return []command{
		{"serve", "serves; applies migrations first", serve},
		{"demo", "serves with everything on its own: Postgres, sandboxes, sample users", demo},
		{"sandbox", "serves the providers' sandboxes alone", serveSandbox},
		{"migrate", "[up|down|status]: the schema", migrate},
		{"user", "add: a user, whose password is read from standard input; reset-second-factor", user},
		{"merchant", "erase: everything of a merchant, by the platform's own id", merchant},
		{"apikey", "add: a key for the platform's own programs", apikey},
		{"keys", "new|add|promote|retire ID: prints a fresh keyset, or the present one changed", keys},
		{"reseal", "seals everything anew by the key that seals, while serving goes on", reseal},
		{"restored", "marks the database as brought back from a backup, while serving goes on or before", restored},
		{"doctor", "checks settings, database, keyset, providers and clocks", doctor},
		{"version", "prints version, commit, Go and schema", version},
		{"healthcheck", "asks the server at LISTEN whether it is ready, for containers", healthcheck},
	}
}

// errUsage is returned for a wrong command line, after the explanation has been printed.
var errUsage = errors.New("usage")

// run returns the exit code: 0, 1 for an error, 2 for a wrong command line.
func run(ctx context.Context, t terminal, args []string) int {
	name := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	} else if len(args) > 0 {
		usage(t.out)
		if args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
			return 0
		}
		return 2
	}
	for _, c := range commands() {
		if c.name != name {
			continue
		}
		err := c.do(ctx, t, args)
		switch {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return 0
		case errors.Is(err, errUsage):
			return 2
		case ctx.Err() != nil && errors.Is(err, context.Canceled):
			fmt.Fprintf(t.err, "patchbay %s: stopped before it had started\n", name)
			return 1
		}
		if words := explain(err); words != "" {
			fmt.Fprintf(t.err, "patchbay %s: %s\n", name, words)
			return 1
		}
		fmt.Fprintf(t.err, "patchbay %s: %v\n", name, err)
		return 1
	}
	if name == "help" {
		usage(t.out)
		return 0
	}
	fmt.Fprintf(t.err, "patchbay: there is no command %q\n\n", name)
	usage(t.err)
	return 2
}

func usage(w io.Writer) {
	fmt.Fprint(w, "usage: patchbay [command] [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-12s %s\n", c.name, c.about)
	}
	fmt.Fprint(w, "\n`patchbay COMMAND -h` tells a command's flags. Settings come from the environment: see docs/settings.md.\n")
}

// flags makes a command's flag set. arguments is the text after the flags in the usage line.
func (t terminal) flags(name, arguments string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(t.err)
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "usage: patchbay %s %s\n", name, arguments)
		f.PrintDefaults()
	}
	return f
}

// parse reads args. It returns errUsage for a wrong flag, which the flag set explains, and for words left over.
func parse(f *flag.FlagSet, args []string) error {
	if err := parseSome(f, args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return misused(f, fmt.Sprintf("%q is one word too many", f.Arg(0)))
	}
	return nil
}

// parseSome is parse for commands that take words after or between their flags: it ends at a word.
func parseSome(f *flag.FlagSet, args []string) error {
	err := f.Parse(args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return err
	}
	return errUsage
}

// parseVerb is parse for commands whose first word is a verb: user add.
func parseVerb(f *flag.FlagSet, verb string, args []string) error {
	if len(args) > 0 && args[0] == verb {
		return parse(f, args[1:])
	}
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	}
	return misused(f, "say "+f.Name()+" "+verb)
}

// misused prints the fault of a command line and its usage.
func misused(f *flag.FlagSet, fault string) error {
	fmt.Fprintln(f.Output(), fault)
	f.Usage()
	return errUsage
}
