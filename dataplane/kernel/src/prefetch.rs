//! Asking the cache for a line before it is needed.

/// Starts loading the first cache line of `value` into every cache level.
///
/// A hint only: no result, no fault, nothing at all off x86-64. Worth it when at least a few tens
/// of nanoseconds of other work lie between the hint and the use, as in a burst of 32 lookups.
#[inline]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = std::ptr::from_ref(value).cast::<i8>();
        // SAFETY: SSE is part of x86-64, and a prefetch reads nothing that the program can see
        // and never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// [`prefetch`] of `items[index]`; an index out of range does nothing.
#[inline]
pub fn prefetch_slice<T>(items: &[T], index: usize) {
    if let Some(item) = items.get(index) {
        prefetch(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefetching_changes_nothing_and_an_index_out_of_range_is_ignored() {
        let table = vec![5_u64; 1000];

        prefetch(&table);
        prefetch_slice(&table, 999);
        prefetch_slice(&table, 1000);
        prefetch_slice::<u64>(&[], usize::MAX);

        assert!(table.iter().all(|value| *value == 5));
    }
}
