//! What a node can do.

use super::defect::Fault;
use super::ie::{Octets, Value, Writer};

macro_rules! features {
    (
        $(#[$doc:meta])*
        $name:ident, $least:literal;
        $($(#[$constant_doc:meta])* $constant:ident = $octet:literal / $bit:literal;)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// The empty set.
            pub const NONE: Self = Self(0);
            $($(#[$constant_doc])*
            pub const $constant: Self =
                Self((super::values::flag($bit, true) as u64) << (8 * ($octet - 5)));)*

            /// This set and `other`.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// This set without `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// Whether all of `other` is in it.
            #[must_use]
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
        }

        /// Octets behind the eighth are of versions to come; octets at the end that are 0 are not
        /// written, as far as earlier versions do without them.
        impl Value for $name {
            fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
                let mut bits = [0; 8];
                if octets.is_empty() {
                    return Err(Fault::Length);
                }
                for (place, octet) in bits.iter_mut().zip(octets.rest()) {
                    *place = *octet;
                }
                Ok(Self(u64::from_le_bytes(bits)))
            }

            fn write(&self, out: &mut Writer) {
                let octets = self.0.to_le_bytes();
                let used = octets.iter().rposition(|octet| *octet != 0);
                let length = used.map_or(0, |last| last.saturating_add(1)).max($least);
                out.bytes(octets.get(..length).unwrap_or(&octets));
            }
        }
    };
}

features! {
    /// What a user plane function can do. Source: TS 29.244 §8.2.25, table 8.2.25-1.
    UpFeatures, 2;
    /// Downlink buffering in the control plane function.
    BUCP = 5 / 1;
    /// Notification delay.
    DDND = 5 / 2;
    /// Buffering duration.
    DLBD = 5 / 3;
    /// Traffic steering.
    TRST = 5 / 4;
    /// The user plane chooses tunnel endpoints.
    FTUP = 5 / 5;
    /// PFD management.
    PFDM = 5 / 6;
    /// Header enrichment.
    HEEU = 5 / 7;
    /// Traffic redirection.
    TREU = 5 / 8;
    /// End markers.
    EMPU = 6 / 1;
    /// Traffic endpoints in detection rules.
    PDIU = 6 / 2;
    /// Control of buffering time and count.
    UDBC = 6 / 3;
    /// A forwarding rule for used-up quotas.
    QUOAC = 6 / 4;
    /// Tracing.
    TRACE = 6 / 5;
    /// Framed routes.
    FRRT = 6 / 6;
    /// PFDs of several parts.
    PFDE = 6 / 7;
    /// Enhanced association release.
    EPFAR = 6 / 8;
    /// Deferred activation and deactivation of rules.
    DPDRA = 7 / 1;
    /// Activation and deactivation of predefined rules.
    ADPDP = 7 / 2;
    /// The user plane chooses subscriber addresses.
    UEIP = 7 / 3;
    /// Sets of session management functions.
    SSET = 7 / 4;
    /// Packet counts in measurements.
    MNOP = 7 / 5;
    /// Extended buffering.
    MTE = 7 / 6;
    /// Several messages in a datagram.
    BUNDL = 7 / 7;
    /// 5G VN group communication.
    GCOM = 7 / 8;
    /// Several associations to one set.
    MPAS = 8 / 1;
    /// Redundant transmission at transport level.
    RTTL = 8 / 2;
    /// Quota validity time.
    VTIME = 8 / 3;
    /// Number of reports.
    NORP = 8 / 4;
    /// IP multicast.
    IPTV = 8 / 5;
    /// IPv6 prefixes of any length.
    IP6PL = 8 / 6;
    /// Time-sensitive communication.
    TSCU = 8 / 7;
    /// Multipath TCP.
    MPTCP = 8 / 8;
    /// Redirection to another port.
    RATP = 10 / 5;
    /// Sessions of a part of a node that failed are ended or moved together.
    RESPS = 10 / 6;
}

features! {
    /// What a control plane function can do. Source: TS 29.244 §8.2.58, table 8.2.58-1.
    CpFeatures, 1;
    /// Load control.
    LOAD = 5 / 1;
    /// Overload control.
    OVRL = 5 / 2;
    /// Enhanced association release.
    EPFAR = 5 / 3;
    /// Sets of session management functions.
    SSET = 5 / 4;
    /// Several messages in a datagram.
    BUNDL = 5 / 5;
    /// Several associations to one set.
    MPAS = 5 / 6;
    /// Reports to another address of the set.
    ARDR = 5 / 7;
    /// Reports of the use of subscriber addresses.
    UIAUR = 5 / 8;
}
