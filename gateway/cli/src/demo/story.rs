//! The story, chapter by chapter.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use qlink_api::package::ContentView;
use qlink_api::session::SessionView;
use qlink_api::transaction::{
    ClaimQuoteRequest, CloseQuoteRequest, ContentQuoteRequest, PackageQuoteRequest,
};
use qlink_basestation::{Closed, ControlRequest, OpenRequest, Opened};
use qlink_client::rpc::PackageAnswer;
use qlink_localnet::{
    CheatMode, CheatReport, ConnectionScript, Done, FetchResult, FetchScript, OriginRequest,
    RequestScript, StationQuestion, ViewersRequest,
};
use qlink_types::codec::List;
use qlink_types::ids::{AccountId, Hash32, PackageId};
use qlink_types::package::{
    Audience, CarriageShares, PackageState, PackageTerms, RepeatPolicy, Scope,
};
use qlink_types::receipt::{ByteClasses, Receipt};
use qlink_types::session::SignedAcceptance;
use qlink_types::signature::SecretKey;
use qlink_types::units::{Bytes, Incarnation, PackageEpoch, TimeMs, UNITS_PER_QLC, Units};
use qlink_viewer::Pseudonym;

use super::Options;
use super::cheaters::{self, Cheater, FILM_PATH};
use super::film::Film;
use super::network::{Network, ORIGIN};
use super::radio::Control;
use super::report::{self, Report};
use super::rest::Rest;
use super::settlement::{self, Carriage, UNITS_PER_MB};
use crate::output;

/// How long settlement may lag behind the last acknowledged byte.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// A viewer or cheater with its session.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Its wallet.
    pub(crate) wallet: SecretKey,
    /// Its pseudonym in the sponsoring package.
    pub(crate) pseudonym: Pseudonym,
    /// How it cheats, and with which package it pays; `None`: it is honest.
    pub(crate) cheater: Option<Cheater>,
    /// Its session; `Err`: why it got none.
    pub(crate) opened: Result<Opened, String>,
    /// What its device fetched.
    pub(crate) fetched: Option<FetchResult>,
    /// Its session as the gateway closed it.
    pub(crate) session: Option<SessionView>,
}

impl Guest {
    /// Its inner address, when it has a session.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        match self.opened.as_ref().ok()?.ue_address {
            std::net::IpAddr::V4(address) => Some(address),
            std::net::IpAddr::V6(_) => None,
        }
    }
}

/// The stage on which the story plays.
pub(crate) struct Stage<'a> {
    pub(crate) options: &'a Options,
    pub(crate) network: &'a mut Network,
    pub(crate) rest: Rest,
    pub(crate) film: Film,
    station: Control,
    viewers: Control,
    origin: Control,
    valid_until: TimeMs,
}

/// What the story came to.
pub(crate) struct Outcome {
    pub(crate) package: PackageId,
    pub(crate) answer: PackageAnswer,
    pub(crate) viewers: Vec<Guest>,
    pub(crate) cheaters: Vec<Guest>,
    pub(crate) station_report: CheatReport,
    pub(crate) origin_report: CheatReport,
    pub(crate) settlement: qlink_operator::Summary,
}

/// Plays the story on a running network.
pub(crate) async fn tell(options: &Options, network: &mut Network) -> anyhow::Result<Report> {
    let film = Film::prepare(
        options.content.as_deref(),
        options.seed,
        &network.plan.folder,
    )?;
    let mut stage = Stage {
        options,
        rest: Rest::new(network.api_base()),
        station: network.control("basestation").await?,
        viewers: network.control("viewers").await?,
        origin: network.control("origin").await?,
        valid_until: TimeMs::new(now_ms()).plus_millis(24 * 60 * 60 * 1000),
        network,
        film,
    };
    let outcome = stage.play().await?;
    report::make(&stage, &outcome).await
}

impl Stage<'_> {
    async fn play(&mut self) -> anyhow::Result<Outcome> {
        self.say("provider is funded, film is registered");
        self.register_film().await?;
        let package = self.buy_package().await?;
        self.say(&format!("package {package} is bought through the API"));
        let bait = self.buy_bait().await?;
        let mut viewers = self.open_viewers(package).await?;
        let mut cheaters = self.open_cheaters(bait).await?;
        self.say("sessions are open, viewers fetch over HTTP/1.1 through GTP-U");
        self.fetch(&mut viewers, &mut cheaters).await?;
        self.say("everybody has finished, sessions close");
        let (station_report, origin_report) = self.reports().await?;
        self.close_sessions(&mut viewers, package).await?;
        self.close_sessions(&mut cheaters, bait).await?;

        self.wait_settled(package, &viewers, &cheaters).await?;
        self.say("every record is final, the package closes, viewers claim");
        self.close_package(package).await?;
        self.claim(package, &viewers).await?;
        let answer = self.known(package).await?;
        let settlement = self.settle_operator(&answer, &viewers).await?;
        self.say("the operator's settlement cycle has ended");
        Ok(Outcome {
            package,
            answer,
            viewers,
            cheaters,
            station_report,
            origin_report,
            settlement,
        })
    }

    fn say(&self, text: &str) {
        if output::is_watched() {
            output::progress(text);
        } else {
            tracing::info!("{text}");
        }
    }

    async fn register_film(&mut self) -> anyhow::Result<()> {
        self.network
            .fund("provider", Units::new(1_000 * UNITS_PER_QLC))
            .await?;
        let content = self.film.content;
        let path = format!("/v1/contents/{content}/bytes");
        let stored: ContentView = self
            .rest
            .http
            .put_bytes(&path, self.film.bytes.clone())
            .await
            .context("upload")?;
        if stored.size.get() != self.film.size() {
            bail!(
                "the gateway stored {} bytes of {}",
                stored.size,
                self.film.size()
            );
        }
        let provider = self.network.wallets.key("provider");
        let request = ContentQuoteRequest {
            account: AccountId::from(provider.public()),
            content,
            media_type: "video/mp4".to_owned(),
        };
        self.rest
            .perform("/v1/contents", &request, |tx| tx.sign(&provider))
            .await?;
        let file = self.film.file.clone();
        let path = FILM_PATH.to_owned();
        let serve = OriginRequest::Serve {
            path: path.clone(),
            file: file.clone(),
        };
        let _: Done = self.origin.ask(serve).await?;
        self.tap::<Done>(StationQuestion::Film { path, file })
            .await?;
        Ok(())
    }

    async fn tap<T>(&self, question: StationQuestion) -> anyhow::Result<T>
    where
        T: serde::de::DeserializeOwned + Send + 'static,
    {
        let question = serde_json::to_value(question)?;
        self.station.ask(ControlRequest::Tap { question }).await
    }

    /// C_op follows the operator's price list; BaseStation and gateway get three and two fifths of
    /// as much.
    fn carriage(&self) -> CarriageShares {
        let operator = self.options.package_bytes.saturating_mul(UNITS_PER_MB) / 1_000_000;
        CarriageShares {
            operator: Units::new(operator),
            basestation: Units::new(operator.saturating_mul(3) / 5),
            gateway: Units::new(operator.saturating_mul(2) / 5),
        }
    }

    async fn buy(&self, terms: PackageTerms) -> anyhow::Result<PackageId> {
        let provider = self.network.wallets.key("provider");
        let account = AccountId::from(provider.public());
        let request = PackageQuoteRequest { account, terms };
        let quote = self
            .rest
            .perform("/v1/packages", &request, |tx| tx.sign(&provider))
            .await?;
        quote.package.context("a purchase without a package")
    }

    async fn buy_package(&self) -> anyhow::Result<PackageId> {
        let terms = PackageTerms {
            scope: Scope::Contents {
                contents: List::try_from(vec![self.film.content])?,
            },
            bytes: Bytes::new(self.options.package_bytes),
            reward: Units::new(self.options.reward_units),
            carriage: self.carriage(),
            valid_from: TimeMs::ZERO,
            valid_until: self.valid_until,
            audience: Audience::Open,
            viewer_cap: Bytes::new(self.film.size()),
            repeat: RepeatPolicy::ChargeUser,
            gateways: List::try_from(vec![self.network.parties.gateway])?,
        };
        self.buy(terms).await.context("the package")
    }

    async fn buy_bait(&self) -> anyhow::Result<PackageId> {
        if self.options.cheaters == 0 {
            return Ok(PackageId::ZERO);
        }
        let terms = cheaters::bait_terms(
            self.film.content,
            self.film.size(),
            u64::from(self.options.cheaters),
            self.network.parties.gateway,
            self.valid_until,
        )?;
        self.buy(terms).await.context("the second package")
    }

    fn acceptance(&self, pseudonym: &Pseudonym, name: &str) -> SignedAcceptance {
        let nonce = Hash32::new(self.network.wallets.seed_of(&format!("nonce {name}")));
        let until = TimeMs::new(now_ms()).plus_millis(5 * 60 * 1000);
        pseudonym.accept(
            self.network.parties.gateway,
            until,
            nonce,
            &self.network.chain,
        )
    }

    async fn open(&self, request: OpenRequest) -> anyhow::Result<Result<Opened, String>> {
        self.station
            .call(ControlRequest::Open {
                request: Box::new(request),
            })
            .await
    }

    async fn open_viewers(&self, package: PackageId) -> anyhow::Result<Vec<Guest>> {
        let mut guests = Vec::new();
        for index in 1..=self.options.viewers {
            let name = format!("viewer {index}");
            let wallet = self.network.wallets.key(&name);
            let pseudonym = Pseudonym::derive(&wallet, package);
            let request = OpenRequest {
                radio: Some(self.network.addresses.viewers_radio),
                acceptance: Some(self.acceptance(&pseudonym, &name)),
                personal: None,
            };
            let opened = self.open(request).await?;
            guests.push(self.admit(wallet, pseudonym, None, opened).await?);
        }
        Ok(guests)
    }

    async fn open_cheaters(&self, bait: PackageId) -> anyhow::Result<Vec<Guest>> {
        let mut guests = Vec::new();
        for index in 0..self.options.cheaters {
            let name = format!("cheater {}", index.saturating_add(1));
            let price = cheaters::personal_price(cheaters::personal_bytes(self.film.size()));
            let funds = price.total()?.add(Units::new(UNITS_PER_QLC))?;
            self.network.fund(&name, funds).await?;
            let wallet = self.network.wallets.key(&name);
            let gateway = self.network.parties.gateway;
            let (size, until) = (self.film.size(), self.valid_until);
            let personal =
                cheaters::buy_personal(&self.rest, &wallet, size, gateway, until).await?;
            let mode = CheatMode::of_cheater(usize::try_from(index)?);
            let cheater = Cheater {
                mode,
                wallet: wallet.clone(),
                personal,
            };
            let pseudonym = Pseudonym::derive(&wallet, bait);
            let payer = self.acceptance(&cheater.pseudonym(personal), &format!("{name} pays"));
            let request = OpenRequest {
                radio: Some(self.network.addresses.viewers_radio),
                acceptance: Some(self.acceptance(&pseudonym, &name)),
                personal: Some(payer),
            };
            let opened = self.open(request).await?;
            if let Err(reason) = &opened {
                bail!("{name} got no session: {reason}");
            }
            let guest = self.admit(wallet, pseudonym, Some(cheater), opened).await?;
            if let Some(viewer) = guest.address() {
                self.tap::<Done>(StationQuestion::Watch { viewer }).await?;
                let _: Done = self.origin.ask(OriginRequest::Watch { viewer }).await?;
            }
            guests.push(guest);
        }
        Ok(guests)
    }

    async fn admit(
        &self,
        wallet: SecretKey,
        pseudonym: Pseudonym,
        cheater: Option<Cheater>,
        opened: Result<Opened, String>,
    ) -> anyhow::Result<Guest> {
        let guest = Guest {
            wallet,
            pseudonym,
            cheater,
            opened,
            fetched: None,
            session: None,
        };
        if let Some(viewer) = guest.address() {
            let _: Done = self.viewers.ask(ViewersRequest::Add { viewer }).await?;
        }
        Ok(guest)
    }

    fn script(&self, guest: &Guest) -> Option<FetchScript> {
        let viewer = guest.address()?;
        let size = self.film.size();
        let script = if let Some(cheater) = &guest.cheater {
            cheater.script(viewer, size)
        } else {
            let connection = ConnectionScript {
                requests: vec![RequestScript::get(FILM_PATH)],
                ..ConnectionScript::default()
            };
            FetchScript::new(viewer, SocketAddrV4::new(ORIGIN, 80), vec![connection])
        };
        Some(script.for_bytes(size))
    }

    async fn fetch(&mut self, viewers: &mut [Guest], cheaters: &mut [Guest]) -> anyhow::Result<()> {
        let mut guests: Vec<&mut Guest> = viewers
            .iter_mut()
            .chain(cheaters.iter_mut())
            .filter(|guest| guest.opened.is_ok())
            .collect();
        let scripts: Vec<FetchScript> = guests
            .iter()
            .filter_map(|guest| self.script(guest))
            .collect();
        let requests = scripts
            .into_iter()
            .map(|script| ViewersRequest::Fetch { script })
            .collect();
        let control = self.viewers.clone();
        let fetching =
            tokio::spawn(async move { control.ask_all::<_, FetchResult>(requests).await });
        let expected = self
            .film
            .size()
            .saturating_mul(u64::try_from(guests.len())?);
        super::chaos::disturb(self.options, self.network, expected, &fetching).await?;
        let results = fetching.await??;
        for (guest, result) in guests.iter_mut().zip(results) {
            guest.fetched = Some(result);
        }
        Ok(())
    }

    async fn reports(&self) -> anyhow::Result<(CheatReport, CheatReport)> {
        self.tap::<Done>(StationQuestion::Flush {}).await?;
        let station = self.tap(StationQuestion::Report {}).await?;
        let origin = self.origin.ask(OriginRequest::Report {}).await?;
        Ok((station, origin))
    }

    async fn close_sessions(&self, guests: &mut [Guest], package: PackageId) -> anyhow::Result<()> {
        for guest in guests {
            let Ok(opened) = &guest.opened else { continue };
            let received = guest
                .fetched
                .as_ref()
                .map(received_bytes)
                .unwrap_or_default();
            // A cheater would sign anything; only honest devices state what they received.
            let receipt = guest.cheater.is_none().then(|| {
                let statement = self.statement(opened, &guest.pseudonym, package, received);
                Box::new(guest.pseudonym.sign_receipt(statement, &self.network.chain))
            });
            let close = ControlRequest::Close {
                session: opened.session,
                viewer_receipt: receipt,
            };
            let closed: Closed = self.station.ask(close).await.context("closing a session")?;
            guest.session = Some(serde_json::from_value(closed.gateway)?);
        }
        Ok(())
    }

    fn statement(
        &self,
        opened: &Opened,
        pseudonym: &Pseudonym,
        package: PackageId,
        received: u64,
    ) -> Receipt {
        let classes = ByteClasses {
            verified_unique: Bytes::new(received),
            ..ByteClasses::default()
        };
        Receipt {
            session: opened.session,
            gateway: self.network.parties.gateway,
            incarnation: Incarnation::ZERO,
            sequence: 1,
            package,
            package_epoch: PackageEpoch::ZERO,
            viewer: pseudonym.viewer(),
            uplink_network_bytes: Bytes::ZERO,
            downlink_network_bytes: Bytes::ZERO,
            classes,
            stated_at: TimeMs::new(now_ms()),
        }
    }

    pub(crate) async fn known(&self, package: PackageId) -> anyhow::Result<PackageAnswer> {
        let answer = self.network.node.package(&package).await?;
        answer.with_context(|| format!("the chain does not know package {package}"))
    }

    /// Waits until the chain holds every byte that closed sessions have proven or charged.
    async fn wait_settled(
        &self,
        package: PackageId,
        viewers: &[Guest],
        cheaters: &[Guest],
    ) -> anyhow::Result<()> {
        let mut expected = vec![(package, viewers.iter().map(proven_bytes).sum::<u64>())];
        for guest in cheaters {
            if let (Some(cheater), Some(session)) = (&guest.cheater, &guest.session) {
                expected.push((cheater.personal, session.charged_bytes.get()));
            }
        }
        for (package, bytes) in expected {
            let started = Instant::now();
            loop {
                let used = self.known(package).await?.ledger.current.used.get();
                if used >= bytes {
                    break;
                }
                if started.elapsed() >= SETTLED_WITHIN {
                    bail!("{package} has settled {used} of {bytes} bytes");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    async fn close_package(&self, package: PackageId) -> anyhow::Result<()> {
        let provider = self.network.wallets.key("provider");
        let request = CloseQuoteRequest {
            account: AccountId::from(provider.public()),
        };
        let path = format!("/v1/packages/{package}/close");
        self.rest
            .perform(&path, &request, |tx| tx.sign(&provider))
            .await?;
        let started = Instant::now();
        while self.known(package).await?.ledger.state != PackageState::Closed {
            if started.elapsed() >= SETTLED_WITHIN {
                bail!("package {package} did not close");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn claim(&self, package: PackageId, viewers: &[Guest]) -> anyhow::Result<()> {
        let mut claims = tokio::task::JoinSet::new();
        for guest in viewers {
            let earned = self
                .network
                .node
                .viewer(&package, &guest.pseudonym.viewer())
                .await?;
            if earned.is_none_or(|row| row.earned_units.is_zero()) {
                continue;
            }
            let (rest, pseudonym) = (self.rest.clone(), guest.pseudonym.clone());
            let request = ClaimQuoteRequest {
                package,
                viewer: pseudonym.viewer(),
                to: AccountId::from(guest.wallet.public()),
            };
            claims.spawn(async move {
                rest.perform("/v1/claims", &request, |tx| pseudonym.sign_transaction(tx))
                    .await
            });
        }
        while let Some(claimed) = claims.join_next().await {
            claimed?.context("a claim")?;
        }
        Ok(())
    }

    async fn settle_operator(
        &self,
        answer: &PackageAnswer,
        viewers: &[Guest],
    ) -> anyhow::Result<qlink_operator::Summary> {
        let metered: u64 = viewers.iter().map(proven_bytes).sum();
        let received: u64 = viewers
            .iter()
            .filter_map(|guest| guest.fetched.as_ref())
            .map(received_bytes)
            .sum();
        let carriage = Carriage {
            package: answer.package,
            volume: answer.terms.bytes,
            share: answer.terms.carriage.operator,
            metered: Bytes::new(metered),
            received: Bytes::new(received),
        };
        let folder = &self.network.plan.folder;
        let key_file = folder.join("keys").join("operator-shared");
        let address = self.network.operator_address();
        settlement::settle(folder, address, &key_file, &self.network.node, carriage).await
    }
}

/// Content bytes that a guest's session has proven.
pub(crate) fn proven_bytes(guest: &Guest) -> u64 {
    guest
        .session
        .as_ref()
        .map_or(0, |session| session.classes.verified_unique.get())
}

/// Body bytes that a device received.
pub(crate) fn received_bytes(result: &FetchResult) -> u64 {
    result
        .requests
        .iter()
        .map(|request| request.body_bytes)
        .sum()
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    qlink_io::clock::unix_ns() / 1_000_000
}
