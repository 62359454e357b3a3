#!/usr/bin/env bash
# Runs every fuzz target of the repository for the given time, two packages side by side, each built once.
# usage: internal/law/fuzz.sh TIME DIRECTORY-FOR-BINARIES
# The time is kept from outside, by an interrupt: -test.fuzztime with a duration fails now and then with a bare "context deadline exceeded"
# before Go 1.27 (https://go.dev/issue/75804), an interrupt ends a target with status 0.
set -euo pipefail
export time=$1 bin=$2 cache
cache=$(go env GOCACHE)/fuzz
mkdir -p "$bin"

package() {
  set -euo pipefail
  local dir=$1 name log
  local test=$bin/${dir//\//-}.fuzz
  log=$test.log
  go test -c -fuzz=. -o "$test" "./$dir"
  grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go | cut -c6- | while read -r name; do
    echo "fuzz $dir $name $time"
    (cd "$dir" && timeout --foreground --preserve-status --signal INT --kill-after 30s "$time" "$test" -test.run '^$' -test.fuzz "^$name\$" -test.parallel 1 -test.fuzzcachedir "$cache/$dir") >"$log" 2>&1 ||
      { cat "$log"; exit 255; }
  done
}
export -f package
grep -rlE --include='*_test.go' '^func Fuzz' . | sed 's|^\./||' | xargs -n 1 dirname | sort -u | xargs -P 2 -I '{}' bash -c 'package {}'
