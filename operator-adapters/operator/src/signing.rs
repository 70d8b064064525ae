//! What requests and callbacks are signed with, and the bytes that a signature covers.

use std::fmt;
use std::path::{Path, PathBuf};

/// Bytes of a key at least; HMAC-SHA256 keys under the hash's length weaken it, 16 is the floor.
const KEY_BYTES_MIN: usize = 16;
/// Bytes of a key file at most.
const KEY_BYTES_MAX: usize = 4096;

/// A shared secret, read from a file; it does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedKey(Vec<u8>);

/// Why a key file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read key file {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// Too short or too long.
    #[error("key file {path} must hold {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes")]
    Length {
        /// Which file.
        path: PathBuf,
    },
}

impl SharedKey {
    /// Reads a key; one line break at the end does not belong to it.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let mut bytes = std::fs::read(path).map_err(|source| KeyError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(KeyError::Length {
                path: path.to_path_buf(),
            })
        }
    }

    /// The secret, for the MAC alone.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey(hidden)")
    }
}

/// Header with the sender's clock, milliseconds since 1970, decimal.
pub const TIMESTAMP_HEADER: &str = "x-qlink-timestamp";
/// Header with the HMAC-SHA256 of [`signing_input`], lower-case hexadecimal.
pub const SIGNATURE_HEADER: &str = "x-qlink-signature";

/// `METHOD \n path-and-query \n timestamp \n body`, the body last and as sent, so that no part can
/// run into another: none of the first three can hold a line break.
#[must_use]
pub fn signing_input(method: &str, target: &str, timestamp_ms: u64, body: &[u8]) -> Vec<u8> {
    let mut input = format!("{method}\n{target}\n{timestamp_ms}\n").into_bytes();
    input.extend_from_slice(body);
    input
}

/// Milliseconds that a signed message's clock may be off.
pub const TIMESTAMP_TOLERANCE_MS: u64 = 300_000;

/// The bytes a countersignature covers: the statement root in a context of its own.
#[must_use]
pub fn countersigning_input(statement_root: &str) -> Vec<u8> {
    format!("qlink statement root\n{statement_root}").into_bytes()
}
