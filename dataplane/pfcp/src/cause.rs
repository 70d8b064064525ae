//! Why a request did not take effect.

use std::fmt;

use qlink_types::codec::{Decode, DecodeError, Encode, Reader, Text};

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal;)*) => {
        /// Why a request was refused; the list is closed. Numbers of TS 29.244 §8.2.1 where one
        /// fits, numbers from 192 on are ours.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Cause { $($(#[$doc])* $variant,)* }

        impl Cause {
            /// Every cause in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The stable number.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code),* }
            }

            /// The stable name in APIs, metrics and logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

causes! {
    /// Refused for a reason that no other cause names.
    Rejected = 64, "rejected";
    /// No such session.
    SessionUnknown = 65, "session_unknown";
    /// An information element that every such message has is missing.
    MandatoryMissing = 66, "mandatory_missing";
    /// An information element that this message needs is missing.
    ConditionalMissing = 67, "conditional_missing";
    /// An information element has a length that its type excludes.
    InvalidLength = 68, "invalid_length";
    /// The message is not a request of this version.
    Malformed = 69, "malformed";
    /// A forwarding policy is named that is not configured here.
    ForwardingPolicyInvalid = 70, "forwarding_policy_invalid";
    /// A tunnel endpoint is to be chosen in a way that is not possible.
    TeidChoiceInvalid = 71, "teid_choice_invalid";
    /// A request came before `Hello`.
    NoAssociation = 72, "no_association";
    /// The rules contradict each other or name something unusable.
    RuleInvalid = 73, "rule_invalid";
    /// The worker does not take commands now.
    Busy = 74, "busy";
    /// A table is full.
    NoResources = 75, "no_resources";
    /// The service is not offered here.
    ServiceUnsupported = 76, "service_unsupported";
    /// A failure of the system below, for example of the journal.
    SystemFailure = 77, "system_failure";
    /// No subscriber address is left to choose.
    UeAddressesExhausted = 79, "ue_addresses_exhausted";
    /// A predefined rule is named that is not configured here.
    PredefinedRuleUnknown = 80, "predefined_rule_unknown";
    /// An application is named whose filters are not known here.
    ApplicationUnknown = 81, "application_unknown";
    /// The session stands with other rules.
    SessionExists = 192, "session_exists";
    /// The TEID is in use or was freed a moment ago.
    TeidInUse = 193, "teid_in_use";
    /// Another session has this subscriber address.
    UeAddressInUse = 194, "ue_address_in_use";
    /// The content is not bound here.
    ContentUnknown = 195, "content_unknown";
    /// A session still names the content.
    ContentInUse = 196, "content_in_use";
    /// The file cannot be read.
    ContentUnreadable = 197, "content_unreadable";
    /// The file's bytes are not the content.
    ContentMismatch = 198, "content_mismatch";
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Encode for Cause {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.code());
    }
}

impl Decode for Cause {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = u8::decode(reader)?;
        Self::ALL
            .iter()
            .copied()
            .find(|cause| cause.code() == code)
            .ok_or_else(|| DecodeError::UnknownTag {
                what: "cause",
                value: code.into(),
            })
    }
}

/// A cause with the values needed to act on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}: {detail}", detail = .detail.as_str())]
pub struct Refusal {
    /// Why.
    pub cause: Cause,
    /// What in particular, for people; at most 200 bytes.
    pub detail: Text<200>,
}

qlink_types::struct_codec!(Refusal { cause, detail });

impl Refusal {
    /// A refusal; `detail` is cut at a character border to 200 bytes.
    #[must_use]
    pub fn new(cause: Cause, detail: &str) -> Self {
        let mut end = detail.len().min(200);
        while !detail.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let cut = detail.get(..end).unwrap_or_default();
        Self {
            cause,
            detail: Text::try_from(cut).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_and_names_of_causes_are_unique() {
        let codes: BTreeSet<u8> = Cause::ALL.iter().map(|cause| cause.code()).collect();
        let names: BTreeSet<&str> = Cause::ALL.iter().map(|cause| cause.name()).collect();

        assert_eq!(codes.len(), Cause::ALL.len());
        assert_eq!(names.len(), Cause::ALL.len());
    }

    #[test]
    fn a_long_detail_is_cut_at_a_character_border() {
        let refusal = Refusal::new(Cause::Busy, &"ä".repeat(150));

        assert_eq!(refusal.detail.as_str(), "ä".repeat(100));
    }
}
