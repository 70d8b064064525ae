//! Trains: datagrams that the kernel carries as one message. Pure arithmetic, no system call.

use std::net::SocketAddr;

use super::options::{DATAGRAM_MAX, UdpStats};
use crate::burst::BURST_MAX;
use crate::{Burst, Descriptor, Outgoing};
use qlink_wire::LinkType;

/// Most packets in one sent train (specified: `UDP_MAX_SEGMENTS` of Linux before 6.9; 128 since).
pub(crate) const TRAIN_PACKETS_MAX: usize = 64;

/// Most bytes in one sent train: 65,535 less the IPv4 and UDP headers.
pub(crate) const TRAIN_BYTES_MAX: usize = 65_507;

/// Refusals after which no train is tried again (chosen: eight different path MTUs).
const REFUSALS_MAX: u8 = 8;

/// Which packets may be sent as a train; learns from refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TrainLimit {
    /// Longest packet of a train, bytes; 0 = no trains.
    segment_max: usize,
    refusals: u8,
}

impl TrainLimit {
    /// Every packet is a message of its own.
    pub(crate) const NONE: Self = Self {
        segment_max: 0,
        refusals: 0,
    };

    /// Trains of packets of any length.
    pub(crate) const ANY: Self = Self {
        segment_max: TRAIN_BYTES_MAX,
        refusals: 0,
    };

    /// Whether any train is tried.
    pub(crate) const fn is_open(self) -> bool {
        self.segment_max > 0
    }

    /// How many of the first `items` go as one message: at least 1, or 0 for no items.
    pub(crate) fn train(self, items: &[Outgoing<'_>]) -> usize {
        let Some((first, rest)) = items.split_first() else {
            return 0;
        };
        let segment = first.len();
        let (mut count, mut total) = (1_usize, segment);
        if segment == 0 || segment > self.segment_max {
            return count;
        }
        for item in rest.iter().take(TRAIN_PACKETS_MAX - 1) {
            let length = item.len();
            total = total.saturating_add(length);
            let joins = (1..=segment).contains(&length) && total <= TRAIN_BYTES_MAX;
            if !joins || item.to != first.to {
                break;
            }
            count = count.saturating_add(1);
            if length < segment {
                break;
            }
        }
        count
    }

    /// The limit after the kernel refused a train of packets of `segment` bytes with `errno`;
    /// `None` when the refusal says nothing about trains.
    pub(crate) fn after_refusal(self, segment: usize, errno: Option<i32>) -> Option<Self> {
        match errno? {
            // A segment above the path's MTU: alone, such a packet leaves in IP fragments. The
            // same answers also mean "never" in some kernels, so that the tries are counted.
            libc::EINVAL | libc::EMSGSIZE if self.refusals < REFUSALS_MAX => Some(Self {
                segment_max: self.segment_max.min(segment.saturating_sub(1)),
                refusals: self.refusals.saturating_add(1),
            }),
            // The interface cannot compute checksums, or the packets are transformed (IPsec).
            libc::EINVAL | libc::EMSGSIZE | libc::EIO | libc::EOPNOTSUPP => Some(Self::NONE),
            _ => None,
        }
    }
}

/// One received message: a datagram, or several of one peer behind each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// First byte in the slab that was not delivered yet.
    pub(crate) offset: usize,
    /// Bytes not delivered yet.
    pub(crate) left: usize,
    /// Length of every datagram but the last.
    pub(crate) segment: usize,
    pub(crate) peer: SocketAddr,
}

/// Received messages of which something may still be delivered, oldest first.
#[derive(Debug)]
pub(crate) struct Arrivals {
    messages: [Option<Arrival>; BURST_MAX],
    /// Messages pushed since [`clear`](Self::clear).
    count: usize,
    /// First message with something left.
    next: usize,
    timestamp_ns: u64,
}

impl Arrivals {
    pub(crate) const NONE: Self = Self {
        messages: [None; BURST_MAX],
        count: 0,
        next: 0,
        timestamp_ns: 0,
    };

    /// Whether every datagram was delivered.
    pub(crate) const fn is_empty(&self) -> bool {
        self.next >= self.count
    }

    /// Forgets everything; what is pushed from now on arrived at `timestamp_ns`.
    pub(crate) const fn clear(&mut self, timestamp_ns: u64) {
        self.count = 0;
        self.next = 0;
        self.timestamp_ns = timestamp_ns;
    }

    /// Adds a message; one above [`BURST_MAX`] is lost, which no caller receives.
    pub(crate) fn push(&mut self, arrival: Arrival) {
        if let Some(place) = self.messages.get_mut(self.count) {
            *place = Some(arrival);
            self.count = self.count.saturating_add(1);
        }
    }

    /// Moves datagrams into `burst` until it is full or nothing is left.
    pub(crate) fn deliver(&mut self, burst: &mut Burst, link: LinkType, stats: &mut UdpStats) {
        while !burst.is_full() && !self.is_empty() {
            let Some(Some(arrival)) = self.messages.get_mut(self.next) else {
                return;
            };
            let length = arrival.segment.min(arrival.left);
            match u32::try_from(length) {
                Ok(len) if length <= DATAGRAM_MAX => {
                    burst.push(Descriptor {
                        offset: arrival.offset,
                        len,
                        orig_len: len,
                        timestamp_ns: self.timestamp_ns,
                        peer: Some(arrival.peer),
                        link,
                    });
                }
                _ => stats.truncated = stats.truncated.saturating_add(1),
            }
            arrival.offset = arrival.offset.saturating_add(length);
            arrival.left = arrival.left.saturating_sub(length);
            // A segment of 0 bytes cannot go on; an empty datagram is one packet.
            if arrival.left == 0 || length == 0 {
                self.next = self.next.saturating_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TO: SocketAddr = Outgoing::EMPTY.to;

    fn packets(bodies: &[Vec<u8>]) -> Vec<Outgoing<'_>> {
        let item = |body| Outgoing {
            head: &[],
            body,
            to: TO,
        };
        bodies.iter().map(|body| item(body.as_slice())).collect()
    }

    fn train_of(lengths: &[usize]) -> usize {
        let bodies: Vec<Vec<u8>> = lengths.iter().map(|length| vec![0; *length]).collect();
        TrainLimit::ANY.train(&packets(&bodies))
    }

    #[test]
    fn a_train_ends_behind_the_first_shorter_packet() {
        assert_eq!(train_of(&[100, 100, 40, 100]), 3);
        assert_eq!(train_of(&[100, 100, 101]), 2);
        assert_eq!(train_of(&[]), 0);
    }

    #[test]
    fn an_empty_packet_is_in_no_train() {
        assert_eq!(train_of(&[0, 0]), 1);
        assert_eq!(train_of(&[10, 0]), 1);
    }

    #[test]
    fn a_train_has_at_most_64_packets_and_65_507_bytes() {
        assert_eq!(train_of(&[10; 100]), 64);
        assert_eq!(train_of(&[1400; 64]), 46);
        assert_eq!(train_of(&[32_753, 32_753, 1]), 3);
        assert_eq!(train_of(&[32_754, 32_754]), 1);
    }

    #[test]
    fn a_refused_length_is_not_tried_again_and_shorter_ones_are() {
        let bodies = [vec![0; 1500], vec![0; 1500]];

        let after = TrainLimit::ANY
            .after_refusal(1500, Some(libc::EINVAL))
            .unwrap();

        assert_eq!(after.train(&packets(&bodies)), 1);
        assert_eq!(after.train(&packets(&[vec![0; 1499], vec![0; 1499]])), 2);
    }

    #[test]
    fn no_checksum_offload_and_the_ninth_refusal_end_all_trains() {
        let mut limit = TrainLimit::ANY;
        let at_once = limit.after_refusal(1400, Some(libc::EIO)).unwrap();
        for length in (100..108).rev() {
            limit = limit.after_refusal(length, Some(libc::EINVAL)).unwrap();
            assert!(limit.is_open());
        }
        let at_last = limit.after_refusal(50, Some(libc::EINVAL)).unwrap();

        assert_eq!((at_once, at_last), (TrainLimit::NONE, TrainLimit::NONE));
    }

    #[test]
    fn other_errors_say_nothing_about_trains() {
        let refusal = |errno| TrainLimit::ANY.after_refusal(1400, errno);

        assert_eq!(refusal(Some(libc::ENETUNREACH)), None);
        assert_eq!(refusal(None), None);
    }

    proptest! {
        /// However a sequence of messages is cut, the descriptors cover every byte once in order.
        #[test]
        fn delivered_datagrams_cover_every_message(
            messages in prop::collection::vec((0_usize..40_000, 1_usize..3000), 0..8)
        ) {
            let (mut arrivals, mut stats) = (Arrivals::NONE, UdpStats::default());
            arrivals.clear(7);
            let mut expected = Vec::new();
            for (place, (length, segment)) in messages.iter().enumerate() {
                let offset = place * 65_536;
                arrivals.push(Arrival { offset, left: *length, segment: *segment, peer: TO });
                let cuts = (0..*length).step_by(*segment);
                expected.extend(cuts.map(|at| (offset + at, (*segment).min(length - at))));
                if *length == 0 {
                    expected.push((offset, 0));
                }
            }

            let mut delivered = Vec::new();
            while !arrivals.is_empty() {
                let mut burst = Burst::new();
                arrivals.deliver(&mut burst, LinkType::RawIp, &mut stats);
                prop_assert!(!burst.is_empty());
                delivered.extend(burst.iter().map(|d| (d.offset, d.len as usize)));
            }

            prop_assert_eq!(delivered, expected);
        }
    }
}
