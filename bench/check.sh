#!/usr/bin/env bash
# Compares micro-benchmarks with the committed baseline, and fails if one of them is slower by more than 15 %. benchstat judges what is
# significant; what it marks "~" is noise, and only medians of six runs are compared.
# usage: bench/check.sh FILE [BASELINE]
set -euo pipefail
now=$(realpath "$1")
baseline=$(realpath "${2:-$(dirname "$0")/baseline.txt}")
cd "$(dirname "$0")"
if [ "$(grep -m1 '^cpu:' "$baseline")" != "$(grep -m1 '^cpu:' "$now")" ]; then
  echo "bench-check: the baseline is of another processor; make bench-baseline on the commit to compare with" >&2
fi
go tool benchstat "$baseline" "$now"
# In CSV a table of one unit is headed by a line ",sec/op,CI,sec/op,CI,vs base,P"; names have no commas.
go tool benchstat -format csv "$baseline" "$now" 2>/dev/null | awk -F, '
  /^,/ { time = ($2 == "sec/op" || $2 == "ns/command"); next }
  time && $1 != "geomean" && $6 ~ /^\+/ { by = substr($6, 2) + 0; if (by > 15) { print "bench-check: " $1 " is slower by " by " %"; slow = 1 } }
  END { exit slow }'
