//! Times a GTP-U XDP program beside our pipeline on the same packet; `peers.sh --ebpf` calls it.
//!
//! ```text
//! ebpf OBJECT NOP [--program NAME] [--frame PCAP] [--fill COMMAND] [--verdict NAME]
//!
//! OBJECT     an ELF object with an XDP program, the first if it is not named
//! NOP        the object of a program that does nothing: the floor, subtracted
//! --frame    the first packet of a capture on Ethernet; otherwise an uplink TCP segment of 512
//!            bytes with PDU session container, TEID 0x55, of 10.0.0.1
//! --fill     run once as `COMMAND map=id ...` so that it gives the program its sessions, for
//!            example with `bpftool map update id ...`
//! --verdict  what every run has to answer: aborted, drop, pass, tx or redirect (the default is
//!            whatever the first run answers)
//! ```
//!
//! `BPF_PROG_TEST_RUN` runs the program on one packet per call and copies the packet in each time,
//! so a program that rewrites it meets it unchanged in the next run: with `repeat` it would see
//! its own output from the second run on. What is timed is the time that the kernel states. Ours
//! is a burst of 32 copies through the whole pipeline with one session. Rounds are interleaved.
//!
//! Exit status 1 when a verdict differs or our pipeline does not send every packet.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

#[path = "../benches/dataplane/traffic.rs"]
#[expect(dead_code, reason = "the rest serves the benches")]
#[expect(clippy::unwrap_used, reason = "bench code")]
mod traffic;

use std::error::Error;
use std::net::IpAddr;
use std::process::Command;
use std::time::Instant;

use aya::Ebpf;
use aya::maps::MapInfo;
use aya::programs::{ProgramInfo, TestRun as _, TestRunOptions, Xdp};
use qlink_dataplane::pipeline::{Ports, Side, process_burst};
use qlink_dataplane::plane::{Neighbours, Plane, PlaneLimits};
use qlink_io::mem::{MemSink, MemSource};
use qlink_io::pcap::PcapSource;
use qlink_io::{Burst, PacketSource as _};
use qlink_meter::{CounterArena, SessionSlot};
use qlink_types::ids::Teid;
use qlink_wire::{LinkType, parse_gtpu, parse_ip, parse_udp, strip_link};

const ROUNDS: usize = 15;
/// Calls, and our bursts, in one round.
const CALLS: usize = 20_000;
const BURST: usize = 32;
const VERDICTS: [&str; 5] = ["aborted", "drop", "pass", "tx", "redirect"];

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    let frame = match &options.frame {
        Some(file) => first_frame(file)?,
        None => traffic::plain_uplink(0),
    };
    let mut theirs = Loaded::load(&options.object, options.program.as_deref())?;
    let mut floor = Loaded::load(&options.nop, None)?;
    if let Some(command) = &options.fill {
        theirs.fill(command)?;
    }
    let verdict = match &options.verdict {
        Some(name) => name.clone(),
        None => theirs.verdict(&frame)?,
    };
    let mut ours = Ours::new(&frame)?;
    let mut figures = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let [their, nop, net, our] = &mut figures;
        our.push(ours.round()?);
        let (raw, least) = (theirs.round(&frame, &verdict)?, floor.round(&frame, "tx")?);
        their.push(raw);
        nop.push(least);
        net.push(raw - least);
    }
    println!(
        "frame {} bytes, verdict {verdict} in all of {} runs, {ROUNDS} rounds",
        frame.len(),
        ROUNDS * CALLS
    );
    println!("ns per packet        median    least");
    let names = [
        "program, raw",
        "nop program",
        "program, net",
        "our pipeline",
    ];
    for (name, figure) in names.iter().zip(&mut figures) {
        figure.sort_by(f64::total_cmp);
        let (median, least) = (middle(figure), figure.first().copied().unwrap_or_default());
        println!("{name:<18} {median:8.1} {least:8.1}");
    }
    let [_, _, net, our] = &figures;
    println!("program / ours {:13.2}", middle(net) / middle(our));
    Ok(())
}

/// What the command line asks for.
#[derive(Debug, Default)]
struct Options {
    object: String,
    nop: String,
    program: Option<String>,
    frame: Option<String>,
    fill: Option<String>,
    verdict: Option<String>,
}

impl Options {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let usage = "usage: ebpf OBJECT NOP [--program NAME] [--frame PCAP] [--fill COMMAND] \
                     [--verdict NAME]";
        let mut arguments = std::env::args().skip(1);
        let mut options = Self {
            object: arguments.next().ok_or(usage)?,
            nop: arguments.next().ok_or(usage)?,
            ..Self::default()
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(usage)?;
            match name.as_str() {
                "--program" => options.program = Some(value),
                "--frame" => options.frame = Some(value),
                "--fill" => options.fill = Some(value),
                "--verdict" => options.verdict = Some(value),
                _ => return Err(usage.into()),
            }
        }
        Ok(options)
    }
}

fn first_frame(file: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut source = PcapSource::open(file)?;
    let mut burst = Burst::new();
    source.recv_burst(&mut burst)?;
    let descriptor = burst.iter().next().ok_or("the capture is empty")?;
    Ok(source.frame(descriptor).to_vec())
}

/// A program in the kernel, attached to nothing.
struct Loaded {
    object: Ebpf,
    name: String,
}

impl Loaded {
    fn load(file: &str, name: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let mut object = Ebpf::load_file(file).map_err(|error| format!("{file}: {error}"))?;
        let mut programs = object.programs_mut();
        let found = programs.find_map(|(known, program)| {
            let wanted = name.is_none_or(|name| name == known);
            let xdp: Option<&mut Xdp> = program.try_into().ok();
            xdp.filter(|_| wanted).map(|xdp| (known.to_owned(), xdp))
        });
        let (name, xdp) = found.ok_or_else(|| format!("{file} holds no such XDP program"))?;
        xdp.load()?;
        drop(programs);
        Ok(Self { object, name })
    }

    fn xdp(&mut self) -> Result<&mut Xdp, Box<dyn Error>> {
        let program = self.object.program_mut(&self.name).ok_or("no program")?;
        Ok(program.try_into()?)
    }

    /// Tells the command which maps the program uses.
    fn fill(&mut self, command: &str) -> Result<(), Box<dyn Error>> {
        let info: ProgramInfo = self.xdp()?.info()?;
        let ids = info.map_ids()?.unwrap_or_default();
        let mut call = Command::new(command);
        for id in ids {
            let map = MapInfo::from_id(id)?;
            call.arg(format!("{}={id}", map.name_as_str().unwrap_or_default()));
        }
        let status = call.status()?;
        if !status.success() {
            return Err(format!("{command}: {status}").into());
        }
        Ok(())
    }

    fn verdict(&mut self, frame: &[u8]) -> Result<String, Box<dyn Error>> {
        let (verdict, _) = run(self.xdp()?, frame)?;
        Ok(verdict.to_owned())
    }

    /// Mean nanoseconds of a run, each on the packet as it was.
    fn round(&mut self, frame: &[u8], wanted: &str) -> Result<f64, Box<dyn Error>> {
        let xdp = self.xdp()?;
        let mut spent = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let (verdict, nanoseconds) = run(xdp, frame)?;
            if verdict != wanted {
                return Err(format!("verdict {verdict} instead of {wanted}").into());
            }
            spent.push(nanoseconds);
        }
        // An interrupt inside a run counts microseconds: the dearest hundredth is left out.
        spent.sort_unstable();
        spent.truncate(CALLS / 100 * 99);
        Ok(f64::from(spent.iter().sum::<u32>()) / f64::from(u32::try_from(spent.len())?))
    }
}

fn run(xdp: &Xdp, frame: &[u8]) -> Result<(&'static str, u32), Box<dyn Error>> {
    let result = xdp.test_run(TestRunOptions {
        data_in: Some(frame),
        ..TestRunOptions::new()
    })?;
    let verdict = VERDICTS.get(usize::try_from(result.return_value)?);
    let nanoseconds = u32::try_from(result.duration.as_nanos())?;
    Ok((verdict.copied().unwrap_or("unknown"), nanoseconds))
}

/// Our pipeline with the one session that the frame belongs to.
struct Ours {
    plane: Plane,
    source: MemSource,
    ports: Ports<MemSink, MemSink>,
    burst: Burst,
}

impl Ours {
    fn new(frame: &[u8]) -> Result<Self, Box<dyn Error>> {
        let outer = parse_ip(strip_link(LinkType::Ethernet, frame)?)?;
        let gtpu = parse_gtpu(parse_udp(outer.payload)?.payload)?;
        let inner = parse_ip(gtpu.payload)?;
        let mut rules = traffic::plain_rules(0);
        rules.teid = Some(Teid::new(gtpu.teid));
        rules.ue = inner.src;
        rules.path.peer.set_ip(outer.src);
        let limits = PlaneLimits {
            sessions: 1,
            flows: traffic::FLOWS,
            views: 1,
            urrs: 0,
        };
        let own: Vec<IpAddr> = vec![outer.dst];
        let neighbours = Neighbours {
            own,
            ..traffic::neighbours()
        };
        let mut plane = Plane::new(limits, CounterArena::in_memory(limits.layout()), neighbours);
        plane
            .establish(SessionSlot::new(0), &rules, Vec::new())
            .map_err(|refusal| format!("{refusal:?}"))?;
        Ok(Self {
            plane,
            source: MemSource::new(vec![frame.to_vec(); BURST], LinkType::Ethernet, u64::MAX),
            ports: Ports {
                n3: MemSink::new(),
                n6: MemSink::new(),
            },
            burst: Burst::new(),
        })
    }

    /// Mean nanoseconds per packet.
    fn round(&mut self) -> Result<f64, Box<dyn Error>> {
        let before = self.ports.n6.packets();
        let start = Instant::now();
        for now_ns in 0..CALLS as u64 {
            self.source.recv_burst(&mut self.burst)?;
            process_burst(
                &mut self.plane,
                Side::N3,
                &self.source,
                &self.burst,
                &mut self.ports,
                now_ns,
            );
        }
        let spent = start.elapsed();
        let packets = CALLS * BURST;
        if self.ports.n6.packets().saturating_sub(before) != packets as u64 {
            return Err("our pipeline did not send every packet".into());
        }
        Ok(spent.as_secs_f64() * 1e9 / f64::from(u32::try_from(packets)?))
    }
}

/// The median of sorted figures.
fn middle(figures: &[f64]) -> f64 {
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
