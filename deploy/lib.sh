# shellcheck shell=bash disable=SC2034 # the sourcing scripts use the variables
# Sourced by the scripts beside it, not run: what a machine needs, and how Qlink is built.
#
# Variables it honours:
#   CARGO_TARGET_DIR  where builds go; default ${XDG_CACHE_HOME:-$HOME/.cache}/qlink/target
#   CI                `true`: a skipped check is a failed check
#
# One way to build. Cargo compiles a dependency once per set of features, and which features are
# on depends on the packages selected. `-p qlink-store` and `-p qlink-chain` compile RocksDB's
# C++ (minutes) a second time: its build script reaches memchr through bindgen, whose feature
# `default` only serde_json of other crates turns on. So every script here selects `--workspace`
# and profile `ci`; `-p qlink` and `-p qlink-gateway` share its artifacts too.

set -euo pipefail

REPOSITORY="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/qlink/target}"
# One place for builds of the workspace, of tools and of fuzz targets, whatever the directory.
case "$CARGO_TARGET_DIR" in
/*) ;;
*) CARGO_TARGET_DIR="$REPOSITORY/$CARGO_TARGET_DIR" ;;
esac
export CARGO_TARGET_DIR
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
cd "$REPOSITORY"

# Debian and Ubuntu packages. libclang-dev: RocksDB's bindings are generated at build time.
BUILD_PACKAGES=(ca-certificates clang cmake g++ gcc git libclang-dev make mold pkg-config python3)
# tshark: the byte oracle. curl, jq: the CLI's examples. jsonschema: machine JSON by its schema.
# ethtool, iproute2, nftables, nginx, ping: labs of network namespaces. nfdump: an IPFIX collector.
# wireguard-go, wireguard-tools: the other end of the tunnel.
TEST_PACKAGES=(curl ethtool iproute2 iputils-ping jq nfdump nftables nginx-light python3-jsonschema
    tshark wireguard-go wireguard-tools)
# Installed where the distribution has them as packages; tests that need one say when it is not
# there. scapy: a foreign encoder. chromium: the console's pages. hledger: an auditor of the books.
TEST_EXTRAS=(chromium hledger python3-scapy)
# For the step `dpdk` and benches/dpdk.sh; nothing else needs them. dpdk-dev has testpmd.
DPDK_PACKAGES=(libdpdk-dev dpdk-dev)

# Versions that the scripts were written for; one already installed is used as it is.
NEXTEST_VERSION=0.9.143
DENY_VERSION=0.20.2

# Debian's packages of Python modules belong to Debian's Python, which may not be first in PATH.
SYSTEM_PYTHON=/usr/bin/python3
[ -x "$SYSTEM_PYTHON" ] || SYSTEM_PYTHON=python3

say() { printf '%s\n' "$*" >&2; }

# Says why nothing goes on and what to do; 2: the machine or the call is wrong, not the product.
stop() {
    say "$@"
    exit 2
}

# Those of its arguments that are not installed as Debian packages.
missing_packages() {
    local package
    for package in "$@"; do
        dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' ||
            printf '%s\n' "$package"
    done
}

# Those of its arguments that the distribution offers as real packages.
offered_packages() {
    local package
    for package in "$@"; do
        apt-cache show "$package" >/dev/null 2>&1 && printf '%s\n' "$package"
    done
    return 0
}

# Runs a command as root: 1 when that needs a password or is not possible.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# Installs packages as root, after reading the distribution's lists once.
install_packages() {
    if [ -z "${LISTS_READ:-}" ]; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2 || say "apt-get update failed"
        LISTS_READ=1
    fi
    [ $# -eq 0 ] || as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
        --no-install-recommends --no-remove "$@" >&2
}

# Installs the packages named, or names what is missing and stops.
need_packages() {
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        need_commands "$@"
        return
    fi
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -eq 0 ] && return
    say "installing: ${missing[*]}"
    if as_root true; then
        install_packages "${missing[@]}" || stop "apt-get could not install: ${missing[*]}"
        return
    fi
    stop "this needs root, and sudo asks for a password. Run this, then start again:

    sudo apt-get install -y --no-install-recommends ${missing[*]}
"
}

# On other systems the commands must be there already.
need_commands() {
    local absent=() command
    for command in clang cmake g++ gcc git make mold pkg-config python3; do
        command -v "$command" >/dev/null || absent+=("$command")
    done
    [ ${#absent[@]} -eq 0 ] && return
    stop "not Debian or Ubuntu, so nothing is installed by itself." \
        "Missing commands: ${absent[*]}; the Debian packages would be: $*"
}

# Installs what the distribution offers of these; never stops.
want_packages() {
    command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || return 0
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -eq 0 ] && return 0
    if as_root true; then
        install_packages
        mapfile -t missing < <(offered_packages "${missing[@]}")
        install_packages "${missing[@]}" || say "not installed: ${missing[*]}"
    else
        say "for all tests: sudo apt-get install -y --no-install-recommends ${missing[*]}"
    fi
}

# .cargo/config.toml links with mold, which gcc knows from version 12 on and clang long before.
choose_linker() {
    local major
    major="$(gcc -dumpversion | cut -d. -f1)"
    [ "$major" -ge 12 ] && return
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=clang
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=clang
}

need_rust() {
    command -v cargo >/dev/null && return
    stop "Rust is missing: install it from https://rustup.rs, then start again." \
        "rust-toolchain.toml names the toolchain."
}

# A cargo subcommand, built from its source when it is not there: need_tool nextest 0.9.143
need_tool() {
    command -v "cargo-$1" >/dev/null && return
    say "installing cargo-$1 $2 (once, some minutes)"
    CARGO_TARGET_DIR="$CARGO_TARGET_DIR/tools" \
        cargo install --locked --quiet "cargo-$1@$2" >&2 || stop "cargo-$1 $2 does not build"
}
