#!/usr/bin/env bash
# The lab: Qlink's traffic path between the kernels of four network namespaces, on one machine.
#
#   ue ----- ue0|access ----- bs ----- n3|n3 ----- gw ----- n6|eth0 ----- origin
#   curl     MTU 1400         |        MTU 1500    |        MTU 1500      nginx
#                         qlink-radio           qlink-n6
#                         (TUN, 1400)           (TUN, 1400, 10.45.0.1/16)
#
# The BaseStation's kernel routes packets of subscribers (10.45.0.0/16) that come in at `access`
# into the interface of `qlink basestation`, which sends them to the gateway as GTP-U. The data
# plane of the gateway proves and counts them and hands them to the kernel through `qlink-n6`;
# that kernel routes them to the origin. Downlink packets take the same way back.
#
# MTUs: a subscriber's packet has at most 1400 bytes, GTP-U adds 44 (IPv4 20, UDP 8, GTP-U 16), so
# nothing is ever fragmented on N3 (1500).
#
# With QLINK_LAB_LINK=tunnel the BaseStation stands behind a translator of addresses and reaches the
# gateway by WireGuard, in a namespace more:
#
#   bs ----- n3|lan ----- nat ----- wan|n3 ----- gw
#   192.168.47.2        masquerade 10.47.0.2     10.47.0.1, UDP 51820; in the tunnel 10.99.0.0/24
#
# There a subscriber's packet has at most 1340 bytes, because the tunnel adds 60 more.
#
#   ./deploy/lab.sh up                build, make all of it, register a film, buy a package
#   ./deploy/lab.sh fetch [PATH [CURL OPTIONS]]
#                                     open a session for a new viewer, curl PATH, close, show the row;
#                                     PATH: film (the default) or flipped, whose second half is not it
#   ./deploy/lab.sh loss PERCENT      drop GTP-U at random on N3, each direction; 0: none
#   ./deploy/lab.sh kill NAME         SIGKILL dataplane, gateway or basestation and start it again;
#                                     a BaseStation forgets its sessions
#   ./deploy/lab.sh rebind            with a tunnel: the translator forgets every mapping and takes
#                                     other ports for new ones
#   ./deploy/lab.sh status            the table of all sessions, the package, drops by reason
#   ./deploy/lab.sh exec NS COMMAND   run something in ue, bs, gw, origin or, with a tunnel, nat
#   ./deploy/lab.sh down              end every process, remove every namespace and file
#
# In pieces, for programs, each printing one JSON object:
#
#   ./deploy/lab.sh open NAME [BYTES] a session for the viewer NAME; the address is given to ue.
#                                     BYTES: with a personal data package of that volume, which pays
#                                     what the film's package does not; without, such is dropped
#   ./deploy/lab.sh session NAME      the session as the gateway shows it
#   ./deploy/lab.sh package           the package as the gateway shows it
#   ./deploy/lab.sh close NAME        end the session
#   ./deploy/lab.sh radio             the BaseStation's counters and drops
#
# Needs root, for namespaces only: no service manager, nothing outside the namespaces is changed.
# Environment: QLINK, a built binary, in place of building one; QLINK_LAB, the lab's name, so that
# several can stand (default "lab"); QLINK_LAB_DIR, where its files are (default /tmp/qlink-NAME);
# QLINK_LAB_BYTES, the film's size (default 10000000); QLINK_LAB_BACKEND, what carries N3 (auto, udp,
# uring, xdp; default udp); QLINK_LAB_N6, what carries N6 (tun or xdp; default tun); QLINK_LAB_MODE,
# where the XDP program runs (best, native, generic; default best); QLINK_LAB_WORKERS (default 1);
# QLINK_LAB_NAT, a public address behind which subscribers stand (default none; with tun alone);
# QLINK_LAB_LINK, plain (the default) or tunnel; QLINK_LAB_ROTATE, with a tunnel: how often the
# BaseStation changes its key, for example 24h (default never).

# shellcheck source=deploy/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

LAB="${QLINK_LAB:-lab}"
DIR="${QLINK_LAB_DIR:-/tmp/qlink-$LAB}"
FILM_BYTES="${QLINK_LAB_BYTES:-10000000}"
BACKEND="${QLINK_LAB_BACKEND:-udp}" N6="${QLINK_LAB_N6:-tun}"
MODE="${QLINK_LAB_MODE:-best}" WORKERS="${QLINK_LAB_WORKERS:-1}" NAT="${QLINK_LAB_NAT:-}"
LINK="${QLINK_LAB_LINK:-plain}" ROTATE="${QLINK_LAB_ROTATE:-}"
LAB_PACKAGES=(curl ethtool iproute2 jq nftables nginx-light python3)

# Addresses. Subscribers get theirs from the gateway, out of the pool.
POOL=10.45.0.0/16 TUN_ADDRESS=10.45.0.1/16 FIRST_UE=10.45.0.2
ACCESS=10.46.0.1
GW_N3=10.47.0.1 BS_N3=10.47.0.2
# In the tunnel, and behind the translator.
GW_TUNNEL=10.99.0.1 BS_TUNNEL=10.99.0.2 TUNNEL_PORT=51820 BS_LAN=192.168.47.2 NAT_LAN=192.168.47.1
ORIGIN=198.18.0.1 GW_N6=198.18.0.2
# The origin's machine as a router, to which subscribers may not send.
ROUTER=198.18.0.254
API=http://$GW_N3:8080 NODE=http://127.0.0.1:7001
# The number of the BaseStation's routing table for subscribers, and of UDP port GTP-U.
TABLE=2152

netns() { printf 'qlink-%s-%s' "$LAB" "$1"; }

# Runs a command in a namespace: inside gw curl >...
inside() {
    local place=$1
    shift
    ip netns exec "$(netns "$place")" "$@"
}

kernel_setting() { inside "$1" sh -c "echo $3 >/proc/sys/net/$2"; }

qlink() { inside gw "$QLINK" "$@"; }

api() {
    local path=$1
    shift
    inside gw curl -sS --fail-with-body -m 30 "$API$path" "$@"
}

post() { api "$1" -H 'content-type: application/json' -d "$2"; }

# --- the network -------------------------------------------------------------------------------

make_namespaces() {
    local place
    for place in "${PLACES[@]}"; do
        ip netns add "$(netns "$place")"
        ip -n "$(netns "$place")" link set lo up
        # IPv6 would put packets of the kernel's own on every interface.
        kernel_setting "$place" ipv6/conf/all/disable_ipv6 1
        kernel_setting "$place" ipv6/conf/default/disable_ipv6 1
    done
}

# A cable with a queue for each worker: cable NS INTERFACE NS INTERFACE MTU
cable() {
    local queues="numtxqueues $WORKERS numrxqueues $WORKERS"
    # shellcheck disable=SC2086
    ip -n "$(netns "$1")" link add "$2" mtu "$5" $queues type veth \
        peer name "$4" mtu "$5" $queues netns "$(netns "$3")"
    ip -n "$(netns "$1")" link set "$2" up
    ip -n "$(netns "$3")" link set "$4" up
}

address() { ip -n "$(netns "$1")" address add "$2" dev "$3"; }

make_network() {
    make_namespaces
    cable ue ue0 bs access "$MTU"
    cable gw n6 origin eth0 1500
    address bs $ACCESS/24 access
    if [ "$LINK" = tunnel ]; then
        translate
    else
        cable bs n3 gw n3 1500
        address bs $BS_N3/24 n3
    fi
    address gw $GW_N3/24 n3
    address gw $GW_N6/24 n6
    address origin $ORIGIN/24 eth0
    address origin $ROUTER/24 eth0
    # Behind a public address the origin knows no way to subscribers' own.
    ip -n "$(netns origin)" route add "${NAT:-$POOL}" via $GW_N6
    route_subscribers
    kernel_setting gw ipv4/ip_forward 1
    # Subscribers' packets come out of qlink-n6, where the kernel's way back to them leads as well;
    # loose everywhere else, because the interface is made later.
    kernel_setting gw ipv4/conf/default/rp_filter 0
    # A veth leaves to its other end what a card would do: join packets, compute checksums. AF_XDP
    # sees packets as they are on the cable.
    inside bs ethtool -K n3 tx off >/dev/null
    inside origin ethtool -K eth0 tx off >/dev/null
}

# The translator between BaseStation and gateway.
translate() {
    cable bs n3 nat lan 1500
    cable nat wan gw n3 1500
    address bs $BS_LAN/24 n3
    address nat $NAT_LAN/24 lan
    address nat $BS_N3/24 wan
    ip -n "$(netns bs)" route add default via $NAT_LAN
    kernel_setting nat ipv4/ip_forward 1
    masquerade 20000-29999
}

# Mappings from now on, in this range of ports: masquerade PORTS
masquerade() {
    inside nat nft -f - <<RULES
table ip qlink_nat
delete table ip qlink_nat
table ip qlink_nat {
    chain postrouting {
        type nat hook postrouting priority srcnat;
        oifname "wan" meta l4proto { tcp, udp } masquerade to :$1
    }
}
RULES
}

rebind() {
    [ "$LINK" = tunnel ] || stop "there is no translator: QLINK_LAB_LINK=tunnel makes one"
    masquerade 40000-49999
    # An interface that goes takes the mappings of its address with it.
    ip -n "$(netns nat)" link set wan down
    ip -n "$(netns nat)" link set wan up
}

# The BaseStation: what comes from subscribers goes into qlink-radio and nowhere else, what comes
# out of qlink-radio goes to subscribers.
route_subscribers() {
    kernel_setting bs ipv4/conf/all/rp_filter 0
    kernel_setting bs ipv4/conf/default/rp_filter 0
    # A subscriber may not send as the gateway or anybody else outside the pool.
    kernel_setting bs ipv4/conf/access/rp_filter 1
    kernel_setting bs ipv4/ip_forward 1
    ip -n "$(netns bs)" route add $POOL dev access
    ip -n "$(netns bs)" rule add from $POOL iif access lookup $TABLE
    # The BaseStation's own addresses are none of their business.
    inside bs nft -f - <<'RULES'
table inet qlink_access {
    chain input {
        type filter hook input priority filter;
        iifname "access" counter drop
    }
}
RULES
}

set_loss() {
    local place percent=${1:-}
    [[ "$percent" =~ ^([0-9]|[1-4][0-9]|50)$ ]] || stop "loss takes 0 to 50 per cent"
    for place in bs gw; do
        # Where packets come in: a drop on the way out would be told to the sender.
        inside $place nft -f - <<RULES
table inet qlink_loss
delete table inet qlink_loss
table inet qlink_loss {
    chain lose {
        numgen random mod 100 < $percent counter drop
    }
    chain input {
        type filter hook input priority filter;
        udp dport { 2152, $TUNNEL_PORT } goto lose
        udp sport $TUNNEL_PORT goto lose
    }
}
RULES
    done
}

# --- processes ---------------------------------------------------------------------------------

# Starts a process in a namespace: launch NAME NS COMMAND...
launch() {
    local name=$1 place=$2
    shift 2
    ip netns exec "$(netns "$place")" setsid "$@" \
        </dev/null >"$DIR/logs/$name.out" 2>"$DIR/logs/$name.log" &
    echo $! >"$DIR/pids/$name"
}

# Waits until COMMAND succeeds, 15 s at most, while the process NAME lives.
await() {
    local name=$1
    shift
    for _ in $(seq 300); do
        "$@" >/dev/null 2>&1 && return
        kill -0 "$(cat "$DIR/pids/$name")" 2>/dev/null || break
        sleep 0.05
    done
    tail -n 5 "$DIR/logs/$name.log" >&2
    stop "$name is not ready; its log is $DIR/logs/$name.log"
}

is_ready() { grep -q '"ready"' "$DIR/logs/$1.out"; }

start_component() {
    launch "$1" "$2" "$QLINK" "$1" --config "$DIR/config/$1.toml"
    await "$1" is_ready "$1"
}

new_key() { "$QLINK" key new "$DIR/keys/$1" | jq -r .account; }

# Registers a party and prints its id: register KIND [MORE OPTIONS]
register() {
    local kind=$1
    shift
    qlink tx register "$kind" --node $NODE --name "lab $kind" --owner "$DIR/keys/$kind-owner" \
        --key "$DIR/keys/$kind" "$@" | jq -r .id
}

start_node() {
    local kind accounts=()
    for kind in operator gateway basestation; do
        new_key $kind >/dev/null
        accounts+=("[\"$(new_key $kind-owner)\",\"1000000000\"]")
    done
    new_key seat >/dev/null
    PROVIDER="$(new_key provider)"
    accounts+=("[\"$PROVIDER\",\"1000000000000\"]")
    accounts+=("[\"$(new_key subscribers)\",\"1000000000000000\"]")
    local list
    list="$(IFS=,; echo "${accounts[*]}")"
    echo "{\"chain\":\"qlink-lab\",\"time_ms\":\"0\",\"accounts\":[$list]}" >"$DIR/config/genesis.json"
    cat >"$DIR/config/node.toml" <<TOML
listen = "127.0.0.1:7001"
data_dir = "$DIR/node"
genesis = "$DIR/config/genesis.json"
seat_key = "$DIR/keys/seat"
block_interval = "50ms"
TOML
    start_component node gw
    CHAIN="$(inside gw curl -sS --fail $NODE/v1/status | jq -r .chain_id)"
}

# The tables of what carries N3 and N6.
dataplane_tables() {
    if [ "$BACKEND" = xdp ] || [ "$N6" = xdp ]; then
        printf '[xdp]\ninterface = "n3"\nmode = "%s"\n' "$MODE"
    fi
    case "$N6" in
    tun) printf '[n6_tun]\nname = "qlink-n6"\nmtu = %s\naddress = "%s"\n' "$MTU" $TUN_ADDRESS ;;
    xdp) printf '[xdp.n6]\ninterface = "n6"\nnext_hop = "%s"\nsubscribers = ["%s"]\n' $ROUTER $POOL ;;
    *) stop "QLINK_LAB_N6 must be tun or xdp" ;;
    esac
    if [ -n "$NAT" ]; then
        printf '[nat]\npool = ["%s"]\nlog = "none"\n[mtu]\nn6 = %s\n' "$NAT" "$MTU"
    fi
}

# The data plane's interface, and with it this route, is made anew by each of its processes.
route_public() {
    if [ -n "$NAT" ]; then ip -n "$(netns gw)" route replace "$NAT" dev qlink-n6; fi
}

start_gateway() {
    cat >"$DIR/config/dataplane.toml" <<TOML
n3 = "$GW_N3:2152"
control_socket = "$DIR/sockets/dataplane"
arena = "$DIR/dataplane/arena"
journal = "$DIR/dataplane/journal"
own = ["$BS_N3", "$ACCESS"]
# Captures on N3 show each packet, not trains of them.
udp_offload = "none"
workers = $WORKERS
backend = "$BACKEND"
$(dataplane_tables)
TOML
    [ "$LINK" = plain ] || configure_tunnel
    start_component dataplane gw
    route_public
    OPERATOR="$(register operator)"
    GATEWAY="$(register gateway)"
    cat >"$DIR/config/gateway.toml" <<TOML
listen = "$GW_N3:8080"
node = "$NODE"
dataplane = "$DIR/sockets/dataplane"
directory = "$DIR/gateway"
key_file = "$DIR/keys/gateway"
gateway = "$GATEWAY"
operator = "$OPERATOR"
ue_base = "$FIRST_UE"
ue_count = 250
origins = ["$ORIGIN:80"]
settle_every_ms = 200
TOML
    [ "$LINK" = plain ] || cat >>"$DIR/config/gateway.toml" <<TOML

[tunnel]
endpoint = "$GW_N3:$TUNNEL_PORT"
base = "$BS_TUNNEL"
count = 8
TOML
    start_component gateway gw
    await gateway api /readyz
}

# Each end of the tunnel has a key file; the BaseStation enrols at the gateway, which tells both the
# other's public key.
configure_tunnel() {
    new_key tunnel-gateway >/dev/null
    new_key tunnel-basestation >/dev/null
    cat >>"$DIR/config/dataplane.toml" <<TOML

[tunnel]
listen = "$GW_N3:$TUNNEL_PORT"
key_file = "$DIR/keys/tunnel-gateway"
address = "$GW_TUNNEL/24"
TOML
}

start_basestation() {
    local station
    station="$(register basestation --assets "$DIR/assets.jsonl")"
    cat >"$DIR/config/basestation.toml" <<TOML
chain = "$CHAIN"
basestation = "$station"
gateway = "$GATEWAY"
api = "$API"
key_file = "$DIR/keys/basestation"
control = "$DIR/sockets/basestation"

$([ "$LINK" = tunnel ] || printf 'n3 = "%s:2152"\ntrusted_gateways = ["%s:2152"]\n' $BS_N3 $GW_N3)

[radio.tun]
name = "qlink-radio"
mtu = $MTU
TOML
    [ "$LINK" = plain ] || cat >>"$DIR/config/basestation.toml" <<TOML

[tunnel]
gateway_device_key = "$("$QLINK" key show "$DIR/keys/gateway" | jq -r .key)"
key_file = "$DIR/keys/tunnel-basestation"
$([ -z "$ROTATE" ] || printf 'rotate_every = "%s"' "$ROTATE")
TOML
    run_basestation
}

run_basestation() {
    start_component basestation bs
    await basestation test -S "$DIR/sockets/basestation"
    # The interface is there as long as the process is, and so is its route.
    ip -n "$(netns bs)" route add default dev qlink-radio table $TABLE
}

start_origin() {
    mkdir -p "$DIR/nginx"
    cat >"$DIR/config/nginx.conf" <<CONF
daemon off;
user root;
worker_processes 1;
pid $DIR/nginx/pid;
error_log $DIR/logs/nginx.log;
events {}
http {
    access_log off;
    sendfile on;
    # Longer than a BaseStation takes to notice that it was lost.
    send_timeout 300s;
    client_body_temp_path $DIR/nginx/body;
    proxy_temp_path $DIR/nginx/proxy;
    fastcgi_temp_path $DIR/nginx/fastcgi;
    uwsgi_temp_path $DIR/nginx/uwsgi;
    scgi_temp_path $DIR/nginx/scgi;
    server { listen $ORIGIN:80; root $DIR/www; }
}
CONF
    launch nginx origin "$(command -v nginx || echo /usr/sbin/nginx)" \
        -p "$DIR/nginx" -e "$DIR/logs/nginx.log" -c "$DIR/config/nginx.conf"
    await nginx inside origin curl -sS --fail -I http://$ORIGIN/film
}

# The film, and the same with every byte of its second half turned over.
make_films() {
    head -c "$FILM_BYTES" /dev/urandom >"$DIR/www/film"
    python3 - "$DIR/www/film" "$DIR/www/flipped" <<'PYTHON'
import sys
film = open(sys.argv[1], "rb").read()
half = len(film) // 2
open(sys.argv[2], "wb").write(film[:half] + bytes(byte ^ 0xFF for byte in film[half:]))
PYTHON
}

# --- money: what a provider does, by REST ------------------------------------------------------

# Signs a quote, submits it and waits until it is final: settle KEY PATH QUOTE
settle() {
    local signed id state
    signed="$(jq -r .unsigned_transaction <<<"$3" | qlink tx sign --key "$DIR/keys/$1")"
    id="$(post "$2" "$signed" | jq -r .transaction)"
    for _ in $(seq 200); do
        state="$(api "/v1/transactions/$id" | jq -r '.state + " " + (.status // "")')"
        case "$state" in
        "final accepted") return ;;
        final*) break ;;
        esac
        sleep 0.05
    done
    stop "transaction $id is '$state'"
}

register_film() {
    CONTENT="$("$QLINK" content hash "$DIR/www/film" | jq -r .content)"
    api "/v1/contents/$CONTENT/bytes" -T "$DIR/www/film" \
        -H 'content-type: application/octet-stream' >/dev/null
    settle provider /v1/contents "$(post /v1/contents/quote \
        "{\"account\":\"$PROVIDER\",\"content\":\"$CONTENT\"}")"
}

# A quote for a package: quote KEY BYTES SCOPE CAP REWARD CARRIAGE AUDIENCE, carriage in tenths,
# of which the operator gets 5, the BaseStation 3, the gateway 2.
quote() {
    local account terms
    account="$("$QLINK" key show "$DIR/keys/$1" | jq -r .account)"
    terms="$(jq -nc --arg bytes "$2" --argjson scope "$3" --arg cap "$4" --arg reward "$5" \
        --argjson tenth "$6" --argjson audience "$7" --arg gateway "$GATEWAY" \
        --arg until $(($(date +%s) * 1000 + 86400000)) \
        '{scope: $scope, bytes: $bytes, reward: $reward, valid_from: "0", valid_until: $until,
          carriage: {operator: ($tenth * 5 | tostring), basestation: ($tenth * 3 | tostring),
                     gateway: ($tenth * 2 | tostring)},
          audience: $audience, viewer_cap: $cap, repeat: "charge_user", gateways: [$gateway]}')"
    post /v1/packages/quote "{\"account\":\"$account\",\"terms\":$terms}"
}

# A hundred views of the film for 1 QLC.
buy_package() {
    local quote
    quote="$(quote provider $((FILM_BYTES * 100)) \
        "{\"kind\":\"contents\",\"contents\":[\"$CONTENT\"]}" "$FILM_BYTES" 100000000 1000 \
        '{"kind":"open"}')"
    PACKAGE="$(jq -r .package <<<"$quote")"
    settle provider /v1/packages "$quote"
}

# A personal data package, any bytes at 10 units each, for the viewer NAME: buy_plan NAME BYTES.
# Its audience is the viewer's key in it, so its id must be known before: the same purchase is
# quoted twice.
buy_plan() {
    local key quote
    key="$(viewer_key "$1" "$PACKAGE")"
    for _ in 1 2; do
        quote="$(quote subscribers "$2" '{"kind":"any"}' "$2" 0 "$2" \
            "{\"kind\":\"keys\",\"keys\":[\"$key\"]}")"
        PLAN="$(jq -r .package <<<"$quote")"
        key="$(viewer_key "$1" "$PLAN")"
    done
    settle subscribers /v1/packages "$quote"
}

# --- viewers -----------------------------------------------------------------------------------

station() { "$QLINK" sim call "$DIR/sockets/basestation" "$1"; }

# The key that the viewer NAME has in a package: viewer_key NAME PACKAGE
viewer_key() {
    "$QLINK" tx viewer --key "$DIR/keys/viewer-$1" --package "$2" | jq -r .viewer
}

# The viewer NAME accepts a package at this gateway: accept NAME PACKAGE
accept() {
    "$QLINK" tx accept --key "$DIR/keys/viewer-$1" --package "$2" --gateway "$GATEWAY" \
        --chain "$CHAIN"
}

# open_session NAME [BYTES OF A PERSONAL PACKAGE]
open_session() {
    local name=$1 request opened ue
    "$QLINK" key new "$DIR/keys/viewer-$name" >/dev/null
    request="\"acceptance\":$(accept "$name" "$PACKAGE")"
    if [ -n "${2:-}" ]; then
        buy_plan "$name" "$2"
        request+=",\"personal\":$(accept "$name" "$PLAN")"
    fi
    opened="$(station "{\"op\":\"open\",\"request\":{$request}}")"
    ue="$(jq -r .ue_address <<<"$opened")"
    address ue "$ue/32" ue0
    # On the link, although no address of ours shares its prefix.
    ip -n "$(netns ue)" route replace default via $ACCESS dev ue0 onlink
    tee "$DIR/sessions/$name" <<<"$opened"
}

session_field() { jq -r ".$2" "$DIR/sessions/$1"; }

show_session() { api "/v1/sessions/$(session_field "$1" session)" | jq -c .; }

close_session() {
    local ue
    ue="$(session_field "$1" ue_address)"
    station "{\"op\":\"close\",\"session\":\"$(session_field "$1" session)\"}" | jq -c .gateway
    ip -n "$(netns ue)" address del "$ue/32" dev ue0
}

show_package() { api "/v1/packages/$PACKAGE" | jq -c .; }

# What the chain has settled of the film's package for a viewer: settled NAME
settled() {
    api "/v1/consumption?package=$PACKAGE&viewer=$(viewer_key "$1" "$PACKAGE")" |
        jq -c '.data[0] // {bytes: "0", earned: {units: "0"}}'
}

# Waits until the chain has what the session NAME verified, 10 s at most.
await_settled() {
    local bytes
    bytes="$(show_session "$1" | jq -r .classes.verified_unique)"
    for _ in $(seq 100); do
        [ "$(settled "$1" | jq -r .bytes)" = "$bytes" ] && return
        sleep 0.1
    done
    stop "the chain does not have the $bytes bytes of $1"
}

ROW='%-10s %-11s %12s %12s %12s %12s %12s %12s %12s\n'

table_head() {
    # shellcheck disable=SC2059
    printf "$ROW" viewer address 'file B' 'verified B' 'units paid' 'charged B' 'retrans. B' \
        'overhead B' 'undeliv. B'
}

table_row() {
    local name=$1 session
    session="$(show_session "$name")"
    local figures
    read -ra figures < <(jq -r '[.ue_address, .classes.verified_unique, .classes.user_charged,
        .classes.retransmit, .classes.overhead_allowed, .classes.undelivered] | join(" ")' \
        <<<"$session")
    # shellcheck disable=SC2059
    printf "$ROW" "$name" "${figures[0]}" "$FILM_BYTES" "${figures[1]}" "$(settled "$name" | jq -r .earned.units)" \
        "${figures[@]:2}"
}

# --- commands ----------------------------------------------------------------------------------

up() {
    [ "$(id -u)" -eq 0 ] || stop "a lab needs root, to make network namespaces"
    [ ! -e "$DIR" ] || stop "$DIR is there already: ./deploy/lab.sh down removes it"
    need_packages "${LAB_PACKAGES[@]}"
    [ -c /dev/net/tun ] || stop "/dev/net/tun is missing: load the kernel module tun"
    find_binary
    trap give_up EXIT
    mkdir -m 0700 "$DIR"
    mkdir "$DIR"/{config,dataplane,keys,logs,pids,sessions,sockets,ue,www}
    make_network
    make_films
    start_node
    start_gateway
    start_basestation
    start_origin
    register_film
    buy_package
    declare -p LINK QLINK CHAIN GATEWAY PROVIDER CONTENT PACKAGE FILM_BYTES >"$DIR/names"
    trap - EXIT
    say "the lab '$LAB' is up: $DIR, package $PACKAGE, film of $FILM_BYTES bytes"
}

# Leaves nothing half made.
give_up() {
    local status=$?
    say "the lab did not come up; the end of its logs:"
    tail -n 3 "$DIR"/logs/*.log >&2
    down
    exit $status
}

find_binary() {
    if [ -z "${QLINK:-}" ]; then
        need_rust
        need_packages "${BUILD_PACKAGES[@]}"
        choose_linker
        cargo build --profile ci --workspace --bins --locked >&2
        QLINK="$CARGO_TARGET_DIR/ci/qlink"
    fi
    [ -x "$QLINK" ] || stop "QLINK=$QLINK is no program"
}

fetch() {
    local path=${1:-film} name
    shift || true
    name="viewer$(($(find "$DIR/sessions" -type f | wc -l) + 1))"
    open_session "$name" $((FILM_BYTES * 2)) >/dev/null
    inside ue curl -sS -m 50 --interface "$(session_field "$name" ue_address)" \
        -o "$DIR/ue/$name" -w '%{http_code}, %{size_download} bytes in %{time_total} s\n' \
        "$@" "http://$ORIGIN/$path" >&2 || say "curl ended with status $?"
    close_session "$name" >/dev/null
    await_settled "$name"
    table_head
    table_row "$name"
}

status() {
    local name
    table_head
    for name in $(find "$DIR/sessions" -type f -printf '%f\n' | sort -V); do
        table_row "$name"
    done
    echo
    api "/v1/packages/$PACKAGE/ratio" | jq -r '"package   " + .equation'
    station '{"op":"count"}' |
        jq -r '"radio     " + (.drops | with_entries(select(.value != "0")) | tostring)'
}

# Ends a process of gw without warning and starts it again.
kill_and_restart() {
    local pid
    [[ "$1" =~ ^(dataplane|gateway|basestation)$ ]] ||
        stop "kill takes dataplane, gateway or basestation"
    pid="$(cat "$DIR/pids/$1")"
    kill -KILL "$pid" 2>/dev/null || true
    # Until it is gone it holds its files and its interface.
    for _ in $(seq 200); do
        lab_pids | grep -qx "$pid" || break
        sleep 0.02
    done
    if [ "$1" = basestation ]; then
        rm -f "$DIR/sockets/basestation"
        run_basestation
    else
        start_component "$1" gw
    fi
    if [ "$1" = dataplane ]; then route_public; fi
    if [ "$1" = gateway ]; then await gateway api /readyz; fi
}

down() {
    local file pid place
    trap - EXIT
    for file in "$DIR"/pids/*; do
        [ -e "$file" ] && kill -TERM "$(cat "$file")" 2>/dev/null
    done || true
    for _ in $(seq 100); do
        [ -z "$(lab_pids)" ] && break
        sleep 0.05
    done
    # What did not end by itself, nginx's workers and a viewer's curl included.
    for pid in $(lab_pids); do kill -KILL "$pid" 2>/dev/null || true; done
    for place in "${EVERY_PLACE[@]}"; do
        ip netns del "$(netns "$place")" 2>/dev/null || true
    done
    rm -rf "$DIR"
}

# Processes inside the lab's namespaces.
lab_pids() {
    local place
    for place in "${EVERY_PLACE[@]}"; do
        ip netns pids "$(netns "$place")" 2>/dev/null || true
    done
}

[[ "$LAB" =~ ^[a-z0-9]{1,20}$ ]] || stop "QLINK_LAB must be 1 to 20 of a-z and 0-9"
EVERY_PLACE=(ue bs nat gw origin)
case "$LINK" in
plain) PLACES=(ue bs gw origin) MTU=1400 ;;
tunnel) PLACES=("${EVERY_PLACE[@]}") MTU=1340 ;;
*) stop "QLINK_LAB_LINK is plain or tunnel" ;;
esac
COMMAND="${1:-}"
shift || true
case "$COMMAND" in
up | down)
    "$COMMAND"
    exit
    ;;
fetch | kill | rebind | status | open | session | package | close | loss | radio | exec) ;;
*) stop "unknown command '$COMMAND'; the top of $0 lists them" ;;
esac
[ -e "$DIR/names" ] || stop "no lab '$LAB' is up: ./deploy/lab.sh up"
# shellcheck source=/dev/null
source "$DIR/names"
case "$COMMAND" in
fetch) fetch "$@" ;;
kill) kill_and_restart "${1:-}" ;;
rebind) rebind ;;
status) status ;;
open) open_session "${1:?open takes a name}" "${2:-}" ;;
session) show_session "${1:?session takes a name}" ;;
package) show_package ;;
close) close_session "${1:?close takes a name}" ;;
loss) set_loss "$@" ;;
radio) station '{"op":"count"}' ;;
exec) inside "$@" ;;
esac
