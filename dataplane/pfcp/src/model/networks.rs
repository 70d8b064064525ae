//! Which network instances are served where.

use std::collections::BTreeSet;

use super::forwarding::{Forwarding, OuterHeaderCreation};
use super::packet::{Interface, NetworkInstance, Pdi};

/// Where packets of a rule pass us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// In tunnels: N3 and N9, S1-U and S5-U.
    Tunnels,
    /// As they are: N6, SGi.
    Plain,
}

impl Port {
    /// Where the packets of a detection rule come in.
    #[must_use]
    pub const fn of_pdi(pdi: &Pdi) -> Self {
        match (pdi.source, &pdi.local_fteid) {
            (Interface::Access, _) | (_, Some(_)) => Self::Tunnels,
            _ => Self::Plain,
        }
    }

    /// Where the packets of a forwarding rule leave.
    #[must_use]
    pub const fn of_forwarding(forwarding: &Forwarding) -> Self {
        match (forwarding.destination, &forwarding.outer) {
            (Interface::Access, _) | (_, Some(OuterHeaderCreation::Gtpu { .. })) => Self::Tunnels,
            _ => Self::Plain,
        }
    }
}

/// The network instances that a node serves, by port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Networks {
    /// Every one, at both ports.
    #[default]
    Any,
    /// These and no others, in their canonical form.
    Named(BTreeSet<(Port, NetworkInstance)>),
}

impl Networks {
    /// These and no others.
    #[must_use]
    pub fn named(served: impl IntoIterator<Item = (Port, NetworkInstance)>) -> Self {
        let served = served.into_iter();
        Self::Named(
            served
                .map(|(port, name)| (port, name.canonical()))
                .collect(),
        )
    }

    /// Whether packets of `instance` pass at `port`.
    #[must_use]
    pub fn serves(&self, port: Port, instance: &NetworkInstance) -> bool {
        match self {
            Self::Any => true,
            Self::Named(served) => served.contains(&(port, instance.canonical())),
        }
    }
}

impl NetworkInstance {
    /// The name in small letters with dots: some control planes write it as text, others as the
    /// labels of a domain name. Source: TS 29.244 §8.2.4 and TS 23.003 §9.1.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let text = self.of_labels().unwrap_or_else(|| self.0.clone());
        Self(text.to_ascii_lowercase())
    }

    /// The labels joined by dots; `None` when it is not made of labels to its end.
    fn of_labels(&self) -> Option<Vec<u8>> {
        let mut rest = self.0.as_slice();
        let mut labels: Vec<&[u8]> = Vec::new();
        while let Some((length, behind)) = rest.split_first() {
            let (label, behind) = behind.split_at_checked(usize::from(*length))?;
            if label.is_empty() || !label.iter().all(is_name_octet) {
                return None;
            }
            labels.push(label);
            rest = behind;
        }
        Some(labels.join(&b'.'))
    }
}

const fn is_name_octet(octet: &u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(name: &[u8]) -> NetworkInstance {
        NetworkInstance(name.to_vec())
    }

    #[test]
    fn a_name_as_text_and_as_labels_is_one_name() {
        let served = Networks::named([(Port::Plain, instance(b"Internet.mnc001"))]);

        assert!(served.serves(Port::Plain, &instance(b"internet.mnc001")));
        assert!(served.serves(Port::Plain, &instance(b"\x08internet\x06mnc001")));
        assert!(!served.serves(Port::Plain, &instance(b"\x08internet\x07mnc001")));
        assert!(!served.serves(Port::Tunnels, &instance(b"internet.mnc001")));
    }

    #[test]
    fn without_names_every_instance_is_served() {
        assert!(Networks::Any.serves(Port::Tunnels, &instance(b"anything")));
        assert!(!Networks::named([]).serves(Port::Tunnels, &instance(b"anything")));
    }
}
