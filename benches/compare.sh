#!/bin/sh
# Easel beside diffusers, in turns on the same machine: seconds and memory. Writes the table in
# benches/README.md. Takes about ten minutes; let the machine do nothing else meanwhile.
#
#     benches/compare.sh [ROUNDS]
#
# The Python with diffusers is the one that makes the tests' references (EASEL_ORACLE names another).
set -eu
cd "$(dirname "$0")/.."
rounds=${1:-3}
python=$(cargo xtask oracle)
unet=${TMPDIR:-/tmp}/easel-bench-sd15/unet
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT

cargo xtask setup
cargo build --release --package easel
# Easel's program sets this for itself (src/main.rs).
peer() { GOMP_SPINCOUNT=10000 GLIBC_TUNABLES=glibc.malloc.hugetlb=1 cargo bench --quiet --bench peer -- "$1"; }
theirs() { "$python" benches/diffusers_peer.py "$@" 2>/dev/null; }
note() { printf '%s %s %s\n' "$1" "$2" "$3" >>"$lines"; printf '%-8s %-10s %s\n' "$2" "$1" "$3"; }

round=1
while [ "$round" -le "$rounds" ]; do
    note easel picture "$(peer picture)"
    note diffusers picture "$(theirs picture weights/starter 20)"
    note easel unet "$(peer unet)"
    note diffusers unet "$(theirs unet "$unet")"
    note easel start "$(peer start)"
    note diffusers start "$(theirs start weights/starter)"
    round=$((round + 1))
done
"$python" benches/table.py "$lines" benches/README.md
