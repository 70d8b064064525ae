//! The other steady state: all payload is charged, and nothing waits.

use super::half::Half;
use super::input::{Context, Direction, Segment};
use super::state::{FlowProof, first_seq};
use crate::deltas::{Deltas, add};
use crate::view::Classes;

impl FlowProof {
    /// A segment of a flow that is charged to its end, without pieces to be told apart. `None` when
    /// anything is different; nothing has changed then.
    ///
    /// Invariant: the result is that of the general way.
    pub(super) fn charged(
        &mut self,
        context: &mut Context<'_>,
        direction: Direction,
        segment: &Segment<'_>,
    ) -> Option<Deltas> {
        let reason = self.standing.charge()?;
        let control = Segment::SYN | Segment::FIN | Segment::RST;
        let waits = self.pending_bytes() > 0 || self.pending.first().is_some();
        if segment.has(control) || waits || self.up.fin.is_some() || self.down.fin.is_some() {
            return None;
        }
        self.last_ns = context.now_ns;
        let mut deltas = Deltas::default();
        let length = u64::from(segment.payload_len).max(segment.payload.len() as u64);
        if length > 0 {
            add(&mut deltas.wire_payload, length);
            deltas.charge(reason, length);
            let classes = Classes {
                wire_payload: length,
                user_charged: length,
                ..Classes::default()
            };
            let view = self
                .primary
                .and_then(|slot| context.views.get_mut(usize::from(slot)));
            match view {
                Some(view) => {
                    view.classes.absorb(&classes);
                    view.classes.absorb(&self.unbound);
                    self.unbound = Classes::default();
                }
                None => self.unbound.absorb(&classes),
            }
        }
        let (own, other) = match direction {
            Direction::Uplink => (&mut self.up, &mut self.down),
            Direction::Downlink => (&mut self.down, &mut self.up),
        };
        if length > 0 {
            extend(own, first_seq(segment), length);
        }
        if segment.has(Segment::ACK)
            && let Some(acked) = other.acknowledged(segment.ack)
        {
            other.acked = other.acked.max(acked);
        }
        Some(deltas)
    }
}

/// Payload of `length` bytes was forwarded at `seq`; what lies before the stream is not of it.
fn extend(half: &mut Half, seq: u32, length: u64) {
    if let Some(position) = half.position(seq) {
        let before = length.min(position.min(0).unsigned_abs());
        let start = u64::try_from(position).unwrap_or(0);
        let end = start.saturating_add(length.saturating_sub(before));
        half.end = half.end.max(end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qlink_types::units::Bytes;

    use super::*;
    use crate::flow::{Policy, Verdict};
    use crate::view::{Candidate, LimitReason, View};

    static NOTHING: Vec<Candidate<'static>> = Vec::new();

    fn segment(seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Segment<'_> {
        Segment {
            seq,
            ack,
            flags,
            payload,
            payload_len: u32::try_from(payload.len()).unwrap(),
        }
    }

    fn words(flow: &FlowProof) -> Vec<u64> {
        let mut words = vec![0; FlowProof::WORDS];
        flow.to_words(&mut words).unwrap();
        words
    }

    proptest! {
        /// The same segments through the general way and through this one leave the same state.
        #[test]
        fn a_charged_flow_says_what_the_general_way_says(
            syn: bool,
            primary in prop::option::of(0..2_u16),
            segments in prop::collection::vec(
                (any::<bool>(), 0..200_u32, 0..200_u32, 0..64_usize, 0..32_u8), 1..40,
            ),
        ) {
            let payload = [0x16; 64];
            let mut views = [View::new(Bytes::new(1_000), LimitReason::Cap)];
            let mut heads = vec![0; crate::HEAD_WORDS];
            let mut flow = FlowProof::new(0);
            flow.primary = primary;
            if syn {
                let mut context = context(&mut views, &mut heads, 1);
                flow.segment(&mut context, Direction::Uplink, &segment(7, 0, Segment::SYN, &[]));
            }
            for (number, (up, seq, ack, length, flags)) in (2..).zip(segments) {
                let direction = if up { Direction::Uplink } else { Direction::Downlink };
                let segment = segment(seq, ack, flags, &payload[..length]);
                let (mut general, mut general_views) = (flow, views);
                let mut context = context(&mut general_views, &mut heads, number);
                let expected = general.any(&mut context, direction, &segment);
                context.views = &mut views;

                let got = flow.segment(&mut context, direction, &segment);

                prop_assert_eq!(got, expected.map_or_else(Verdict::Drop, Verdict::Forward));
                prop_assert_eq!(words(&flow), words(&general));
                prop_assert_eq!(views[0].classes(), general_views[0].classes());
            }
        }
    }

    fn context<'a>(views: &'a mut [View], heads: &'a mut Vec<u64>, now_ns: u64) -> Context<'a> {
        Context {
            contents: &NOTHING,
            views,
            heads,
            now_ns,
            policy: Policy::Replay,
        }
    }
}
