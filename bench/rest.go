package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// rest measures `patchbay serve` as it is shipped: how long from its start to its first answer on a migrated database,
// and its memory when nobody asks for anything.
func (b *bench) rest(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "patchbay-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "patchbay")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/web")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	var starts []time.Duration
	var sizes []int64
	for range 5 {
		took, size, err := b.serveOnce(ctx, program)
		if err != nil {
			return err
		}
		starts, sizes = append(starts, took), append(sizes, size)
	}
	slices.Sort(starts)
	start, size := starts[len(starts)/2], float64(slices.Max(sizes))/(1<<20)
	b.add("start on a migrated database", "", fmt.Sprintf("%d ms", start.Milliseconds()), start.Seconds()/0.3, "under 300 ms", start < 300*time.Millisecond)
	b.add("memory at rest", "", fmt.Sprintf("%.0f MB", size), size/64, "under 64 MB", size < 64)
	return nil
}

// serveOnce starts the program, waits until it is ready, lets it rest and stops it.
func (b *bench) serveOnce(ctx context.Context, program string) (start time.Duration, size int64, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	address := listener.Addr().String()
	listener.Close()
	p := process{cmd: exec.CommandContext(ctx, program, "serve")}
	p.cmd.Env = []string{
		"DATABASE_URL=" + b.database, "KEYSET=" + b.keyset, "LISTEN=" + address, "PUBLIC_URL=http://" + address,
		"SESSION_KEYS=" + base64.StdEncoding.EncodeToString(sessionKey), "SECOND_FACTOR=optional",
	}
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() {
		err = errors.Join(err, p.cmd.Process.Signal(os.Interrupt), p.cmd.Wait())
	}()
	for ready := false; !ready; {
		if time.Since(began) > 10*time.Second {
			return 0, 0, errors.New("serve is not ready after 10 s")
		}
		time.Sleep(2 * time.Millisecond)
		response, err := http.Get("http://" + address + "/readyz")
		if err == nil {
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
			ready = response.StatusCode == http.StatusOK
		}
	}
	start = time.Since(began)
	time.Sleep(3 * time.Second)
	size, err = p.resident()
	return start, size, err
}
