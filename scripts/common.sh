# Shared by the scripts here; sourced, not run. Sets `root`, the place for build products, and how messages look.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# One place for all clones: RocksDB takes half an hour of CPU to compile, and is then found again.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/snapfold/target}
export PATH=$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}
