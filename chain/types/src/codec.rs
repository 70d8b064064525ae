//! The canonical codec: one byte string per value, and no other.
//!
//! Integers are big-endian and of fixed width, sequences carry a `u32` length that is checked
//! against the type's own limit before anything is allocated, and a value that is followed by
//! further bytes is refused. There is no optional or self-describing part: a format changes by a
//! new version number inside the value, never by guessing.
//!
//! ```text
//! u8 u16 u32 u64 u128   fixed width, big-endian
//! [u8; N]               N bytes
//! List<T, MAX>          u32 count | count values        (count <= MAX)
//! Blob<MAX>, Text<MAX>  u32 length | bytes              (length <= MAX; Text is UTF-8)
//! Option<T>             u8 0 | nothing, or u8 1 | value
//! enum                  u8 tag | fields
//! ```

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// Why bytes are not a value of the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside a value.
    #[error("input ends {missing} bytes early at offset {offset}")]
    Truncated {
        /// Offset at which reading stopped, in bytes.
        offset: usize,
        /// How many bytes are missing at least.
        missing: usize,
    },
    /// The value is complete but bytes follow it.
    #[error("{extra} bytes follow the value")]
    Trailing {
        /// Number of bytes left over.
        extra: usize,
    },
    /// A length exceeds what the type allows.
    #[error("length {length} exceeds the limit of {limit}")]
    TooLong {
        /// The length that the input states.
        length: usize,
        /// The most that the type allows.
        limit: usize,
    },
    /// A tag or version number is unknown.
    #[error("unknown {what} {value}")]
    UnknownTag {
        /// Which field it is.
        what: &'static str,
        /// The value that was found.
        value: u64,
    },
    /// A field holds a value that its type excludes.
    #[error("{what} is not valid")]
    Invalid {
        /// Which field it is and what it must be.
        what: &'static str,
    },
}

/// A cursor over input that never reads past its end.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `input`.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self {
            rest: input,
            offset: 0,
        }
    }

    /// Takes the next `count` bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] when fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((head, rest)) = self.rest.split_at_checked(count) else {
            return Err(DecodeError::Truncated {
                offset: self.offset,
                missing: count.saturating_sub(self.rest.len()),
            });
        };
        self.rest = rest;
        self.offset = self.offset.saturating_add(count);
        Ok(head)
    }

    /// Takes the next `N` bytes as an array.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] when fewer are left.
    pub fn take_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(bytes).map_err(|_| DecodeError::Invalid {
            what: "array length",
        })
    }

    /// Reads a length and checks it against `limit`.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooLong`] above `limit`, [`DecodeError::Truncated`] at the end of input.
    pub fn take_length(&mut self, limit: usize) -> Result<usize, DecodeError> {
        let stated = u32::decode(self)?;
        let length =
            usize::try_from(stated).map_err(|_| DecodeError::Invalid { what: "length" })?;
        if length > limit {
            return Err(DecodeError::TooLong { length, limit });
        }
        Ok(length)
    }

    /// Bytes that are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Ends reading.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Trailing`] when bytes are left.
    pub const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing {
                extra: self.rest.len(),
            })
        }
    }
}

/// A value with exactly one encoding.
pub trait Encode {
    /// Appends the encoding to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// The encoding as a fresh vector.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// The inverse of [`Encode`].
pub trait Decode: Sized {
    /// Reads one value.
    ///
    /// # Errors
    ///
    /// Any [`DecodeError`]; the reader's position is then unspecified.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Reads one value that must fill `input` exactly.
    ///
    /// # Errors
    ///
    /// Any [`DecodeError`], among them [`DecodeError::Trailing`].
    fn from_bytes(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(input);
        let value = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

macro_rules! integer_codec {
    ($($int:ty),*) => {$(
        impl Encode for $int {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
        impl Decode for $int {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self::from_be_bytes(reader.take_array()?))
            }
        }
    )*};
}
integer_codec!(u8, u16, u32, u64, u128);

impl<const N: usize> Encode for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<const N: usize> Decode for [u8; N] {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.take_array()
    }
}

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Decode for bool {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::UnknownTag {
                what: "bool",
                value: other.into(),
            }),
        }
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                value.encode(out);
            }
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(reader)? {
            0 => Ok(None),
            1 => Ok(Some(T::decode(reader)?)),
            other => Err(DecodeError::UnknownTag {
                what: "option tag",
                value: other.into(),
            }),
        }
    }
}

impl<T: Encode> Encode for Box<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        T::decode(reader).map(Self::new)
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
}

impl<A: Decode, B: Decode> Decode for (A, B) {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::decode(reader)?, B::decode(reader)?))
    }
}

/// A sequence of at most `MAX` values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct List<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> List<T, MAX> {
    /// No values.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Gives the values up.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const MAX: usize> Deref for List<T, MAX> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const MAX: usize> TryFrom<Vec<T>> for List<T, MAX> {
    type Error = DecodeError;
    fn try_from(values: Vec<T>) -> Result<Self, DecodeError> {
        if values.len() > MAX {
            return Err(DecodeError::TooLong {
                length: values.len(),
                limit: MAX,
            });
        }
        Ok(Self(values))
    }
}

impl<'a, T, const MAX: usize> IntoIterator for &'a List<T, MAX> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: Encode, const MAX: usize> Encode for List<T, MAX> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.0.len(), out);
        for value in &self.0 {
            value.encode(out);
        }
    }
}

impl<T: Decode, const MAX: usize> Decode for List<T, MAX> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.take_length(MAX)?;
        // Every value takes at least one byte, so a lying count cannot reserve more than the
        // input is long.
        let mut values = Vec::with_capacity(count.min(reader.remaining()));
        for _ in 0..count {
            values.push(T::decode(reader)?);
        }
        Ok(Self(values))
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = Vec::<T>::deserialize(deserializer)?;
        Self::try_from(values).map_err(serde::de::Error::custom)
    }
}

/// At most `MAX` opaque bytes; in JSON lower-case hexadecimal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Blob<const MAX: usize>(Vec<u8>);

impl<const MAX: usize> fmt::Debug for Blob<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({})", hex::encode(&self.0))
    }
}

impl<const MAX: usize> Deref for Blob<MAX> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const MAX: usize> TryFrom<Vec<u8>> for Blob<MAX> {
    type Error = DecodeError;
    fn try_from(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        if bytes.len() > MAX {
            return Err(DecodeError::TooLong {
                length: bytes.len(),
                limit: MAX,
            });
        }
        Ok(Self(bytes))
    }
}

impl<const MAX: usize> Encode for Blob<MAX> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.0.len(), out);
        out.extend_from_slice(&self.0);
    }
}

impl<const MAX: usize> Decode for Blob<MAX> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = reader.take_length(MAX)?;
        Ok(Self(reader.take(length)?.to_vec()))
    }
}

impl<const MAX: usize> Serialize for Blob<MAX> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Blob<MAX> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = hex::decode(&text).map_err(serde::de::Error::custom)?;
        Self::try_from(bytes).map_err(serde::de::Error::custom)
    }
}

/// UTF-8 text of at most `MAX` bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> TryFrom<&str> for Text<MAX> {
    type Error = DecodeError;
    fn try_from(text: &str) -> Result<Self, DecodeError> {
        if text.len() > MAX {
            return Err(DecodeError::TooLong {
                length: text.len(),
                limit: MAX,
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl<const MAX: usize> Encode for Text<MAX> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.0.len(), out);
        out.extend_from_slice(self.0.as_bytes());
    }
}

impl<const MAX: usize> Decode for Text<MAX> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = reader.take_length(MAX)?;
        let text = std::str::from_utf8(reader.take(length)?).map_err(|_| DecodeError::Invalid {
            what: "text, which must be UTF-8,",
        })?;
        Ok(Self(text.to_owned()))
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::try_from(text.as_str()).map_err(serde::de::Error::custom)
    }
}

/// Lengths above `u32::MAX` cannot occur: every sequence type is limited far below that.
fn encode_length(length: usize, out: &mut Vec<u8>) {
    u32::try_from(length).unwrap_or(u32::MAX).encode(out);
}

/// Implements [`Encode`] and [`Decode`] for a struct as its fields in the order listed.
#[macro_export]
macro_rules! struct_codec {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::codec::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $( $crate::codec::Encode::encode(&self.$field, out); )*
            }
        }
        impl $crate::codec::Decode for $name {
            fn decode(
                reader: &mut $crate::codec::Reader<'_>,
            ) -> Result<Self, $crate::codec::DecodeError> {
                $( let $field = $crate::codec::Decode::decode(reader)?; )*
                Ok(Self { $($field),* })
            }
        }
    };
}

/// Implements [`Encode`] and [`Decode`] for a field-less enum as one byte.
#[macro_export]
macro_rules! tag_codec {
    ($name:ident, $what:literal, { $($variant:ident = $tag:literal),* $(,)? }) => {
        impl $crate::codec::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                out.push(match self { $( Self::$variant => $tag ),* });
            }
        }
        impl $crate::codec::Decode for $name {
            fn decode(
                reader: &mut $crate::codec::Reader<'_>,
            ) -> Result<Self, $crate::codec::DecodeError> {
                match <u8 as $crate::codec::Decode>::decode(reader)? {
                    $( $tag => Ok(Self::$variant), )*
                    other => Err($crate::codec::DecodeError::UnknownTag {
                        what: $what,
                        value: other.into(),
                    }),
                }
            }
        }
    };
}

/// Implements [`Encode`] and [`Decode`] for an enum whose variants have named fields: one tag byte,
/// then the fields in the order listed.
#[macro_export]
macro_rules! enum_codec {
    ($name:ident, $what:literal, {
        $($variant:ident $({ $($field:ident),* $(,)? })? = $tag:literal),* $(,)?
    }) => {
        impl $crate::codec::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $( Self::$variant $({ $($field),* })? => {
                        out.push($tag);
                        $( $( $crate::codec::Encode::encode($field, out); )* )?
                    } )*
                }
            }
        }
        impl $crate::codec::Decode for $name {
            fn decode(
                reader: &mut $crate::codec::Reader<'_>,
            ) -> Result<Self, $crate::codec::DecodeError> {
                match <u8 as $crate::codec::Decode>::decode(reader)? {
                    $( $tag => {
                        $( $( let $field = $crate::codec::Decode::decode(reader)?; )* )?
                        Ok(Self::$variant $({ $($field),* })?)
                    } )*
                    other => Err($crate::codec::DecodeError::UnknownTag {
                        what: $what,
                        value: other.into(),
                    }),
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_bytes_are_refused() {
        assert_eq!(
            u16::from_bytes(&[1, 2, 3]),
            Err(DecodeError::Trailing { extra: 1 })
        );
    }

    #[test]
    fn a_lying_count_is_refused_before_it_allocates() {
        let claim = u32::MAX.to_bytes();

        assert_eq!(
            List::<u64, 10>::from_bytes(&claim),
            Err(DecodeError::TooLong {
                length: 0xffff_ffff,
                limit: 10
            })
        );
    }

    #[test]
    fn an_option_has_one_encoding() {
        assert_eq!(Option::<u8>::from_bytes(&[0]), Ok(None));
        assert!(Option::<u8>::from_bytes(&[2, 0]).is_err());
    }
}
