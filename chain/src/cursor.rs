//! Where a follower of finalized events stands.

use std::fmt;
use std::str::FromStr;

use qlink_types::units::BlockHeight;

/// Position of an event: height, index of its receipt in the block, index of the event in it.
///
/// Its text, `<16 hex>.<8 hex>.<8 hex>`, sorts as the events do; clients treat it as opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventCursor {
    /// The block.
    pub height: BlockHeight,
    /// Index of the receipt.
    pub receipt: u32,
    /// Index of the event.
    pub event: u32,
}

/// A text is no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not an event cursor")]
pub struct ParseCursorError {
    /// What was given, cut to 80 characters.
    pub text: String,
}

impl EventCursor {
    /// Behind every event of a block.
    #[must_use]
    pub const fn end_of(height: BlockHeight) -> Self {
        Self {
            height,
            receipt: u32::MAX,
            event: u32::MAX,
        }
    }
}

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:016x}.{:08x}.{:08x}",
            self.height.get(),
            self.receipt,
            self.event
        )
    }
}

impl FromStr for EventCursor {
    type Err = ParseCursorError;
    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        parse(text).ok_or_else(|| ParseCursorError {
            text: text.chars().take(80).collect(),
        })
    }
}

fn parse(text: &str) -> Option<EventCursor> {
    let mut parts = text.split('.');
    let height = hex_field(parts.next()?, 16)?;
    let receipt = hex_field(parts.next()?, 8)?;
    let event = hex_field(parts.next()?, 8)?;
    if parts.next().is_some() {
        return None;
    }
    Some(EventCursor {
        height: BlockHeight::new(height),
        receipt: u32::try_from(receipt).ok()?,
        event: u32::try_from(event).ok()?,
    })
}

/// One text per cursor: `digits` lower-case digits, no sign.
fn hex_field(text: &str, digits: usize) -> Option<u64> {
    let plain = text
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() != digits || !plain {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_sort_as_text_the_way_events_do() {
        let cursor = |height, receipt, event| EventCursor {
            height: BlockHeight::new(height),
            receipt,
            event,
        };
        let mut cursors = [
            cursor(9, 0, 11),
            cursor(10, 0, 0),
            cursor(9, 2, 0),
            cursor(256, 0, 0),
            EventCursor::end_of(BlockHeight::new(9)),
        ];
        let mut texts = cursors.map(|cursor| cursor.to_string());

        cursors.sort_unstable();
        texts.sort_unstable();

        assert_eq!(cursors.map(|cursor| cursor.to_string()), texts);
        for cursor in cursors {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let texts = [
            "",
            "1.2.3",
            "000000000000000a.00000000",
            "000000000000000A.00000000.00000000",
            "+00000000000000a.00000000.00000000",
            "000000000000000a.00000000.00000000.",
        ];

        for text in texts {
            assert!(text.parse::<EventCursor>().is_err(), "{text}");
        }
    }
}
