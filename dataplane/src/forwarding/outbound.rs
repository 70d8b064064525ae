//! The way of a judged packet to its port.

use std::net::SocketAddr;

use qlink_forward::mss::MssOutcome;
use qlink_forward::mtu::{Fit, Fragments};
use qlink_io::{BURST_MAX, Outgoing, PacketSink};
use qlink_meter::{Direction, DropReason, SessionKind, SessionSlot, WorkerCounter};
use qlink_wire::{gpdu_header, protocol};

use super::reason::of_too_big;
use super::state::{Forwarding, HeadPlace};
use crate::pipeline::{Head, Planned, Ports, Sent, Side};
use crate::plane::Plane;

/// Longest answer. Source: RFC 4443 §3.2.
const ANSWER_MAX: usize = 1280;

/// A packet, or a fragment of one, that waits for the next send; its head stands in
/// [`Forwarding::heads`] at the same place.
#[derive(Debug, Clone, Copy)]
struct Piece<'a> {
    body: &'a [u8],
    to: SocketAddr,
    way: Side,
    /// Which of the planned packets it is of.
    plan: usize,
}

/// What waits for the next send.
struct Gathered<'a> {
    pieces: [Piece<'a>; BURST_MAX],
    len: usize,
}

impl<'a> Gathered<'a> {
    const fn new() -> Self {
        let nothing = Outgoing::EMPTY;
        let piece = Piece {
            body: nothing.body,
            to: nothing.to,
            way: Side::N6,
            plan: 0,
        };
        Self {
            pieces: [piece; BURST_MAX],
            len: 0,
        }
    }

    fn push(&mut self, piece: Piece<'a>) {
        if let Some(place) = self.pieces.get_mut(self.len) {
            *place = piece;
            self.len = self.len.saturating_add(1);
        }
    }
}

/// What becomes of a packet.
#[expect(
    clippy::large_enum_variant,
    reason = "boxing would allocate on the packet path; the large variant is the rare one"
)]
enum Shape {
    /// It leaves as it was judged.
    AsIs,
    /// It leaves as [`Forwarding::rewrite`] says.
    Rewritten,
    /// It leaves in these fragments.
    Fragments(Fragments),
    /// It does not leave; [`Forwarding::answer`] goes to its sender.
    Answered,
    /// It does not leave.
    Refused(DropReason),
}

/// Where a burst that leaves is gathered.
struct Leaving<'a, 'p, A, B> {
    ports: &'a mut Ports<A, B>,
    gathered: Gathered<'p>,
}

impl Plane {
    /// Sends a burst of judged packets through forwarding and notes which were accepted.
    pub(crate) fn send_forwarded<A: PacketSink, B: PacketSink>(
        &mut self,
        ports: &mut Ports<A, B>,
        planned: &mut [Planned<'_>],
        now_ns: u64,
    ) -> Sent {
        // Taken out for the burst, so that it and the plane can be used together.
        let Some(mut forwarding) = self.forwarding.take() else {
            return Sent::All;
        };
        let mut leaving = Leaving {
            ports,
            gathered: Gathered::new(),
        };
        for place in 0..planned.len() {
            let Some(plan) = planned.get(place) else {
                break;
            };
            let plan = *plan;
            let shape = self.shape(&mut forwarding, &plan, now_ns);
            let left = match shape {
                Shape::AsIs => {
                    let heads = &mut forwarding.heads;
                    let whole = (&[][..], plan.body, plan.body.len());
                    self.leave(heads, &mut leaving, planned, (place, &plan), whole)
                }
                Shape::Rewritten => {
                    let Forwarding { heads, rewrite, .. } = &mut *forwarding;
                    let edited = (rewrite.head(), rewrite.body(plan.body), rewrite.total_len());
                    self.leave(heads, &mut leaving, planned, (place, &plan), edited)
                }
                Shape::Fragments(mut fragments) => {
                    self.arena.count(WorkerCounter::PacketsFragmented, 1);
                    let Forwarding { heads, rewrite, .. } = &mut *forwarding;
                    let mut left = Ok(());
                    while left.is_ok() && fragments.next_into(rewrite) {
                        let edited = (rewrite.head(), rewrite.body(plan.body), rewrite.total_len());
                        left = self.leave(heads, &mut leaving, planned, (place, &plan), edited);
                    }
                    left
                }
                Shape::Answered => Err(self.answer(&mut forwarding, leaving.ports, &plan, now_ns)),
                Shape::Refused(reason) => Err(reason),
            };
            if let Err(reason) = left {
                self.drop_planned(planned, place, reason);
            }
        }
        self.flush(&forwarding.heads, &mut leaving, planned);
        self.forwarding = Some(forwarding);
        if planned.iter().all(|plan| plan.accepted) {
            Sent::All
        } else {
            Sent::Part
        }
    }

    /// A packet that was planned does not leave.
    fn drop_planned(&mut self, planned: &mut [Planned<'_>], place: usize, reason: DropReason) {
        self.arena.count_drop(reason, 1);
        if self.tracer.is_on() {
            self.tracer.refused(place, reason);
        }
        refuse(planned, place);
    }

    /// Decides about a packet.
    #[inline]
    fn shape(&mut self, forwarding: &mut Forwarding, plan: &Planned<'_>, now_ns: u64) -> Shape {
        let path = match plan.way {
            Side::N6 => forwarding.paths.n6,
            Side::N3 => {
                let head = plan.head.as_slice().len();
                *forwarding.paths.tunnel(plan.to.ip(), head)
            }
        };
        let translates = plan.way == Side::N6 && forwarding.nat.is_some();
        let clamp = forwarding.clamp.filter(|_| may_be_syn(plan.body));
        let fits = plan.body.len() <= usize::from(path.inner_mtu());
        let edit = self.edit_of(plan);
        if fits && clamp.is_none() && !translates && edit.is_none() {
            return Shape::AsIs;
        }
        if forwarding.rewrite.load(plan.body).is_err() {
            return Shape::Refused(DropReason::InnerMalformed);
        }
        if edit.is_some_and(|edit| edit.apply(&mut forwarding.rewrite).is_err()) {
            return Shape::Refused(DropReason::TranslateMalformed);
        }
        if let Some(clamp) = clamp
            && clamp.clamp(&mut forwarding.rewrite) != MssOutcome::Unchanged
        {
            self.arena.count(WorkerCounter::SegmentsLowered, 1);
        }
        if translates {
            let packet = (plan.slot, plan.body);
            if let Err(reason) = self.translate_up(forwarding, packet, now_ns) {
                return Shape::Refused(reason);
            }
        }
        let limit = match towards(plan) {
            Side::N3 => &mut forwarding.to_subscribers,
            Side::N6 => &mut forwarding.to_origins,
        };
        let (leaving, answer) = (&forwarding.rewrite, &mut forwarding.answer);
        match path.fit(leaving, plan.body, limit, now_ns, answer) {
            // The kernel cuts tunnel packets that only IPv6's least MTU makes too long.
            Fit::Whole | Fit::OuterFragments => Shape::Rewritten,
            Fit::Fragments(fragments) => Shape::Fragments(fragments),
            Fit::Answered => Shape::Answered,
            Fit::Dropped(reason) => Shape::Refused(of_too_big(reason)),
        }
    }

    /// Puts a packet or a fragment of one among what leaves: its first bytes, the rest, its length.
    ///
    /// # Errors
    ///
    /// [`DropReason::TooLong`] for a tunnel packet; nothing leaves then.
    fn leave<'p, A: PacketSink, B: PacketSink>(
        &mut self,
        heads: &mut [HeadPlace],
        leaving: &mut Leaving<'_, 'p, A, B>,
        planned: &mut [Planned<'_>],
        (place, plan): (usize, &Planned<'p>),
        (first, body, length): (&[u8], &'p [u8], usize),
    ) -> Result<(), DropReason> {
        if leaving.gathered.len >= BURST_MAX {
            self.flush(heads, leaving, planned);
        }
        let head = heads.get_mut(leaving.gathered.len);
        if !head.is_some_and(|head| head.set(plan.head.as_slice(), first, length)) {
            return Err(DropReason::TooLong);
        }
        leaving.gathered.push(Piece {
            body,
            to: plan.to,
            way: plan.way,
            plan: place,
        });
        Ok(())
    }

    /// Sends what was gathered; a packet of which a port refused anything is not accepted.
    fn flush<A: PacketSink, B: PacketSink>(
        &mut self,
        heads: &[HeadPlace],
        leaving: &mut Leaving<'_, '_, A, B>,
        planned: &mut [Planned<'_>],
    ) {
        let pieces = leaving.gathered.pieces.get(..leaving.gathered.len);
        let pieces = pieces.unwrap_or_default();
        for way in [Side::N6, Side::N3] {
            let mut items = [Outgoing::EMPTY; BURST_MAX];
            let mut count = 0_usize;
            let own = pieces
                .iter()
                .zip(heads)
                .filter(|(piece, _)| piece.way == way);
            for (item, (piece, head)) in items.iter_mut().zip(own) {
                *item = Outgoing {
                    head: head.as_slice(),
                    body: piece.body,
                    to: piece.to,
                };
                count = count.saturating_add(1);
            }
            let items = items.get(..count).unwrap_or_default();
            if items.is_empty() {
                continue;
            }
            let accepted = match way {
                Side::N3 => self.send(&mut leaving.ports.n3, items),
                Side::N6 => self.send(&mut leaving.ports.n6, items),
            };
            let Some(accepted) = accepted else {
                continue;
            };
            let own = pieces.iter().filter(|piece| piece.way == way);
            for (piece, _) in own.zip(accepted).filter(|(_, accepted)| !accepted) {
                refuse(planned, piece.plan);
            }
        }
        leaving.gathered.len = 0;
    }

    /// Sends the answer about a packet that was too long; why that packet is dropped.
    fn answer<A: PacketSink, B: PacketSink>(
        &mut self,
        forwarding: &mut Forwarding,
        ports: &mut Ports<A, B>,
        plan: &Planned<'_>,
        now_ns: u64,
    ) -> DropReason {
        let answer = &forwarding.answer;
        let (first, body, length) = (answer.head(), answer.body(plan.body), answer.total_len());
        let mut head = HeadPlace::EMPTY;
        let sent = match towards(plan) {
            Side::N3 => match self.way_down(plan.slot, first) {
                Some((tunnel, to)) if head.set(tunnel.as_slice(), first, length) => {
                    let head = head.as_slice();
                    self.send(&mut ports.n3, &[Outgoing { head, body, to }])
                }
                _ => return DropReason::TooBigNoAnswer,
            },
            Side::N6 => {
                let mut place = [0; ANSWER_MAX];
                let Some(answer) = answer
                    .copy_to(plan.body, &mut place)
                    .and_then(|length| place.get(..length))
                else {
                    return DropReason::TooBigMalformed;
                };
                // To the origin its packet went to an outside address, and the answer quotes that.
                if forwarding.rewrite.load(answer).is_err()
                    || self
                        .translate_up(forwarding, (plan.slot, answer), now_ns)
                        .is_err()
                {
                    return DropReason::TooBigNoAnswer;
                }
                let (head, body) = (forwarding.rewrite.head(), forwarding.rewrite.body(answer));
                let to = self.neighbours.n6_peer;
                self.send(&mut ports.n6, &[Outgoing { head, body, to }])
            }
        };
        if sent.is_none() {
            self.arena.count(WorkerCounter::TooBigAnswers, 1);
        }
        DropReason::TooBigAnswered
    }

    /// The tunnel through which a packet of our own, whose first bytes are `packet`, reaches the
    /// subscriber of a session: the header with any length, and the peer.
    fn way_down(&self, slot: SessionSlot, packet: &[u8]) -> Option<(Head, SocketAddr)> {
        let hot = self.sessions.get(slot)?;
        match hot.kind {
            SessionKind::Direct => Some((
                Head::from(gpdu_header(hot.downlink_teid.get(), 0)),
                hot.downlink(),
            )),
            SessionKind::Ruled => self.ruled_way_down(slot, packet),
        }
    }
}

/// Takes back that a packet left.
fn refuse(planned: &mut [Planned<'_>], place: usize) {
    if let Some(plan) = planned.get_mut(place) {
        plan.accepted = false;
    }
}

/// Which side the sender of a packet is on.
const fn towards(plan: &Planned<'_>) -> Side {
    match plan.delta.direction {
        Direction::Uplink => Side::N3,
        Direction::Downlink => Side::N6,
    }
}

/// Whether a packet may be a TCP segment that announces a segment size. Behind IPv6 extension
/// headers it may always be.
#[inline]
fn may_be_syn(packet: &[u8]) -> bool {
    const SYN: u8 = 0x02;
    let (number, flags) = match packet {
        [first, ..] if first >> 4 == 4 => {
            let header = usize::from(first & 0x0f) << 2;
            (packet.get(9), packet.get(header.saturating_add(13)))
        }
        _ => (packet.get(6), packet.get(53)),
    };
    match number.copied() {
        Some(protocol::TCP) => flags.is_some_and(|flags| flags & SYN != 0),
        Some(protocol::UDP | protocol::ICMP | protocol::ICMPV6 | protocol::ESP) | None => false,
        Some(_) => packet.first().is_some_and(|first| first >> 4 == 6),
    }
}
