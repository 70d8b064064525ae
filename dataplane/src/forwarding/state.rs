//! The state of one worker.

use std::net::IpAddr;

use qlink_forward::mss::MssClamp;
use qlink_forward::{Rewrite, SCRATCH_MAX, TokenBucket};
use qlink_io::BURST_MAX;

use super::mtu::{MssPolicy, MtuConfig, Paths};
use super::translation::{ForwardingError, NatSetup, Translation};
use crate::plane::Plane;

/// Answers to one side that may go at once (chosen: a page's connections).
const ANSWERS_AT_ONCE: u32 = 16;

/// Longest GTP-U header.
const TUNNEL_HEAD: usize = 16;

/// What a worker's forwarding is made of.
#[derive(Debug, Clone)]
pub struct ForwardingSetup {
    /// How long packets may be.
    pub mtu: MtuConfig,
    /// Our GTP-U address.
    pub n3: IpAddr,
    /// Translation of addresses; `None`: there is none.
    pub nat: Option<NatSetup>,
}

/// What leaves in front of a body: a tunnel's header, then edited bytes of the packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadPlace {
    bytes: [u8; TUNNEL_HEAD + SCRATCH_MAX],
    len: usize,
}

impl HeadPlace {
    pub(crate) const EMPTY: Self = Self {
        bytes: [0; TUNNEL_HEAD + SCRATCH_MAX],
        len: 0,
    };

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Writes a tunnel's header, whose length is made that of a packet of `packet` bytes, and the
    /// packet's own first bytes; false when the packet is too long for a tunnel.
    #[inline]
    pub(crate) fn set(&mut self, tunnel: &[u8], first: &[u8], packet: usize) -> bool {
        self.len = 0;
        let end = tunnel.len().saturating_add(first.len());
        let Some(place) = self.bytes.get_mut(..end) else {
            return false;
        };
        let (head, rest) = place.split_at_mut(tunnel.len());
        head.copy_from_slice(tunnel);
        rest.copy_from_slice(first);
        if let [_, _, high, low, _, _, _, _, extension @ ..] = head {
            // What follows the eight bytes that every GTP-U header has: TS 29.281 §5.1.
            let Ok(length) = u16::try_from(packet.saturating_add(extension.len())) else {
                return false;
            };
            [*high, *low] = length.to_be_bytes();
        }
        self.len = end;
        true
    }
}

/// Everything about forwarding that one worker owns.
#[derive(Debug)]
pub(crate) struct Forwarding {
    pub(super) paths: Paths,
    pub(super) clamp: Option<MssClamp>,
    pub(super) nat: Option<Translation>,
    /// Answers to subscribers.
    pub(super) to_subscribers: TokenBucket,
    /// Answers to origins.
    pub(super) to_origins: TokenBucket,
    /// The packet in work.
    pub(super) rewrite: Rewrite,
    /// The answer about it.
    pub(super) answer: Rewrite,
    /// Heads of what is sent next.
    pub(super) heads: Box<[HeadPlace]>,
}

impl Forwarding {
    fn try_new(setup: &ForwardingSetup) -> Result<Self, ForwardingError> {
        let paths = setup.mtu.paths(setup.n3)?;
        let clamp = match setup.mtu.mss {
            MssPolicy::Lower => Some(MssClamp::for_mtu(paths.inner_mtu_min())),
            MssPolicy::Leave => None,
        };
        let bucket = TokenBucket::new(setup.mtu.icmp_per_second, ANSWERS_AT_ONCE);
        let nat = setup.nat.as_ref();
        let nat = nat
            .map(|nat| Translation::try_new(nat, &paths))
            .transpose()?;
        Ok(Self {
            paths,
            clamp,
            nat,
            to_subscribers: bucket,
            to_origins: bucket,
            rewrite: Rewrite::new(),
            answer: Rewrite::new(),
            heads: vec![HeadPlace::EMPTY; BURST_MAX].into_boxed_slice(),
        })
    }
}

impl Plane {
    /// Lets packets go through forwarding from now on.
    ///
    /// # Errors
    ///
    /// A [`ForwardingError`]; nothing has changed then.
    pub fn set_forwarding(&mut self, setup: &ForwardingSetup) -> Result<(), ForwardingError> {
        self.forwarding = Some(Box::new(Forwarding::try_new(setup)?));
        Ok(())
    }
}
