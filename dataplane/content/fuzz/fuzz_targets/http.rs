//! Arbitrary bytes in both directions of the HTTP framing: no panic, progress at every call.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qlink_content::http::{Body, Event, Head, Parser, Queue, Side};

fuzz_target!(|data: &[u8]| {
    let Some((first, stream)) = data.split_first() else {
        return;
    };
    let mut queue = Queue::new();
    let sides = [Side::Request, Side::Response];
    for side in sides {
        let mut parser = Parser::new(side);
        let mut at = 0_usize;
        while let Some(piece) = stream.get(at..).filter(|piece| !piece.is_empty()) {
            let piece = &piece[..piece.len().min(usize::from(*first).max(1))];
            let fed = parser.feed(&mut queue, piece);
            assert!(fed.consumed <= piece.len());
            at += fed.consumed;
            match fed.event {
                Event::Violation(_) => break,
                Event::Head(Head {
                    body: Body::Length(skip),
                    ..
                })
                | Event::Chunk(skip) => {
                    assert!(skip > 0);
                    at = at.saturating_add(usize::try_from(skip).unwrap_or(usize::MAX));
                }
                Event::More | Event::Head(_) | Event::End => assert!(fed.consumed > 0),
            }
        }
    }
});
