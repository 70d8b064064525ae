//! What stands behind a session's sums: its contents and its flows.

use std::sync::atomic::Ordering;

use qlink_types::ids::ContentId;
use qlink_types::receipt::ByteClasses;
use qlink_types::units::Bytes;

use super::ArenaReader;
use crate::identity::{FlowIdentity, ViewIdentity};
use crate::layout::{ROW_IDENTITY_WORDS, VIEW_HEAD_WORDS};
use crate::record::read_identity;
use crate::session::SessionSlot;

/// One content in one session, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewSnapshot {
    /// The session's place; the session itself may have gone to another id since.
    pub slot: SessionSlot,
    /// The content's place in the sponsor's list.
    pub position: u16,
    /// The content.
    pub content: ContentId,
    /// The bytes judged against it, by class.
    pub classes: ByteClasses,
}

/// One flow of a session, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowSnapshot {
    /// Whose flow, and its 5-tuple.
    pub identity: FlowIdentity,
    /// Words of its proof state; what they mean is `qlink-content`'s business.
    pub state: Vec<u64>,
}

impl ArenaReader {
    /// Every (session, content) pair in the order of its place, those of closed sessions too until
    /// their places are used again.
    #[must_use]
    pub fn views(&self) -> Vec<ViewSnapshot> {
        (0..self.layout.views)
            .filter_map(|view| self.view(view))
            .collect()
    }

    fn view(&self, view: usize) -> Option<ViewSnapshot> {
        let at = self.places.view(view);
        let before = ViewIdentity::from_words(&self.row_identity(at))?;
        let mut words = [0; VIEW_HEAD_WORDS];
        self.places.view_row(view).read(self.words(), &mut words)?;
        let after = ViewIdentity::from_words(&self.row_identity(at))?;
        let [
            wire,
            unique,
            retransmit,
            repeat,
            overhead,
            undelivered,
            charged,
            pending,
        ] = words;
        (before == after).then_some(ViewSnapshot {
            slot: before.session,
            position: before.position,
            content: before.content,
            classes: ByteClasses {
                wire_payload: Bytes::new(wire),
                verified_unique: Bytes::new(unique),
                retransmit: Bytes::new(retransmit),
                verified_repeat: Bytes::new(repeat),
                overhead_allowed: Bytes::new(overhead),
                undelivered: Bytes::new(undelivered),
                user_charged: Bytes::new(charged),
                pending: Bytes::new(pending),
            },
        })
    }

    /// Open flows of one session.
    #[must_use]
    pub fn flows_of(&self, slot: SessionSlot) -> Vec<FlowSnapshot> {
        (0..self.layout.flows)
            .filter_map(|flow| {
                let at = self.places.flow(flow);
                let identity = FlowIdentity::from_words(&self.row_identity(at))
                    .filter(|identity| identity.key.session == slot)?;
                let mut state = vec![0; self.layout.flow_words];
                self.places.flow_row(flow).read(self.words(), &mut state)?;
                let now = FlowIdentity::from_words(&self.row_identity(at))?;
                (now == identity).then_some(FlowSnapshot { identity, state })
            })
            .collect()
    }

    /// How many content flows are open.
    #[must_use]
    pub fn open_flows(&self) -> usize {
        let words = self.words();
        let is_open = |flow: &usize| {
            let mark = words.get(self.places.flow(*flow));
            mark.is_some_and(|mark| mark.load(Ordering::Relaxed) == 1)
        };
        (0..self.layout.flows).filter(is_open).count()
    }

    fn row_identity(&self, at: usize) -> [u64; ROW_IDENTITY_WORDS] {
        let mut identity = [0; ROW_IDENTITY_WORDS];
        read_identity(self.words(), at, &mut identity);
        identity
    }
}
