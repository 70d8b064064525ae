"""Writes a capture of downloads through GTP-U, encoded by scapy, and the contents into a folder.

usage: scapy_downloads.py FOLDER SEED
"""

import random
import struct
import sys
from pathlib import Path

from scapy.contrib.gtp import GTP_U_Header, GTPPDUSessionContainer
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.packet import Raw

FILM = 40_000


class Download:
    """One connection; its inner packets with their directions ("up" or "down")."""

    def __init__(self, rng, ip, name, film, port):
        self.rng, self.ip, self.name, self.film, self.port = rng, ip, name, film, port
        # Both streams pass 2^32.
        self.up = 2**32 - 20
        self.down = 2**32 - rng.randrange(1, 30_000)
        self.packets = []

    def send(self, direction, seq, ack, flags, payload=b""):
        ue, origin = self.ip
        ends = dict(src=ue, dst=origin) if direction == "up" else dict(src=origin, dst=ue)
        ports = (self.port, 80) if direction == "up" else (80, self.port)
        ip = IPv6(**ends) if ":" in ue else IP(**ends)
        tcp = TCP(sport=ports[0], dport=ports[1], seq=seq % 2**32, ack=ack % 2**32, flags=flags)
        self.packets.append((direction, ip / tcp / Raw(payload) if payload else ip / tcp))

    def run(self):
        self.send("up", self.up, 0, "S")
        self.send("down", self.down, self.up + 1, "SA")
        up, base = self.up + 1, self.down + 1
        self.send("up", up, base, "A")
        request = f"GET /{self.name} HTTP/1.1\r\nHost: films.example\r\n\r\n".encode()
        self.send("up", up, base, "PA", request)
        up += len(request)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.film)}\r\n\r\n".encode()
        stream = head + self.film
        self.send("down", base, up, "A", stream[: len(head) + 500])
        segments = self.segments(len(head) + 500, len(stream))
        for number, (start, end) in enumerate(segments):
            self.send("down", base + start, up, "A", stream[start:end])
            if number % 3 == 0:
                self.send("up", up, base + len(head), "A")
        end = base + len(stream)
        self.send("up", up, end, "FA")
        self.send("down", end, up + 1, "FA")
        self.send("up", up + 1, end + 1, "A")
        return self.packets

    def segments(self, at, end):
        """Every byte at least once; some twice, some late, some in two ways of cutting."""
        rng, result = self.rng, []
        while at < end:
            stop = min(at + rng.randrange(200, 1300), end)
            result.append((at, stop))
            if rng.random() < 0.15:
                result.append((at, stop))
            if rng.random() < 0.15:
                result.append((at + (stop - at) // 2, stop))
            at = stop
        for place in range(0, len(result) - 4, 6):
            window = result[place : place + 4]
            rng.shuffle(window)
            result[place : place + 4] = window
        return result


def outer(rng, six, direction, teid, inner, psc, piece):
    near = "2001:db8:1::1" if six else "192.168.3.1"
    far = "2001:db8:1::2" if six else "192.168.3.2"
    ends = dict(src=far, dst=near) if direction == "up" else dict(src=near, dst=far)
    message = GTP_U_Header(teid=teid, gtp_type=255)
    if psc:
        message = message / GTPPDUSessionContainer(type=1 if direction == "up" else 0, QFI=9)
    udp = UDP(sport=2152, dport=2152) / message / inner
    number = rng.randrange(1, 2**16)
    if six:
        if piece is None:
            return [IPv6(**ends) / udp]
        pieces = fragment6(IPv6(**ends) / IPv6ExtHdrFragment(id=number) / udp, piece)
    else:
        if piece is None:
            return [IP(**ends, id=number) / udp]
        pieces = fragment(IP(**ends, id=number) / udp, fragsize=piece)
    rng.shuffle(pieces)
    return pieces


def main():
    folder, rng = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    films = {f"film-{n}": rng.randbytes(FILM - n * 7_000) for n in range(2)}
    (folder / "contents").mkdir()
    for name, film in films.items():
        (folder / "contents" / name).write_bytes(film)
    packets = []
    # outer, inner, container, fragments
    sessions = [(0, 0, 0, None), (0, 1, 1, 600), (1, 0, 1, 700), (1, 1, 0, 1000)]
    for number, (six, inner_six, psc, piece) in enumerate(sessions):
        ue = f"2001:db8:45:{number}::9" if inner_six else f"10.45.0.{number + 2}"
        ip = (ue, "2001:db8::9" if inner_six else "192.0.2.9")
        name = f"film-{number % 2}"
        for direction, inner in Download(rng, ip, name, films[name], 40_000 + number).run():
            teid = 100 + number + (50 if direction == "down" else 0)
            packets += outer(rng, six, direction, teid, inner, psc, piece)
    with open(folder / "downloads.pcap", "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
        for number, packet in enumerate(packets):
            raw = bytes(packet)
            when = divmod(number * 50, 1_000_000)
            file.write(struct.pack("<IIII", *when, len(raw), len(raw)) + raw)


main()
