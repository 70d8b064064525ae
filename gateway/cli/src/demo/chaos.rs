//! Killing processes during the traffic.

use std::time::Duration;

use anyhow::Context as _;
use qlink_localnet::FetchResult;
use qlink_meter::ArenaSet;
use tokio::task::JoinHandle;

use super::Options;
use super::network::Network;

/// How often the traffic's progress is looked at (chosen: some bursts pass meanwhile, so a kill
/// meets the process in any state).
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Kills and restarts what the options say while `traffic` runs, at instants spread by the seed
/// over the whole of it: an instant is an amount of forwarded bytes, `expected_bytes` is the
/// traffic's least.
pub(crate) async fn disturb(
    options: &Options,
    network: &mut Network,
    expected_bytes: u64,
    traffic: &JoinHandle<anyhow::Result<Vec<FetchResult>>>,
) -> anyhow::Result<()> {
    let kills = kills_of(options, expected_bytes);
    if kills.is_empty() {
        return Ok(());
    }
    let arena = ArenaSet::open(network.arena()).context("the data plane's counters")?;
    for (index, (instant, victim)) in kills.into_iter().enumerate() {
        while arena.totals().network_bytes < instant {
            if traffic.is_finished() {
                tracing::warn!(index, "the traffic ended before every kill was done");
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        network.kill_and_restart(victim).await?;
        tracing::info!(victim, index, instant, "killed and restarted");
    }
    Ok(())
}

/// Instants in order, each with its victim.
fn kills_of(options: &Options, expected_bytes: u64) -> Vec<(u64, &'static str)> {
    let mut kills: Vec<(u64, &'static str)> = [
        ("gateway", options.kill_gateway),
        ("dataplane", options.kill_dataplane),
    ]
    .into_iter()
    .flat_map(|(victim, count)| (0..count).map(move |index| (victim, index)))
    .map(|(victim, index)| {
        let instant = instant_of(options.seed, victim, index, expected_bytes);
        (instant, victim)
    })
    .collect();
    kills.sort_unstable();
    kills
}

/// Any amount of bytes below `expected_bytes`, by the seed.
fn instant_of(seed: u64, victim: &str, index: u32, expected_bytes: u64) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("qlink demo kill instants");
    hasher.update(&seed.to_be_bytes());
    hasher.update(victim.as_bytes());
    hasher.update(&index.to_be_bytes());
    let mut word = [0; 8];
    hasher.finalize_xof().fill(&mut word);
    u64::from_be_bytes(word)
        .checked_rem(expected_bytes)
        .unwrap_or(0)
}
