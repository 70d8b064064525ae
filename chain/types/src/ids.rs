//! Identifiers, one type per kind of thing, with their text forms.
//!
//! 16-byte ids are derived, not random: `BLAKE3(context, owner, nonce)` cut to 128 bits, so a
//! wallet knows the id of what it is about to create. Their text is a prefix and 26 characters of
//! Crockford base 32, the alphabet of ULID.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::codec::{Decode, DecodeError, Encode, Reader};
use crate::units::Nonce;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {expected}")]
pub struct ParseIdError {
    /// What was given, cut to 80 characters.
    pub text: String,
    /// What would have been right.
    pub expected: &'static str,
}

impl ParseIdError {
    fn new(text: &str, expected: &'static str) -> Self {
        Self {
            text: text.chars().take(80).collect(),
            expected,
        }
    }
}

macro_rules! id_common {
    ($name:ident, $len:literal) => {
        impl $name {
            /// All bits zero: "none" where a field allows it.
            pub const ZERO: Self = Self([0; $len]);

            /// From raw bytes.
            #[must_use]
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Whether this is [`Self::ZERO`].
            #[must_use]
            pub fn is_zero(&self) -> bool {
                self.0 == [0; $len]
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
        }

        impl Decode for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.take_array().map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u8; 32]);

        id_common!($name, 32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(&hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let expected = concat!("'", $prefix, "' and 64 hexadecimal digits");
                let digits = text.strip_prefix($prefix);
                let mut bytes = [0; 32];
                match digits.map(|digits| hex::decode_to_slice(digits, &mut bytes)) {
                    Some(Ok(())) => Ok(Self(bytes)),
                    _ => Err(ParseIdError::new(text, expected)),
                }
            }
        }
    };
}

macro_rules! short_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u8; 16]);

        id_common!($name, 16);

        impl $name {
            /// The id of what `owner` creates with its transaction number `nonce`.
            #[must_use]
            pub fn derive(owner: &AccountId, nonce: Nonce) -> Self {
                let mut hasher =
                    blake3::Hasher::new_derive_key(concat!("qlink v1 id ", $prefix));
                hasher.update(&owner.0);
                hasher.update(&nonce.get().to_be_bytes());
                let mut bytes = [0; 16];
                hasher.finalize_xof().fill(&mut bytes);
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                base32_write(self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix($prefix)
                    .and_then(base32_read)
                    .map(Self)
                    .ok_or_else(|| ParseIdError::new(
                        text,
                        concat!("'", $prefix, "' and 26 characters of Crockford base 32"),
                    ))
            }
        }
    };
}

hex_id!(
    /// An account: the ed25519 public key that signs for it, or a module account's hash.
    AccountId, "acc_"
);
hex_id!(
    /// A viewer: a public key derived per (wallet, package), never the wallet's account. Zero
    /// means that no viewer is entitled; units then go to the package's `unclaimed` line.
    ViewerKey, "vwr_"
);
hex_id!(
    /// A content: the BLAKE3 root of its bytes.
    ContentId, "b3:"
);
hex_id!(
    /// A transaction: the domain-tagged BLAKE3 hash of its unsigned bytes.
    TxId, "tx_"
);
hex_id!(
    /// A block: the domain-tagged BLAKE3 hash of its header.
    BlockId, "blk_"
);
hex_id!(
    /// A BLAKE3 or SHA-256 value without a more specific meaning.
    Hash32, "0x"
);
short_id!(
    /// A package of bytes bought by an account.
    PackageId, "pkg_"
);
short_id!(
    /// A gateway registered on the chain.
    GatewayId, "gwy_"
);
short_id!(
    /// A BaseStation registered on the chain.
    BaseStationId, "bst_"
);
short_id!(
    /// A mobile operator registered on the chain.
    OperatorId, "opr_"
);
short_id!(
    /// One subscriber's user-plane session at a gateway.
    SessionId, "ses_"
);

/// A GTP-U tunnel endpoint identifier, unique per receiving address.
///
/// Source: TS 29.281 §5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Teid(u32);

impl Teid {
    /// From the 32-bit value on the wire.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The 32-bit value on the wire.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Teid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Encode for Teid {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for Teid {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u32::decode(reader).map(Self)
    }
}

impl Serialize for Teid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Teid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::text::deserialize(deserializer).map(Self)
    }
}

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

fn base32_write(bytes: [u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let value = u128::from_be_bytes(bytes);
    for shift in (0..26u32).rev() {
        let digit = value.checked_shr(shift.saturating_mul(5)).unwrap_or(0) & 31;
        let index = usize::try_from(digit).unwrap_or(0);
        let character = ALPHABET.get(index).copied().unwrap_or(b'0');
        write!(f, "{}", char::from(character))?;
    }
    Ok(())
}

fn base32_read(text: &str) -> Option<[u8; 16]> {
    if text.len() != 26 {
        return None;
    }
    let mut value: u128 = 0;
    for character in text.bytes() {
        let digit = ALPHABET.iter().position(|known| *known == character)?;
        // 26 digits hold 130 bits: the first may only use three of its five.
        value = value
            .checked_mul(32)?
            .checked_add(u128::try_from(digit).ok()?)?;
    }
    Some(value.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_round_trip() {
        let package = PackageId::derive(&AccountId::new([7; 32]), Nonce::new(3));

        assert_eq!(package.to_string().parse::<PackageId>(), Ok(package));
        assert_eq!(
            PackageId::new([0xff; 16]).to_string(),
            "pkg_7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
        );
        let content = ContentId::new([0xab; 32]);
        assert_eq!(content.to_string().parse::<ContentId>(), Ok(content));
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let gateway = GatewayId::new([1; 16]).to_string();

        assert!(gateway.parse::<PackageId>().is_err());
        assert!(
            "pkg_8ZZZZZZZZZZZZZZZZZZZZZZZZZ"
                .parse::<PackageId>()
                .is_err()
        );
    }

    #[test]
    fn kinds_with_the_same_owner_and_nonce_differ() {
        let owner = AccountId::new([1; 32]);

        assert_ne!(
            GatewayId::derive(&owner, Nonce::ZERO).as_bytes(),
            BaseStationId::derive(&owner, Nonce::ZERO).as_bytes()
        );
    }
}
