//! Packets that leave behind the burst that provoked them, in memory that is taken once.

use std::net::SocketAddr;

use qlink_io::{BURST_MAX, IoError, Outgoing, PacketSink};

/// Whole packets, each with its peer, behind one another.
#[derive(Debug)]
pub(super) struct Outbox {
    octets: Vec<u8>,
    /// Where each ends, and to whom it goes.
    items: Vec<(usize, SocketAddr)>,
}

/// What became of the packets of an [`Outbox`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Delivery {
    pub(super) sent: u64,
    /// The send queue was full.
    pub(super) full: u64,
    /// The system refused them.
    pub(super) refused: u64,
}

impl Outbox {
    /// Room for so many packets with so many octets in all.
    pub(super) fn new(packets: usize, octets: usize) -> Self {
        Self {
            octets: Vec::with_capacity(octets),
            items: Vec::with_capacity(packets),
        }
    }

    /// Whether nothing waits.
    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether it was made with room.
    pub(super) const fn has_any_room(&self) -> bool {
        self.items.capacity() > 0
    }

    /// Puts a packet of at most `most` octets in; `false` when there is no room.
    pub(super) fn put(
        &mut self,
        to: SocketAddr,
        most: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let room = self.octets.capacity().saturating_sub(self.octets.len());
        if self.items.len() >= self.items.capacity() || most > room {
            return false;
        }
        write(&mut self.octets);
        self.items.push((self.octets.len(), to));
        true
    }

    /// Sends everything; what the sink does not take is forgotten.
    pub(super) fn send(&mut self, sink: &mut impl PacketSink) -> Delivery {
        let mut delivery = Delivery::default();
        let mut start = 0;
        for part in self.items.chunks(BURST_MAX) {
            let mut items = [Outgoing::EMPTY; BURST_MAX];
            for (item, (end, to)) in items.iter_mut().zip(part) {
                *item = Outgoing {
                    head: &[],
                    body: self.octets.get(start..*end).unwrap_or_default(),
                    to: *to,
                };
                start = *end;
            }
            delivery.add(sink, items.get(..part.len()).unwrap_or_default());
        }
        self.items.clear();
        self.octets.clear();
        delivery
    }
}

impl Delivery {
    fn add(&mut self, sink: &mut impl PacketSink, mut items: &[Outgoing<'_>]) {
        while !items.is_empty() {
            let done = match sink.send_burst(items) {
                Ok(0) => {
                    self.full = self.full.saturating_add(items.len() as u64);
                    return;
                }
                Ok(sent) => {
                    self.sent = self.sent.saturating_add(sent as u64);
                    sent
                }
                Err(IoError::Refused { .. }) => {
                    self.refused = self.refused.saturating_add(1);
                    1
                }
                Err(_) => {
                    self.refused = self.refused.saturating_add(items.len() as u64);
                    return;
                }
            };
            items = items.get(done..).unwrap_or_default();
        }
    }
}
