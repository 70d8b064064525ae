#!/usr/bin/env bash
# Plays Qlink's story on this machine: installs what is missing, builds, runs `qlink demo`.
#
#   ./deploy/demo.sh [OPTIONS OF qlink demo]     ./deploy/demo.sh --help lists them
#
# Needs Debian or Ubuntu with Rust. Missing system packages are installed when that is possible
# without a password; otherwise they are named and nothing is done (exit 2). The demo itself
# needs no privilege and talks on the loopback interface only. Everything but the demo's own
# output goes to stderr, so `--json` gives exactly one object on stdout.

# shellcheck source=deploy/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_rust
need_packages "${BUILD_PACKAGES[@]}"
choose_linker
cargo build --profile ci --workspace --bins --locked >&2
exec "$CARGO_TARGET_DIR/ci/qlink" demo "$@"
