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

# What says nothing new about a bucket: tests that use one, or a disk, in any case, that need no repository, and that
# look at what happens inside of a stage (foreign suites, counted requests), wherever its snapshot goes.
not_on_s3=(bucket:: outage:: cluster:: full_disk:: help:: harness:: suites:: requests:: tls::)
# What makes several processes meet, which takes full length.
at_length_on_s3=(concurrency:: retention:: kill::a_commit kill::a_backup)

# The suite on a real S3 server, which SNAPFOLD_TEST_S3 names: at the size that `quick` has, or it would take as long
# again as on a disk (a million entries, kernel sources, 200 kills).
on_s3() {
    local e2e=(cargo test --release --locked --test e2e --)
    local -x SNAPFOLD_TEST_STORE=s3
    SNAPFOLD_TEST=quick "${e2e[@]}" "${not_on_s3[@]/#/--skip=}" "${at_length_on_s3[@]/#/--skip=}" &&
        "${e2e[@]}" "${at_length_on_s3[@]}"
}
