// Command bench measures Patchbay against a floor: the least that a Go program on Postgres must do for the same thing. Both
// run on this machine, on one Postgres that commits durably, each in a process of its own, driven by the same load
// generator in turns, so that a busy machine is busy for both.
//
//	go run ./bench              everything, some minutes
//	go run ./bench -quick       the same with less of it
//	go run ./bench -only token  one measurement: token, link, refresh, sweep, slow, memory, page, connect, rest, processes, webhooks, scale
//	go run ./bench -only scale -keep /tmp/million  does not fill what an earlier run filled there
//	go run ./bench -only soak -for 10m  no measurement: everything at once under faults, and the proof that nothing was lost; alone only
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"patchbay/internal/localpg"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := error(nil)
	if len(os.Args) > 1 && os.Args[1] == "child" {
		err = child(ctx, os.Args[2:])
	} else {
		err = run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run: a Postgres, a provider, and what has been found.
type bench struct {
	database  string // its address
	provider  string
	keyset    string
	quick     bool
	only      string
	dir       string // gone with the run
	keep      string // a folder for filled databases; "" for none
	profileTo string // a file for the profile of Patchbay's process; "" for none
	rows      []row

	lasting time.Duration // of the soak's load
	seed    uint64        // of the soak's faults; 0: a random one
}

// row is one line of the table.
type row struct {
	what, floor, ours string
	ratio             float64
	want              string
	met               bool
}

func run(ctx context.Context) error {
	b := &bench{}
	flag.BoolVar(&b.quick, "quick", false, "less of everything")
	flag.StringVar(&b.only, "only", "", "measurements to make, by name and comma; all when empty")
	flag.StringVar(&b.profileTo, "profile", "", "write a CPU profile of Patchbay's process to this file; with -only page or connect")
	flag.StringVar(&b.keep, "keep", "", "a folder where the databases that scale fills stay, for the next run to measure again")
	flag.DurationVar(&b.lasting, "for", 10*time.Minute, "how long the load of -only soak lasts")
	flag.Uint64Var(&b.seed, "seed", 0, "the seed of the faults of -only soak; 0 takes a random one, which is printed")
	flag.Parse()
	if b.only == "soak" {
		return b.soak(ctx)
	}

	dir, err := os.MkdirTemp("", "patchbay-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	b.dir = dir
	server, err := localpg.Start(ctx, localpg.Options{Dir: filepath.Join(dir, "pg")})
	if err != nil {
		return err
	}
	defer server.Stop()
	if b.database, err = server.EnsureDatabase(ctx, "bench"); err != nil {
		return err
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	provider, err := b.start(ctx, "provider")
	if err != nil {
		return err
	}
	defer provider.stop()
	b.provider = provider.address

	for _, m := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"token", b.tokenReads},
		{"link", b.links},
		{"refresh", b.refreshes},
		{"sweep", b.sweeps},
		{"slow", b.slowSweeps},
		{"memory", b.memory},
		{"page", b.page},
		{"connect", b.connects},
		{"rest", b.rest},
		{"processes", b.processes},
		{"webhooks", b.webhooks},
		{"scale", b.scale},
	} {
		if b.only != "" && !strings.Contains(","+b.only+",", ","+m.name+",") {
			continue
		}
		if err := m.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	b.print()
	return nil
}

func (b *bench) add(what, floor, ours string, ratio float64, want string, met bool) {
	b.rows = append(b.rows, row{what, floor, ours, ratio, want, met})
	fmt.Fprintf(os.Stderr, "%s: floor %s, Patchbay %s, %.2f\n", what, floor, ours, ratio)
}

func (b *bench) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "measurement\tfloor\tPatchbay\tratio\tto reach\t")
	for _, r := range b.rows {
		met := "reached"
		if !r.met {
			met = "MISSED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%s\t%s\n", r.what, r.floor, r.ours, r.ratio, r.want, met)
	}
	w.Flush()
}

// rounds is how often floor and ours take turns, and how long each.
func (b *bench) rounds() (n int, each time.Duration) {
	if b.quick {
		return 3, 2 * time.Second
	}
	return 6, 5 * time.Second
}
