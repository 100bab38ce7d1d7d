package localpg

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// idleWatch ends a shared cluster that has had no connection for five minutes. It takes the lock that Join takes, so that
// no process joins a cluster that is about to end.
const idleWatch = `
idle=0
while sleep 30; do
  test -f "$DATA/postmaster.pid" || exit 0
  if ! "$BIN/psql" -XAtq -h "$SOCKET" -U postgres -c \
      "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 1" | grep -q 1
  then idle=$((idle + 1)); else idle=0; fi
  if [ $idle -ge 10 ] && flock -n "$LOCK" "$BIN/pg_ctl" -D "$DATA" -m immediate stop; then exit 0; fi
done`

// Join returns the URL of the cluster in o.Dir that several processes share, starting it when it does not answer.
// The cluster outlives its starter; it ends by itself when it has been idle for five minutes. A caller that wants to
// rely on it keeps a connection open. Whatever a crash left behind is thrown away, so it is for tests alone.
func Join(ctx context.Context, o Options) (url string, err error) {
	p, err := locate(o.Dir)
	if err != nil {
		return "", err
	}
	if p.dir != p.asked {
		return "", fmt.Errorf("the user postgres cannot reach %s: set TMPDIR to a folder that everybody may enter", o.Dir)
	}
	if err := p.makeDirs(); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(p.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close() // lets go of the lock
	if p.credential != nil {
		if err := lock.Chown(int(p.credential.Uid), int(p.credential.Gid)); err != nil {
			return "", err
		}
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if p.ping(ctx) == nil {
		return p.url("postgres"), nil
	}
	return p.url("postgres"), p.launch(ctx, o)
}

// launch starts a fresh cluster that does not end with us, and the watch that ends it when it is idle.
func (p place) launch(ctx context.Context, o Options) error {
	if pid := p.postmaster(); pid != 0 {
		return fmt.Errorf("the Postgres in %s (its process id is %d) runs but does not answer: stop it", p.dir, pid)
	}
	if err := os.RemoveAll(p.data()); err != nil {
		return err
	}
	if err := p.initdb(ctx); err != nil {
		return err
	}
	logFile, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	server := exec.Command(filepath.Join(p.bin, "postgres"), p.args(o)...)
	watch := exec.Command("sh", "-c", idleWatch)
	watch.Env = append(os.Environ(), "DATA="+p.data(), "BIN="+p.bin, "SOCKET="+p.socket, "LOCK="+filepath.Join(p.dir, "lock"))
	for _, cmd := range []*exec.Cmd{server, watch} {
		cmd.Dir = p.dir
		cmd.Stdout, cmd.Stderr = logFile, logFile
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: p.credential}
	}
	if err := server.Start(); err != nil {
		return fmt.Errorf("starting Postgres: %w", err)
	}
	done := make(chan struct{})
	go func() {
		_ = server.Wait() // its log says how it ended
		close(done)
	}()
	if err := p.await(ctx, done); err != nil {
		return err
	}
	if err := watch.Start(); err != nil {
		return err
	}
	return watch.Process.Release()
}
