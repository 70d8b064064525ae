//! Questions to the kernel about interfaces, routes and neighbours.
//!
//! Source: RFC 3549, the kernel's `include/uapi/linux/netlink.h` and `rtnetlink.h`.
//!
//! ```text
//! message:   | length u32 | type u16 | flags u16 | sequence u32 | port u32 | payload ... | pad to 4
//! payload:   | fixed header of the type | attributes |
//! attribute: | length u16 | type u16 | value ... | pad to 4
//! ```
//!
//! The parsers are total: lengths that lead outside end the walk.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::sys;

/// Longest part of an answer read at once (the kernel sends at most 32 KiB).
const RECEIVE_BYTES: usize = 64 << 10;

/// Most parts of one answer (chosen: 16 MiB of routes; a full internet table is refused).
const PARTS_MAX: usize = 512;

/// How long the kernel may take for a part; it answers from memory.
const PATIENCE: libc::timeval = libc::timeval {
    tv_sec: 2,
    tv_usec: 0,
};

const FLAG_REQUEST: u16 = 0x1;
const FLAG_ACKNOWLEDGE: u16 = 0x4;
const FLAG_DUMP: u16 = 0x300;
const FLAG_CREATE: u16 = 0x400;

const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Everything of a kind.
    Dump,
    /// One object.
    One,
    /// Make an object; the answer is an acknowledgement.
    Create,
}

/// A socket to one netlink family. It stays in the network namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl Netlink {
    /// Routes, links and neighbours.
    pub(crate) fn route() -> io::Result<Self> {
        Self::open(libc::NETLINK_ROUTE)
    }

    /// Families that are known by name.
    pub(crate) fn generic() -> io::Result<Self> {
        Self::open(libc::NETLINK_GENERIC)
    }

    fn open(family: libc::c_int) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: `socket` takes no address.
        let descriptor = unsafe { libc::socket(libc::AF_NETLINK, kind, family) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just created and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let patience = PATIENCE;
        let length = sys::length_of::<libc::timeval>();
        // SAFETY: the value is a live timeval of exactly `length` bytes.
        let status = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const patience).cast(),
                length,
            )
        };
        if status != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; RECEIVE_BYTES].into_boxed_slice(),
        })
    }

    /// Asks, and gives every object of the answer to `each`: its type and its payload.
    pub(crate) fn ask(
        &mut self,
        kind: u16,
        question: Question,
        payload: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let flags = match question {
            Question::Dump => FLAG_REQUEST | FLAG_DUMP,
            Question::One => FLAG_REQUEST | FLAG_ACKNOWLEDGE,
            Question::Create => FLAG_REQUEST | FLAG_ACKNOWLEDGE | FLAG_CREATE,
        };
        self.send(&message(kind, flags, self.sequence, payload))?;
        for _ in 0..PARTS_MAX {
            let length = self.receive()?;
            let part = self.buffer.get(..length).unwrap_or_default();
            for (header, payload) in messages(part) {
                if header.sequence != self.sequence {
                    continue; // the rest of an answer that was given up
                }
                match header.kind {
                    TYPE_DONE => return Ok(()),
                    TYPE_ERROR => return acknowledged(payload),
                    kind => each(kind, payload),
                }
            }
        }
        Err(io::ErrorKind::FileTooLarge.into())
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        // SAFETY: `message` is readable for its length; without an address the kernel receives it.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
                0,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<usize> {
        // SAFETY: the buffer is writable for its length.
        let received = unsafe {
            libc::recv(
                self.socket.as_raw_fd(),
                self.buffer.as_mut_ptr().cast(),
                self.buffer.len(),
                0,
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }
}

/// The header fields of a message that its reader needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    kind: u16,
    sequence: u32,
}

fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len().saturating_add(16)).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&sequence.to_ne_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(payload);
    message
}

/// The messages of one part.
fn messages(mut part: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let (head, _) = part.split_first_chunk::<16>()?;
        let [a, b, c, d, kind_a, kind_b, _, _, e, f, g, h, ..] = *head;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let payload = part.get(16..length)?;
        part = part.get(padded(length)..).unwrap_or_default();
        let header = Header {
            kind: u16::from_ne_bytes([kind_a, kind_b]),
            sequence: u32::from_ne_bytes([e, f, g, h]),
        };
        Some((header, payload))
    })
}

/// The result in an error message; 0 is an acknowledgement.
fn acknowledged(payload: &[u8]) -> io::Result<()> {
    let code = payload
        .first_chunk::<4>()
        .map(|code| i32::from_ne_bytes(*code));
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The attributes in `bytes`: type without its flag bits, and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let ([a, b, c, d], _) = bytes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(padded(length)..).unwrap_or_default();
        Some((u16::from_ne_bytes([*c, *d]) & 0x3fff, value))
    })
}

/// Appends an attribute.
pub(crate) fn push_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = value.len().saturating_add(4);
    bytes.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A 32-bit attribute in the machine's byte order.
pub(crate) fn word(value: &[u8]) -> Option<u32> {
    value
        .first_chunk::<4>()
        .map(|word| u32::from_ne_bytes(*word))
}

const fn padded(length: usize) -> usize {
    length.saturating_add(3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn messages_and_attributes_are_read_as_they_are_written() {
        let mut payload = Vec::new();
        push_attribute(&mut payload, 3, b"eth0\0");
        push_attribute(&mut payload, 0x8001, &7_u32.to_ne_bytes());
        let mut part = message(16, 0, 9, &payload);
        part.extend(message(17, 0, 9, b""));

        let read: Vec<_> = messages(&part).collect();

        assert_eq!(read.len(), 2);
        assert_eq!(
            read[0].0,
            Header {
                kind: 16,
                sequence: 9
            }
        );
        let values: Vec<_> = attributes(read[0].1).collect();
        assert_eq!(values[0], (3, b"eth0\0".as_slice()));
        assert_eq!((values[1].0, word(values[1].1)), (1, Some(7)));
    }

    proptest! {
        #[test]
        fn any_bytes_end_the_walk(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(messages(&bytes).count() <= bytes.len());
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn a_length_of_zero_does_not_loop() {
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
    }
}
