//! Device keys of the tunnel: X25519, never the ed25519 key that signs.
//!
//! A BaseStation has two keys: the registered ed25519 device key signs sessions and receipts, the
//! tunnel key agrees on traffic keys. X25519 can be derived from ed25519 by the Montgomery map; two
//! keys were taken instead, because a proof that one of the two uses is safe does not cover both on
//! one secret, and because the tunnel key can then be replaced without a registration. The device
//! key signs the tunnel's public key, which binds the two.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use x25519_dalek::StaticSecret;

/// Length of a key in bytes.
const KEY_BYTES: usize = 32;

/// Why text or bytes are no key. The key itself never stands in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither 44 characters of base64 nor 64 hexadecimal digits.
    #[error("a key is 44 characters of base64 or 64 hexadecimal digits")]
    Format,
    /// A public key with which every agreement gives the same secret.
    #[error("the public key is of low order")]
    LowOrder,
}

/// A private key. It does not print, and its memory is wiped when it goes.
#[derive(Clone)]
pub struct PrivateKey(StaticSecret);

impl PrivateKey {
    /// The key of 32 secret bytes, any of which are a key (RFC 7748 §5).
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(StaticSecret::from(bytes))
    }

    /// Its public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    pub(crate) const fn secret(&self) -> &StaticSecret {
        &self.0
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    /// Reads a key as `wg genkey` writes it, or as 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        read(text).map(Self::from_bytes)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A public key; it names a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// The key of 32 bytes.
    ///
    /// # Errors
    ///
    /// [`KeyError::LowOrder`].
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Result<Self, KeyError> {
        // With a point of low order the result does not depend on the secret, so any will do.
        let agreed = StaticSecret::from([1; KEY_BYTES]).diffie_hellman(&bytes.into());
        if agreed.was_contributory() {
            Ok(Self(bytes))
        } else {
            Err(KeyError::LowOrder)
        }
    }

    /// Its bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; KEY_BYTES] {
        self.0
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads a key as `wg pubkey` writes it, or as 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(read(text)?)
    }
}

impl fmt::Display for PublicKey {
    /// As `wg` writes it: base64.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

fn read(text: &str) -> Result<[u8; KEY_BYTES], KeyError> {
    let text = text.trim();
    if text.len() == 2 * KEY_BYTES {
        return hexadecimal(text).ok_or(KeyError::Format);
    }
    let decoded = STANDARD.decode(text).map_err(|_| KeyError::Format)?;
    decoded.try_into().map_err(|_| KeyError::Format)
}

fn hexadecimal(text: &str) -> Option<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| !pair.contains('+'))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7748 §6.1: Alice's key pair.
    const PRIVATE: &str = "77076d0a7318a57d3c16c17251b26645df4c6cb92c6b5b9d5e8a5a3f1e1c4d2a";

    #[test]
    fn both_spellings_are_the_same_key() {
        let key: PrivateKey = PRIVATE.parse().unwrap();
        let public = key.public();
        let hex: String = public
            .to_bytes()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();

        assert_eq!(public.to_string().len(), 44);
        assert_eq!(public.to_string().parse::<PublicKey>().unwrap(), public);
        assert_eq!(hex.parse::<PublicKey>().unwrap(), public);
    }

    #[test]
    fn a_private_key_does_not_print() {
        let key: PrivateKey = PRIVATE.parse().unwrap();

        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in [
            "",
            "abc",
            &"0g".repeat(32),
            &"+a".repeat(32),
            &"0a".repeat(31),
        ] {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError::Format), "{text}");
        }
    }

    #[test]
    fn a_key_of_low_order_is_refused() {
        let mut one = [0; 32];
        one[0] = 1;

        for bytes in [[0; 32], one] {
            assert_eq!(PublicKey::from_bytes(bytes), Err(KeyError::LowOrder));
        }
    }
}
