//! Packets that this end sends to subscribers of its own: answers to redirected requests.
//!
//! Composed behind one another in memory that is taken once, sent behind the burst that provoked
//! them, and then forgotten: who got none asks again.
//!
//! Invariant: they are nobody's traffic. No usage rule, no session and no content counts them.

use std::net::{IpAddr, SocketAddr};

use qlink_io::{BURST_MAX, PacketSink};
use qlink_meter::{Direction, DropReason, Out, SessionSlot, WorkerCounter};
use qlink_pfcp::model::Interface;
use qlink_wire::checksum::{Checksum, transport_checksum};
use qlink_wire::{TcpFlags, protocol};

use super::judge::tunnel_head;
use super::outbox::{Delivery, Outbox};
use super::redirect::{Cookies, HTTP_PORT, Response, Turn};
use crate::parse::{Inner, Transport};
use crate::pipeline::Head;
use crate::plane::Plane;

/// Octets of a response in one packet (chosen: with all headers below the 1280 bytes that every
/// IPv6 path takes).
const PART_MAX: usize = 1160;

/// Packets that wait for the end of a burst (chosen: two for each packet of it).
const REPLIES_MAX: usize = 2 * BURST_MAX;

/// Octets of those packets.
const OCTETS_MAX: usize = REPLIES_MAX * 1280;

/// The window that we announce; nothing is kept, so it is never full.
const WINDOW: u16 = 65_535;

/// Packets that wait for the end of the burst.
#[derive(Debug)]
pub(crate) struct Replies {
    cookies: Cookies,
    out: Outbox,
}

/// How the subscriber is reached.
#[derive(Debug, Clone, Copy)]
struct Way {
    to: SocketAddr,
    out: Out,
}

/// One TCP segment of ours.
#[derive(Debug, Clone, Copy)]
struct Answer {
    /// Server and subscriber.
    ends: (SocketAddr, SocketAddr),
    seq: u32,
    ack: u32,
    flags: TcpFlags,
}

impl Replies {
    pub(crate) fn new(sessions: u32) -> Self {
        let (packets, octets) = match sessions {
            0 => (0, 0),
            _ => (REPLIES_MAX, OCTETS_MAX),
        };
        Self {
            cookies: Cookies::default(),
            out: Outbox::new(packets, octets),
        }
    }

    /// Whether nothing waits.
    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Puts a segment into its tunnel; `false` when there is no room.
    fn push(
        &mut self,
        way: Way,
        answer: &Answer,
        length: usize,
        payload: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let headers = ip_header_len(answer.ends.1.ip()).saturating_add(20);
        let total = headers.saturating_add(length);
        let head = u16::try_from(total)
            .ok()
            .and_then(|inner| tunnel_head(way.out, inner));
        let Some(head) = head else {
            return false;
        };
        let most = total.saturating_add(Head::LEN_MAX);
        self.out.put(way.to, most, |out| {
            out.extend_from_slice(head.as_slice());
            put_ip(answer.ends, total, out);
            put_tcp(answer, out, payload);
        })
    }
}

const fn ip_header_len(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(_) => 20,
        IpAddr::V6(_) => 40,
    }
}

fn put_ip((from, to): (SocketAddr, SocketAddr), total: usize, out: &mut Vec<u8>) {
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let start = out.len();
            out.extend_from_slice(&[0x45, 0]);
            out.extend_from_slice(&length(total));
            // Not to be fragmented, so it needs no number. Source: RFC 6864 §4.1.
            out.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol::TCP, 0, 0]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
            let sum = Checksum::default()
                .with(out.get(start..).unwrap_or_default())
                .finish();
            write_at(out, start.saturating_add(10), sum);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            out.extend_from_slice(&[0x60, 0, 0, 0]);
            out.extend_from_slice(&length(total.saturating_sub(40)));
            out.extend_from_slice(&[protocol::TCP, 64]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        // Both ends are of one packet.
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
    }
}

fn put_tcp(answer: &Answer, out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let (from, to) = answer.ends;
    let start = out.len();
    out.extend_from_slice(&from.port().to_be_bytes());
    out.extend_from_slice(&to.port().to_be_bytes());
    out.extend_from_slice(&answer.seq.to_be_bytes());
    out.extend_from_slice(&answer.ack.to_be_bytes());
    out.extend_from_slice(&[5 << 4, answer.flags.bits()]);
    out.extend_from_slice(&WINDOW.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    payload(out);
    let segment = out.get(start..).unwrap_or_default();
    let sum = transport_checksum(from.ip(), to.ip(), protocol::TCP, segment);
    write_at(out, start.saturating_add(16), sum);
}

fn write_at(out: &mut [u8], at: usize, value: u16) {
    if let Some(place) = out.get_mut(at..at.saturating_add(2)) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

impl Plane {
    /// Answers a subscriber's plain HTTP request with a redirection; everything else of the rule is
    /// dropped. `Ok(false)`: the packet was taken.
    pub(super) fn redirect(
        &mut self,
        slot: SessionSlot,
        (url, direction): (u16, Direction),
        inner: &Inner<'_>,
        now_ns: u64,
    ) -> Result<bool, DropReason> {
        let Transport::Tcp(segment) = &inner.transport else {
            return Err(DropReason::NotRedirectable);
        };
        let from = SocketAddr::new(inner.ip.src, segment.src_port);
        let to = SocketAddr::new(inner.ip.dst, segment.dst_port);
        let whole = u32::try_from(segment.payload.len()) == Ok(inner.payload_len);
        if direction == Direction::Downlink || segment.dst_port != HTTP_PORT || !whole {
            return Err(DropReason::NotRedirectable);
        }
        let (ruled, replies) = self.ruled.ruled_and_replies(slot);
        let ruled = ruled.ok_or(DropReason::TeidUnknown)?;
        let location = ruled.block.redirect_url(url);
        let response = Response::to(location.ok_or(DropReason::NotRedirectable)?);
        let now_s = now_ns.wrapping_div(1_000_000_000);
        let turn = replies
            .cookies
            .turn((from, to), segment, response.len(), now_s);
        let way = ruled.way_to(from, to).ok_or(DropReason::NotRedirectable)?;
        let ends = (to, from);
        let pushed = match turn {
            Turn::NotHttp => return Err(DropReason::NotRedirectable),
            Turn::Nothing => true,
            Turn::Say { seq, ack, flags } => {
                let answer = Answer {
                    ends,
                    seq,
                    ack,
                    flags,
                };
                replies.push(way, &answer, 0, |_| {})
            }
            Turn::Respond { seq, ack, from } => {
                let flags = TcpFlags::ACK;
                let answer = Answer {
                    ends,
                    seq,
                    ack,
                    flags,
                };
                replies.respond(way, answer, &response, from)
            }
        };
        // A subscriber whose answer found no room asks again.
        pushed.then_some(false).ok_or(DropReason::TransmitFull)
    }

    /// Whether something of our own waits for the end of the burst.
    #[inline]
    pub(crate) const fn has_own_packets(&self) -> bool {
        !self.signals.is_empty() || !self.ruled.replies.is_empty() || !self.ruled.copies.is_empty()
    }

    /// Sends what this end has to say: signals, then answers to subscribers, then copies.
    pub(crate) fn send_own_packets(&mut self, n3: &mut impl PacketSink) {
        self.send_signals(n3);
        self.send_replies(n3);
        self.send_copies(n3);
    }

    fn send_replies(&mut self, n3: &mut impl PacketSink) {
        if self.ruled.replies.is_empty() {
            return;
        }
        let Delivery {
            sent,
            full,
            refused,
        } = self.ruled.replies.out.send(n3);
        self.arena.count(WorkerCounter::RedirectReplies, sent);
        self.arena.count_drop(DropReason::TransmitFull, full);
        self.arena.count_drop(DropReason::TransmitRefused, refused);
    }
}

impl Replies {
    /// The response from an octet on in as many packets as it takes; the last one ends it.
    fn respond(
        &mut self,
        way: Way,
        mut answer: Answer,
        response: &Response<'_>,
        from: usize,
    ) -> bool {
        let end = response.len();
        let mut from = from.min(end);
        let seq = answer.seq.wrapping_sub(u32::try_from(from).unwrap_or(0));
        loop {
            let to = from.saturating_add(PART_MAX).min(end);
            answer.seq = seq.wrapping_add(u32::try_from(from).unwrap_or(0));
            if to == end {
                answer.flags = answer.flags.union(TcpFlags::PSH).union(TcpFlags::FIN);
            }
            let length = to.saturating_sub(from);
            if !self.push(way, &answer, length, |out| response.copy(from..to, out)) {
                return false;
            }
            if to == end {
                return true;
            }
            from = to;
        }
    }
}

impl super::session::Ruled {
    /// The tunnel of the rule that a server's packet to the subscriber meets.
    fn way_to(&self, subscriber: SocketAddr, server: SocketAddr) -> Option<Way> {
        let back = qlink_meter::PacketMeta {
            source: Interface::Core,
            teid: None,
            src: server.ip(),
            dst: subscriber.ip(),
            protocol: protocol::TCP,
            src_port: server.port(),
            dst_port: subscriber.port(),
            tos: 0,
            flow_label: 0,
            spi: 0,
            qfi: None,
        };
        match self.block.classify(&back)?.action {
            qlink_meter::Action::Forward {
                to: out @ Out::Tunnel { peer, .. },
                ..
            } => Some(Way { to: peer, out }),
            _ => None,
        }
    }
}
