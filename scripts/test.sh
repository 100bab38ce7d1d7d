#!/bin/bash
# Every test: generated code, formatting, vet and staticcheck, Go with a real Postgres, and the browser.
# It goes on after a failure, so that one run tells all, and fails at the end.
set -uo pipefail
cd "$(dirname "$0")/.."

scripts/need.sh go postgres pgbouncer chromium node || exit 1

# A Postgres of this run's own: it is started by the first test that asks, below TMPDIR, and ended here.
TMPDIR=$(mktemp -d /tmp/patchbay-test-XXXXXX) || exit 1
export TMPDIR
chmod 755 "$TMPDIR" # the user postgres must get in when we are root
cleanup() {
  pid=$(head -n 1 "$TMPDIR"/patchbay-test-pg-*/data/postmaster.pid 2>/dev/null)
  [ -n "$pid" ] && kill -QUIT "$pid" 2>/dev/null
  for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$TMPDIR" 2>/dev/null && break; sleep 0.2; done
}
trap cleanup EXIT
trap 'exit 130' INT TERM

failed=()
step() {
  local name=$1
  echo "== $name"
  shift
  "$@" || failed+=("$name")
}

generated() {
  local before after
  before=$(git ls-files -co --exclude-standard '*_templ.go' | sort | xargs -r sha256sum)
  go tool templ generate -log-level error || return 1
  after=$(git ls-files -co --exclude-standard '*_templ.go' | sort | xargs -r sha256sum)
  [ "$before" = "$after" ] || { echo "generated pages were out of date: commit what make generate wrote"; return 1; }
}
formatted() {
  local list
  list=$(git ls-files -co --exclude-standard '*.go' ':!*_templ.go' | xargs -r go tool gofumpt -l) || return 1
  [ -z "$list" ] || { printf 'not in gofumpt form:\n%s\n' "$list"; return 1; }
}
# tested watches every package for races, and keeps quiet about what passes. Tests wait more than they compute.
tested() {
  go test -race -p 3 -timeout 15m ./... | awk '!/^ok |no test files/'
}
browser() {
  go build -o bin/patchbay ./cmd/web || return 1
  (cd e2e && node --test --test-concurrency=2 --test-reporter=spec)
}

began=$SECONDS
step "generated code" generated
step "formatting" formatted
step "vet" go vet ./...
step "staticcheck" go tool staticcheck ./...
step "go test" tested
step "browser tests" browser

# A test builds the version before from the history, which a shallow clone does not have. It is then skipped, and go test keeps quiet about that.
previous=$(sed -n 's/^const previous = "\(.*\)"$/\1/p' cmd/web/upgrade_test.go)
git cat-file -e "$previous^{commit}" 2>/dev/null || echo "NOT TESTED: the version before on this schema. This clone has no commit $previous: git fetch --unshallow"

if [ ${#failed[@]} -gt 0 ]; then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
echo "All passed: Go with the race detector, and the browser, in $(((SECONDS - began) / 60)) min $(((SECONDS - began) % 60)) s."
