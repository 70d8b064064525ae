//! Answers whether bytes on the wire are the content's bytes at an offset.

/// Judges bytes against one content.
pub trait Oracle {
    /// Length of the content.
    fn size(&self) -> u64;

    /// Number of leading bytes of `bytes` that equal the content at `offset`; bytes behind the
    /// content's end equal nothing.
    fn equal_prefix(&self, offset: u64, bytes: &[u8]) -> usize;
}

/// Judges by a local copy whose root was checked with [`crate::verify_copy`]: order-free and exact
/// at any offset, so reordering, overlap and duplication cannot matter.
#[derive(Debug, Clone, Copy)]
pub struct CopyOracle<'a> {
    copy: &'a [u8],
}

impl<'a> CopyOracle<'a> {
    /// Over a verified copy.
    #[must_use]
    pub const fn new(copy: &'a [u8]) -> Self {
        Self { copy }
    }
}

impl Oracle for CopyOracle<'_> {
    #[inline]
    fn size(&self) -> u64 {
        self.copy.len() as u64
    }

    #[inline]
    fn equal_prefix(&self, offset: u64, bytes: &[u8]) -> usize {
        let here = usize::try_from(offset)
            .ok()
            .and_then(|at| self.copy.get(at..));
        here.map_or(0, |here| qlink_kernel::equal_prefix(here, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_behind_the_end_equal_nothing() {
        let oracle = CopyOracle::new(b"content");

        assert_eq!(oracle.equal_prefix(3, b"tent!"), 4);
        assert_eq!(oracle.equal_prefix(7, b"x"), 0);
        assert_eq!(oracle.equal_prefix(u64::MAX, b"x"), 0);
    }
}
