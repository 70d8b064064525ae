"""Writes a capture of hostile packets towards a gateway, made by scapy, and what has to become of them.

usage: scapy_attacks.py FOLDER SEED

attacks.pcap holds raw IP packets; expected.json counts them by reason for dropping, and under
"forwarded", "echo_replies" and "error_indications" those that the gateway acts on. The session is
that of tests/film: TEID 0x355 for 10.45.0.2 behind BaseStation 127.0.0.2, gateway 127.0.0.1.
"""

import json
import random
import struct
import sys
from collections import Counter
from pathlib import Path

from scapy.contrib.gtp import GTP_U_Header
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.packet import Raw

TEID, UE, SERVER = 0x355, "10.45.0.2", "192.0.2.9"
STATION, GATEWAY = "127.0.0.2", "127.0.0.1"
FLAG_E, FLAG_S, FLAG_PN = 4, 2, 1


class Attacks:
    def __init__(self, rng):
        self.rng, self.packets, self.expected = rng, [], Counter()

    def add(self, packet, becomes):
        self.packets.append(bytes(packet))
        self.expected[becomes] += 1

    def udp(self, payload, becomes, **ip):
        ends = dict(src=STATION, dst=GATEWAY) | ip
        self.add(IP(**ends) / UDP(sport=2152, dport=2152, chksum=0) / Raw(bytes(payload)), becomes)

    def message(self, body, becomes, kind=255, flags=0x30, teid=TEID, length=None, **ip):
        length = len(body) if length is None else length
        head = struct.pack(">BBHI", flags, kind, length, teid)
        self.udp(head + bytes(body), becomes, **ip)

    def inner(self, packet, becomes, teid=TEID, **ip):
        message = GTP_U_Header(teid=teid, gtp_type=255) / packet
        self.udp(message, becomes, **ip)


def datagram(dport=5000, length=40, src=UE, dst=SERVER):
    return IP(src=src, dst=dst) / UDP(sport=4000, dport=dport) / Raw(bytes(length))


def types(attacks):
    """All message types, empty, and with a sequence number."""
    for kind in range(256):
        named = {255: "inner_malformed", 26: "gtpu_element"}
        attacks.message(b"", named.get(kind, "gtpu_signalling"), kind=kind)
        named[1] = "echo_replies"
        attacks.message(bytes(4), named.get(kind, "gtpu_signalling"), kind=kind, flags=0x32)
        # An error indication from elsewhere about our tunnel.
        elements = struct.pack(">BIBHI", 16, TEID, 133, 4, 0x7F000001)
        if kind == 26:
            attacks.message(elements, "gtpu_signalling", kind=26, src="127.0.0.9")


def lengths(attacks):
    whole = bytes(datagram())
    for cut in range(8):
        attacks.udp(struct.pack(">BBHI", 0x30, 255, 0, TEID)[:cut], "gtpu_truncated")
    for version in [v for v in range(16) if v not in (3,)]:
        attacks.message(whole, "gtpu_version", flags=version << 4)
    for length in (0, 1, 19, 20, 27, len(whole) - 1):
        attacks.message(whole, "inner_malformed", length=length)
    # The optional part does not fit.
    for flags in (FLAG_E, FLAG_S, FLAG_PN):
        for length in range(4):
            attacks.message(bytes(length), "gtpu_length", flags=0x30 | flags)


def chains(attacks):
    whole = bytes(datagram())
    head = bytes(3)
    for kind in (0x85, 0x40, 0x01, 0xFF):
        # Length 0: a parser that trusts it walks for ever.
        body = head + bytes([kind]) + bytes([0, 0, 0, kind]) * 4 + whole
        attacks.message(body, "gtpu_extension_length", flags=0x34)
    for count in (33, 100, 300):
        body = head + b"\x40" + bytes([1, 8, 104, 0x40]) * count
        attacks.message(body + whole, "gtpu_chain_too_long", flags=0x34)
    for units in (50, 255):
        body = head + bytes([0x85, units]) + whole
        attacks.message(body, "gtpu_length", flags=0x34)


def nested(attacks):
    again = GTP_U_Header(teid=TEID, gtp_type=255) / datagram()
    for depth in range(1, 5):
        attacks.inner(IP(src=UE, dst=SERVER) / UDP(sport=2152, dport=2152) / again, "gtpu_nested")
        again = GTP_U_Header(teid=TEID, gtp_type=255) / IP(src=UE, dst=SERVER) / UDP(dport=2152) / again
    for port in (8805, 2123):
        attacks.inner(datagram(port), "core_signalling")
    # In inner fragments: the first one names the port, what belongs to nothing is nobody's harm.
    pieces = fragment(datagram(2152, 1200), fragsize=400)
    attacks.inner(pieces[0], "gtpu_nested")
    for piece in pieces[1:]:
        attacks.inner(piece, "forwarded")


def fragments(attacks):
    for piece in fragment(datagram(5000, 3000), fragsize=600):
        attacks.inner(piece, "forwarded")
    # The largest offset, the smallest piece, a contradiction, nothing at all.
    for piece in (
        IP(src=UE, dst=SERVER, id=7, frag=8191, proto=17) / Raw(bytes(40)),
        IP(src=UE, dst=SERVER, id=8, flags="MF", proto=17) / Raw(bytes(8)),
        IP(src=UE, dst=SERVER, id=8, flags="MF", proto=6) / Raw(bytes(16)),
        IP(src=UE, dst=SERVER, id=9, frag=1, proto=17),
    ):
        attacks.inner(piece, "forwarded")
    # Of outer fragments this back end knows nothing.
    message = GTP_U_Header(teid=TEID, gtp_type=255) / datagram(length=1200)
    whole = IP(src=STATION, dst=GATEWAY, id=99) / UDP(sport=2152, dport=2152) / message
    for piece in fragment(whole, fragsize=400):
        attacks.add(piece, "fragment_unsupported")


def six(attacks):
    """Chains of IPv6 headers, from an address that is nobody's here."""
    base = IPv6(src="2001:db8:45::2", dst="2001:db8::9")
    chain = base
    for _ in range(4):
        chain = chain / IPv6ExtHdrDestOpt()
    attacks.inner(chain / UDP(dport=2152) / Raw(bytes(20)), "source_spoofed")
    for count in (20, 100):
        chain = base
        for _ in range(count):
            chain = chain / IPv6ExtHdrHopByHop()
        attacks.inner(chain / TCP(dport=80), "inner_malformed")
    attacks.inner(base / IPv6ExtHdrRouting(addresses=["2001:db8::7"]) / TCP(), "source_spoofed")
    attacks.inner(base / IPv6ExtHdrFragment(offset=100, m=1) / Raw(bytes(64)), "source_spoofed")
    # The last header says more than there is.
    cut = bytes(base / IPv6ExtHdrDestOpt() / Raw(bytes(8)))
    attacks.inner(Raw(cut[:41] + b"\xff" + cut[42:]), "inner_malformed")


def lies(attacks):
    for host in range(3, 40):
        attacks.inner(datagram(src=f"10.45.0.{host}"), "source_spoofed")
    attacks.inner(IP(src="0.0.0.0", dst=SERVER) / UDP(), "source_spoofed")
    for port in (22, 80, 443, 8805, 2152):
        attacks.inner(datagram(port, dst=GATEWAY), "to_infrastructure")
    attacks.inner(IP(src=UE, dst=GATEWAY) / TCP(dport=22), "to_infrastructure")
    attacks.inner(IP(src=UE, dst=GATEWAY) / ICMP(), "to_infrastructure")
    for host in range(3, 40):
        attacks.inner(datagram(), "peer_mismatch", src=f"127.0.0.{host}")
    for _ in range(200):
        teid = attacks.rng.randrange(2**32)
        attacks.inner(datagram(), "peer_mismatch" if teid == TEID else "teid_unknown", teid=teid)
    attacks.inner(datagram(), "teid_unknown", teid=0)
    attacks.message(bytes(4), "peer_unknown", kind=1, flags=0x32, src="127.0.0.9")


def outer(attacks):
    attacks.add(IP(src=STATION, dst=GATEWAY) / TCP(dport=2152), "not_gtpu")
    attacks.add(IP(src=STATION, dst=GATEWAY) / UDP(sport=2152, dport=53) / Raw(bytes(20)), "not_gtpu")
    attacks.add(IP(src=STATION, dst=GATEWAY, proto=17) / Raw(bytes(5)), "udp_truncated")
    whole = bytes(IP(src=STATION, dst=GATEWAY) / UDP(dport=2152) / Raw(bytes(30)))
    attacks.add(b"\x41" + whole[1:], "ip_header_length")
    attacks.add(b"\x75" + whole[1:], "not_ip")
    attacks.add(whole[:10], "ip_truncated")


def main():
    folder, attacks = Path(sys.argv[1]), Attacks(random.Random(int(sys.argv[2])))
    for make in (types, lengths, chains, nested, fragments, six, lies, outer):
        make(attacks)
    with open(folder / "attacks.pcap", "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
        for number, raw in enumerate(attacks.packets):
            when = divmod(number, 1_000_000)
            file.write(struct.pack("<IIII", *when, len(raw), len(raw)) + raw)
    (folder / "expected.json").write_text(json.dumps(attacks.expected, indent=1))


main()
