//! The closed list of drop reasons for what the pure crate refuses: the same names.

use qlink_forward::fragments::FragmentRefusal;
use qlink_forward::mtu::TooBigReason;
use qlink_forward::nat::NatRefusal;
use qlink_forward::translate::TranslateRefusal;
use qlink_meter::DropReason;

/// Why a packet that is too long was not sent.
pub(super) const fn of_too_big(reason: TooBigReason) -> DropReason {
    match reason {
        TooBigReason::NoAnswerAllowed => DropReason::TooBigNoAnswer,
        TooBigReason::RateLimited => DropReason::TooBigRateLimited,
        TooBigReason::Malformed => DropReason::TooBigMalformed,
    }
}

/// Why a fragment belongs to no flow.
pub(crate) const fn of_fragment(refusal: FragmentRefusal) -> DropReason {
    match refusal {
        FragmentRefusal::Unmatched => DropReason::InnerFragmentUnmatched,
        FragmentRefusal::Tiny => DropReason::InnerFragmentTiny,
        FragmentRefusal::Conflict => DropReason::InnerFragmentConflict,
        FragmentRefusal::Portless => DropReason::InnerFragmentPortless,
        FragmentRefusal::TableFull => DropReason::InnerFragmentTableFull,
        FragmentRefusal::OwnerFull => DropReason::InnerFragmentOwnerFull,
    }
}

/// Why a packet was not translated.
pub(super) const fn of_translate(refusal: TranslateRefusal) -> DropReason {
    match refusal {
        TranslateRefusal::Nat(refusal) => of_nat(refusal),
        TranslateRefusal::Fragment(refusal) => of_fragment(refusal),
        TranslateRefusal::Malformed => DropReason::TranslateMalformed,
        TranslateRefusal::Unsupported => DropReason::TranslateUnsupported,
        TranslateRefusal::HairpinRefused => DropReason::TranslateHairpinRefused,
        TranslateRefusal::HopLimit => DropReason::TranslateHopLimit,
        TranslateRefusal::UdpChecksumZero => DropReason::TranslateUdpChecksumZero,
        TranslateRefusal::SourceRoute => DropReason::TranslateSourceRoute,
        TranslateRefusal::TooLong => DropReason::TranslateTooLong,
        TranslateRefusal::DestinationForbidden => DropReason::TranslateDestinationForbidden,
    }
}

const fn of_nat(refusal: NatRefusal) -> DropReason {
    match refusal {
        NatRefusal::SubscriberUnknown => DropReason::NatSubscriberUnknown,
        NatRefusal::NoBlock => DropReason::NatNoBlock,
        NatRefusal::SubscriberPortsFull => DropReason::NatSubscriberPortsFull,
        NatRefusal::SubscriberSessionsFull => DropReason::NatSubscriberSessionsFull,
        NatRefusal::MappingTableFull => DropReason::NatMappingTableFull,
        NatRefusal::SessionTableFull => DropReason::NatSessionTableFull,
        NatRefusal::LogFull => DropReason::NatLogFull,
        NatRefusal::TcpWithoutSyn => DropReason::NatTcpWithoutSyn,
        NatRefusal::IcmpWithoutQuery => DropReason::NatIcmpWithoutQuery,
        NatRefusal::FragmentWithoutMapping => DropReason::NatFragmentWithoutMapping,
        NatRefusal::NoMapping => DropReason::NatNoMapping,
        NatRefusal::Filtered => DropReason::NatFiltered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_one_name_in_the_crate_and_in_every_counter() {
        for refusal in TranslateRefusal::all() {
            assert_eq!(of_translate(refusal).name(), refusal.name());
        }
        for reason in TooBigReason::ALL {
            assert_eq!(of_too_big(reason).name(), reason.name());
        }
    }
}
