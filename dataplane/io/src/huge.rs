//! Tables in huge pages.
//!
//! A table of a million sessions is met at random places: with pages of 4 KiB nearly every packet
//! waits for the page walk in front of the line itself. The system is only asked; where it has no
//! huge page, or the table is small, ordinary pages it is.

use std::mem::MaybeUninit;

/// Below this many bytes nothing is asked: 2 MiB is one huge page of x86-64 and of AArch64 with
/// pages of 4 KiB.
const HUGE_BYTES: usize = 2 << 20;

/// Room for `capacity` values, in huge pages where the system has them.
#[must_use]
pub fn room<T>(capacity: usize) -> Vec<T> {
    let mut room = Vec::with_capacity(capacity);
    advise(room.spare_capacity_mut());
    room
}

/// `len` values, made one after the other by `make`, in huge pages where the system has them.
pub fn table<T>(len: usize, make: impl FnMut(usize) -> T) -> Box<[T]> {
    let mut table = room(len);
    table.extend((0..len).map(make));
    table.into_boxed_slice()
}

/// Asks for huge pages before the first one is touched.
fn advise<T>(room: &mut [MaybeUninit<T>]) {
    if size_of_val(room) < HUGE_BYTES {
        return;
    }
    let start = room.as_mut_ptr().cast::<u8>();
    // The advice is for whole pages, and the memory around ours may be anybody's.
    let skip = start.align_offset(HUGE_BYTES);
    let Some(inside) = size_of_val(room).checked_sub(skip) else {
        return;
    };
    // SAFETY: `skip` is at most the size of the slice, so the result is inside of it or its end.
    let aligned = unsafe { start.add(skip) };
    // SAFETY: `aligned..aligned + inside` is a part of a live allocation that we borrow alone;
    // the advice changes neither its bytes nor its protection, and whether it is heard is not
    // needed.
    unsafe { libc::madvise(aligned.cast(), inside, libc::MADV_HUGEPAGE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_every_value_whatever_its_size() {
        for len in [0, 1, 511, 262_144, 1_000_003] {
            let table = table(len, |at| at as u64 ^ 0x55);

            assert_eq!(table.len(), len);
            assert!(
                table
                    .iter()
                    .zip(0_u64..)
                    .all(|(value, at)| *value == at ^ 0x55)
            );
        }
    }
}
