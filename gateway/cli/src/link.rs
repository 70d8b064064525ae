//! Reaching a data plane: its control socket, and the arena of its counters.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use qlink_io::seqpacket::SeqConn;
use qlink_meter::ArenaSet;
use qlink_pfcp::{Answer, MAX_MESSAGE_BYTES, Request, decode_answer, encode_request};

/// How long an answer may take (chosen: twice what a worker may take for a command).
const PATIENCE: Duration = Duration::from_secs(10);

/// Where counters are read.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Source {
    /// Control socket of a running data plane.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) dataplane: Option<PathBuf>,
    /// Arena of a data plane, running or not.
    #[arg(long, value_name = "FILE")]
    pub(crate) arena: Option<PathBuf>,
}

impl Source {
    /// The counters of all workers, and the data plane if it can be asked.
    pub(crate) fn open(&self) -> anyhow::Result<(ArenaSet, Option<Link>)> {
        match (&self.dataplane, &self.arena) {
            (Some(socket), _) => {
                let mut link = Link::connect(socket)?;
                let Answer::Hello { info } = link.ask(&Request::Hello)? else {
                    bail!("the data plane does not introduce itself");
                };
                let reader = open_arena(Path::new(info.arena.as_str()))?;
                Ok((reader, Some(link)))
            }
            (None, Some(arena)) => Ok((open_arena(arena)?, None)),
            (None, None) => {
                bail!("name a data plane (--dataplane SOCKET) or an arena (--arena FILE)")
            }
        }
    }
}

fn open_arena(path: &Path) -> anyhow::Result<ArenaSet> {
    ArenaSet::open(path).with_context(|| format!("arena {}", path.display()))
}

/// A connection to a data plane's control socket.
#[derive(Debug)]
pub(crate) struct Link {
    connection: SeqConn,
    sequence: u32,
}

impl Link {
    /// Connects.
    pub(crate) fn connect(socket: &Path) -> anyhow::Result<Self> {
        let connection = SeqConn::connect(socket)
            .with_context(|| format!("no data plane at {}", socket.display()))?;
        Ok(Self {
            connection,
            sequence: 0,
        })
    }

    /// One question, one answer; a refusal is an error with its cause.
    pub(crate) fn ask(&mut self, request: &Request) -> anyhow::Result<Answer> {
        self.sequence = self.sequence.wrapping_add(1);
        self.connection
            .send(&encode_request(self.sequence, request)?)?;
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        let Some(length) = self.connection.recv(&mut buffer, Some(PATIENCE))? else {
            bail!("the data plane does not answer");
        };
        let (sequence, answer) = decode_answer(buffer.get(..length).unwrap_or_default())?;
        if sequence != self.sequence {
            bail!("the data plane answers another question");
        }
        match answer {
            Answer::Refused { refusal } => bail!("the data plane refuses: {refusal}"),
            answer => Ok(answer),
        }
    }
}
