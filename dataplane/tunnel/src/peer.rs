//! One peer: its key, its address in the tunnel, where it is reached, and its protocol state.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use defguard_boringtun::noise::{Tunn, TunnResult};

use crate::MESSAGE_MIN;
use crate::key::PublicKey;

/// Age from which on keys are renewed.
///
/// Source: white paper §6.1.
const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);

/// Message type of a handshake's first message.
///
/// Source: white paper §5.4.2.
const INITIATION: u8 = 1;

/// A peer as it is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerSetup {
    /// Its device's tunnel key.
    pub key: PublicKey,
    /// Its address in the tunnel: the only source that its packets may have.
    pub address: IpAddr,
    /// Where it is reached at first; `None`: it calls us, and we answer where it called from.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between two messages when nothing else is sent, so that translators on the way keep
    /// their mapping and keys are always there; `None`: silent when idle. Behind a translator 25.
    pub keepalive_s: Option<u16>,
}

/// A peer as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerState {
    /// Its device's tunnel key.
    pub key: PublicKey,
    /// Its address in the tunnel.
    pub address: IpAddr,
    /// Where it was heard last, or is expected.
    pub endpoint: Option<SocketAddr>,
    /// Age of the keys in use; `None`: there are none.
    pub handshake_age: Option<Duration>,
    /// Handshakes begun since it was heard last: three of them take 10 s.
    pub unanswered: u32,
}

/// How far a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing to be timed: never called, or given up.
    Silent,
    /// Its first handshake is to be started.
    ToCall,
    /// Heard before a restart, not since: to be called so many times more.
    Recalled(u8),
    /// Handshakes or keys to be timed.
    Active,
}

/// What a peer's timers asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing that cannot wait.
    Nothing,
    /// A handshake again.
    Call,
}

pub(crate) struct Peer {
    pub(crate) setup: PeerSetup,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) tunn: Tunn,
    pub(crate) stage: Stage,
    /// Whether there are keys to send with, as far as the last event told.
    pub(crate) usable: bool,
    /// When its last initiation was worked on.
    pub(crate) initiated_ns: Option<u64>,
    /// Whether it shares its address with a peer whose place it takes once it is heard.
    pub(crate) inherits: bool,
    /// Initiations sent since it was heard last.
    pub(crate) unanswered: u32,
    /// The endpoint that was told last by [`Tunnels::moved`](crate::Tunnels::moved).
    pub(crate) told: Option<SocketAddr>,
}

impl Peer {
    pub(crate) fn new(setup: PeerSetup, tunn: Tunn) -> Self {
        let stage = if setup.endpoint.is_some() && setup.keepalive_s.is_some() {
            Stage::ToCall
        } else {
            Stage::Silent
        };
        Self {
            setup,
            endpoint: setup.endpoint,
            tunn,
            stage,
            usable: false,
            initiated_ns: None,
            inherits: false,
            unanswered: 0,
            told: None,
        }
    }

    /// Brings the protocol's clock, which only its timers read, up to now: where they did not run,
    /// new keys would count as old as the last time they did.
    pub(crate) fn wind(&mut self) -> Due {
        if self.stage == Stage::Active {
            return Due::Nothing;
        }
        match self.tunn.update_timers(&mut [0; MESSAGE_MIN]) {
            TunnResult::WriteToNetwork(_) => Due::Call,
            _ => Due::Nothing,
        }
    }

    /// Begins a handshake, unless one is under way for less than `Rekey-Timeout`.
    pub(crate) fn call<'a>(&mut self, out: &'a mut [u8]) -> TunnResult<'a> {
        let again = self.wind() == Due::Call;
        self.tunn.format_handshake_initiation(out, again)
    }

    /// Whether we renew its keys without being asked to by data: a peer to which we send signs of
    /// life may have lost its own keys, and says nothing of it.
    ///
    /// Source: white paper §6.2, which renews after any transport message; the library counts only
    /// those with data.
    pub(crate) fn renews(&self) -> bool {
        let old = |age: Duration| age >= REKEY_AFTER_TIME;
        self.setup.keepalive_s.is_some() && self.tunn.time_since_last_handshake().is_some_and(old)
    }

    /// A message goes to it; one that begins a handshake wants an answer.
    pub(crate) fn note_sent(&mut self, message: &[u8]) {
        if message.first() == Some(&INITIATION) {
            self.unanswered = self.unanswered.saturating_add(1);
        }
    }

    /// Asks the protocol whether there are keys to send with.
    pub(crate) fn look(&mut self) {
        self.usable = self.tunn.time_since_last_handshake().is_some();
    }

    /// It was heard, authentically, from `endpoint`; whether that is a new one.
    pub(crate) fn heard_from(&mut self, endpoint: SocketAddr) -> bool {
        self.stage = Stage::Active;
        self.unanswered = 0;
        if self.endpoint == Some(endpoint) {
            return false;
        }
        self.endpoint.replace(endpoint).is_some()
    }

    pub(crate) fn state(&self) -> PeerState {
        PeerState {
            key: self.setup.key,
            address: self.setup.address,
            endpoint: self.endpoint,
            handshake_age: self.tunn.time_since_last_handshake(),
            unanswered: self.unanswered,
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("setup", &self.setup)
            .field("endpoint", &self.endpoint)
            .field("stage", &self.stage)
            .field("usable", &self.usable)
            .finish_non_exhaustive()
    }
}
