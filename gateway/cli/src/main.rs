//! The `qlink` binary: every process of the system and the tools around them.

#![forbid(unsafe_code)]

mod chain;
mod config;
mod content;
mod delegate;
mod demo;
mod dev;
mod doctor;
mod keys;
mod link;
mod output;
mod party;
mod process;
mod replay;
mod ruling;
mod session;
mod table;
mod top;
mod tunnel;
mod tx;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The gateway for mobile data that proves, byte by byte, whose content was delivered to whom, and
/// settles it.
#[derive(Debug, Parser)]
#[command(name = "qlink", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play the whole story on a local network: 10 viewers, one film, one QLC, one cheater.
    Demo(demo::Options),
    /// Run the same network, empty, until it is stopped.
    Dev(dev::Options),
    /// Meter and prove what captures hold.
    Replay(replay::Options),
    /// Run a node of the chain.
    Node(process::ConfigOption),
    /// Run a gateway.
    Gateway(process::ConfigOption),
    /// Run a data plane.
    Dataplane(process::DataplaneOptions),
    /// Run a BaseStation.
    Basestation(process::ConfigOption),
    /// Run a simulated operator (an HTTP top-up platform).
    Opsim(process::ConfigOption),
    /// Run simulated viewers or a simulated origin.
    #[command(subcommand)]
    Sim(process::Sim),
    /// Look at one session of a data plane.
    #[command(subcommand)]
    Session(session::Command),
    /// Show what a data plane does right now.
    Top(top::Options),
    /// Say which packet back ends work here, and how to get the others.
    Doctor(doctor::Options),
    /// Look at a chain.
    #[command(subcommand)]
    Chain(chain::Command),
    /// Stand for a seat of the chain, vote, and see who sits.
    #[command(subcommand)]
    Delegate(delegate::Command),
    /// Work with contents.
    #[command(subcommand)]
    Content(content::Command),
    /// Work with transactions.
    #[command(subcommand)]
    Tx(tx::Command),
    /// Work with key files.
    #[command(subcommand)]
    Key(keys::Command),
    /// Say which BaseStations may come through a tunnel, and which may not.
    #[command(subcommand)]
    Tunnel(tunnel::Command),
    /// Work with configuration files.
    #[command(subcommand)]
    Config(config::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::start_logging();
    let result = match cli.command {
        Command::Demo(options) => demo::run(&options),
        Command::Dev(options) => dev::run(&options),
        Command::Replay(options) => replay::run(&options),
        Command::Node(option) => process::node(&option),
        Command::Gateway(option) => process::gateway(&option),
        Command::Dataplane(option) => process::dataplane(&option),
        Command::Basestation(option) => process::basestation(&option),
        Command::Opsim(option) => process::opsim(&option),
        Command::Sim(sim) => process::sim(&sim),
        Command::Session(command) => session::run(&command),
        Command::Top(options) => top::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Chain(command) => chain::run(&command),
        Command::Delegate(command) => delegate::run(&command),
        Command::Content(command) => content::run(&command),
        Command::Tx(command) => tx::run(&command),
        Command::Key(command) => keys::run(&command),
        Command::Tunnel(command) => tunnel::run(&command),
        Command::Config(command) => config::run(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::fail(&error),
    }
}
