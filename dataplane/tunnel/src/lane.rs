//! Receiver indices: which peer's slot they name, and which of several tables that share a socket.
//!
//! ```text
//! receiver index, 32 bits:  | slot * lanes + lane, 24 bits | session, 8 bits |
//! ```
//!
//! As a message carries its index in little-endian order, its lane lies in one byte of it as long as
//! the number of lanes divides 256: a kernel can steer by that byte alone.
//!
//! Source: WireGuard white paper (Donenfeld, NDSS 2017), §5.4.

/// Most lanes of a socket.
pub const LANES_MAX: u8 = 16;

/// A receiver index is the peer's slot and lane in its upper 24 bits.
const SLOT_SHIFT: u32 = 8;

/// Which of several tables that share a socket a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    number: u8,
    of: u8,
}

impl Default for Lane {
    fn default() -> Self {
        Self::ONLY
    }
}

impl Lane {
    /// The table has its socket for itself.
    pub const ONLY: Self = Self { number: 0, of: 1 };

    /// Lane `number` of `of`, which is a power of two up to [`LANES_MAX`]; `None`: there is no such.
    #[must_use]
    pub const fn new(number: u8, of: u8) -> Option<Self> {
        if of.is_power_of_two() && of <= LANES_MAX && number < of {
            Some(Self { number, of })
        } else {
            None
        }
    }

    /// The upper bits of the indices of the peer in `slot`, as the library wants them.
    pub(crate) fn index(self, slot: u32) -> u32 {
        slot.saturating_mul(self.of.into())
            .saturating_add(self.number.into())
    }

    /// The slot that a receiver index of this lane names.
    pub(crate) fn slot(self, receiver: u32) -> Option<usize> {
        let upper = receiver >> SLOT_SHIFT;
        let of = u32::from(self.of);
        if upper.checked_rem(of)? != u32::from(self.number) {
            return None;
        }
        usize::try_from(upper.checked_div(of)?).ok()
    }

    /// Whether a message is for this lane by its receiver index; `None`: it has none, as an
    /// initiation, or is no message.
    #[must_use]
    pub fn is_for(self, datagram: &[u8]) -> Option<bool> {
        let at: usize = match datagram.first()? {
            // A response names its sender first.
            2 => 8,
            3 | 4 => 4,
            _ => return None,
        };
        let bytes = datagram.get(at..at.checked_add(4)?)?;
        let receiver = u32::from_le_bytes(bytes.try_into().ok()?);
        Some(self.slot(receiver).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_belongs_to_one_slot_of_one_lane() {
        for of in [1, 2, 16] {
            for number in 0..of {
                let lane = Lane::new(number, of).unwrap();
                for slot in [0, 1, 65_535] {
                    let receiver = lane.index(slot) << SLOT_SHIFT | 0xff;
                    let owners = (0..of).filter_map(|number| {
                        let lane = Lane::new(number, of).unwrap();
                        lane.slot(receiver).map(|slot| (number, slot))
                    });

                    assert_eq!(owners.collect::<Vec<_>>(), [(number, slot as usize)]);
                    // One byte of the message tells.
                    assert_eq!(receiver.to_le_bytes()[1] % of, number);
                }
            }
        }
        for (number, of) in [(0, 0), (1, 1), (0, 3), (0, 32)] {
            assert_eq!(Lane::new(number, of), None);
        }
    }

    #[test]
    fn a_message_tells_its_lane_where_its_type_has_the_receiver() {
        let lane = Lane::new(1, 2).unwrap();
        let mut message = [0; 148];
        for (kind, at, expected) in [
            (1, 5, None),
            (2, 9, Some(true)),
            (2, 5, Some(false)),
            (3, 5, Some(true)),
            (4, 5, Some(true)),
            (4, 9, Some(false)),
            (5, 5, None),
        ] {
            message.fill(0);
            (message[0], message[at]) = (kind, 1);

            assert_eq!(lane.is_for(&message), expected, "type {kind}, byte {at}");
        }
        assert_eq!(lane.is_for(&[4, 0, 0, 0, 0]), None);
        assert_eq!(lane.is_for(&[]), None);
    }
}
