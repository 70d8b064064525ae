//! Arbitrary packets through every module: what leaves parses again, a checksum that was right is
//! right, no table grows beyond its bound.
//!
//! Input: records of {flags, length, bytes}. Flags choose direction, subscriber, time, and whether
//! the record's IP header is made to fit (version, length, addresses of the rig), so that the
//! fuzzer need not guess them; bytes are the packet.
#![no_main]

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use qlink_forward::buffer::{BufferLimits, DownlinkBuffer, Overflow};
use qlink_forward::fragments::FragmentLimits;
use qlink_forward::mss::MssClamp;
use qlink_forward::mtu::{Encapsulation, Fit, Path};
use qlink_forward::nat::{BlockQueue, Nat, NatConfig};
use qlink_forward::nat64::{Nat64, Nat64Config};
use qlink_forward::translate::Translator;
use qlink_forward::{Rewrite, TokenBucket};
use qlink_wire::checksum::{Checksum, transport_checksum};
use qlink_wire::{parse_ip, parse_udp, protocol};

const UE_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const UE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const POOL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const SUBSCRIBERS: u32 = 3;

const DOWN: u8 = 1;
const FIT_V4: u8 = 2;
const FIT_V6: u8 = 4;
/// From the network: to the place that was used last.
const TO_LAST: u8 = 8;
/// To the pool: hairpin.
const HAIRPIN: u8 = 16;
const LONG: u8 = 32;

struct Rig {
    translator: Translator,
    log: BlockQueue,
    buffer: DownlinkBuffer,
    path: Path,
    now_ns: u64,
    /// Address and port that a translated packet left from.
    last: (Ipv4Addr, u16),
}

fn rig() -> Rig {
    let config = NatConfig {
        block_ports: 64,
        blocks_per_subscriber: 2,
        mappings: 64,
        sessions: 32,
        sessions_per_subscriber: 16,
        ..NatConfig::for_subscribers(vec![POOL], SUBSCRIBERS, 1)
    };
    let nat = Nat::try_new(&config).unwrap();
    let fragments = FragmentLimits {
        datagrams: 8,
        datagrams_per_owner: 4,
        ..FragmentLimits::for_owners(SUBSCRIBERS, 1)
    };
    let nat64 = Nat64::try_new(Nat64Config::default()).unwrap();
    let around = Encapsulation::Plain;
    Rig {
        translator: Translator::new(nat, fragments, Some(nat64)),
        log: BlockQueue::new(8),
        buffer: DownlinkBuffer::new(BufferLimits {
            sessions: SUBSCRIBERS,
            packets: 8,
            packet_bytes_max: 2048,
            session_packets: 4,
            session_bytes: 6000,
            overflow: Overflow::DropOldest,
        }),
        path: Path::try_new(576, around, POOL, UE_V6).unwrap(),
        now_ns: 0,
        last: (POOL, 1024),
    }
}

thread_local! {
    // Made once: its tables are larger than most inputs. Every input begins with a closed house.
    static RIG: RefCell<Rig> = RefCell::new(rig());
}

/// Gives the bytes a header that the rig has something to do with.
fn fit(packet: &mut [u8], flags: u8, last: (Ipv4Addr, u16)) {
    let len = packet.len() as u16;
    let down = flags & DOWN != 0;
    let hairpin = flags & HAIRPIN != 0;
    if flags & FIT_V4 != 0 && packet.len() >= 28 {
        let (src, dst) = match (down, hairpin) {
            (true, _) => (HOST, POOL),
            (false, true) => (UE_V4, POOL),
            (false, false) => (UE_V4, HOST),
        };
        packet[0] = 0x40 | (packet[0] & 15).clamp(5, 7);
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet[12..16].copy_from_slice(&src.octets());
        packet[16..20].copy_from_slice(&dst.octets());
        if packet[6] & 0x80 == 0 {
            packet[6..8].fill(0);
        }
        packet[9] = [protocol::TCP, protocol::UDP, protocol::ICMP][usize::from(packet[9] % 3)];
        if (down || hairpin) && flags & TO_LAST != 0 {
            packet[22..24].copy_from_slice(&last.1.to_be_bytes());
        }
    } else if flags & FIT_V6 != 0 && packet.len() >= 48 {
        let nat64 = Nat64::try_new(Nat64Config::default()).unwrap();
        packet[0] = 0x60 | packet[0] & 15;
        packet[4..6].copy_from_slice(&(len - 40).to_be_bytes());
        packet[8..24].copy_from_slice(&UE_V6.octets());
        let to = if hairpin { POOL } else { HOST };
        packet[24..40].copy_from_slice(&nat64.embed(to).octets());
        if packet[6] & 0x80 == 0 {
            let numbers = [
                protocol::TCP,
                protocol::UDP,
                protocol::ICMPV6,
                protocol::FRAGMENT,
            ];
            packet[6] = numbers[usize::from(packet[6] % 4)];
        }
    }
    seal(packet);
}

/// Makes the checksums of a whole packet right, as far as it has any.
fn seal(packet: &mut [u8]) {
    let Ok(ip) = parse_ip(packet) else { return };
    if ip.is_cut() {
        return;
    }
    let start = usize::from(ip.header_len);
    let end = start + ip.payload.len();
    let at = match ip.protocol {
        _ if ip.fragment.is_some() => None,
        protocol::TCP if ip.payload.len() >= 20 => Some(16),
        protocol::UDP if ip.payload.len() >= 8 => Some(6),
        protocol::ICMP | protocol::ICMPV6 if ip.payload.len() >= 8 => Some(2),
        _ => None,
    };
    let (src, dst, number) = (ip.src, ip.dst, ip.protocol);
    if number == protocol::UDP && at.is_some() {
        let length = (end - start) as u16;
        packet[start + 4..start + 6].copy_from_slice(&length.to_be_bytes());
    }
    if let Some(at) = at {
        packet[start + at..start + at + 2].fill(0);
        let sum = sum(src, dst, number, &packet[start..end]);
        let sum = if sum == 0 && number == protocol::UDP {
            0xffff
        } else {
            sum
        };
        packet[start + at..start + at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    if src.is_ipv4() {
        packet[10..12].fill(0);
        let sum = Checksum::default().with(&packet[..start]).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

fn sum(src: IpAddr, dst: IpAddr, number: u8, payload: &[u8]) -> u16 {
    match number {
        protocol::ICMP => Checksum::default().with(payload).finish(),
        _ => transport_checksum(src, dst, number, payload),
    }
}

/// Whether every checksum of a packet is right; `None` when it has none that can be judged.
fn is_sound(packet: &[u8]) -> Option<bool> {
    let ip = parse_ip(packet).ok()?;
    if ip.src.is_ipv4() {
        let header = &packet[..usize::from(ip.header_len)];
        if Checksum::default().with(header).finish() != 0 {
            return Some(false);
        }
    }
    let of_its_family = match ip.protocol {
        protocol::ICMP => ip.src.is_ipv4(),
        protocol::ICMPV6 => ip.src.is_ipv6(),
        protocol::TCP => ip.payload.len() >= 20,
        protocol::UDP => {
            parse_udp(ip.payload).is_ok_and(|udp| u32::from(udp.length) == ip.payload_len)
                && ip.payload[6..8] != [0, 0]
        }
        _ => false,
    };
    if ip.fragment.is_some() || ip.is_cut() || !of_its_family {
        return None;
    }
    Some(sum(ip.src, ip.dst, ip.protocol, ip.payload) == 0)
}

fn whole(rewrite: &Rewrite, packet: &[u8], place: &mut [u8]) -> usize {
    let len = rewrite.copy_to(packet, place).unwrap();
    assert_eq!(len, rewrite.total_len());
    let ip = parse_ip(&place[..len]).unwrap();
    assert_eq!(ip.total_len as usize, len);
    len
}

impl Rig {
    fn record(&mut self, flags: u8, packet: &[u8]) {
        let mut rewrite = Rewrite::new();
        if rewrite.load(packet).is_err() {
            return;
        }
        let was_sound = is_sound(packet);
        let subscriber = u32::from(flags >> 6) % SUBSCRIBERS;
        self.now_ns += u64::from(flags) << 28;
        let _ = MssClamp::for_mtu(1400).clamp(&mut rewrite);
        let sent = if flags & DOWN != 0 {
            let to = self.translator.downlink(&mut rewrite, packet, self.now_ns);
            to.is_ok()
        } else {
            let (now_ns, log) = (self.now_ns, &mut self.log);
            let to = self
                .translator
                .uplink(subscriber, &mut rewrite, packet, now_ns, log);
            to.is_ok()
        };
        if !sent {
            return;
        }
        let mut place = vec![0; 70_000];
        let len = whole(&rewrite, packet, &mut place);
        let left = &place[..len];
        if was_sound == Some(true) {
            assert_ne!(
                is_sound(left),
                Some(false),
                "{packet:02x?} became {left:02x?}"
            );
        }
        if let Some((head, [a, b, ..])) = left.split_at_checked(20)
            && head[0] >> 4 == 4
            && head[12..16] == POOL.octets()
        {
            self.last = (POOL, u16::from_be_bytes([*a, *b]));
        }
        let _ = self
            .buffer
            .push(subscriber, rewrite.head(), rewrite.body(packet));
        self.fragments(&rewrite, packet);
        self.check_bounds();
    }

    fn fragments(&mut self, rewrite: &Rewrite, packet: &[u8]) {
        let (mut answer, mut place) = (Rewrite::new(), vec![0; 70_000]);
        let mut limit = TokenBucket::new(1, 1);
        match self.path.fit(rewrite, packet, &mut limit, 0, &mut answer) {
            Fit::Answered => {
                let len = whole(&answer, packet, &mut place);
                assert_eq!(is_sound(&place[..len]), Some(true));
                assert!(len <= 1280);
            }
            Fit::Fragments(mut fragments) => {
                let mut bytes = 0;
                while fragments.next_into(&mut answer) {
                    let len = whole(&answer, packet, &mut place);
                    let ip = parse_ip(&place[..len]).unwrap();
                    assert!(len <= 1280 && ip.payload_len > 0);
                    bytes += ip.payload.len();
                }
                assert!(bytes < rewrite.total_len() && bytes + 60 >= rewrite.total_len());
            }
            Fit::Whole | Fit::OuterFragments | Fit::Dropped(_) => {}
        }
    }

    fn check_bounds(&self) {
        let gauges = self.translator.nat().gauges();
        assert!(gauges.mappings <= 64 && gauges.sessions <= 32);
        assert!(gauges.blocks_used <= gauges.blocks);
        assert!(self.buffer.held().packets <= 8 && self.buffer.held().bytes <= 8 * 2048);
        assert!(self.log.len() <= 8);
    }

    fn begin(&mut self) {
        self.now_ns = 0;
        for subscriber in 0..SUBSCRIBERS {
            assert!(self.translator.nat_mut().open(subscriber, 1));
        }
    }

    fn end(&mut self) {
        let nat = self.translator.nat_mut();
        for subscriber in 0..SUBSCRIBERS {
            nat.close(subscriber, self.now_ns, &mut self.log);
            self.buffer.discard(subscriber);
        }
        // Blocks that the log had no room for are released once there is room.
        for _ in 0..4 {
            while self.log.pop().is_some() {}
            nat.sweep(u32::MAX, self.now_ns, &mut self.log);
        }
        let gauges = nat.gauges();
        assert_eq!(
            (gauges.mappings, gauges.sessions, gauges.blocks_used),
            (0, 0, 0)
        );
        assert_eq!(self.buffer.held().packets, 0);
    }
}

fuzz_target!(|input: &[u8]| {
    RIG.with_borrow_mut(|rig| {
        rig.begin();
        let mut rest = input;
        while let [flags, length, tail @ ..] = rest {
            let (bytes, after) = tail.split_at(tail.len().min(usize::from(*length)));
            let mut packet = bytes.to_vec();
            if flags & LONG != 0 {
                packet.resize(packet.len() + 1300, *length);
            }
            fit(&mut packet, *flags, rig.last);
            rig.record(*flags, &packet);
            rest = after;
        }
        rig.end();
    });
});
