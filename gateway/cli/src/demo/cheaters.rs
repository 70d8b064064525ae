//! Cheaters: each has a personal data package and a session on a second package without reward.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Context as _;
use qlink_api::transaction::PackageQuoteRequest;
use qlink_localnet::{CheatMode, CheatReport, FetchScript, foreign_bytes};
use qlink_types::codec::List;
use qlink_types::ids::{AccountId, ContentId, GatewayId, PackageId};
use qlink_types::package::{Audience, CarriageShares, PackageTerms, RepeatPolicy, Scope};
use qlink_types::signature::SecretKey;
use qlink_types::units::{Bytes, TimeMs, Units};
use qlink_viewer::Pseudonym;

use super::network::ORIGIN;
use super::rest::Rest;

/// Path under which the origin serves the film.
pub(crate) const FILM_PATH: &str = "/film";

/// A cheater's wallet and packages.
#[derive(Debug, Clone)]
pub(crate) struct Cheater {
    /// How it cheats.
    pub(crate) mode: CheatMode,
    /// Its wallet.
    pub(crate) wallet: SecretKey,
    /// Its personal data package.
    pub(crate) personal: PackageId,
}

impl Cheater {
    /// Its pseudonym in `package`.
    pub(crate) fn pseudonym(&self, package: PackageId) -> Pseudonym {
        Pseudonym::derive(&self.wallet, package)
    }

    /// What it does.
    pub(crate) fn script(&self, viewer: Ipv4Addr, film_size: u64) -> FetchScript {
        self.mode
            .script(viewer, SocketAddrV4::new(ORIGIN, 80), FILM_PATH, film_size)
    }
}

/// The name of a mode in reports.
pub(crate) const fn mode_name(mode: CheatMode) -> &'static str {
    match mode {
        CheatMode::ForeignBody => "foreign_body",
        CheatMode::FakeRetransmit => "fake_retransmit",
        CheatMode::UplinkPayload => "uplink_payload",
        CheatMode::ForeignTail => "foreign_tail",
    }
}

/// Price of a personal data package per byte: 5, 3 and 2 units for operator, BaseStation and
/// gateway, so that every byte is charged exactly.
pub(crate) const PERSONAL_UNITS_PER_BYTE: u64 = 10;

/// Price of a personal data package of `bytes`.
pub(crate) const fn personal_price(bytes: u64) -> CarriageShares {
    CarriageShares {
        operator: Units::new(bytes.saturating_mul(5)),
        basestation: Units::new(bytes.saturating_mul(3)),
        gateway: Units::new(bytes.saturating_mul(2)),
    }
}

/// Volume of a cheater's personal data package: the film thrice covers every mode.
pub(crate) fn personal_bytes(film_size: u64) -> u64 {
    film_size.saturating_mul(3).saturating_add(10_000_000)
}

/// Buys a personal data package for `wallet` through the API.
pub(crate) async fn buy_personal(
    rest: &Rest,
    wallet: &SecretKey,
    film_size: u64,
    gateway: GatewayId,
    valid_until: TimeMs,
) -> anyhow::Result<PackageId> {
    let account = AccountId::from(wallet.public());
    // The audience is the buyer's own pseudonym in a package that does not exist yet; its id
    // follows from the account and its next transaction.
    let state: qlink_api::package::AccountView =
        rest.http.get(&format!("/v1/accounts/{account}")).await?;
    let package = PackageId::derive(&account, state.nonce);
    let viewer = Pseudonym::derive(wallet, package).viewer();
    let bytes = personal_bytes(film_size);
    let terms = PackageTerms {
        scope: Scope::Any,
        bytes: Bytes::new(bytes),
        reward: Units::ZERO,
        carriage: personal_price(bytes),
        valid_from: TimeMs::ZERO,
        valid_until,
        audience: Audience::Keys {
            keys: List::try_from(vec![viewer])?,
        },
        viewer_cap: Bytes::new(bytes),
        repeat: RepeatPolicy::ChargeUser,
        gateways: List::try_from(vec![gateway])?,
    };
    let request = PackageQuoteRequest { account, terms };
    let quote = rest
        .perform("/v1/packages", &request, |transaction| {
            transaction.sign(wallet)
        })
        .await
        .context("a personal data package")?;
    quote.package.context("a purchase without a package")
}

/// Terms of the package that cheaters abuse: no reward, no carriage, the same film.
pub(crate) fn bait_terms(
    content: ContentId,
    film_size: u64,
    cheaters: u64,
    gateway: GatewayId,
    valid_until: TimeMs,
) -> anyhow::Result<PackageTerms> {
    Ok(PackageTerms {
        scope: Scope::Contents {
            contents: List::try_from(vec![content])?,
        },
        bytes: Bytes::new(film_size.saturating_mul(cheaters)),
        reward: Units::ZERO,
        carriage: CarriageShares::default(),
        valid_from: TimeMs::ZERO,
        valid_until,
        audience: Audience::Open,
        viewer_cap: Bytes::new(film_size),
        repeat: RepeatPolicy::ChargeUser,
        gateways: List::try_from(vec![gateway])?,
    })
}

/// Foreign bytes of a cheater, as the simulators at BaseStation and origin counted them.
pub(crate) fn counted_foreign(
    station: &CheatReport,
    origin: &CheatReport,
    viewer: Ipv4Addr,
) -> qlink_localnet::ForeignCount {
    foreign_bytes(station, origin, viewer)
}
