#!/bin/sh
# Easel beside diffusers (eager, and compiled by torch) and OpenVINO, in turns on the same machine:
# seconds and memory. Writes the table in benches/README.md. Takes about half an hour; let the machine
# do nothing else meanwhile.
#
#     benches/compare.sh [ROUNDS]
#
# The Python with diffusers is the one that makes the tests' references (EASEL_ORACLE names another).
# OpenVINO takes part where EASEL_OPENVINO names a folder with it for that Python
# (`pip install --target FOLDER openvino`). EASEL_COMPILE=1 adds torch.compile, which needs a C++ compiler.
set -eu
cd "$(dirname "$0")/.."
rounds=${1:-3}
python=$(cargo xtask oracle)
sd15=${TMPDIR:-/tmp}/easel-bench-sd15
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT

cargo xtask setup
cargo build --release --package easel
# Easel's program sets this for itself (src/main.rs).
peer() { GOMP_SPINCOUNT=10000 GLIBC_TUNABLES=glibc.malloc.hugetlb=1 cargo bench --quiet --bench peer -- "$@"; }
theirs() { PYTHONPATH=${EASEL_OPENVINO:-} "$python" benches/diffusers_peer.py "$@" 2>/dev/null | grep '^{'; }
note() { printf '%s %s %s\n' "$1" "$2" "$3" >>"$lines"; printf '%-10s %-10s %s\n' "$2" "$1" "$3"; }

round=1
while [ "$round" -le "$rounds" ]; do
    note easel picture "$(peer picture)"
    note diffusers picture "$(theirs picture weights/starter 20)"
    for work in unet-512 unet-768 vae-512 vae-1024; do
        network=${work%-*}
        side=${work#*-}
        note easel "$work" "$(peer "$work")"
        note exact "$work" "$(peer "$work" exact)"
        note diffusers "$work" "$(theirs "$network" "$sd15/$network" "$side")"
        if [ -n "${EASEL_OPENVINO:-}" ]; then
            note openvino "$work" "$(theirs "$network" "$sd15/$network" "$side" openvino)"
        fi
        if [ -n "${EASEL_COMPILE:-}" ] && [ "$round" -eq 1 ]; then
            note compiled "$work" "$(theirs "$network" "$sd15/$network" "$side" compile)"
        fi
    done
    note easel start "$(peer start)"
    note diffusers start "$(theirs start weights/starter)"
    round=$((round + 1))
done
"$python" benches/table.py "$lines" benches/README.md
