//! Information elements: type, length, value, and groups of them.
//!
//! ```text
//! IE      u16 type | u16 length | [u16 enterprise, type >= 32768] | value
//! group   IE*                                       the value of a grouped IE, a message's body
//! ```
//!
//! Reading copies nothing until a value is made, and makes a value only of an IE that its group
//! asks for. What no one asks for is skipped, whatever it holds; of an IE that may stand once the
//! first is taken. Invariant: the time to read a group is its length times the number of its
//! fields, and nesting is bounded by the types, not by the bytes.
//!
//! Source: TS 29.244 §5.9, §7.6.4 and §8.1.1.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::defect::{EncodeError, Fault};
use super::numbers::IeType;

/// What an IE holds.
pub(super) trait Value: Sized {
    /// Reads it; octets behind it belong to later versions and are not looked at.
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault>;
    /// Writes it.
    fn write(&self, out: &mut Writer);
}

/// Some IEs of a group, taken and put together.
pub(super) trait Part: Sized {
    /// From the IEs of `group`.
    fn take(group: &Group<'_>) -> Result<Self, Fault>;
    /// Behind those that stand in `out`.
    fn put(&self, out: &mut Writer);
}

impl<T: Part> Value for T {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        Self::take(&Group::parse(octets)?)
    }

    fn write(&self, out: &mut Writer) {
        self.put(out);
    }
}

/// The unread rest of a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Octets<'a> {
    bytes: &'a [u8],
    ie: IeType,
    enterprise: u16,
}

impl<'a> Octets<'a> {
    pub(super) const fn new(bytes: &'a [u8], enterprise: u16) -> Self {
        Self {
            bytes,
            ie: IeType::RESERVED,
            enterprise,
        }
    }

    /// The IE whose value this is.
    pub(super) const fn ie(&self) -> IeType {
        self.ie
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (head, rest) = self.bytes.split_at_checked(length).ok_or(Fault::Length)?;
        self.bytes = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (head, rest) = self.bytes.split_first_chunk().ok_or(Fault::Length)?;
        self.bytes = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Fault> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_be_bytes)
    }

    /// A part that a flag announces.
    pub(super) fn when<T>(
        &mut self,
        flag: u8,
        read: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        (flag != 0).then(|| read(self)).transpose()
    }

    pub(super) fn v4(&mut self) -> Result<Ipv4Addr, Fault> {
        self.array::<4>().map(Ipv4Addr::from)
    }

    pub(super) fn v6(&mut self) -> Result<Ipv6Addr, Fault> {
        self.array::<16>().map(Ipv6Addr::from)
    }

    /// The part that a 16-bit length announces.
    pub(super) fn counted(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// A counted part as its own reader.
    pub(super) fn inner(&mut self) -> Result<Self, Fault> {
        let bytes = self.counted()?;
        Ok(Self { bytes, ..*self })
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// The next octet of flags; none is set where nothing is left.
    pub(super) fn flags_or_none(&mut self) -> u8 {
        self.u8().unwrap_or_default()
    }
}

/// The IEs of a message's body or of a grouped IE, each whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group<'a> {
    octets: Octets<'a>,
}

impl<'a> Group<'a> {
    /// Takes the rest of `octets`.
    pub(super) fn parse(octets: &mut Octets<'a>) -> Result<Self, Fault> {
        let group = Self { octets: *octets };
        let mut rest = std::mem::take(&mut octets.bytes);
        while !rest.is_empty() {
            Self::next(&mut rest, octets.enterprise)?;
        }
        Ok(group)
    }

    /// The next IE; `None` in its place when it is another vendor's.
    fn next(rest: &mut &'a [u8], enterprise: u16) -> Result<Option<Octets<'a>>, Fault> {
        let mut outer = Octets::new(rest, enterprise);
        let ie = IeType::new(outer.u16()?);
        let value = outer
            .counted()
            .map_err(|fault| Fault::Inside(fault.at(ie)))?;
        *rest = outer.bytes;
        let mut inner = Octets {
            bytes: value,
            ie,
            enterprise,
        };
        if ie.is_vendor() {
            let vendor = inner.u16().map_err(|fault| Fault::Inside(fault.at(ie)))?;
            return Ok((vendor == enterprise).then_some(inner));
        }
        Ok(Some(inner))
    }

    fn of(&self, ie: IeType) -> impl Iterator<Item = Octets<'a>> {
        let mut rest = self.octets.bytes;
        let enterprise = self.octets.enterprise;
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                // `parse` saw that every IE is whole.
                let found = Self::next(&mut rest, enterprise).ok()?;
                if let Some(octets) = found.filter(|octets| octets.ie == ie) {
                    return Some(octets);
                }
            }
            None
        })
    }

    /// Whether an IE stands in the group.
    pub(super) fn has(&self, ie: IeType) -> bool {
        self.of(ie).next().is_some()
    }

    /// The first IE of a type.
    pub(super) fn optional<T: Value>(&self, ie: IeType) -> Result<Option<T>, Fault> {
        self.of(ie).next().map(value).transpose()
    }

    /// The IE of a type that may be repeated, but not here.
    pub(super) fn single<T: Value>(&self, ie: IeType) -> Result<Option<T>, Fault> {
        match self.of(ie).nth(1) {
            Some(_) => Err(Fault::Inside(Fault::Unsupported.at(ie))),
            None => self.optional(ie),
        }
    }

    /// The first IE of a type, which must be there.
    pub(super) fn required<T: Value>(&self, ie: IeType) -> Result<T, Fault> {
        self.optional(ie)?.ok_or_else(|| Fault::missing(ie))
    }

    /// The first IE of a type, or what its absence means.
    pub(super) fn defaulted<T: Value + Default>(&self, ie: IeType) -> Result<T, Fault> {
        Ok(self.optional(ie)?.unwrap_or_default())
    }

    /// Every IE of a type, in order, as many as [`repeats`] allows.
    pub(super) fn list<T: Value>(&self, ie: IeType) -> Result<Vec<T>, Fault> {
        let mut values = Vec::new();
        for octets in self.of(ie) {
            if values.len() == repeats(ie) {
                return Err(Fault::Inside(Fault::TooMany.at(ie)));
            }
            values.push(value(octets)?);
        }
        Ok(values)
    }

    /// Every IE of a type, of which one must be there.
    pub(super) fn some<T: Value>(&self, ie: IeType) -> Result<Vec<T>, Fault> {
        let values = self.list(ie)?;
        if values.is_empty() {
            return Err(Fault::missing(ie));
        }
        Ok(values)
    }

    /// Every IE of a type; `None` without one.
    pub(super) fn stated<T: Value>(&self, ie: IeType) -> Result<Option<Vec<T>>, Fault> {
        let values = self.list(ie)?;
        Ok((!values.is_empty()).then_some(values))
    }

    /// Refuses a group that asks for what this node does not do: leaving such an IE out would
    /// change what the others mean.
    pub(super) fn refuse(&self, unsupported: &[IeType]) -> Result<(), Fault> {
        match unsupported.iter().find(|ie| self.has(**ie)) {
            Some(&ie) => Err(Fault::Inside(Fault::Unsupported.at(ie))),
            None => Ok(()),
        }
    }
}

fn value<T: Value>(mut octets: Octets<'_>) -> Result<T, Fault> {
    let ie = octets.ie;
    T::read(&mut octets).map_err(|fault| Fault::Inside(fault.at(ie)))
}

/// Most IEs of one type in one group; more are refused with cause 75.
///
/// Chosen: the largest sessions seen have some tens of rules; the caps bound what one message can
/// make a node hold.
pub(super) const fn repeats(ie: IeType) -> usize {
    match ie {
        IeType::URR_ID
        | IeType::QER_ID
        | IeType::SDF_FILTER
        | IeType::LINKED_URR_ID
        | IeType::FQ_CSID
        | IeType::GROUP_ID
        | IeType::CP_IP_ADDRESS => super::MAX_REFERENCES,
        IeType::ADDITIONAL_MONITORING_TIME => super::MAX_SPLITS,
        IeType::QFI => super::MAX_QFIS,
        _ => super::MAX_RULES,
    }
}

/// Makes IEs.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    ie: IeType,
    enterprise: u16,
    fault: Option<EncodeError>,
}

impl Writer {
    pub(super) const fn new(enterprise: u16) -> Self {
        Self {
            bytes: Vec::new(),
            ie: IeType::RESERVED,
            enterprise,
            fault: None,
        }
    }

    /// What was made, unless something did not fit.
    pub(super) fn finish(self) -> Result<Vec<u8>, EncodeError> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(self.bytes),
        }
    }

    /// The IE whose value is being made.
    pub(super) const fn ie(&self) -> IeType {
        self.ie
    }

    /// The value does not fit.
    pub(super) fn fail(&mut self) {
        let ie = self.ie;
        self.fault.get_or_insert(EncodeError::Value { ie });
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let length = self.bytes.len();
        if length > super::MAX_MESSAGE_BYTES {
            self.fault.get_or_insert(EncodeError::TooLong { length });
        }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    /// The last `N` octets of a number, which the others may not exceed.
    pub(super) fn low<const N: usize>(&mut self, value: u64) {
        let octets = value.to_be_bytes();
        match octets.split_last_chunk::<N>() {
            Some((high, low)) if high.iter().all(|octet| *octet == 0) => self.bytes(low),
            _ => self.fail(),
        }
    }

    pub(super) fn v4(&mut self, address: Option<Ipv4Addr>) {
        if let Some(address) = address {
            self.bytes(&address.octets());
        }
    }

    pub(super) fn v6(&mut self, address: Option<Ipv6Addr>) {
        if let Some(address) = address {
            self.bytes(&address.octets());
        }
    }

    /// What `write` makes, behind its length.
    pub(super) fn counted(&mut self, write: impl FnOnce(&mut Self)) {
        let at = self.bytes.len();
        self.u16(0);
        let start = self.bytes.len();
        write(self);
        let length = self.bytes.len().saturating_sub(start);
        match (u16::try_from(length), self.bytes.get_mut(at..start)) {
            (Ok(length), Some(place)) => place.copy_from_slice(&length.to_be_bytes()),
            _ => self.fail(),
        }
    }

    /// An IE.
    pub(super) fn required<T: Value>(&mut self, ie: IeType, value: &T) {
        let outer = std::mem::replace(&mut self.ie, ie);
        self.u16(ie.get());
        self.counted(|out| {
            if ie.is_vendor() {
                out.u16(out.enterprise);
            }
            value.write(out);
        });
        self.ie = outer;
    }

    /// An IE where there is a value.
    pub(super) fn optional<T: Value>(&mut self, ie: IeType, value: &Option<T>) {
        if let Some(value) = value {
            self.required(ie, value);
        }
    }

    /// As [`Self::optional`]; see [`Group::single`].
    pub(super) fn single<T: Value>(&mut self, ie: IeType, value: &Option<T>) {
        self.optional(ie, value);
    }

    /// An IE where its absence would mean something else.
    pub(super) fn defaulted<T: Value + Default + PartialEq>(&mut self, ie: IeType, value: &T) {
        if *value != T::default() {
            self.required(ie, value);
        }
    }

    /// An IE for each value.
    pub(super) fn list<T: Value>(&mut self, ie: IeType, values: &[T]) {
        for value in values {
            self.required(ie, value);
        }
    }

    /// An IE for each value, of which one must be there.
    pub(super) fn some<T: Value>(&mut self, ie: IeType, values: &[T]) {
        if values.is_empty() {
            let outer = std::mem::replace(&mut self.ie, ie);
            self.fail();
            self.ie = outer;
        }
        self.list(ie, values);
    }

    /// An IE for each value of a list that is stated; an empty list cannot be.
    pub(super) fn stated<T: Value>(&mut self, ie: IeType, values: &Option<Vec<T>>) {
        if let Some(values) = values {
            self.some(ie, values);
        }
    }
}

/// Flags of one octet as a type.
macro_rules! flags {
    (
        $(#[$doc:meta])*
        $seen:vis $name:ident { $($(#[$field_doc:meta])* $field:ident = $bit:literal,)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        $seen struct $name {
            $($(#[$field_doc])* pub $field: bool,)*
        }

        impl $crate::wire::ie::Value for $name {
            fn read(
                octets: &mut $crate::wire::ie::Octets<'_>,
            ) -> Result<Self, $crate::wire::defect::Fault> {
                let flags = octets.u8()?;
                Ok(Self {
                    $($field: flags & $crate::wire::values::flag($bit, true) != 0,)*
                })
            }

            fn write(&self, out: &mut $crate::wire::ie::Writer) {
                out.u8(0 $(| $crate::wire::values::flag($bit, self.$field))*);
            }
        }
    };
}

/// Fields of a type and the IEs that hold them, in the order in which they are written.
///
/// `required`, `optional`, `single`, `defaulted`, `list`, `some` and `stated` are the verbs of [`Group`] and
/// [`Writer`]; `inline` takes the field's IEs from the same group.
macro_rules! part {
    ($name:ty { $($field:ident: $verb:ident $($ie:ident)?,)* } $(refuses [$($bad:ident),* $(,)?])?) => {
        impl $crate::wire::ie::Part for $name {
            fn take(group: &$crate::wire::ie::Group<'_>) -> Result<Self, $crate::wire::defect::Fault> {
                $(group.refuse(&[$($crate::wire::IeType::$bad),*])?;)?
                let _ = group;
                Ok(Self { $($field: $crate::wire::ie::take_field!(group $verb $($ie)?),)* })
            }

            fn put(&self, out: &mut $crate::wire::ie::Writer) {
                let _ = &out;
                $($crate::wire::ie::put_field!(out self $field $verb $($ie)?);)*
            }
        }
    };
}

macro_rules! take_field {
    ($group:ident inline) => {
        $crate::wire::ie::Part::take($group)?
    };
    ($group:ident creations) => {
        $crate::wire::rules::take_creations($group)?
    };
    ($group:ident $verb:ident $ie:ident) => {
        $group.$verb($crate::wire::IeType::$ie)?
    };
}

macro_rules! put_field {
    ($out:ident $this:ident $field:ident inline) => {
        $crate::wire::ie::Part::put(&$this.$field, $out)
    };
    ($out:ident $this:ident $field:ident creations) => {
        $crate::wire::rules::put_creations(&$this.$field, $out)
    };
    ($out:ident $this:ident $field:ident $verb:ident $ie:ident) => {
        $out.$verb($crate::wire::IeType::$ie, &$this.$field)
    };
}

/// A message's body: the type and its [`part`].
macro_rules! message {
    (
        $(#[$doc:meta])*
        $name:ident {
            $($(#[$field_doc:meta])* $field:ident: $kind:ty = $verb:ident $($ie:ident)?,)*
        }
        $(refuses [$($bad:ident),* $(,)?])?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $kind,)*
        }

        $crate::wire::ie::part!(
            $name { $($field: $verb $($ie)?,)* } $(refuses [$($bad),*])?
        );
    };
}

pub(super) use {flags, message, part, put_field, take_field};
