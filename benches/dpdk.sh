#!/usr/bin/env bash
# Our DPDK loop beside DPDK's own testpmd on the same device, in turn, on the same core.
#
#   ./benches/dpdk.sh [rounds] [frames]     default: 5 rounds, 256 and 4096 frames
#
# The device is net_pcap handing over 1450-byte GTP-U frames without end, which copies every frame:
# 256 frames stay in a core's cache (0.4 MB), 4096 come from beyond it (6 MB). Ours parses each
# frame, looks its session up and counts it, and with `forward` also sends the inner packet on.
# testpmd receives (rxonly), sends on (io), or writes new hardware addresses and sends on (mac).
# Prints the median Mpps of each and the ratio of ours to `mac`. As root both run before everything
# else (SCHED_RR: DPDK's threads share the core while it starts, and under SCHED_FIFO one of them
# spins there for minutes). Needs the packages libdpdk-dev and dpdk-dev and two cores; no privilege.

# shellcheck source=deploy/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../deploy/lib.sh"

ROUNDS=${1:-5}
read -ra FRAMES <<<"${2:-256 4096}"
SECONDS_EACH=2 BYTES=1450 CORE=1
EXAMPLE="$CARGO_TARGET_DIR/release/examples/dpdk_pcap"

need_packages "${DPDK_PACKAGES[@]}"
choose_linker
cargo build --locked --release -p qlink-io --features dpdk --example dpdk_pcap >&2

FOLDER="$(mktemp -d)"
trap 'rm -rf "$FOLDER"' EXIT
export RUNTIME_DIRECTORY="$FOLDER" XDG_RUNTIME_DIR="$FOLDER"
FIRST=()
[ "$(id -u)" -ne 0 ] || FIRST=(chrt -r 50)

# Mpps of one of our runs.
ours() {
    "${FIRST[@]}" taskset -c $CORE "$EXAMPLE" "$1" "$2" $SECONDS_EACH | cut -d' ' -f1
}

# Mpps of one run of testpmd: the median of its own figures per second, without the first, which
# is of before the start.
testpmd() {
    # It is ended by the time limit, so its status says nothing; no figure is an error below.
    {
        timeout -k 5 -s INT $((SECONDS_EACH + 3)) "${FIRST[@]}" dpdk-testpmd \
            --no-huge --no-pci --no-shconf --no-telemetry -m 96 -l "0,$CORE" \
            --vdev "net_pcap0,rx_pcap=$2,infinite_rx=1" -- --forward-mode="$1" \
            --total-num-mbufs=8191 --stats-period=1 --no-lsc-interrupt </dev/null 2>&1 || true
    } | sed -n 's/^ *Rx-pps: *\([1-9][0-9]*\).*/\1/p' | median 1000000
}

# The median of the lines read, divided by $1.
median() { sort -g | awk -v by="$1" '{ v[NR] = $1 } END { printf "%.3f\n", v[int((NR + 1) / 2)] / by }'; }

for frames in "${FRAMES[@]}"; do
    capture="$FOLDER/$frames.pcap"
    "$EXAMPLE" write "$capture" $BYTES "$frames"
    for ((round = 0; round < ROUNDS; round++)); do
        for work in meter forward; do ours $work "$capture" >>"$FOLDER/$frames.$work"; done
        for mode in mac io rxonly; do testpmd $mode "$capture" >>"$FOLDER/$frames.$mode"; done
    done
    mac="$(median 1 <"$FOLDER/$frames.mac")"
    for figure in meter forward mac io rxonly; do
        median 1 <"$FOLDER/$frames.$figure" |
            awk -v what="$figure" -v mac="$mac" -v frames="$frames" \
                '{ printf "%d frames of 1450 B, %-7s %7.3f Mpps, %.2f of mac\n", frames, what, $1, $1 / mac }'
    done
done
