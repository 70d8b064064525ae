//! Downlink packets that wait until their subscriber can be reached.
//!
//! ```text
//! slab   [ place 0 | place 1 | ... ]     one packet a place, all taken when the buffer is made
//! session -> list of its places, oldest first; packets, bytes; told or not
//! ```
//!
//! Bounds hold for all sessions together (places) and for each one (packets and bytes, or fewer
//! packets when the control plane suggested a number). One session can never push out another's
//! packets. The first packet of a session raises one [`Buffered::First`], on which the data plane
//! reports a downlink data notification; further ones raise none until [`DownlinkBuffer::reset`].
//! Source: TS 29.244 §5.2.3.1 and §5.2.4 (buffering, notification of the first packet), §8.2.140
//! (suggested buffering packets count).

use crate::chain::{Chain, List, place};

/// What a full share does with one packet more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The session's oldest packets make room: fresh data, for real-time traffic.
    DropOldest,
    /// The new packet is refused: TCP loses the end of a window, not its start.
    DropNew,
}

/// How much a [`DownlinkBuffer`] may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferLimits {
    /// Sessions, numbered from 0.
    pub sessions: u32,
    /// Packets of all sessions, 1 to 2^20; other values are brought into the range.
    pub packets: u32,
    /// Longest packet in bytes, 1 to 65,535; `packets` times this is the memory that is taken.
    pub packet_bytes_max: u16,
    /// Packets of one session; a suggested number can only be smaller.
    pub session_packets: u32,
    /// Bytes of one session.
    pub session_bytes: u64,
    /// What a full share does.
    pub overflow: Overflow,
}

/// What became of a packet that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffered {
    /// The session's first one: its control plane has to be told, once.
    First {
        /// Older packets that made room.
        dropped: u32,
    },
    /// The control plane knows already.
    Further {
        /// Older packets that made room.
        dropped: u32,
    },
}

/// Why a packet was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BufferRefusal {
    /// No such session.
    SessionUnknown,
    /// Longer than a place, or than the session's bytes.
    TooLong,
    /// The session's share is full.
    SessionFull,
    /// All places are taken.
    BufferFull,
}

impl BufferRefusal {
    /// Every refusal.
    pub const ALL: [Self; 4] = [
        Self::SessionUnknown,
        Self::TooLong,
        Self::SessionFull,
        Self::BufferFull,
    ];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SessionUnknown => "buffer_session_unknown",
            Self::TooLong => "buffer_too_long",
            Self::SessionFull => "buffer_session_full",
            Self::BufferFull => "buffer_full",
        }
    }
}

/// Packets and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Packets.
    pub packets: u32,
    /// Bytes.
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    queue: List,
    held: Held,
    packets_max: u32,
    told: Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    NotYet,
    Already,
}

/// Packets that wait, in the order of their arrival, per session.
#[derive(Debug, Clone)]
pub struct DownlinkBuffer {
    limits: BufferLimits,
    memory: Box<[u8]>,
    lengths: Box<[u16]>,
    chain: Chain,
    free: List,
    sessions: Box<[Session]>,
    held: Held,
}

impl DownlinkBuffer {
    /// An empty buffer; takes all its memory now.
    #[must_use]
    pub fn new(limits: BufferLimits) -> Self {
        let limits = BufferLimits {
            packets: limits.packets.clamp(1, 1 << 20),
            packet_bytes_max: limits.packet_bytes_max.max(1),
            ..limits
        };
        let places = place(limits.packets);
        let session = Session {
            queue: List::EMPTY,
            held: Held::default(),
            packets_max: limits.session_packets,
            told: Told::NotYet,
        };
        let (mut chain, mut free) = (Chain::new(places), List::EMPTY);
        for number in 0..limits.packets {
            chain.push_back(&mut free, number);
        }
        let bytes = places.saturating_mul(usize::from(limits.packet_bytes_max));
        Self {
            limits,
            memory: vec![0; bytes].into_boxed_slice(),
            lengths: vec![0; places].into_boxed_slice(),
            chain,
            free,
            sessions: vec![session; place(limits.sessions)].into_boxed_slice(),
            held: Held::default(),
        }
    }

    /// Takes a packet of `head` and `body` (see [`crate::Rewrite`]) behind the session's others.
    ///
    /// # Errors
    ///
    /// [`BufferRefusal`]; nothing changes then, and nothing older is dropped.
    pub fn push(
        &mut self,
        session: u32,
        head: &[u8],
        body: &[u8],
    ) -> Result<Buffered, BufferRefusal> {
        let state = self.state(session).ok_or(BufferRefusal::SessionUnknown)?;
        let length = u16::try_from(head.len().saturating_add(body.len()))
            .ok()
            .filter(|length| *length <= self.limits.packet_bytes_max)
            .filter(|length| u64::from(*length) <= self.limits.session_bytes)
            .ok_or(BufferRefusal::TooLong)?;
        let full = match self.limits.overflow {
            Overflow::DropNew => !self.fits(state, length),
            Overflow::DropOldest => state.packets_max == 0,
        };
        if full {
            return Err(BufferRefusal::SessionFull);
        }
        // An own packet may also make room when all places are taken, never another session's.
        let may_drop = self.limits.overflow == Overflow::DropOldest && state.held.packets > 0;
        if self.free.first().is_none() && !may_drop {
            return Err(BufferRefusal::BufferFull);
        }
        let mut dropped = 0_u32;
        while self.free.first().is_none()
            || self
                .state(session)
                .is_some_and(|state| !self.fits(state, length))
        {
            if !self.drop_front(session) {
                return Err(BufferRefusal::BufferFull);
            }
            dropped = dropped.saturating_add(1);
        }
        self.append(session, length, head, body);
        let told = self
            .sessions
            .get_mut(place(session))
            .map(|state| std::mem::replace(&mut state.told, Told::Already));
        Ok(match told {
            Some(Told::NotYet) => Buffered::First { dropped },
            Some(Told::Already) | None => Buffered::Further { dropped },
        })
    }

    /// The session's oldest packet.
    #[must_use]
    pub fn front(&self, session: u32) -> Option<&[u8]> {
        let number = self.state(session)?.queue.first()?;
        let length = usize::from(*self.lengths.get(place(number))?);
        self.memory.get(self.start(number)..)?.get(..length)
    }

    /// Drops the session's oldest packet, sent or not; false when there is none.
    pub fn drop_front(&mut self, session: u32) -> bool {
        let Some(state) = self.sessions.get_mut(place(session)) else {
            return false;
        };
        let Some(number) = self.chain.pop_front(&mut state.queue) else {
            return false;
        };
        let length = self.lengths.get(place(number)).copied().unwrap_or(0);
        for held in [&mut state.held, &mut self.held] {
            held.packets = held.packets.saturating_sub(1);
            held.bytes = held.bytes.saturating_sub(length.into());
        }
        self.chain.push_back(&mut self.free, number);
        true
    }

    /// Sets how many packets of a session are kept, at most the limit of all sessions; packets
    /// beyond it stay until they are drained. `None` is that limit.
    pub fn suggest(&mut self, session: u32, packets: Option<u32>) {
        let limit = self.limits.session_packets;
        if let Some(state) = self.sessions.get_mut(place(session)) {
            state.packets_max = packets.unwrap_or(limit).min(limit);
        }
    }

    /// Lets the next packet of a session notify again. Packets stay; what is there and was drained
    /// belongs to the notification before.
    pub fn reset(&mut self, session: u32) {
        if let Some(state) = self.sessions.get_mut(place(session)) {
            state.told = Told::NotYet;
        }
    }

    /// Drops everything of a session and makes its number new; what was dropped.
    pub fn discard(&mut self, session: u32) -> Held {
        let held = self
            .state(session)
            .map_or_else(Held::default, |state| state.held);
        while self.drop_front(session) {}
        self.suggest(session, None);
        self.reset(session);
        held
    }

    /// What a session has here.
    #[must_use]
    pub fn session_held(&self, session: u32) -> Held {
        self.state(session)
            .map_or_else(Held::default, |state| state.held)
    }

    /// What all sessions have here.
    #[must_use]
    pub const fn held(&self) -> Held {
        self.held
    }

    fn state(&self, session: u32) -> Option<&Session> {
        self.sessions.get(place(session))
    }

    fn fits(&self, state: &Session, length: u16) -> bool {
        state.held.packets < state.packets_max
            && state.held.bytes.saturating_add(length.into()) <= self.limits.session_bytes
    }

    fn append(&mut self, session: u32, length: u16, head: &[u8], body: &[u8]) {
        let Some(number) = self.chain.pop_front(&mut self.free) else {
            return;
        };
        let start = self.start(number);
        for (at, part) in [(start, head), (start.saturating_add(head.len()), body)] {
            if let Some(to) = self
                .memory
                .get_mut(at..)
                .and_then(|rest| rest.get_mut(..part.len()))
            {
                to.copy_from_slice(part);
            }
        }
        if let Some(stored) = self.lengths.get_mut(place(number)) {
            *stored = length;
        }
        if let Some(state) = self.sessions.get_mut(place(session)) {
            self.chain.push_back(&mut state.queue, number);
            for held in [&mut state.held, &mut self.held] {
                held.packets = held.packets.saturating_add(1);
                held.bytes = held.bytes.saturating_add(length.into());
            }
        }
    }

    fn start(&self, number: u32) -> usize {
        place(number).saturating_mul(usize::from(self.limits.packet_bytes_max))
    }
}

#[cfg(test)]
#[path = "buffer_tests.rs"]
mod tests;
