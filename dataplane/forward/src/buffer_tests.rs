use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn limits(overflow: Overflow) -> BufferLimits {
    BufferLimits {
        sessions: 3,
        packets: 6,
        packet_bytes_max: 100,
        session_packets: 4,
        session_bytes: 250,
        overflow,
    }
}

fn drained(buffer: &mut DownlinkBuffer, session: u32) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    while let Some(packet) = buffer.front(session) {
        packets.push(packet.to_vec());
        buffer.drop_front(session);
    }
    packets
}

#[test]
fn packets_leave_whole_and_in_order() {
    let mut buffer = DownlinkBuffer::new(limits(Overflow::DropNew));
    buffer.push(0, &[1; 20], &[2; 30]).unwrap();
    buffer.push(1, &[9], &[]).unwrap();
    buffer.push(0, &[], &[3; 40]).unwrap();

    assert_eq!(
        buffer.held(),
        Held {
            packets: 3,
            bytes: 91
        }
    );
    assert_eq!(
        drained(&mut buffer, 0),
        [[vec![1; 20], vec![2; 30]].concat(), vec![3; 40]]
    );
    assert_eq!(
        buffer.held(),
        Held {
            packets: 1,
            bytes: 1
        }
    );
}

#[test]
fn the_first_packet_notifies_once_until_reset() {
    let mut buffer = DownlinkBuffer::new(limits(Overflow::DropNew));
    let push = |buffer: &mut DownlinkBuffer| buffer.push(0, &[1], &[]);

    assert_eq!(push(&mut buffer), Ok(Buffered::First { dropped: 0 }));
    assert_eq!(push(&mut buffer), Ok(Buffered::Further { dropped: 0 }));
    drained(&mut buffer, 0);
    assert_eq!(push(&mut buffer), Ok(Buffered::Further { dropped: 0 }));
    buffer.reset(0);
    assert_eq!(push(&mut buffer), Ok(Buffered::First { dropped: 0 }));
}

#[test]
fn a_full_session_refuses_or_drops_its_oldest() {
    let mut new = DownlinkBuffer::new(limits(Overflow::DropNew));
    let mut old = DownlinkBuffer::new(limits(Overflow::DropOldest));
    for buffer in [&mut new, &mut old] {
        buffer.suggest(0, Some(2));
        for octet in 0..2 {
            buffer.push(0, &[octet], &[]).unwrap();
        }
    }

    assert_eq!(new.push(0, &[2], &[]), Err(BufferRefusal::SessionFull));
    assert_eq!(old.push(0, &[2], &[]), Ok(Buffered::Further { dropped: 1 }));
    assert_eq!(drained(&mut new, 0), [[0], [1]]);
    assert_eq!(drained(&mut old, 0), [[1], [2]]);
}

#[test]
fn a_session_never_pushes_out_anothers_packets() {
    let mut buffer = DownlinkBuffer::new(limits(Overflow::DropOldest));
    for session in [0, 0, 0, 1, 1, 1] {
        buffer.push(session, &[1], &[]).unwrap();
    }

    assert_eq!(buffer.push(2, &[2], &[]), Err(BufferRefusal::BufferFull));
    assert_eq!(
        buffer.push(0, &[2], &[]),
        Ok(Buffered::Further { dropped: 1 })
    );
    assert_eq!(buffer.session_held(1).packets, 3);
}

#[test]
fn what_is_too_long_or_nobodys_is_refused_and_a_suggestion_of_none_keeps_none() {
    let mut buffer = DownlinkBuffer::new(limits(Overflow::DropOldest));
    buffer.suggest(1, Some(0));

    assert_eq!(
        buffer.push(0, &[0; 50], &[0; 51]),
        Err(BufferRefusal::TooLong)
    );
    assert_eq!(
        buffer.push(3, &[0], &[]),
        Err(BufferRefusal::SessionUnknown)
    );
    assert_eq!(buffer.push(1, &[0], &[]), Err(BufferRefusal::SessionFull));
}

proptest! {
    #[test]
    fn a_buffer_equals_its_model(
        oldest: bool, steps in prop::collection::vec((0..6_u8, 0..3_u32, 0..120_usize), 0..150),
    ) {
        let overflow = if oldest { Overflow::DropOldest } else { Overflow::DropNew };
        let mut buffer = DownlinkBuffer::new(limits(overflow));
        let mut model: [VecDeque<Vec<u8>>; 3] = Default::default();
        let mut serial = 0_u8;
        for (step, session, length) in steps {
            let queue = session as usize;
            match step {
                0 => {
                    let front = model[queue].pop_front();
                    prop_assert_eq!(buffer.front(session).map(<[u8]>::to_vec), front.clone());
                    prop_assert_eq!(buffer.drop_front(session), front.is_some());
                }
                1 if length < 10 => {
                    let held = buffer.discard(session);
                    prop_assert_eq!(held.packets as usize, model[queue].len());
                    model[queue].clear();
                }
                _ => {
                    serial = serial.wrapping_add(1);
                    let packet = vec![serial; length];
                    let (head, body) = packet.split_at(length / 3);
                    if let Ok(Buffered::First { dropped } | Buffered::Further { dropped }) =
                        buffer.push(session, head, body)
                    {
                        prop_assert!(oldest || dropped == 0);
                        model[queue].drain(..dropped as usize);
                        model[queue].push_back(packet);
                    }
                }
            }
            let total: usize = model.iter().map(VecDeque::len).sum();
            prop_assert_eq!(buffer.held().packets as usize, total);
            prop_assert!(total <= 6);
            for (session, queue) in (0..).zip(&model) {
                let held = buffer.session_held(session);
                prop_assert_eq!(held.packets as usize, queue.len());
                prop_assert_eq!(held.bytes, queue.iter().map(|packet| packet.len() as u64).sum::<u64>());
                prop_assert!(held.packets <= 4 && held.bytes <= 250);
                prop_assert_eq!(buffer.front(session), queue.front().map(Vec::as_slice));
            }
        }
    }
}
