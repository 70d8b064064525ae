//! Packets as the system's message headers, gathered and never copied.

use std::{mem, ptr};

use super::train::TrainLimit;
use crate::Outgoing;
use crate::sys::{RawAddress, length_of};

/// A control message with room for one small value.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Control {
    header: libc::cmsghdr,
    value: [u8; 8],
}

impl Control {
    pub(crate) const EMPTY: Self = Self {
        header: libc::cmsghdr {
            cmsg_len: 0,
            cmsg_level: 0,
            cmsg_type: 0,
        },
        value: [0; 8],
    };

    /// Bytes that the system may write; the value begins right behind the header, whose size is a
    /// multiple of the alignment of control data.
    pub(crate) const SPACE: usize = size_of::<Self>();

    /// The control message in `bytes`, which the system wrote; what is cut off is 0.
    #[cfg(feature = "uring")]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut whole = [0; Self::SPACE];
        for (place, byte) in whole.iter_mut().zip(bytes) {
            *place = *byte;
        }
        // SAFETY: the type consists of integers and bytes without padding, so every bit pattern of
        // the same size is valid.
        unsafe { mem::transmute::<[u8; Self::SPACE], Self>(whole) }
    }

    /// "Cut this message into datagrams of `segment` bytes."
    fn segment_size(segment: u16) -> Self {
        let [high, low] = segment.to_ne_bytes();
        Self {
            header: libc::cmsghdr {
                cmsg_len: size_of::<libc::cmsghdr>() + size_of::<u16>(),
                cmsg_level: libc::SOL_UDP,
                cmsg_type: libc::UDP_SEGMENT,
            },
            value: [high, low, 0, 0, 0, 0, 0, 0],
        }
    }

    /// Length of the datagrams that the kernel joined into the message, if it did.
    pub(crate) fn joined_size(&self) -> Option<usize> {
        let header = &self.header;
        let is_size = header.cmsg_level == libc::SOL_UDP && header.cmsg_type == libc::UDP_GRO;
        let length = size_of::<libc::cmsghdr>() + size_of::<libc::c_int>();
        let value = *self.value.first_chunk::<4>()?;
        usize::try_from(libc::c_int::from_ne_bytes(value))
            .ok()
            .filter(|size| is_size && header.cmsg_len >= length && *size > 0)
    }
}

/// Messages of up to `N` packets, with everything that they point to.
///
/// The messages point into the batch itself, so it is filled where it stays.
pub(crate) struct Batch<const N: usize> {
    addresses: [RawAddress; N],
    vectors: [[libc::iovec; 2]; N],
    controls: [Control; N],
    messages: [libc::mmsghdr; N],
    /// Packets of each message.
    packets: [usize; N],
    len: usize,
}

impl<const N: usize> Batch<N> {
    pub(crate) fn new() -> Self {
        Self {
            addresses: [RawAddress::EMPTY; N],
            vectors: [[EMPTY_VECTOR; 2]; N],
            controls: [Control::EMPTY; N],
            messages: [empty_message(); N],
            packets: [0; N],
            len: 0,
        }
    }

    /// Describes the first `N` of `items`, as few messages as `limit` allows.
    pub(crate) fn fill(&mut self, items: &[Outgoing<'_>], limit: TrainLimit) {
        self.len = 0;
        let mut rest = items.get(..N).unwrap_or(items);
        let mut vectors = self.vectors.as_mut_slice();
        let places = self.messages.iter_mut().zip(&mut self.packets);
        let belongings = self.addresses.iter_mut().zip(&mut self.controls);
        for ((message, packets), (address, control)) in places.zip(belongings) {
            let train = limit.train(rest);
            let Some((joined, behind)) = rest.split_at_checked(train) else {
                return;
            };
            let (Some(first), Some((own, free))) =
                (joined.first(), vectors.split_at_mut_checked(train))
            else {
                return;
            };
            for (vector, item) in own.iter_mut().zip(joined) {
                *vector = [read_vector(item.head), read_vector(item.body)];
            }
            let (raw, length) = RawAddress::new(&first.to);
            *address = raw;
            let header = &mut message.msg_hdr;
            header.msg_name = ptr::from_mut(address).cast();
            header.msg_namelen = length;
            header.msg_iov = own.as_mut_ptr().cast();
            header.msg_iovlen = train.saturating_mul(2);
            (header.msg_control, header.msg_controllen) = (ptr::null_mut(), 0);
            if train > 1 {
                *control = Control::segment_size(u16::try_from(first.len()).unwrap_or(u16::MAX));
                header.msg_control = ptr::from_mut(control).cast();
                header.msg_controllen = Control::SPACE;
            }
            *packets = train;
            self.len = self.len.saturating_add(1);
            (rest, vectors) = (behind, free);
        }
    }

    /// The messages, as the system's calls want them.
    pub(crate) fn messages(&mut self) -> &mut [libc::mmsghdr] {
        self.messages.get_mut(..self.len).unwrap_or_default()
    }

    /// Packets of each message.
    pub(crate) fn packets(&self) -> &[usize] {
        self.packets.get(..self.len).unwrap_or_default()
    }
}

pub(crate) const EMPTY_VECTOR: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

/// A vector for sending; the system does not write through it.
const fn read_vector(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

pub(crate) fn empty_message() -> libc::mmsghdr {
    // SAFETY: `mmsghdr` consists of integers and raw pointers, for which all zero is valid; it has
    // private padding on some systems, so it cannot be written as a literal.
    unsafe { mem::zeroed() }
}

/// A message header that receives into one vector.
pub(crate) fn receive_into(
    message: &mut libc::msghdr,
    vector: &mut libc::iovec,
    address: &mut RawAddress,
    control: &mut Control,
) {
    message.msg_name = ptr::from_mut(address).cast();
    message.msg_namelen = RawAddress::CAPACITY;
    message.msg_iov = vector;
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(control).cast();
    message.msg_controllen = Control::SPACE;
}

const _: () = assert!(length_of::<Control>() as usize == Control::SPACE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_message_is_as_long_as_the_system_says() {
        // SAFETY: pure arithmetic on a constant.
        let space = unsafe { libc::CMSG_SPACE(8) };
        // SAFETY: as above.
        let header = unsafe { libc::CMSG_LEN(0) };

        assert_eq!(Control::SPACE, space as usize);
        assert_eq!(size_of::<libc::cmsghdr>(), header as usize);
    }
}
