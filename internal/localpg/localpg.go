// Package localpg runs a private Postgres from the binaries installed on this machine, for the demo and for tests:
// on a Unix socket only, in a folder of its own, as the user postgres when we are root.
package localpg

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNotInstalled says that no Postgres server is on this machine.
var ErrNotInstalled = errors.New("no Postgres server is installed: apt-get install postgresql")

// Options say where a cluster lives and how careful it is.
type Options struct {
	// Dir holds the cluster: made when missing, kept between runs.
	Dir string
	// Throwaway trades durability for speed: a crash of the machine (not of Postgres) may lose the data.
	Throwaway bool
	// MaxConnections is 100 when zero.
	MaxConnections int
	// SharedBuffers is Postgres's setting of that name, "" for its own default.
	SharedBuffers string
}

// Server is a running cluster that ends with this process.
type Server struct {
	// Moved is where the data went when the user postgres could not reach Options.Dir, else empty.
	Moved string

	place place
	opts  Options
	cmd   *exec.Cmd
	done  chan struct{} // closed when the postmaster has ended
}

// Start creates the cluster when there is none, starts it and waits until it answers.
func Start(ctx context.Context, o Options) (*Server, error) {
	p, err := prepare(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &Server{place: p, opts: o}
	if p.dir != p.asked {
		s.Moved = p.dir
	}
	return s, s.run(ctx)
}

func (s *Server) run(ctx context.Context) error {
	logFile, err := os.OpenFile(filepath.Join(s.place.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	s.cmd = exec.Command(filepath.Join(s.place.bin, "postgres"), s.place.args(s.opts)...)
	s.cmd.Stdout, s.cmd.Stderr = logFile, logFile
	s.cmd.Dir = s.place.dir
	// A process group of its own keeps the terminal's Ctrl-C from it, so that what is under way can still be saved;
	// should we be killed outright, the kernel asks it for a fast shutdown.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT, Credential: s.place.credential}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("starting Postgres: %w", err)
	}
	s.done = make(chan struct{})
	go func() {
		_ = s.cmd.Wait() // its log says how it ended
		close(s.done)
	}()
	if err := s.place.await(ctx, s.done); err != nil {
		s.end(syscall.SIGQUIT)
		return err
	}
	return nil
}

// Standby starts a cluster in dir that follows s by streaming replication.
func (s *Server) Standby(ctx context.Context, dir string) (*Server, error) {
	p, err := locate(dir)
	if err != nil {
		return nil, err
	}
	if err := p.makeDirs(); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "pg_basebackup"), "-D", p.data(), "-h", s.place.socket, "-U", "postgres", "-R", "-X", "stream", "-c", "fast", "--no-sync")
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: p.credential}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pg_basebackup: %w: %s", err, strings.TrimSpace(string(out)))
	}
	standby := &Server{place: p, opts: s.opts}
	return standby, standby.run(ctx)
}

// URL is the address of one of the cluster's databases, for pgx. Create other databases than "postgres" first.
func (s *Server) URL(database string) string { return s.place.url(database) }

// EnsureDatabase creates a database unless it exists, and returns its URL.
func (s *Server) EnsureDatabase(ctx context.Context, name string) (string, error) {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&exists); err != nil {
		return "", err
	}
	if !exists {
		if _, err := conn.Exec(ctx, `CREATE DATABASE `+pgx.Identifier{name}.Sanitize()); err != nil {
			return "", err
		}
	}
	return s.URL(name), nil
}

// Stop ends the cluster: connections are cut, what is committed stays. It returns when the server is gone.
func (s *Server) Stop() { s.end(syscall.SIGINT) }

// Kill ends the cluster as a crash would, for tests.
func (s *Server) Kill() { s.end(syscall.SIGQUIT) }

// Again starts a stopped or killed cluster once more, at the same address.
func (s *Server) Again(ctx context.Context) error { return s.run(ctx) }

// Done is closed when the server has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.done }

func (s *Server) end(sig syscall.Signal) {
	_ = s.cmd.Process.Signal(sig) // it fails only when the process has ended already
	<-s.done
}

// A place is a folder that the server's user can reach, with what it takes to run a cluster there.
type place struct {
	asked, dir, socket, bin string
	credential              *syscall.Credential // nil: our own user
}

func (p place) data() string { return filepath.Join(p.dir, "data") }

func (p place) url(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + database}
	u.RawQuery = url.Values{"host": {p.socket}}.Encode()
	return u.String()
}

func (p place) args(o Options) []string {
	settings := []string{
		"listen_addresses=", "unix_socket_directories=" + p.socket, "unix_socket_permissions=0700",
		"max_connections=" + strconv.Itoa(max(o.MaxConnections, 100)), "timezone=UTC", "log_timezone=UTC",
	}
	if o.Throwaway {
		settings = append(settings, "fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off",
			"max_wal_size=4GB", "shared_buffers=64MB")
	}
	if o.SharedBuffers != "" {
		settings = append(settings, "shared_buffers="+o.SharedBuffers)
	}
	args := []string{"-D", p.data()}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	return args
}

// await polls until the server answers, has ended, or half a minute is over.
func (p place) await(ctx context.Context, done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := p.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("the Postgres server ended at once: %s", lastLines(filepath.Join(p.dir, "log")))
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("the Postgres server does not answer: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (p place) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.url("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// Remove deletes the cluster of Options.Dir, wherever its data went. It refuses one that is in use.
func Remove(dir string) error {
	p, err := locate(dir)
	if err != nil {
		return err
	}
	if err := p.unused(); err != nil {
		return err
	}
	return os.RemoveAll(p.dir)
}

// locate finds the binaries, the user and a folder that both can live with.
func locate(dir string) (place, error) {
	bin, err := binaries()
	if err != nil {
		return place{}, err
	}
	asked, err := filepath.Abs(dir)
	if err != nil {
		return place{}, err
	}
	p := place{asked: asked, dir: asked, bin: bin}
	if os.Geteuid() == 0 {
		if p.credential, err = postgresUser(); err != nil {
			return place{}, err
		}
		if !reachable(filepath.Dir(asked), p.credential) {
			p.dir = filepath.Join("/var/lib/patchbay", fingerprint(asked))
		}
	}
	return p, nil
}

// prepare makes the folder, and the cluster when there is none yet.
func prepare(ctx context.Context, o Options) (place, error) {
	p, err := locate(o.Dir)
	if err != nil {
		return place{}, err
	}
	if err := p.makeDirs(); err != nil {
		return place{}, err
	}
	if err := p.unused(); err != nil {
		return place{}, err
	}
	return p, p.initdb(ctx)
}

// unused waits two seconds for a server whose owner was killed: it may still be writing its last.
func (p place) unused() error {
	pid := p.postmaster()
	for range 40 {
		if pid == 0 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
		pid = p.postmaster()
	}
	return fmt.Errorf("the Postgres in %s is in use by another process (its id is %d): stop that one first", p.dir, pid)
}

// makeDirs makes the cluster's folder, 0700 and the server's own, which is what keeps other users of the machine from
// the socket: inside, everybody is trusted.
func (p *place) makeDirs() error {
	if err := os.MkdirAll(filepath.Dir(p.dir), 0o755); err != nil {
		return err
	}
	if err := p.own(p.dir); err != nil {
		return err
	}
	p.socket = p.dir
	if len(filepath.Join(p.dir, ".s.PGSQL.5432")) > 107 { // the kernel's limit on a socket's path
		p.socket = filepath.Join("/tmp", "patchbay-"+fingerprint(p.dir))
		return p.own(p.socket)
	}
	return nil
}

func (p *place) own(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	uid := os.Geteuid()
	if p.credential != nil {
		uid = int(p.credential.Uid)
		if err := os.Lchown(dir, uid, int(p.credential.Gid)); err != nil {
			return err
		}
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(st.Uid) != uid {
		return fmt.Errorf("%s is not a folder of our own: remove it", dir)
	}
	return os.Chmod(dir, 0o700)
}

// postmaster is the process id of the server that has this cluster, 0 when none has.
func (p place) postmaster() int {
	b, err := os.ReadFile(filepath.Join(p.data(), "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return 0
	}
	// The number may have been given to another program since: only a Postgres counts.
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err == nil && !strings.HasPrefix(string(name), "postgres") {
		return 0
	}
	return pid
}

// initdb builds beside the cluster's place and renames, so that an interrupted one is never taken for a cluster.
func (p place) initdb(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(p.data(), "PG_VERSION")); err == nil {
		return nil
	}
	building := p.data() + ".new"
	if err := os.RemoveAll(building); err != nil {
		return err
	}
	// Without a UTF-8 locale pg_trgm finds nothing in Khmer. Unsynced, because only a crash of the machine within the
	// first seconds of a new cluster would tell, and there is nothing in it yet.
	args := []string{"-D", building, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"}
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "initdb"), args...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: p.credential}
	if out, err := cmd.CombinedOutput(); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return os.Rename(building, p.data())
}

// binaries is the folder of the newest installed server: Debian keeps them off the PATH.
func binaries() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // a name that is no number comes last
		return n
	}
	if len(found) > 0 {
		return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
	}
	ctl, err := exec.LookPath("pg_ctl")
	if err != nil {
		return "", ErrNotInstalled
	}
	if ctl, err = filepath.EvalSymlinks(ctl); err != nil {
		return "", err
	}
	return filepath.Dir(ctl), nil
}

// postgresUser is the user who runs the server when this process is root's, which Postgres refuses.
func postgresUser() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, errors.New("a Postgres server does not run as root, and there is no user postgres: useradd --system postgres")
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// reachable reports whether a user may pass through every folder down to dir. A clone under /root is not reachable
// for postgres; opening root's home to everybody would be no help to anyone.
func reachable(dir string, c *syscall.Credential) bool {
	for {
		if info, err := os.Stat(dir); err == nil {
			st, ok := info.Sys().(*syscall.Stat_t)
			bits := info.Mode().Perm()
			switch {
			case !ok:
				return false
			case st.Uid == c.Uid:
				bits >>= 6
			case st.Gid == c.Gid:
				bits >>= 3
			}
			if bits&1 == 0 {
				return false
			}
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

func fingerprint(path string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(path)))[:12] }

// lastLines returns the end of the server's log, for the message that says why it does not run.
func lastLines(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}
