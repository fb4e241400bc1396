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

# What tests of the page and of metrics need, and nothing else does. The package of promtool has a server with it, which
# is not to run here: only the one program is taken out of it.
browser() {
    local -a missing=()
    command -v chromium >/dev/null || missing+=(chromium)
    command -v chromedriver >/dev/null || missing+=(chromium-driver)
    local tools=$CARGO_TARGET_DIR/tools/bin
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        [ ${#missing[@]} -eq 0 ] || say "not root, or no apt-get: tests with a browser are left out (${missing[*]})"
        return 0
    fi
    local -x DEBIAN_FRONTEND=noninteractive
    if [ ${#missing[@]} -gt 0 ]; then
        say "installing ${missing[*]}"
        apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null || return 1
    fi
    command -v promtool >/dev/null || [ -x "$tools/promtool" ] || (
        say "taking promtool out of its package"
        place=$(mktemp -d) && trap 'rm -rf "$place"' EXIT && mkdir -p "$tools" && chmod 755 "$place" && cd "$place" &&
            apt-get update -qq && apt-get download -qq -o APT::Sandbox::User=root prometheus && dpkg-deb -x prometheus_*.deb . &&
            cp usr/bin/promtool "$tools/"
    )
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
