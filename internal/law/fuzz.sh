#!/usr/bin/env bash
# Runs every fuzz target of the repository for the given time, two packages side by side, all built at once.
# usage: internal/law/fuzz.sh TIME DIRECTORY-FOR-BINARIES
# Only our own packages are instrumented for coverage: `go test -fuzz` would compile every dependency anew, a database among
# them, to be guided by branches that no seed of ours is about.
# The time is kept from outside, by an interrupt: -test.fuzztime with a duration fails now and then with a bare "context deadline exceeded"
# before Go 1.27 (https://go.dev/issue/75804), an interrupt ends a target with status 0.
set -euo pipefail
export time=$1 bin=$2 cache
cache=$(go env GOCACHE)/fuzz
mkdir -p "$bin"

package() {
  set -euo pipefail
  local dir=$1 name test log
  test=$bin/${dir##*/}.test
  log=$test.log
  grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go | cut -c6- | while read -r name; do
    echo "fuzz $dir $name $time"
    (cd "$dir" && timeout --foreground --preserve-status --signal INT --kill-after 30s "$time" "$test" -test.run '^$' -test.fuzz "^$name\$" -test.parallel 1 -test.fuzzcachedir "$cache/$dir") >"$log" 2>&1 ||
      { cat "$log"; exit 255; }
    if grep -q 'without coverage' "$log"; then
      cat "$log"; exit 255
    fi
  done
}
export -f package
dirs=$(grep -rlE --include='*_test.go' '^func Fuzz' . | sed 's|^\./||' | xargs -n 1 dirname | sort -u)
# -o names each binary after its package's last element; go refuses two of the same name.
# shellcheck disable=SC2086 # one argument a directory
go test -c -vet=off -ldflags="-s -w" -gcflags="$(go list -m)/...=-d=libfuzzer" -o "$bin/" $(printf './%s ' $dirs)
xargs -P 2 -I '{}' bash -c 'package {}' <<<"$dirs"
