#!/bin/sh
# Easel beside diffusers (eager, and compiled by torch) and OpenVINO, in turns on the same machine:
# seconds and memory. Writes the tables in benches/README.md. A round takes about half an hour on two
# cores; let the machine do nothing else meanwhile. 12 GB of models with random weights lie in the
# temporary folder while it runs; 24 GB of memory are needed for SDXL.
#
#     benches/compare.sh [ROUNDS [PART...]]
#
# Parts: load picture picture-1 start smooth attention unet-512 unet-512-1 unet-768 unet-xl vae-512 vae-1024; all where none is
# named. Those that end in -1 are done with one thread.
#
# The Python with diffusers is the one that makes the tests' references (EASEL_ORACLE names another).
# OpenVINO takes part where EASEL_OPENVINO names a folder with it for that Python
# (`pip install --target FOLDER openvino`). EASEL_COMPILE=1 adds torch.compile, which needs a C++ compiler.
# EASEL_BENCH_LINES names a file that keeps what was measured; one that exists is added to.
set -eu
cd "$(dirname "$0")/.."
rounds=${1:-1}
[ $# -eq 0 ] || shift
parts=${*:-load attention smooth picture picture-1 start unet-512 unet-512-1 unet-768 vae-512 vae-1024 unet-xl}
python=$(cargo xtask oracle)
# The peer looks for the first under this name.
sd15=${TMPDIR:-/tmp}/easel-bench-sd15
sdxl=${TMPDIR:-/tmp}/easel-bench-sdxl
lines=${EASEL_BENCH_LINES:-$(mktemp)}
clean() {
    rm -rf "$sd15" "$sdxl"
    [ -n "${EASEL_BENCH_LINES:-}" ] || rm -f "$lines"
}
trap clean EXIT
trap 'exit 130' INT TERM

cargo xtask setup
cargo build --release --package easel
cargo bench --quiet --no-run --bench peer
# Easel's program sets this for itself (src/main.rs).
memory=glibc.malloc.hugetlb=1
# Both sides take their number of threads from libtorch's variable.
peer() {
    GOMP_SPINCOUNT=10000 GLIBC_TUNABLES=$memory ${one:+env OMP_NUM_THREADS=1} \
        timeout 900 cargo bench --quiet --bench peer -- "$@" | grep '^{'
}
theirs() {
    PYTHONPATH=${EASEL_OPENVINO:-} TORCHINDUCTOR_CACHE_DIR=$sd15/inductor ${one:+env OMP_NUM_THREADS=1} \
        timeout 900 "$python" benches/diffusers_peer.py "$@" 2>/dev/null | grep '^{'
}
# A side that fails, or takes a quarter of an hour, has no cell; the others go on.
note() {
    who=$1
    work=$2
    shift 2
    found=$("$@") || found=
    printf '%-10s %-10s %s\n' "$work" "$who" "${found:-failed: $*}"
    [ -z "$found" ] || printf '%s %s %s\n' "$who" "$work" "$found" >>"$lines"
}
model() { [ -e "$3/model_index.json" ] || "$python" benches/model_folder.py "$1" "$2" "$3"; }
# What is on the disk only would be read by the first who asks.
warm() { cat "$1"/*/*.safetensors >/dev/null; }

model sd15 f32 "$sd15"
round=1
failed=
while [ "$round" -le "$rounds" ]; do
    for work in $parts; do
        part=${work%-1}
        one=
        [ "$part" = "$work" ] || one=1
        network=${part%-*}
        side=${part#*-}
        case $part in
        load)
            model sdxl f16 "$sdxl"
            for which in sd15 sdxl; do
                eval "folder=\$$which"
                for _ in 1 2 3; do
                    warm "$folder"
                    note easel "load-$which" peer load "$folder"
                    warm "$folder"
                    note diffusers "load-$which" theirs load "$folder"
                done
            done
            ;;
        picture | start)
            for _ in 1 2 3; do
                note easel "$work" peer "$part"
                note diffusers "$work" theirs "$part" weights/starter 20
                if [ -n "${EASEL_OPENVINO:-}" ] && [ "$work" = picture ]; then
                    note openvino "$work" theirs picture weights/starter 20 openvino
                fi
            done
            ;;
        attention | smooth)
            note easel "$work" peer "$part"
            [ -n "$found" ] || failed="$failed $work"
            ;;
        unet-xl)
            model sdxl f16 "$sdxl"
            note easel "$work" peer "$work" "$sdxl"
            note diffusers "$work" theirs unet_xl "$sdxl/unet"
            ;;
        *)
            note easel "$work" peer "$part"
            note diffusers "$work" theirs "$network" "$sd15/$network" "$side"
            [ "$side" -gt 512 ] || note exact "$work" peer "$part" exact
            if [ -n "${EASEL_OPENVINO:-}" ] && [ -z "$one" ]; then
                note openvino "$work" theirs "$network" "$sd15/$network" "$side" openvino
            fi
            if [ -n "${EASEL_COMPILE:-}" ] && [ "$round$side$one" = 1512 ]; then
                note compiled "$work" theirs "$network" "$sd15/$network" "$side" compile
            fi
            ;;
        esac
    done
    round=$((round + 1))
done
"$python" benches/table.py "$lines" benches/README.md
# Nothing to set beside: attention that is not what it should be, a window that shows nothing.
[ -z "$failed" ] || { echo "failed:$failed" >&2 && exit 1; }
