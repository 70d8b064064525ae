"""A foreign encoder for translated packets.

usage: scapy_packets.py inputs            prints lines: name hex
       scapy_packets.py check < outputs   reads lines: name address port hex, compares each packet
                                          with the one that scapy builds, prints what differs
"""

import sys

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.packet import Raw

UE4, UE6 = "10.45.0.2", "2001:db8:45::2"
HOST, ROUTER = "198.51.100.7", "198.51.100.254"
PREFIX = "64:ff9b::"
GATEWAY4, GATEWAY6 = "192.0.2.254", "2001:db8::fe"
BODY = Raw(bytes(range(256)) * 3)
LONG = Raw(bytes(range(251)) * 8)


def v6(**fields):
    return IPv6(src=UE6, dst=PREFIX + HOST, **fields)


# What subscribers send, and what leaves for it, given the external address and port.
UPLINK = {
    "nat44_tcp": (
        IP(src=UE4, dst=HOST) / TCP(sport=4000, dport=80, flags="S", options=[("MSS", 1460)]),
        lambda a, p: IP(src=a, dst=HOST) / TCP(sport=p, dport=80, flags="S", options=[("MSS", 1460)]),
    ),
    "nat44_udp": (
        IP(src=UE4, dst=HOST, tos=0xB8) / UDP(sport=4000, dport=53) / BODY,
        lambda a, p: IP(src=a, dst=HOST, tos=0xB8) / UDP(sport=p, dport=53) / BODY,
    ),
    "nat44_echo": (
        IP(src=UE4, dst=HOST) / ICMP(type=8, id=4000, seq=3) / BODY,
        lambda a, p: IP(src=a, dst=HOST) / ICMP(type=8, id=p, seq=3) / BODY,
    ),
    "nat64_tcp": (
        v6(hlim=64) / TCP(sport=4001, dport=80, flags="S") / BODY,
        lambda a, p: IP(src=a, dst=HOST, ttl=63) / TCP(sport=p, dport=80, flags="S") / BODY,
    ),
    "nat64_udp": (
        v6(hlim=64, tc=0x2E, fl=7) / UDP(sport=4001, dport=53) / BODY,
        lambda a, p: IP(src=a, dst=HOST, ttl=63, tos=0x2E) / UDP(sport=p, dport=53) / BODY,
    ),
    "nat64_echo": (
        v6(hlim=64) / ICMPv6EchoRequest(id=4001, seq=3, data=bytes(BODY)),
        lambda a, p: IP(src=a, dst=HOST, ttl=63) / ICMP(type=8, id=p, seq=3) / BODY,
    ),
    "nat64_fragment": (
        v6(hlim=64)
        / IPv6ExtHdrFragment(id=0x12345, offset=0, m=1, nh=17)
        / bytes(v6() / UDP(sport=4002, dport=53) / BODY)[40:],
        lambda a, p: IP(src=a, dst=HOST, ttl=63, id=0x2345, flags="MF", proto=17)
        / bytes(IP(src=a, dst=HOST) / UDP(sport=p, dport=53) / BODY)[20:],
    ),
}

# What the network sends to that external address and port, and what subscribers get.
DOWNLINK = {
    "nat44_udp": (
        lambda a, p: IP(src=HOST, dst=a) / UDP(sport=53, dport=p) / BODY,
        IP(src=HOST, dst=UE4) / UDP(sport=53, dport=4000) / BODY,
    ),
    "nat44_error": (
        lambda a, p: IP(src=ROUTER, dst=a)
        / ICMP(type=11, code=0)
        / IP(src=a, dst=HOST, ttl=1)
        / UDP(sport=p, dport=53)
        / BODY,
        IP(src=ROUTER, dst=UE4)
        / ICMP(type=11, code=0)
        / IP(src=UE4, dst=HOST, ttl=1)
        / UDP(sport=4000, dport=53)
        / BODY,
    ),
    "nat64_udp": (
        lambda a, p: IP(src=HOST, dst=a, ttl=64) / UDP(sport=53, dport=p) / BODY,
        IPv6(src=PREFIX + HOST, dst=UE6, hlim=63) / UDP(sport=53, dport=4001) / BODY,
    ),
    "nat64_echo": (
        lambda a, p: IP(src=HOST, dst=a, ttl=64) / ICMP(type=0, id=p, seq=3) / BODY,
        IPv6(src=PREFIX + HOST, dst=UE6, hlim=63)
        / ICMPv6EchoReply(id=4001, seq=3, data=bytes(BODY)),
    ),
    "nat64_udp_unsummed": (
        lambda a, p: IP(src=HOST, dst=a, ttl=64) / UDP(sport=53, dport=p, chksum=0) / BODY,
        IPv6(src=PREFIX + HOST, dst=UE6, hlim=63) / UDP(sport=53, dport=4001) / BODY,
    ),
    "nat64_fragment": (
        lambda a, p: IP(src=HOST, dst=a, ttl=64, id=77, flags="MF", proto=17)
        / bytes(IP(src=HOST, dst=a) / UDP(sport=53, dport=p) / BODY)[20:],
        IPv6(src=PREFIX + HOST, dst=UE6, hlim=63)
        / IPv6ExtHdrFragment(id=77, offset=0, m=1, nh=17)
        / bytes(IPv6(src=PREFIX + HOST, dst=UE6) / UDP(sport=53, dport=4002) / BODY)[40:],
    ),
    "nat64_unreachable": (
        lambda a, p: IP(src=ROUTER, dst=a, ttl=64)
        / ICMP(type=3, code=1)
        / IP(src=a, dst=HOST, ttl=9, id=5)
        / UDP(sport=p, dport=53)
        / BODY,
        IPv6(src=PREFIX + ROUTER, dst=UE6, hlim=63)
        / ICMPv6DestUnreach(code=0)
        / IPv6(src=UE6, dst=PREFIX + HOST, hlim=9)
        / UDP(sport=4001, dport=53)
        / BODY,
    ),
    "nat64_expired_echo": (
        lambda a, p: IP(src=ROUTER, dst=a, ttl=64)
        / ICMP(type=11, code=0)
        / IP(src=a, dst=HOST, ttl=1, id=5)
        / ICMP(type=8, id=p, seq=3)
        / BODY,
        IPv6(src=PREFIX + ROUTER, dst=UE6, hlim=63)
        / ICMPv6TimeExceeded(code=0)
        / IPv6(src=UE6, dst=PREFIX + HOST, hlim=1)
        / ICMPv6EchoRequest(id=4001, seq=3, data=bytes(BODY)),
    ),
    "nat64_too_big": (
        lambda a, p: IP(src=ROUTER, dst=a, ttl=64)
        / ICMP(type=3, code=4, nexthopmtu=1400)
        / IP(src=a, dst=HOST, ttl=9, id=5, flags="DF")
        / TCP(sport=p, dport=80, flags="S")
        / BODY,
        IPv6(src=PREFIX + ROUTER, dst=UE6, hlim=63)
        / ICMPv6PacketTooBig(mtu=1420)
        / IPv6(src=UE6, dst=PREFIX + HOST, hlim=9)
        / TCP(sport=4001, dport=80, flags="S")
        / BODY,
    ),
}

# What does not fit into 1400 bytes, and the answer to it.
TOO_LONG = {
    "mtu_v4": (
        IP(src=HOST, dst=UE4, flags="DF") / UDP(sport=53, dport=4000) / LONG,
        lambda about: IP(src=GATEWAY4, dst=HOST, tos=0xC0, id=0, flags="DF")
        / ICMP(type=3, code=4, nexthopmtu=1400)
        / Raw(about[:548]),
    ),
    "mtu_v6": (
        IPv6(src="2001:db8::7", dst=UE6) / UDP(sport=53, dport=4000) / LONG,
        lambda about: IPv6(src=GATEWAY6, dst="2001:db8::7", hlim=64)
        / ICMPv6PacketTooBig(mtu=1400)
        / Raw(about[:1232]),
    ),
}


def flow_of(name):
    """The uplink packet whose mapping a downlink packet uses."""
    return {
        "nat44_error": "nat44_udp",
        "nat64_udp_unsummed": "nat64_udp",
        "nat64_unreachable": "nat64_udp",
        "nat64_expired_echo": "nat64_echo",
        "nat64_too_big": "nat64_tcp",
    }.get(name, name)


def expected_of(kind, name, address, port, given):
    if kind == "up":
        expected = UPLINK[name][1](address, port)
        if name.startswith("nat64") and "fragment" not in name:
            # The translator chooses the identification; the packet is short, so DF is clear.
            expected.id = IP(given).id
        return bytes(expected)
    if kind == "down":
        return bytes(DOWNLINK[name][1])
    return bytes(TOO_LONG[name][1](bytes(TOO_LONG[name][0])))


def main():
    if sys.argv[1] == "up":
        for name, (packet, _) in UPLINK.items():
            print(name, bytes(packet).hex())
        for name, (packet, _) in TOO_LONG.items():
            print(name, bytes(packet).hex())
        return
    for line in sys.stdin:
        kind, name, address, port, given = line.split()
        if kind == "place":
            # The mapping of a flow: print what the network sends to it.
            for other, (packet, _) in DOWNLINK.items():
                if flow_of(other) == name:
                    print(other, bytes(packet(address, int(port))).hex())
            continue
        given = bytes.fromhex(given)
        expected = expected_of(kind, name, address, int(port), given)
        if given != expected:
            print(f"{kind} {name}: got {given.hex()}, scapy builds {expected.hex()}")


main()
