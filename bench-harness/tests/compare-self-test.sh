#!/usr/bin/env bash
# Whether `compare` can be believed: a build against itself must be undecided 19 times in 20, and one
# whose core is slowed by 3 % must be worse, each within ten minutes. Needs a quiet machine.
#
#   compare-self-test.sh [ROUNDS] [MINUTES]
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-20}
minutes=${2:-10}
bench=target/release/millstream-bench
broker=target/release/millstream
data=$(mktemp -d target/compare-self-test.XXXXXX)
trap 'rm -rf "$data"' EXIT

verdict() {
    "$bench" compare "$broker" "$broker" --minutes "$minutes" --data-dir "$data" "$@" |
        tee /dev/stderr | sed -n 's/^verdict by .*: //p'
}

undecided=0
for round in $(seq "$rounds"); do
    found=$(verdict || true)
    echo "round $round: $found"
    if [ "$found" = undecided ]; then undecided=$((undecided + 1)); fi
done
slowed=$(verdict --handicap 3 || true)
echo "undecided $undecided times in $rounds; slowed by 3 %: $slowed"
[ $((undecided * 20)) -ge $((rounds * 19)) ] && [ "$slowed" = worse ]
