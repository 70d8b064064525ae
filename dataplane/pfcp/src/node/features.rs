//! What this user plane function says that it can do.

use crate::wire::UpFeatures;

/// Each bit promises what this node, the compiled rules and the packet path do together; a bit
/// that is not wired yet is taken out with [`UpFeatures::without`]. What is not here is not done.
///
/// Source: TS 29.244 §8.2.25.
pub const FEATURES: UpFeatures = UpFeatures::NONE
    // We choose tunnel endpoints (CHOOSE in F-TEID).
    .with(UpFeatures::FTUP)
    // Filters of applications can be stated and replaced.
    .with(UpFeatures::PFDM)
    // A PFD has several parts at once.
    .with(UpFeatures::PFDE)
    // End markers go to the old tunnel of a handover.
    .with(UpFeatures::EMPU)
    // A forwarding rule says what happens behind a quota.
    .with(UpFeatures::QUOAC)
    // We choose subscribers' addresses.
    .with(UpFeatures::UEIP)
    // Measurements count packets.
    .with(UpFeatures::MNOP)
    // Quotas have a time in which they are valid.
    .with(UpFeatures::VTIME)
    // Subscribers' prefixes have lengths other than 64.
    .with(UpFeatures::IP6PL)
    // Downlink notifications wait as long as they are told to.
    .with(UpFeatures::DDND)
    // Sessions of a part of a node that failed are ended or moved together.
    .with(UpFeatures::RESPS)
    // Another function of a set may take sessions over, with an association of its own or of the
    // set.
    .with(UpFeatures::MPAS)
    .with(UpFeatures::SSET)
    // What rules have in common is stated once.
    .with(UpFeatures::PDIU)
    // Plain HTTP requests are redirected, and packets to other destinations.
    .with(UpFeatures::TREU)
    // Packets are redirected to other ports too.
    .with(UpFeatures::RATP);
