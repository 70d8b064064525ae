//! Packets from one worker to another: a bounded queue of copies.
//!
//! A packet that arrives at a worker which does not own its session is copied into a buffer of the
//! owner's inbox. Buffers circulate between a free list and the queue, so nothing is allocated
//! while packets run; when no buffer is free the packet is refused, and the sender counts that.
//!
//! ```text
//! outlet (any worker) --copy--> full --> inbox (owner, a PacketSource)
//!        ^------------------- free <------+
//! ```
//!
//! Invariant: a buffer is in exactly one of `free`, `full` and the inbox's burst.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::asleep::Asleep;
use crate::burst::BURST_MAX;
use crate::{Burst, Descriptor, IoError, PacketSource};

/// A copied packet.
#[derive(Debug)]
struct Parcel {
    bytes: Box<[u8]>,
    descriptor: Descriptor,
}

#[derive(Debug)]
struct Shared {
    full: ArrayQueue<Parcel>,
    free: ArrayQueue<Parcel>,
}

/// The sending end; clones share the queue.
#[derive(Debug, Clone)]
pub struct Outlet {
    shared: Arc<Shared>,
}

/// The receiving end, which belongs to one worker.
#[derive(Debug)]
pub struct Inbox {
    shared: Arc<Shared>,
    /// The packets of the current burst.
    held: Vec<Parcel>,
}

/// A queue of `parcels` packets (at least one burst) of at most `bytes` bytes each.
#[must_use]
pub fn handover(parcels: usize, bytes: usize) -> (Outlet, Inbox) {
    let parcels = parcels.max(BURST_MAX);
    let shared = Arc::new(Shared {
        full: ArrayQueue::new(parcels),
        free: ArrayQueue::new(parcels),
    });
    for _ in 0..parcels {
        let parcel = Parcel {
            bytes: vec![0; bytes].into_boxed_slice(),
            descriptor: Descriptor::EMPTY,
        };
        // The free list has a place for each of them.
        let _ = shared.free.push(parcel);
    }
    let outlet = Outlet {
        shared: Arc::clone(&shared),
    };
    let inbox = Inbox {
        shared,
        held: Vec::with_capacity(BURST_MAX),
    };
    (outlet, inbox)
}

impl Outlet {
    /// Hands a copy of `frame` over; `false` when no buffer is free or the frame is too long.
    #[must_use]
    pub fn push(&self, descriptor: &Descriptor, frame: &[u8]) -> bool {
        self.push_gathered(descriptor, &[], frame)
    }

    /// [`push`](Self::push) of `head` and `body` as one frame.
    #[must_use]
    pub fn push_gathered(&self, descriptor: &Descriptor, head: &[u8], body: &[u8]) -> bool {
        let Some(mut parcel) = self.shared.free.pop() else {
            return false;
        };
        let length = head.len().saturating_add(body.len());
        let place = parcel.bytes.get_mut(..length);
        let place = place.and_then(|place| place.split_at_mut_checked(head.len()));
        let fits = place.is_some();
        if let Some((first, second)) = place {
            first.copy_from_slice(head);
            second.copy_from_slice(body);
            parcel.descriptor = Descriptor {
                len: u32::try_from(length).unwrap_or(0),
                ..*descriptor
            };
        }
        let queue = if fits {
            &self.shared.full
        } else {
            &self.shared.free
        };
        // There are as many places in either queue as parcels.
        queue.push(parcel).is_ok() && fits
    }
}

impl Outlet {
    /// Packets that can be handed over now, as far as this sender knows: others send too.
    #[inline]
    #[must_use]
    pub fn room(&self) -> usize {
        self.shared.free.len()
    }
}

impl Inbox {
    /// Packets that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.full.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.full.is_empty()
    }
}

impl PacketSource for Inbox {
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        burst.clear();
        for parcel in self.held.drain(..) {
            // There are as many places as parcels.
            let _ = self.shared.free.push(parcel);
        }
        while self.held.len() < BURST_MAX {
            let Some(parcel) = self.shared.full.pop() else {
                break;
            };
            burst.push(Descriptor {
                offset: self.held.len(),
                ..parcel.descriptor
            });
            self.held.push(parcel);
        }
        Ok(burst.len())
    }

    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        self.held
            .get(descriptor.offset)
            .and_then(|parcel| parcel.bytes.get(..descriptor.len as usize))
            .unwrap_or_default()
    }
}

/// Wakes a thread that sleeps in [`crate::wait::wait`]; silent while it is awake.
#[derive(Debug, Clone)]
pub struct Bell {
    asleep: Arc<Asleep>,
    wire: Arc<UnixDatagram>,
}

/// The sleeper's end of a [`Bell`].
#[derive(Debug)]
pub struct Sleeper {
    asleep: Arc<Asleep>,
    wire: UnixDatagram,
}

/// A bell and the end that it wakes.
///
/// # Errors
///
/// The system's reason when it gives no socket pair.
pub fn bell() -> io::Result<(Bell, Sleeper)> {
    let (ring, rung) = UnixDatagram::pair()?;
    ring.set_nonblocking(true)?;
    rung.set_nonblocking(true)?;
    let asleep = Arc::new(Asleep::new());
    let bell = Bell {
        asleep: Arc::clone(&asleep),
        wire: Arc::new(ring),
    };
    Ok((bell, Sleeper { asleep, wire: rung }))
}

impl Bell {
    /// Wakes the sleeper if it sleeps or is about to. What was queued before this call is seen by
    /// it before it sleeps again.
    pub fn ring(&self) {
        if self.asleep.ask() {
            // A full socket buffer means that the sleeper is being woken already.
            let _ = self.wire.send(&[1]);
        }
    }
}

impl Sleeper {
    /// Announces sleep. Look for work once more after this and before waiting on [`AsFd::as_fd`].
    pub fn prepare(&self) {
        self.asleep.announce();
    }

    /// Ends the announcement and takes the rings that were heard.
    pub fn awake(&self) {
        self.asleep.end();
        let mut byte = [0; 1];
        while self.wire.recv(&mut byte).is_ok() {}
    }
}

impl AsFd for Sleeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wait::wait;

    #[test]
    fn packets_arrive_in_order_with_what_was_known_of_them() {
        let (outlet, mut inbox) = handover(40, 100);
        let peer = "10.0.0.1:2152".parse().unwrap();
        for number in 0..40_u8 {
            let descriptor = Descriptor {
                peer: Some(peer),
                ..Descriptor::EMPTY
            };
            assert!(outlet.push(&descriptor, &vec![number; usize::from(number)]));
        }

        let mut burst = Burst::new();
        let mut seen = 0_u8;
        while inbox.recv_burst(&mut burst).unwrap() > 0 {
            for descriptor in &burst {
                assert_eq!(descriptor.peer, Some(peer));
                assert_eq!(inbox.frame(descriptor), vec![seen; usize::from(seen)]);
                seen += 1;
            }
        }

        assert_eq!(seen, 40);
    }

    #[test]
    fn a_full_queue_and_a_long_frame_are_refused_and_no_buffer_is_lost() {
        let (outlet, mut inbox) = handover(BURST_MAX, 10);
        let mut burst = Burst::new();
        for _ in 0..3 {
            assert!(!outlet.push(&Descriptor::EMPTY, &[0; 11]));
            for _ in 0..BURST_MAX {
                assert!(outlet.push(&Descriptor::EMPTY, &[1; 10]));
            }
            assert!(!outlet.push(&Descriptor::EMPTY, &[1; 10]));
            assert_eq!(inbox.recv_burst(&mut burst).unwrap(), BURST_MAX);
            assert_eq!(inbox.recv_burst(&mut burst).unwrap(), 0);
        }
        assert!(inbox.is_empty());
    }

    #[test]
    fn four_senders_lose_no_packet_that_was_accepted() {
        let (outlet, mut inbox) = handover(64, 8);
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let outlet = outlet.clone();
                std::thread::spawn(move || {
                    (0..20_000_u64)
                        .filter(|number| outlet.push(&Descriptor::EMPTY, &number.to_le_bytes()))
                        .sum::<u64>()
                })
            })
            .collect();
        let (mut burst, mut received) = (Burst::new(), 0_u64);

        let mut running = true;
        while running || !inbox.is_empty() {
            running = senders.iter().any(|sender| !sender.is_finished());
            inbox.recv_burst(&mut burst).unwrap();
            for descriptor in &burst {
                let bytes = inbox.frame(descriptor).first_chunk::<8>().unwrap();
                received += u64::from_le_bytes(*bytes);
            }
        }

        let sent: u64 = senders
            .into_iter()
            .map(|sender| sender.join().unwrap())
            .sum();
        assert_eq!(received, sent);
    }

    #[test]
    fn a_ring_between_announcement_and_sleep_is_heard() {
        let (bell, sleeper) = bell().unwrap();
        bell.ring();
        sleeper.prepare();
        assert!(
            !wait(&[sleeper.as_fd()], Some(Duration::ZERO))
                .unwrap()
                .any()
        );

        bell.ring();

        let ready = wait(&[sleeper.as_fd()], Some(Duration::from_secs(5))).unwrap();
        assert!(ready.any());
        sleeper.awake();
        assert!(
            !wait(&[sleeper.as_fd()], Some(Duration::ZERO))
                .unwrap()
                .any()
        );
    }
}
