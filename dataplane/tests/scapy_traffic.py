"""Writes captures of GTP-U traffic made by scapy, a foreign encoder, into a folder.

usage: scapy_traffic.py FOLDER SEED
"""

import random
import struct
import sys
from pathlib import Path

from scapy.contrib.gtp import (
    GTP_U_Header,
    GTPPDUSessionContainer,
    GTPEchoRequest,
)
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    IPv6,
    IPv6ExtHdrFragment,
    fragment6,
)
from scapy.layers.l2 import CookedLinux, Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

RANDOM = random.Random(int(sys.argv[2]))


def payload(length):
    return Raw(bytes(RANDOM.randrange(256) for _ in range(length)))


def inner4(length=200, protocol=UDP):
    return IP(src="10.45.0.2", dst="192.0.2.9") / protocol(sport=4000, dport=5000) / payload(length)


def inner6(length=200):
    return IPv6(src="2001:db8:45::2", dst="2001:db8::9") / TCP(sport=4000, dport=80) / payload(length)


def outer4():
    return IP(src="127.0.0.2", dst="127.0.0.1", flags=0) / UDP(sport=2152, dport=2152, chksum=0)


def outer6():
    return IPv6(src="2001:db8:1::2", dst="2001:db8:1::1") / UDP(sport=2152, dport=2152)


def gpdu(teid, inner, extension=None):
    header = GTP_U_Header(teid=teid, gtp_type=255)
    return header / extension / inner if extension is not None else header / inner


def with_extensions(teid, inner, chain):
    """A G-PDU with an extension chain encoded by hand: (type, content) pairs."""
    body = bytes(inner)
    extensions = b""
    kinds = [kind for kind, _ in chain] + [0]
    for (_, content), following in zip(chain, kinds[1:]):
        extensions += bytes([(len(content) + 2) // 4]) + content + bytes([following])
    length = 4 + len(extensions) + len(body)
    head = bytes([0x34, 255]) + length.to_bytes(2, "big") + teid.to_bytes(4, "big")
    return Raw(head + bytes([0, 0, 0, kinds[0]]) + extensions + body)


def ether(packet):
    return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet


def session(teid, count=40):
    return [ether(outer4() / gpdu(teid, inner4(RANDOM.randrange(1200)))) for _ in range(count)]


def reordered_and_duplicated():
    packets = session(11) + session(12)
    packets += RANDOM.sample(packets, 20)
    RANDOM.shuffle(packets)
    return packets


def outer_fragments_in_any_order():
    frames = []
    for number in range(30):
        whole = IP(src="127.0.0.2", dst="127.0.0.1", id=number + 1) / UDP(sport=2152, dport=2152)
        pieces = fragment(whole / gpdu(21, inner4(1400)), fragsize=600)
        RANDOM.shuffle(pieces)
        frames += [ether(piece) for piece in pieces]
    return frames + session(22)


def outer_fragments_ipv6():
    frames = []
    for number in range(20):
        whole = (
            IPv6(src="2001:db8:1::2", dst="2001:db8:1::1")
            / IPv6ExtHdrFragment(id=number + 1)
            / UDP(sport=2152, dport=2152)
            / gpdu(23, inner4(1500))
        )
        frames += [ether(piece) for piece in fragment6(whole, 700)]
    return frames


def extension_headers():
    container = bytes([0x10, 0x09])
    chains = [
        [(0x85, container)],
        [(0x85, container), (0xC0, bytes([1, 2]))],
        [(0x40, bytes([8, 104])), (0x85, container)],
        [(0x32, bytes(6)), (0x20, bytes([1, 0])), (0x85, container)],
    ]
    return [
        ether(outer4() / with_extensions(41 + number % 4, inner4(100 + number), chains[number % 4]))
        for number in range(40)
    ]


def icmp_errors_quoting_a_gpdu():
    quoted = bytes(outer4() / gpdu(51, inner4(100)))
    quoted6 = bytes(outer6() / gpdu(52, inner4(100)))
    v4 = IP(src="127.0.0.1", dst="127.0.0.2") / ICMP(type=3, code=3) / Raw(quoted)
    v6 = IPv6(src="2001:db8:1::1", dst="2001:db8:1::2") / ICMPv6DestUnreach(code=4) / Raw(quoted6)
    return [ether(v4), ether(v6)] * 5


def write(folder, name, packets, snaplen=65535):
    """One classic capture, microseconds, whose link type follows from the first packet."""
    link = {Ether: 1, CookedLinux: 113}.get(type(packets[0]), 101)
    with open(folder / name, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link))
        for number, packet in enumerate(packets):
            raw = bytes(packet)
            kept = raw[:snaplen]
            file.write(struct.pack("<IIII", number // 1000, number % 1000, len(kept), len(raw)))
            file.write(kept)


def main():
    folder = Path(sys.argv[1])
    psc = GTPPDUSessionContainer(type=1, QFI=9)
    echo = GTP_U_Header(teid=0, gtp_type=1, S=1, seq=7) / GTPEchoRequest()
    captures = {
        "plain.pcap": session(1) + [ether(outer4() / echo)],
        "reorder_duplicate.pcap": reordered_and_duplicated(),
        "outer_fragments.pcap": outer_fragments_in_any_order(),
        "outer_fragments_ipv6.pcap": outer_fragments_ipv6(),
        "ipv6_outer.pcap": [ether(outer6() / gpdu(31, inner4(n * 10))) for n in range(40)],
        "ipv6_inner.pcap": [ether(outer4() / gpdu(32, inner6(n * 10))) for n in range(40)],
        "ipv6_both.pcap": [ether(outer6() / gpdu(33, inner6(n * 10))) for n in range(40)],
        "vlan.pcap": [
            Ether() / Dot1Q(vlan=5) / outer4() / gpdu(34, inner4(n)) for n in range(20)
        ]
        + [
            Ether() / Dot1AD(vlan=6) / Dot1Q(vlan=7) / outer4() / gpdu(35, inner4(n))
            for n in range(20)
        ],
        "psc.pcap": [ether(outer4() / gpdu(36, inner4(n), psc)) for n in range(40)],
        "extensions.pcap": extension_headers(),
        "icmp_error.pcap": icmp_errors_quoting_a_gpdu(),
        "cooked.pcap": [CookedLinux() / outer4() / gpdu(37, inner4(n)) for n in range(20)],
        "raw.pcap": [outer4() / gpdu(38, inner4(n)) for n in range(20)],
        "inner_fragments.pcap": [
            ether(outer4() / gpdu(39, piece)) for piece in fragment(inner4(3000), fragsize=800)
        ],
    }
    for name, packets in captures.items():
        write(folder, name, packets)
    write(folder, "cut.pcap", session(61) + session(62), snaplen=90)


main()
