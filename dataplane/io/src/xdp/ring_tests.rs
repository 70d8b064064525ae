use super::*;

/// A ring in plain memory, both sides in this process.
struct Memory {
    producer: AtomicU32,
    consumer: AtomicU32,
    entries: Vec<AtomicU64>,
}

impl Memory {
    fn new(size: usize, counter: u32) -> Self {
        Self {
            producer: AtomicU32::new(counter),
            consumer: AtomicU32::new(counter),
            entries: (0..size).map(|_| AtomicU64::new(u64::MAX)).collect(),
        }
    }

    fn shared(&self) -> Shared<'_, AtomicU64> {
        Shared {
            producer: &self.producer,
            consumer: &self.consumer,
            entries: &self.entries,
        }
    }
}

fn push(producer: &mut Producer, ring: Shared<'_, AtomicU64>, values: std::ops::Range<u64>) -> u32 {
    let room = producer.room(ring, u32::try_from(values.end - values.start).unwrap());
    for value in values.take(room as usize) {
        producer.next(ring).unwrap().store(value, Ordering::Relaxed);
    }
    producer.publish(ring);
    room
}

fn pop(consumer: &mut Consumer, ring: Shared<'_, AtomicU64>, wanted: u32) -> Vec<u64> {
    let count = consumer.available(ring, wanted);
    let values = (0..count)
        .map(|_| consumer.next(ring).unwrap().load(Ordering::Relaxed))
        .collect();
    consumer.release(ring);
    values
}

// Every start of the counters around the wrap, every fill level, every burst: nothing is lost,
// doubled or reordered, and the ring never holds more than its size.
#[test]
fn entries_survive_the_wrap_of_both_counters_in_order() {
    const SIZE: u32 = 8;
    for start in (u32::MAX - 20)..=u32::MAX {
        for (burst_in, burst_out) in
            (1..=SIZE + 1).flat_map(|i| (1..=SIZE + 1).map(move |o| (i, o)))
        {
            let memory = Memory::new(SIZE as usize, start);
            let ring = memory.shared();
            let (mut producer, mut consumer) =
                (Producer::starting_at(start), Consumer::starting_at(start));
            let (mut written, mut read) = (0_u64, 0_u64);
            for _ in 0..30 {
                let pushed = push(&mut producer, ring, written..written + u64::from(burst_in));
                written += u64::from(pushed);
                assert!(written - read <= u64::from(SIZE));
                assert!(pushed == burst_in || written - read == u64::from(SIZE));
                for value in pop(&mut consumer, ring, burst_out) {
                    assert_eq!(value, read);
                    read += 1;
                }
                let pending = u64::from(producer.pending(ring));
                assert_eq!(pending, written - read);
            }
            assert!(read > 29);
        }
    }
}

#[test]
fn a_full_ring_has_no_room_and_an_empty_one_nothing_to_read() {
    let memory = Memory::new(4, 7);
    let ring = memory.shared();
    let (mut producer, mut consumer) = (Producer::starting_at(7), Consumer::starting_at(7));

    assert_eq!(pop(&mut consumer, ring, 4), []);
    assert_eq!(push(&mut producer, ring, 0..9), 4);
    assert_eq!(producer.room(ring, 1), 0);
    assert_eq!(pop(&mut consumer, ring, 9), [0, 1, 2, 3]);
    assert_eq!(producer.room(ring, 9), 4);
}

// A broken or hostile other side: counters that make no sense give wrong entries, never more than
// the ring has, and no access outside.
#[test]
fn nonsense_from_the_other_side_stays_inside_the_ring() {
    let memory = Memory::new(4, 0);
    let ring = memory.shared();
    let (mut producer, mut consumer) = (Producer::default(), Consumer::default());
    for nonsense in [5, 1 << 31, u32::MAX] {
        memory.producer.store(nonsense, Ordering::Relaxed);
        memory.consumer.store(nonsense, Ordering::Relaxed);

        assert!(pop(&mut consumer, ring, 100).len() <= 4);
        assert!(producer.room(ring, 100) <= 4);
    }
}

// Two threads; miri and the thread sanitizer check the orderings.
#[test]
fn a_value_is_complete_when_the_other_thread_sees_it() {
    const COUNT: u64 = if cfg!(miri) { 300 } else { 200_000 };
    let memory = Memory::new(8, u32::MAX - 3);
    let start = u32::MAX - 3;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (ring, mut producer) = (memory.shared(), Producer::starting_at(start));
            let mut next = 0;
            while next < COUNT {
                let pushed = push(&mut producer, ring, next..(next + 3).min(COUNT));
                next += u64::from(pushed);
                if pushed == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let (ring, mut consumer) = (memory.shared(), Consumer::starting_at(start));
        let mut expected = 0;
        while expected < COUNT {
            let values = pop(&mut consumer, ring, 5);
            if values.is_empty() {
                std::thread::yield_now();
            }
            for value in values {
                assert_eq!(value, expected);
                expected += 1;
            }
        }
    });
}
