//! The kernel's packet filter "UDP port 2152", assembled here.
//!
//! Accepted are UDP packets over IPv4 and IPv6 from or to the port of GTP-U, behind one VLAN tag
//! or none (besides one that the kernel has taken out), and what the filter cannot decide: later
//! fragments of UDP packets, and IPv6 packets with other extension headers.

/// UDP port of GTP-U. Source: TS 29.281 §4.4.2.
const GTP_U: u32 = 2152;
const UDP: u32 = 17;
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
/// IPv6 next header values. Source: RFC 8200 §4.
const HOP_BY_HOP: u32 = 0;
const ROUTING: u32 = 43;
const FRAGMENT: u32 = 44;
const DESTINATION: u32 = 60;

/// What stands at the first byte that the filter sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Ethernet,
    Ip,
}

/// A place to jump to; versions of IP stand at a known offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    /// The next instruction.
    Next,
    Tagged,
    Ip4(u32),
    Ip6(u32),
    /// The ports stand at the offset.
    Ports(u32),
    /// An IPv6 fragment header stands at the offset.
    Fragment(u32),
    Accept,
    Refuse,
}

#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u32,
    operand: u32,
    yes: Label,
    no: Label,
}

#[derive(Debug, Default)]
struct Assembler {
    instructions: Vec<Instruction>,
    labels: Vec<(Label, usize)>,
}

const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_HALF_BEHIND_X: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const X_IS_HEADER_LENGTH: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
const MASK: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

impl Assembler {
    fn label(&mut self, label: Label) {
        self.labels.push((label, self.instructions.len()));
    }

    fn step(&mut self, code: u32, operand: u32) {
        self.jump(code, operand, Label::Next, Label::Next);
    }

    fn jump(&mut self, code: u32, operand: u32, yes: Label, no: Label) {
        self.instructions.push(Instruction {
            code,
            operand,
            yes,
            no,
        });
    }

    /// The type field at `at` decides what follows directly behind it.
    fn ether_type(&mut self, at: u32, otherwise: Label) {
        let behind = at.saturating_add(2);
        self.step(LOAD_HALF, at);
        self.jump(EQUAL, IPV4, Label::Ip4(behind), Label::Next);
        self.jump(EQUAL, IPV6, Label::Ip6(behind), otherwise);
    }

    fn ip4(&mut self, at: u32) {
        self.label(Label::Ip4(at));
        self.step(LOAD_BYTE, at.saturating_add(9));
        self.jump(EQUAL, UDP, Label::Next, Label::Refuse);
        self.step(LOAD_HALF, at.saturating_add(6));
        self.jump(ANY_BIT, 0x1fff, Label::Accept, Label::Next);
        self.step(X_IS_HEADER_LENGTH, at);
        self.ports(LOAD_HALF_BEHIND_X, at);
    }

    fn ip6(&mut self, at: u32) {
        let behind = at.saturating_add(40);
        self.label(Label::Ip6(at));
        self.step(LOAD_BYTE, at.saturating_add(6));
        self.jump(EQUAL, UDP, Label::Ports(behind), Label::Next);
        self.jump(EQUAL, FRAGMENT, Label::Fragment(behind), Label::Next);
        self.jump(EQUAL, HOP_BY_HOP, Label::Accept, Label::Next);
        self.jump(EQUAL, ROUTING, Label::Accept, Label::Next);
        self.jump(EQUAL, DESTINATION, Label::Accept, Label::Refuse);
        self.label(Label::Ports(behind));
        self.ports(LOAD_HALF, behind);
        self.label(Label::Fragment(behind));
        self.step(LOAD_BYTE, behind);
        self.jump(EQUAL, UDP, Label::Next, Label::Refuse);
        self.step(LOAD_HALF, behind.saturating_add(2));
        self.jump(ANY_BIT, 0xfff8, Label::Accept, Label::Next);
        self.ports(LOAD_HALF, behind.saturating_add(8));
    }

    /// Source or destination port, by the given way of loading.
    fn ports(&mut self, load: u32, at: u32) {
        self.step(load, at);
        self.jump(EQUAL, GTP_U, Label::Accept, Label::Next);
        self.step(load, at.saturating_add(2));
        self.jump(EQUAL, GTP_U, Label::Accept, Label::Refuse);
    }

    /// The instructions with distances for labels; the kernel refuses a program whose distances
    /// are wrong, which a label that is nowhere would give.
    fn finish(mut self) -> Vec<libc::sock_filter> {
        self.label(Label::Accept);
        self.step(RETURN, u32::MAX);
        self.label(Label::Refuse);
        self.step(RETURN, 0);
        let distance = |from: usize, to: Label| {
            let behind = from.saturating_add(1);
            let place = self.labels.iter().find(|(label, _)| *label == to);
            let target = match to {
                Label::Next => behind,
                _ => place.map_or(usize::MAX, |(_, place)| *place),
            };
            target
                .checked_sub(behind)
                .and_then(|distance| u8::try_from(distance).ok())
                .unwrap_or(u8::MAX)
        };
        let assemble = |(at, of): (usize, &Instruction)| libc::sock_filter {
            code: u16::try_from(of.code).unwrap_or(u16::MAX),
            jt: distance(at, of.yes),
            jf: distance(at, of.no),
            k: of.operand,
        };
        self.instructions.iter().enumerate().map(assemble).collect()
    }
}

/// The filter for frames that begin as `start` says.
pub(super) fn gtp_u(start: Start) -> Vec<libc::sock_filter> {
    let mut program = Assembler::default();
    match start {
        Start::Ip => {
            program.step(LOAD_BYTE, 0);
            program.step(MASK, 0xf0);
            program.jump(EQUAL, 0x40, Label::Ip4(0), Label::Next);
            program.jump(EQUAL, 0x60, Label::Ip6(0), Label::Refuse);
            program.ip4(0);
            program.ip6(0);
        }
        Start::Ethernet => {
            program.ether_type(12, Label::Next);
            program.jump(EQUAL, 0x8100, Label::Tagged, Label::Next);
            program.jump(EQUAL, 0x88a8, Label::Tagged, Label::Refuse);
            program.label(Label::Tagged);
            program.ether_type(16, Label::Refuse);
            for at in [14, 18] {
                program.ip4(at);
                program.ip6(at);
            }
        }
    }
    program.finish()
}
