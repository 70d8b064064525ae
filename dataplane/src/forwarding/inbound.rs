//! Packets from the network, before their subscriber is known.

use qlink_io::{Burst, Descriptor, IoError, PacketSink, PacketSource};
use qlink_meter::WorkerCounter;
use qlink_wire::LinkType;

use super::state::Forwarding;
use super::translation::{Came, FRAGMENTS_MAX};
use crate::pipeline::{Ingress, Ports, run_stages};
use crate::plane::Plane;

/// Offsets from here on are those of translated packets.
const TRANSLATED: usize = 1 << (usize::BITS - 1);

/// A source's packets, some of them translated.
struct Inside<'a, S> {
    source: &'a S,
    slab: &'a [u8],
}

impl<S: PacketSource> PacketSource for Inside<'_, S> {
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        burst.clear();
        Err(IoError::End)
    }

    #[inline]
    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        match descriptor.offset.checked_sub(TRANSLATED) {
            None => self.source.frame(descriptor),
            Some(offset) => {
                let end = offset.saturating_add(descriptor.len as usize);
                self.slab.get(offset..end).unwrap_or_default()
            }
        }
    }
}

/// The worker's forwarding while it is taken out.
type Own = Option<Box<Forwarding>>;

/// A burst in which subscribers have their own addresses.
struct Known {
    burst: Burst,
    /// Bytes of the slab that are used.
    used: usize,
}

impl Known {
    /// An empty burst whose packets stand behind those of this one.
    const fn behind(&self) -> Self {
        Self {
            burst: Burst::new(),
            used: self.used,
        }
    }

    /// Adds a translated packet that stands at the end of what is used of the slab.
    fn push(&mut self, length: usize, of: &Descriptor) {
        let len = u32::try_from(length).unwrap_or(0);
        self.burst.push(Descriptor {
            offset: TRANSLATED.saturating_add(self.used),
            len,
            orig_len: len,
            link: LinkType::RawIp,
            ..*of
        });
        self.used = self.used.saturating_add(length);
    }
}

/// Takes a burst from the network through all stages, addresses of the pool translated first.
#[inline(never)]
pub(crate) fn process_from_network<S: PacketSource, A: PacketSink, B: PacketSink>(
    plane: &mut Plane,
    ingress: Ingress,
    (source, burst): (&S, &Burst),
    ports: &mut Ports<A, B>,
    now_ns: u64,
) {
    // Both taken out for the burst: the stages need the one back, and only read the other.
    let mut forwarding = plane.forwarding.take();
    let nat = forwarding.as_mut().and_then(|own| own.nat.as_mut());
    let mut slab = nat.map_or_else(Box::default, |nat| std::mem::take(&mut nat.slab));
    let mut known = Known {
        burst: Burst::new(),
        used: 0,
    };
    let run = &mut |plane: &mut Plane, own: &mut Own, known: &mut Known, slab: &[u8]| {
        plane.forwarding = own.take();
        if !known.burst.is_empty() {
            let inside = Inside { source, slab };
            run_stages(plane, ingress, &inside, &known.burst, ports, now_ns);
        }
        *own = plane.forwarding.take();
        known.burst.clear();
        known.used = 0;
    };
    for descriptor in burst {
        let frame = source.frame(descriptor);
        let room = slab.get_mut(known.used..).unwrap_or_default();
        let of = (descriptor, frame, ingress.arrival);
        match plane.translate_down(&mut forwarding, of, room, now_ns) {
            Ok(Came::AsItIs) => {
                known.burst.push(*descriptor);
            }
            Ok(Came::Translated(length)) => known.push(length, descriptor),
            Ok(Came::HandedOver) => {
                plane.arena.count(WorkerCounter::HandedOver, 1);
                plane.arena.count(WorkerCounter::ReceivedPackets, 1);
            }
            Ok(Came::TooLong { at }) => {
                // Its fragments are packets of their own, in bursts of their own. What waits goes
                // first; the packet in work is not touched by that but for what it was loaded from.
                let received = frame.get(at..).unwrap_or_default();
                let lengths = cut(&mut forwarding, received, room, now_ns);
                let mut pieces = known.behind();
                run(plane, &mut forwarding, &mut known, &slab);
                for length in lengths.into_iter().take_while(|length| *length > 0) {
                    pieces.push(length as usize, descriptor);
                    if pieces.burst.is_full() {
                        let next = pieces.behind();
                        run(plane, &mut forwarding, &mut pieces, &slab);
                        pieces = next;
                    }
                }
                run(plane, &mut forwarding, &mut pieces, &slab);
            }
            Err(reason) => {
                plane.arena.count_drop(reason, 1);
                plane.arena.count(WorkerCounter::ReceivedPackets, 1);
            }
        }
    }
    run(plane, &mut forwarding, &mut known, &slab);
    if let Some(nat) = forwarding.as_mut().and_then(|own| own.nat.as_mut()) {
        nat.slab = slab;
    }
    plane.forwarding = forwarding;
    // Packets may have been handed over without any that stayed.
    plane.others.ring();
}

/// The fragments of the packet in work.
fn cut(own: &mut Own, received: &[u8], room: &mut [u8], now_ns: u64) -> [u32; FRAGMENTS_MAX] {
    let nothing = [0; FRAGMENTS_MAX];
    own.as_mut()
        .map_or(nothing, |own| own.cut(received, room, now_ns))
}
