//! The closed list of drop reasons for what the pure crate refuses: the same names.

use qlink_forward::mtu::TooBigReason;
use qlink_meter::DropReason;

/// Why a packet that is too long was not sent.
pub(super) const fn of_too_big(reason: TooBigReason) -> DropReason {
    match reason {
        TooBigReason::NoAnswerAllowed => DropReason::TooBigNoAnswer,
        TooBigReason::RateLimited => DropReason::TooBigRateLimited,
        TooBigReason::Malformed => DropReason::TooBigMalformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_one_name_in_the_crate_and_in_every_counter() {
        for reason in TooBigReason::ALL {
            assert_eq!(of_too_big(reason).name(), reason.name());
        }
    }
}
