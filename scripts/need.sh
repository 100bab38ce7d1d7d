#!/bin/sh
# Installs what is missing of: go postgres pgbouncer chromium node. With apt, as root or where sudo asks no password; otherwise
# it says in one line what to install, and fails.
set -eu
cd "$(dirname "$0")/.."

packages=
for what in "$@"; do
  case $what in
  go)
    command -v go >/dev/null || { echo "Go is missing: install Go 1.26 or newer from https://go.dev/dl" >&2; exit 1; } ;;
  postgres)
    ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v pg_ctl >/dev/null || packages="$packages postgresql" ;;
  pgbouncer)
    command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || packages="$packages pgbouncer" ;;
  chromium)
    command -v chromium >/dev/null || packages="$packages chromium fonts-noto-core" ;;
  node)
    command -v node >/dev/null && command -v npm >/dev/null || packages="$packages nodejs npm" ;;
  esac
done

if [ -n "$packages" ]; then
  if ! command -v apt-get >/dev/null; then
    echo "Missing, and there is no apt-get here: install$packages" >&2
    exit 1
  elif [ "$(id -u)" = 0 ]; then sudo=
  elif sudo -n true 2>/dev/null; then sudo=sudo
  else
    echo "Missing: sudo apt-get install$packages" >&2
    exit 1
  fi
  echo "Installing$packages"
  log=$(mktemp)
  # shellcheck disable=SC2086
  if ! { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages; } >"$log" 2>&1 </dev/null; then
    tail -n 5 "$log" >&2
    echo "apt-get could not install$packages (see $log): install them, then run this again" >&2
    exit 1
  fi
  rm -f "$log"
fi

case " $* " in *" node "*)
  # npm leaves this file behind when it is done; an interrupted or older installation is made again.
  if ! [ e2e/node_modules/.package-lock.json -nt e2e/package-lock.json ]; then
    echo "Installing the browser tests' Node packages"
    if ! (cd e2e && npm ci --ignore-scripts --loglevel=error </dev/null >npm.log 2>&1); then
      head -n 5 e2e/npm.log >&2
      echo "npm could not install the browser tests' packages (see e2e/npm.log); by hand: cd e2e && npm ci" >&2
      exit 1
    fi
    rm -f e2e/npm.log
    touch e2e/node_modules/.package-lock.json
  fi ;;
esac
