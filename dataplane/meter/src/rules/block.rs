//! All compiled rules of a session.

use qlink_pfcp::model::{Destination, FarId, OuterHeaderRemoval, PdrId, Precedence};
use qlink_types::ids::ContentId;

use super::action::{Action, CopiesAt, Out, RedirectAt};
use super::list::{QerList, UrrList};
use super::pattern::{Key, PacketMeta};
use super::search::Search;
use crate::direction::Direction;

/// A packet detection rule with everything that its packets need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompiledPdr {
    /// Its id.
    pub id: PdrId,
    /// Its precedence.
    pub precedence: Precedence,
    /// Which outer header goes.
    pub removal: Option<OuterHeaderRemoval>,
    /// Which forwarding rule it follows.
    pub far: FarId,
    /// What that rule does.
    pub action: Action,
    /// What measures its packets.
    pub urrs: UrrList,
    /// What limits its packets.
    pub qers: QerList,
}

/// A rule that measures proven bytes of contents; it detects no packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofRule {
    /// Its id.
    pub pdr: PdrId,
    /// The contents.
    pub contents: Box<[ContentId]>,
    /// What measures their proven bytes.
    pub urrs: UrrList,
}

/// The compiled rules of one session; never changed, only replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleBlock {
    /// In the order of precedence, then id.
    pub(super) pdrs: Box<[CompiledPdr]>,
    pub(super) uplink: Search,
    pub(super) downlink: Search,
    pub(super) proofs: Box<[ProofRule]>,
    /// By index of the usage rule.
    pub(super) quota_actions: Box<[Option<Action>]>,
    pub(super) urls: Box<[String]>,
    pub(super) redirects: Box<[Destination]>,
    pub(super) copies: Box<[Box<[Out]>]>,
}

impl RuleBlock {
    /// The rule of a packet; `None`: it is dropped as `no_pdr`.
    ///
    /// Source: TS 29.244 §5.2.1.
    #[inline]
    #[must_use]
    pub fn classify(&self, meta: &PacketMeta) -> Option<&CompiledPdr> {
        let key = Key::of(meta);
        let rank = match Direction::from_source(meta.source) {
            Direction::Uplink => self.uplink.find(&key),
            Direction::Downlink => self.downlink.find(&key),
        }?;
        self.pdrs.get(usize::from(rank))
    }

    /// Every rule that detects packets, best first.
    #[must_use]
    pub const fn pdrs(&self) -> &[CompiledPdr] {
        &self.pdrs
    }

    /// The rules that measure contents.
    #[must_use]
    pub const fn proof_rules(&self) -> &[ProofRule] {
        &self.proofs
    }

    /// What happens to packets once the quota of a usage rule is used up; `None`: they are dropped.
    ///
    /// Source: TS 29.244 §7.5.2.4, FAR ID for quota action.
    #[inline]
    #[must_use]
    pub fn quota_action(&self, urr: usize) -> Option<Action> {
        self.quota_actions.get(urr).copied().flatten()
    }

    /// The address that [`super::Out::RedirectUrl`] names.
    #[must_use]
    pub fn redirect_url(&self, place: u16) -> Option<&str> {
        self.urls.get(usize::from(place)).map(String::as_str)
    }

    /// The destination that an action redirects to.
    #[must_use]
    pub fn redirect(&self, RedirectAt(place): RedirectAt) -> Option<&Destination> {
        self.redirects.get(usize::from(place))
    }

    /// Every destination that packets are redirected to.
    #[must_use]
    pub const fn redirects(&self) -> &[Destination] {
        &self.redirects
    }

    /// The tunnels that get copies of an action's packets.
    #[must_use]
    pub fn copies(&self, CopiesAt(place): CopiesAt) -> &[Out] {
        self.copies.get(usize::from(place)).map_or(&[], |of| of)
    }

    /// Whether any rule makes copies.
    #[must_use]
    pub const fn makes_copies(&self) -> bool {
        !self.copies.is_empty()
    }

    /// Bytes of memory behind it.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.pdrs)
            .saturating_add(self.uplink.heap_bytes())
            .saturating_add(self.downlink.heap_bytes())
            .saturating_add(size_of_val(&*self.quota_actions))
    }
}
