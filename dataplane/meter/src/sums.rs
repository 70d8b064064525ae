//! What the running burst adds, by session.

use crate::inflight::{BurstDelta, INFLIGHT_MAX, PacketDelta};
use crate::session::SessionSlot;

/// Places of the search table (chosen: with eight for each session a search rarely has a second step,
/// which nobody foresees).
const PLACES: usize = 8 * INFLIGHT_MAX;

/// No session of the burst.
const VACANT: u8 = u8::MAX;

const _: () = assert!(PLACES.is_power_of_two() && INFLIGHT_MAX < VACANT as usize);

/// Sessions of a burst, at most [`INFLIGHT_MAX`], each with what its packets add.
///
/// Its memory is taken once, and a session is begun where it stays: a sum that is put together
/// elsewhere and copied in has to wait until its words have left the processor's store buffer, in
/// pieces of another size than they are read (a fifth of the pipeline's time). Who is in the burst
/// stands here and not with the session, whose line so needs no way back to memory.
#[derive(Debug)]
pub struct BurstSums {
    entries: Box<[(SessionSlot, BurstDelta); INFLIGHT_MAX]>,
    /// Sessions, 0 to [`INFLIGHT_MAX`].
    len: u8,
    /// Numbers of the sessions, from the place on that a slot chooses.
    places: [u8; PLACES],
}

impl Default for BurstSums {
    fn default() -> Self {
        Self::new()
    }
}

impl BurstSums {
    /// No session.
    #[must_use]
    pub fn new() -> Self {
        let nobody = (SessionSlot::new(0), BurstDelta::default());
        Self {
            entries: Box::new([nobody; INFLIGHT_MAX]),
            len: 0,
            places: [VACANT; PLACES],
        }
    }

    /// The number of a session, or the place where it would be found.
    #[inline(always)]
    fn search(&self, slot: SessionSlot) -> Result<usize, usize> {
        let mut place = slot.index() % PLACES;
        loop {
            // Ends: most places are vacant.
            match self.places.get(place) {
                Some(&number) if number != VACANT => {
                    let number = usize::from(number);
                    if self
                        .entries
                        .get(number)
                        .is_some_and(|(own, _)| *own == slot)
                    {
                        return Ok(number);
                    }
                    place = place.wrapping_add(1) % PLACES;
                }
                _ => return Err(place),
            }
        }
    }

    /// Number of sessions.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no session.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sessions and their sums, in the order in which they began.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[(SessionSlot, BurstDelta)] {
        self.entries.get(..self.len()).unwrap_or_default()
    }

    /// What the burst adds to a session so far; `None`: it is not in the burst.
    #[inline]
    #[must_use]
    pub fn get(&self, slot: SessionSlot) -> Option<&BurstDelta> {
        let number = self.search(slot).ok()?;
        self.as_slice().get(number).map(|(_, sum)| sum)
    }

    /// Lets a session be in the burst although it may add nothing; beyond [`INFLIGHT_MAX`]
    /// sessions nothing happens.
    pub fn expect(&mut self, slot: SessionSlot) {
        if let Err(place) = self.search(slot)
            && let Some(sum) = self.begin(slot, place)
        {
            *sum = BurstDelta::default();
        }
    }

    /// Adds a packet to its session; beyond [`INFLIGHT_MAX`] sessions nothing happens.
    #[inline(always)]
    pub fn add(&mut self, slot: SessionSlot, packet: &PacketDelta) {
        match self.search(slot) {
            Ok(number) => {
                if let Some((_, sum)) = self.entries.get_mut(number) {
                    sum.add(packet);
                }
            }
            Err(place) => {
                if let Some(sum) = self.begin(slot, place) {
                    sum.set(packet);
                }
            }
        }
    }

    /// Begins a session; its sum is what an earlier burst left.
    #[inline(always)]
    fn begin(&mut self, slot: SessionSlot, place: usize) -> Option<&mut BurstDelta> {
        let number = self.len;
        let (own, sum) = self.entries.get_mut(usize::from(number))?;
        self.len = number.saturating_add(1);
        *self.places.get_mut(place % PLACES)? = number;
        *own = slot;
        Some(sum)
    }

    /// Takes every packet back; the sessions stay.
    pub fn reset(&mut self) {
        for (_, sum) in self.entries.iter_mut() {
            *sum = BurstDelta::default();
        }
    }

    /// Forgets the burst.
    #[inline]
    pub const fn clear(&mut self) {
        self.len = 0;
        self.places = [VACANT; PLACES];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::direction::Direction;

    const fn packet(direction: Direction, bytes: u32) -> PacketDelta {
        PacketDelta {
            direction,
            bytes,
            user_charged: 7,
            personal: 3,
        }
    }

    #[test]
    fn each_session_has_its_own_sum_and_nothing_of_an_earlier_burst() {
        let slot = |number: usize| SessionSlot::new(u32::try_from(number).unwrap());
        let mut sums = BurstSums::new();
        for step in [PLACES, 1, 3] {
            sums.clear();
            // The same places in the search table, neighbours, and some of each.
            for number in 0..INFLIGHT_MAX {
                sums.add(slot(number * step), &packet(Direction::Uplink, 11));
            }
            for number in 0..INFLIGHT_MAX {
                let bytes = u32::try_from(number).unwrap();
                sums.add(slot(number * step), &packet(Direction::Downlink, bytes));
            }

            assert_eq!(sums.len(), INFLIGHT_MAX);
            for (number, (own, sum)) in sums.as_slice().iter().enumerate() {
                let expected = BurstDelta {
                    uplink_bytes: 11,
                    uplink_packets: 1,
                    downlink_bytes: number as u64,
                    downlink_packets: 1,
                    user_charged: 14,
                    personal: 6,
                };
                assert_eq!((*own, *sum), (slot(number * step), expected));
                assert_eq!(sums.get(*own), Some(&expected));
            }
        }
    }

    #[test]
    fn an_expected_session_adds_nothing_until_it_has_a_packet() {
        let (mut sums, slot) = (BurstSums::new(), SessionSlot::new(5));
        sums.add(slot, &packet(Direction::Uplink, 11));
        sums.clear();

        sums.expect(slot);
        assert_eq!(sums.get(slot), Some(&BurstDelta::default()));
        sums.add(slot, &packet(Direction::Uplink, 11));
        sums.expect(slot);
        assert_eq!(sums.get(slot).map(|sum| sum.uplink_bytes), Some(11));
        sums.reset();
        assert_eq!(sums.as_slice(), [(slot, BurstDelta::default())]);
    }

    #[test]
    fn a_full_burst_takes_no_further_session_and_a_cleared_one_has_none() {
        let mut sums = BurstSums::new();
        for slot in 0..=INFLIGHT_MAX {
            sums.expect(SessionSlot::new(u32::try_from(slot).unwrap()));
        }
        assert_eq!(sums.len(), INFLIGHT_MAX);

        sums.clear();

        assert!(sums.is_empty());
        assert_eq!(sums.get(SessionSlot::new(0)), None);
    }
}
