#!/usr/bin/env bash
# Every check of Qlink, in order, cheapest first. Exit 0: all passed.
#
#   ./deploy/test.sh                  all steps, as CI runs them
#   ./deploy/test.sh --only STEP      this step alone; may be given several times
#   ./deploy/test.sh --long           full counts: QLINK_LONG=1, QLINK_PROPERTY_PACKAGES=20000,
#                                     fuzz targets 20 s each
#   ./deploy/test.sh --list           the steps and what each is
#
# Environment: CARGO_TARGET_DIR (see lib.sh); QLINK_CAPTURES, a folder of captures that tests
# compare with, set to ../shared/data/pcaps when that is there; CI=true makes a skip a failure.
# Left out: advisories of dependencies, which need a database from the network (deny.toml).

# shellcheck source=deploy/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

STEPS=(
    "fmt       formatting of all Rust code"
    "deny      licences, bans and sources of dependencies"
    "arrows    which crate links which; unsafe code is forbidden outside three crates"
    "packages  the packages Qlink is built on are in the build"
    "sizes     top-level entries, file lengths, roots that only declare"
    "wasm      types and viewer compile for wasm32, without a random source"
    "clippy    lints, warnings refused"
    "doc       documentation builds, warnings refused"
    "tests     unit, property, integration tests"
    "clock     timers of the tunnel, by a clock that the tests move"
    "dpdk      the packet back end of feature dpdk: lints, tests, the binary compiles with it"
    "doctests  examples in documentation"
    "loom      arena rows, waking of workers under every interleaving of their threads"
    "fuzz      fuzz targets compile and run shortly"
    "demo      qlink demo plays, its figures are exact, its JSON follows the schema"
)
CHECK="$REPOSITORY/deploy/checks/check.py"
WASM=wasm32-unknown-unknown
WASM_PACKAGES=(qlink-types qlink-viewer)
SKIPPED=77

step_fmt() {
    # Names the files; `cargo fmt --all` mends those of the workspace.
    cargo fmt --all -- --check -l
    local manifest
    while read -r manifest; do
        cargo fmt --manifest-path "$manifest" -- --check -l
    done < <(fuzz_manifests)
}

step_deny() {
    need_tool deny "$DENY_VERSION"
    cargo deny --config deploy/deny.toml --workspace --locked check licenses bans sources
}

step_arrows() { python3 "$CHECK" arrows; }
step_packages() { python3 "$CHECK" packages; }
step_sizes() { python3 "$CHECK" sizes; }

step_wasm() {
    local package selection=()
    for package in "${WASM_PACKAGES[@]}"; do selection+=(-p "$package"); done
    if cargo tree --locked --target "$WASM" -e normal "${selection[@]}" --prefix none |
        grep '^getrandom '; then
        echo "a random source is linked on wasm32: seeds and keys come from the caller there"
        return 1
    fi
    local check=(cargo check --locked --profile ci --target "$WASM" "${selection[@]}")
    if rustup_has_wasm; then
        "${check[@]}"
    elif debian_has_wasm; then
        RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$CARGO_TARGET_DIR/wasm" \
            "${check[@]}" -Zbuild-std=std,panic_abort
    else
        echo "skipped: no standard library for $WASM: 'rustup target add $WASM' failed, and so" \
            "did Debian's rustc-web with rust-web-src"
        return $SKIPPED
    fi
}

# The toolchain's own standard library for wasm32, fetched when that is possible.
rustup_has_wasm() {
    [ -d "$(rustc --print sysroot)/lib/rustlib/$WASM/lib" ] ||
        timeout 300 rustup target add "$WASM"
}

# Debian has no such library, but the compiler of its browsers and that compiler's source; the
# library is then built from it. Its version is not that of rust-toolchain.toml: a check only.
debian_has_wasm() {
    want_packages rustc-web rust-web-src
    [ -d /usr/lib/rustlib/src/rust/library ] && /usr/bin/rustc --version
}

step_clippy() {
    cargo clippy --locked --profile ci --workspace --all-targets -- -D warnings
}

step_doc() {
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --profile ci --workspace --no-deps
}

step_tests() {
    need_tool nextest "$NEXTEST_VERSION"
    # Nextest keeps its reports under target/ whatever CARGO_TARGET_DIR says.
    local status=0 report="target/nextest/$NEXTEST_PROFILE/junit.xml"
    rm -f "$report"
    cargo nextest run --locked --cargo-profile ci --profile "$NEXTEST_PROFILE" \
        --workspace || status=$?
    [ $status -eq 0 ] || return $status
    python3 "$CHECK" skips "$report" || return $SKIPPED
}

# By itself: whatever is built with it has a clock that stands still.
step_clock() {
    need_tool nextest "$NEXTEST_VERSION"
    cargo nextest run --locked --cargo-profile ci --profile "$NEXTEST_PROFILE" -p qlink-tunnel \
        --features mock-clock --test clock
}

# A feature of its own, because it needs a library of the system. The light crates alone: their
# features do not touch RocksDB. `cargo check` shows that the binary builds with it.
step_dpdk() {
    want_packages "${DPDK_PACKAGES[@]}"
    if ! pkg-config --atleast-version=21.11 libdpdk; then
        if [ -z "$(offered_packages libdpdk-dev)" ]; then
            echo "skipped: this distribution has no libdpdk 21.11 or later"
            return $SKIPPED
        fi
        echo "libdpdk-dev is offered here and not installed: apt-get install libdpdk-dev"
        return 1
    fi
    local selection=(-p dpdk-sys -p qlink-io -p qlink-dataplane)
    selection+=(--features qlink-io/dpdk,qlink-dataplane/dpdk)
    cargo clippy --locked --profile ci "${selection[@]}" --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --profile ci "${selection[@]}" --no-deps
    cargo nextest run --locked --cargo-profile ci --profile "$NEXTEST_PROFILE" "${selection[@]}" \
        -E 'binary(dpdk) | test(dpdk::) | test(probe::) | test(neighbour::) | test(frame::)'
    cargo check --locked --profile ci -p qlink --features dpdk
}

step_doctests() {
    cargo test --locked --profile ci --workspace --doc --quiet
}

# The flag changes what is compiled, so builds with it have a place of their own.
step_loom() {
    CARGO_TARGET_DIR="$CARGO_TARGET_DIR/loom" RUSTFLAGS="--cfg loom -C link-arg=-fuse-ld=mold" \
        cargo test --locked --profile ci -p qlink-meter -p qlink-io --test 'loom_*'
}

# Fuzz targets are workspaces of their own: they need compiler flags that the product must not
# get. The flags are those of cargo-fuzz without a sanitizer, so a stable compiler suffices;
# overflow and debug assertions are on.
FUZZ_FLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Clink-dead-code -Ccodegen-units=1 \
-Cdebug-assertions -Coverflow-checks -Clink-arg=-fuse-ld=mold"

fuzz_manifests() { git ls-files -co --exclude-standard -- '*/fuzz/Cargo.toml'; }

step_fuzz() {
    local manifest triple
    triple="$(rustc -vV | sed -n 's/^host: //p')"
    while read -r manifest; do
        CARGO_TARGET_DIR="$CARGO_TARGET_DIR/fuzz" RUSTFLAGS="$FUZZ_FLAGS" \
            cargo build --locked --release --target "$triple" --manifest-path "$manifest"
        fuzz_run "$manifest" "$CARGO_TARGET_DIR/fuzz/$triple/release"
    done < <(fuzz_manifests)
}

# Runs every target of one manifest for $FUZZ_SECONDS; a crash leaves its input in the folder.
fuzz_run() {
    local name log found="$CARGO_TARGET_DIR/fuzz/found"
    mkdir -p "$found"
    while read -r name; do
        log="$found/$name.log"
        "$2/$name" -max_total_time="$FUZZ_SECONDS" -timeout=5 -rss_limit_mb=1024 \
            -artifact_prefix="$found/$name-" -print_final_stats=1 >"$log" 2>&1 </dev/null || {
            tail -n 40 "$log"
            echo "fuzz target $name of $1 failed; its input is in $found"
            return 1
        }
        echo "$1 $name: $(sed -n 's/^stat::number_of_executed_units: //p' "$log") inputs"
    done < <(sed -n 's/^name = "\(.*\)"/\1/p' "$1" | tail -n +2)
}

# The tests' own binary: --bins alone would turn other features on and compile much again.
step_demo() {
    local out="$CARGO_TARGET_DIR/demo" seed=1
    local json="$out/demo.json"
    cargo build --locked --profile ci --workspace --bins --tests
    rm -rf "$out"
    mkdir -p "$out"
    timeout 300 "$CARGO_TARGET_DIR/ci/qlink" demo --json --seed $seed --dir "$out/network" \
        >"$json" 2>"$out/demo.log" || {
        local status=$?
        tail -n 40 "$out/demo.log"
        echo "qlink demo --seed $seed ended with status $status; all of it is in $out"
        return 1
    }
    "$SYSTEM_PYTHON" "$CHECK" schema gateway/cli/schema/demo.schema.json "$json"
}

step_names() { printf '%s\n' "${STEPS[@]}" | cut -d' ' -f1; }

read_options() {
    ONLY=()
    while [ $# -gt 0 ]; do
        case "$1" in
        --long)
            export QLINK_LONG=1 QLINK_PROPERTY_PACKAGES=20000
            ;;
        --only)
            step_names | grep -qx -- "${2:-}" ||
                stop "--only takes one of: $(step_names | tr '\n' ' ')"
            ONLY+=("$2")
            shift
            ;;
        --list)
            printf '%s\n' "${STEPS[@]}"
            exit 0
            ;;
        *) stop "unknown option '$1'; the top of $0 lists them" ;;
        esac
        shift
    done
    [ ${#ONLY[@]} -gt 0 ] || mapfile -t ONLY < <(step_names)
}

prepare() {
    need_rust
    need_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
    want_packages "${TEST_EXTRAS[@]}"
    choose_linker
    local captures="$REPOSITORY/../shared/data/pcaps"
    if [ -z "${QLINK_CAPTURES:-}" ] && [ -d "$captures" ]; then
        QLINK_CAPTURES="$(cd "$captures" && pwd)"
        export QLINK_CAPTURES
    fi
}

# Runs one step in a shell of its own: in this one, behind `||`, a failing command in the middle
# of a step would not end it.
run_step() {
    local name=$1 start=$SECONDS status=0
    echo "==> $name"
    QLINK_STEP=$name bash "$REPOSITORY/deploy/test.sh" || status=$?
    local seconds=$((SECONDS - start)) verdict=passed
    if [ $status -eq $SKIPPED ]; then verdict=skipped; elif [ $status -ne 0 ]; then verdict=failed; fi
    if [ $verdict = skipped ] && [ "${CI:-}" = true ]; then verdict=failed; fi
    RESULTS+=("$(printf '%-9s %-8s %5d s' "$name" "$verdict" "$seconds")")
    case $verdict in
    passed) PASSED=$((PASSED + 1)) ;;
    skipped) LEFT=$((LEFT + 1)) ;;
    failed) FAILED=$((FAILED + 1)) ;;
    esac
    echo "<== $name $verdict after $seconds s"
}

NEXTEST_PROFILE=ci FUZZ_SECONDS=3
if [ "${QLINK_LONG:-}" = 1 ]; then NEXTEST_PROFILE=long FUZZ_SECONDS=20; fi
if [ -n "${QLINK_STEP:-}" ]; then
    "step_$QLINK_STEP"
    exit
fi
read_options "$@"
prepare
PASSED=0 FAILED=0 LEFT=0 RESULTS=()
for step in "${ONLY[@]}"; do run_step "$step"; done
echo
printf '%s\n' "${RESULTS[@]}"
echo "steps: $PASSED passed, $FAILED failed, $LEFT skipped"
[ "$FAILED" -eq 0 ]
