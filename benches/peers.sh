#!/usr/bin/env bash
# Packets per CPU-second of Qlink and of others' meters on the same fresh traffic, in one run.
#
#   benches/peers.sh                    all meters of Debian packages (installed when missing)
#   benches/peers.sh --ebpf OBJECT ...  a GTP-U XDP program of somebody's beside our pipeline, by
#                                       BPF_PROG_TEST_RUN; the options behind OBJECT are those
#                                       of examples/ebpf.rs: --program, --frame, --fill, --verdict
#   benches/peers.sh --ebpf self-test   the same with a small program compiled here
#
# Environment: PACKETS (4000000), ROUNDS (3), CARGO_TARGET_DIR (see deploy/lib.sh).
# Needs root (a cgroup counts the CPU time of each meter with all its processes) and 5 GB under
# TMPDIR, which are freed at the end.
#
# The traffic is described in examples/traffic.rs; its seed is new in every run and printed. Files
# are read from the page cache. CPU time is user and system time from start to end, ours
# included. Meters without GTP-U get the inner packets on Ethernet, ours and ndpiReader the
# tunnelled ones. Rounds are interleaved: ours runs before each other meter.
#
# Exit status: 0 whatever the figures are; 1 when ours counted a byte wrong or a verdict differs;
# 2: cannot run here.

# shellcheck source=deploy/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../deploy/lib.sh"

PACKETS="${PACKETS:-4000000}"
ROUNDS="${ROUNDS:-3}"
EXAMPLES="$CARGO_TARGET_DIR/release/examples"
PACKAGES=(softflowd nfdump libndpi-bin pmacct)

# Goals of the performance contract: times as many packets per CPU-second as the other.
declare -A GOAL=([softflowd]=4 [nfpcapd]=- [ndpiReader]=15 [pmacctd]=15)

# ndpiReader's "IP bytes" hold 58 bytes more per packet than the inner packet: all link and tunnel
# headers.
NDPI_EXTRA=58

[ "$(id -u)" -eq 0 ] || stop "peers.sh needs root: a cgroup measures, and XDP programs are loaded"
FOLDER="$(mktemp -d)"
GROUP=""
# Set by the meters.
COUNTED_PACKETS=0 COUNTED_BYTES=0

clean() {
    local process
    if [ -n "$GROUP" ]; then
        # Only what was started in our own group.
        while read -r process; do kill -KILL "$process" 2>/dev/null || true; done <"$GROUP/cgroup.procs"
        sleep 0.2
        rmdir "$GROUP" || true
    fi
    rm -rf "$FOLDER"
}
trap clean EXIT

# A cgroup of our own, of either version, and the file that states its CPU time.
make_group() {
    local base
    for base in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/cpuacct; do
        [ -e "$base/cgroup.procs" ] || continue
        mkdir "$base/qlink-peers-$$" 2>/dev/null || continue
        GROUP="$base/qlink-peers-$$"
        [ -n "$(cpu_us)" ] && return
        rmdir "$GROUP"
        GROUP=""
    done
    stop "no cgroup that accounts CPU time"
}

# CPU time of the group so far, microseconds.
cpu_us() {
    if [ -r "$GROUP/cpuacct.usage" ]; then
        echo $(($(<"$GROUP/cpuacct.usage") / 1000))
    elif [ -r "$GROUP/cpu.stat" ]; then
        sed -n 's/^usage_usec //p' "$GROUP/cpu.stat"
    fi
}

# Runs a command in the group for at most two minutes, its words into a file.
grouped() {
    (
        echo "$BASHPID" >"$GROUP/cgroup.procs"
        exec timeout 120 "$@" >"$FOLDER/words" 2>&1
    )
}

expected() { sed -n "s/^$1=//p" "$FOLDER/expected"; }

meter_ours() {
    if ! grouped "$EXAMPLES/meter" "$FOLDER"; then
        cat "$FOLDER/words"
        say "ours counted wrong"
        exit 1
    fi
    COUNTED_PACKETS=$(sed -n 's/^packets=//p' "$FOLDER/words")
    COUNTED_BYTES=$(sed -n 's/^inner_bytes=//p' "$FOLDER/words")
}

# Exports to a port where nobody listens.
meter_softflowd() {
    grouped softflowd -d -r "$FOLDER/plain.pcap" -m 65536 -v 9 -n 127.0.0.1:39999 \
        -p "$FOLDER/softflowd.pid" -c none || true
    COUNTED_PACKETS=$(sed -n 's/^Packets processed: //p' "$FOLDER/words")
    COUNTED_BYTES=$(awk '$2 ~ /^\([0-9]+\):$/ { bytes += $3 } END { print bytes + 0 }' \
        "$FOLDER/words")
}

meter_nfpcapd() {
    rm -rf "$FOLDER/flows"
    mkdir "$FOLDER/flows"
    grouped nfpcapd -r "$FOLDER/plain.pcap" -w "$FOLDER/flows" || true
    COUNTED_PACKETS=$(sed -n 's/^Ident.*Packets: \([0-9]*\),.*/\1/p' "$FOLDER/words" | tail -n 1)
    COUNTED_BYTES=$(sed -n 's/^Ident.*Bytes: \([0-9]*\).*/\1/p' "$FOLDER/words" | tail -n 1)
}

meter_ndpiReader() {
    grouped ndpiReader -i "$FOLDER/gtpu.pcap" -t || true
    COUNTED_PACKETS=$(sed -n 's/.*IP packets: *\([0-9]*\).*/\1/p' "$FOLDER/words")
    COUNTED_BYTES=$(sed -n 's/.*IP bytes: *\([0-9]*\).*/\1/p' "$FOLDER/words")
}

# Takes the tenth: it hands packets to its plugin at some 25,000 a second of wall-clock time, and
# what is on the way when it ends is lost. So it is kept until it rests, and then asked to end.
meter_pmacctd() {
    rm -f "$FOLDER/pmacct.csv"
    cat >"$FOLDER/pmacct.conf" <<-CONF
	daemonize: false
	pcap_savefile: $FOLDER/short.pcap
	pcap_savefile_wait: true
	plugins: print
	aggregate: src_host, dst_host, src_port, dst_port, proto
	print_output: csv
	print_output_file: $FOLDER/pmacct.csv
	print_refresh_time: 3600
	CONF
    grouped pmacctd -f "$FOLDER/pmacct.conf" &
    local job=$! before now=0 process
    sleep 4
    for _ in $(seq 100); do
        before=$now
        now=$(cpu_us)
        [ $((now - before)) -lt 15000 ] && break
        sleep 1
    done
    while read -r process; do kill -INT "$process" 2>/dev/null || true; done <"$GROUP/cgroup.procs"
    wait "$job" || true
    sleep 1
    read -r COUNTED_PACKETS COUNTED_BYTES < <(
        awk -F, '$6 + 0 { packets += $6; bytes += $7 } END { print packets + 0, bytes + 0 }' \
            "$FOLDER/pmacct.csv"
    )
}

# Times one meter and notes `name cpu_us packets bytes`.
measure() {
    local before after
    before=$(cpu_us)
    "meter_$1"
    after=$(cpu_us)
    echo "$1 $((after - before)) ${COUNTED_PACKETS:-0} ${COUNTED_BYTES:-0}" >>"$FOLDER/rounds"
}

# Packets per CPU-second of one meter: median and best over the rounds.
rates() {
    awk -v name="$1" '$1 == name && $2 { print int($3 * 1e6 / $2) }' "$FOLDER/rounds" |
        sort -n | awk '{ rate[NR] = $1 } END { print rate[int((NR + 1) / 2)] + 0, rate[NR] + 0 }'
}

# A line of the table: what was counted, of what was there, and how fast.
row() {
    local name=$1 goal=$2 there=$3 packets bytes median best ours
    read -r packets bytes < <(awk -v name="$name" '$1 == name { print $3, $4 }' "$FOLDER/rounds" |
        tail -n 1)
    read -r median best < <(rates "$name")
    read -r ours _ < <(rates ours)
    awk -v name="$name" -v goal="$goal" -v packets="$packets" -v there="$there" \
        -v bytes="$bytes" -v median="$median" -v best="$best" -v ours="$ours" 'BEGIN {
        ratio = median > 0 ? sprintf("%.2f", ours / median) : "-"
        kept = goal == "-" ? "-" : (median > 0 && ours / median >= goal ? "yes" : "no")
        printf "%-11s %9d %7.2f%% %13.0f %11.2f %6.2f %9s %5s %5s\n", name, packets,
            100 * packets / there, bytes, median / 1e6, best / 1e6, ratio, goal, kept
    }'
}

compare_meters() {
    local seed name
    want_packages "${PACKAGES[@]}"
    cargo build --quiet --locked --release -p qlink-benches --example traffic --example meter
    make_group
    seed=$(od -An -N8 -tu8 /dev/urandom | tr -d ' ')
    "$EXAMPLES/traffic" "$FOLDER" "$PACKETS" "$seed"
    # Into the page cache.
    cat "$FOLDER"/*.pcap >/dev/null
    for _ in $(seq "$ROUNDS"); do
        for name in softflowd nfpcapd ndpiReader pmacctd; do
            command -v "$name" >/dev/null || continue
            measure ours
            measure "$name"
        done
    done
    echo "traffic: $(tr '\n' ' ' <"$FOLDER/expected")"
    echo "load average: $(cut -d' ' -f1-3 /proc/loadavg), rounds: $ROUNDS"
    printf '%-11s %9s %8s %13s %11s %6s %9s %5s %5s\n' meter packets counted bytes \
        'Mpps/CPU-s' best ours/this goal kept
    row ours - "$(expected packets)"
    for name in softflowd nfpcapd ndpiReader; do
        grep -q "^$name " "$FOLDER/rounds" && row "$name" "${GOAL[$name]}" "$(expected packets)"
    done
    if grep -q '^pmacctd ' "$FOLDER/rounds"; then
        row pmacctd "${GOAL[pmacctd]}" "$(expected short_packets)"
    fi
    verdicts
}

# Whether each other's bytes are those that were sent; ours were checked in every round.
verdicts() {
    local name packets bytes wanted
    while read -r name packets bytes; do
        case "$name" in
        ours | softflowd | nfpcapd) wanted=$(expected inner_bytes) ;;
        pmacctd) wanted=$(expected short_bytes) ;;
        ndpiReader) wanted=$(($(expected inner_bytes) + packets * NDPI_EXTRA)) ;;
        esac
        if [ "$bytes" -eq "$wanted" ]; then
            echo "$name: bytes right"
        else
            echo "$name: states $bytes bytes of $wanted"
        fi
    done < <(awk '{ last[$1] = $1 " " $3 " " $4 } END { for (name in last) print last[name] }' \
        "$FOLDER/rounds" | sort)
}

# Compiles a program of benches/ebpf into the folder.
compile_xdp() {
    clang -O2 -g -Wall -Werror -target bpf -I "/usr/include/$(gcc -print-multiarch)" \
        -c "$REPOSITORY/benches/ebpf/$1.c" -o "$FOLDER/$1.o"
}

compare_program() {
    local object=$1
    shift
    want_packages bpftool clang gcc linux-libc-dev
    cargo build --quiet --locked --release -p qlink-benches --features ebpf --example ebpf
    compile_xdp nop
    if [ "$object" = self-test ]; then
        compile_xdp self_test
        object="$FOLDER/self_test.o"
        set -- --fill "$REPOSITORY/benches/ebpf/fill_self_test.sh" --verdict tx
    fi
    # One core for both, the last one: interrupts tend to go to the first.
    taskset -c "$(($(nproc) - 1))" "$EXAMPLES/ebpf" "$object" "$FOLDER/nop.o" "$@"
    echo "load average: $(cut -d' ' -f1-3 /proc/loadavg)"
}

case "${1:-}" in
"")
    compare_meters
    # Packets through DPDK beside testpmd.
    [ ! -x "$REPOSITORY/benches/dpdk.sh" ] || "$REPOSITORY/benches/dpdk.sh"
    ;;
--ebpf)
    [ -n "${2:-}" ] || stop "usage: benches/peers.sh --ebpf OBJECT|self-test [options]"
    compare_program "${@:2}"
    ;;
*) stop "usage: benches/peers.sh [--ebpf OBJECT|self-test [options]]" ;;
esac
