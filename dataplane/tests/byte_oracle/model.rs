//! What has to come out, computed from tshark's fields and the contents' files.
//!
//! The rules are those of design.md section 4, laws 2 and 3, applied to single bytes: a byte that
//! passes for the first time and is its content's is that content's; from the first byte that is not
//! to the end of its segment all is the subscriber's, and so is every further copy of a byte that
//! passed as such; any other copy is a retransmission.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use qlink_types::ids::ContentId;

use crate::tshark::{Tunnels, tshark_fields, tshark_tunnels};

/// A content's id and bytes, in the order of the files' names.
pub(crate) type Films = Vec<(ContentId, Vec<u8>)>;

/// The classes of a content's bytes in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Classes {
    pub(crate) wire: u64,
    pub(crate) unique: u64,
    pub(crate) repeat: u64,
    pub(crate) retransmit: u64,
    pub(crate) overhead: u64,
    pub(crate) charged: u64,
    /// Pending or undelivered: nothing, as everything is acknowledged in the end.
    pub(crate) open: u64,
}

impl Classes {
    pub(crate) const fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("wire", self.wire),
            ("unique", self.unique),
            ("repeat", self.repeat),
            ("retransmit", self.retransmit),
            ("overhead", self.overhead),
            ("charged", self.charged),
            ("open", self.open),
        ]
    }

    pub(crate) fn sum(&self) -> u64 {
        self.named()[1..].iter().map(|(_, bytes)| bytes).sum()
    }
}

/// The figures of a capture.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) tunnels: Tunnels,
    /// By session, named as the replay names it, and content.
    pub(crate) contents: BTreeMap<(String, ContentId), Classes>,
}

/// The contents in a folder.
pub(crate) fn films(folder: &Path) -> Films {
    let files = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let film = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        (ContentId::new(*blake3::hash(&bytes).as_bytes()), bytes)
    };
    paths.iter().map(film).collect()
}

/// What a capture holds.
pub(crate) fn expected(capture: &Path, films: &Films) -> Expected {
    let mut sessions = Sessions {
        films,
        of_subscriber: HashMap::new(),
        flows: HashMap::new(),
        contents: BTreeMap::new(),
        delivered: HashMap::new(),
    };
    for segment in segments(capture) {
        sessions.segment(&segment);
    }
    Expected {
        tunnels: tshark_tunnels(capture),
        contents: sessions.contents,
    }
}

/// Address and port.
type Endpoint = (String, String);

/// A whole TCP segment, as tshark decodes it.
struct Segment {
    /// Outer destination and TEID.
    tunnel: String,
    from: Endpoint,
    to: Endpoint,
    seq: u32,
    syn: bool,
    ack_flag: bool,
    payload: Vec<u8>,
}

/// The inner segments of a capture in the order of their frames; none that came in inner fragments.
fn segments(capture: &Path) -> Vec<Segment> {
    let fields = [
        "gtp.teid",
        "ip.src",
        "ip.dst",
        "ipv6.src",
        "ipv6.dst",
        "tcp.srcport",
        "tcp.dstport",
        "tcp.seq_raw",
        "tcp.flags",
        "tcp.len",
        "tcp.payload",
        "frame.protocols",
        "ip.frag_offset",
        "ip.flags.mf",
        "ipv6.fraghdr.offset",
        "ipv6.fraghdr.more",
    ];
    let whole = ["tcp.desegment_tcp_streams:FALSE"];
    let (text, status) = tshark_fields(capture, "tcp", &whole, &fields);
    assert!(status.success(), "tshark: {status}");
    text.lines().filter_map(segment).collect()
}

fn segment(line: &str) -> Option<Segment> {
    let columns: Vec<Vec<&str>> = line
        .split('|')
        .map(|text| text.split(',').collect())
        .collect();
    let protocols: Vec<&str> = columns[11][0].split(':').collect();
    let gtp = protocols.iter().position(|protocol| *protocol == "gtp")?;
    let last = |column: usize| *columns[column].last().unwrap();
    let family = |layers: &[&str]| {
        let last = layers
            .iter()
            .rev()
            .find(|layer| matches!(**layer, "ip" | "ipv6"));
        last.map(|layer| if *layer == "ip" { (1, 2) } else { (3, 4) })
    };
    let (outer, inner) = (family(&protocols[..gtp])?, family(&protocols[gtp..])?);
    // One fragment that is all of its packet is no fragment (RFC 6946 §4).
    let is_piece = |column| last(column) != "0" || !matches!(last(column + 1), "0" | "False");
    let in_fragments = if inner.0 == 1 {
        is_piece(12)
    } else {
        protocols[gtp..].contains(&"ipv6.fraghdr") && is_piece(14)
    };
    if in_fragments {
        return None;
    }
    let number = |column: usize| last(column).parse::<u32>().unwrap();
    let flags = u16::from_str_radix(last(8).trim_start_matches("0x"), 16).unwrap();
    let teid = u32::from_str_radix(columns[0][0].trim_start_matches("0x"), 16).unwrap();
    let payload = hex(last(10));
    assert_eq!(payload.len() as u32, number(9));
    Some(Segment {
        tunnel: format!("{}/{teid}", columns[outer.1][0]),
        from: (last(inner.0).to_owned(), last(5).to_owned()),
        to: (last(inner.1).to_owned(), last(6).to_owned()),
        seq: number(7),
        syn: flags & 2 > 0,
        ack_flag: flags & 16 > 0,
        payload,
    })
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// Sessions by their subscribers, and their flows.
struct Sessions<'a> {
    films: &'a Films,
    of_subscriber: HashMap<String, String>,
    /// By subscriber and origin.
    flows: HashMap<(Endpoint, Endpoint), Flow>,
    contents: BTreeMap<(String, ContentId), Classes>,
    /// Which bytes of a content a session has.
    delivered: HashMap<(String, usize), Vec<bool>>,
}

/// A connection since its SYN.
#[derive(Default)]
struct Flow {
    up: Stream,
    down: Stream,
    /// Bytes of the answers' heads, behind the last body.
    head: Vec<u8>,
    /// Stream positions, first byte's place in the film, film.
    bodies: Vec<(std::ops::Range<usize>, usize, usize)>,
    /// Contents asked for, in the order of the requests.
    asked: Vec<usize>,
    answered: usize,
}

/// One direction of a connection.
#[derive(Default)]
struct Stream {
    first: Option<u32>,
    passed: Vec<Pass>,
}

/// What became of a stream's byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    NotYet,
    Good,
    Bad,
}

impl Stream {
    /// Where a sequence number is, nearest to what has passed; the stream has to have begun.
    fn position(&self, seq: u32) -> usize {
        let end = self.passed.len();
        let ahead = seq
            .wrapping_sub(self.first.unwrap())
            .wrapping_sub(1)
            .wrapping_sub(end as u32);
        end.checked_add_signed(ahead.cast_signed() as isize)
            .unwrap()
    }

    /// The byte's place, made if it is new.
    fn place(&mut self, position: usize) -> &mut Pass {
        if self.passed.len() <= position {
            self.passed.resize(position + 1, Pass::NotYet);
        }
        &mut self.passed[position]
    }
}

impl Sessions<'_> {
    fn segment(&mut self, segment: &Segment) {
        let is_up = segment.to.1 == "80";
        let (ue, origin) = if is_up {
            (&segment.from, &segment.to)
        } else {
            (&segment.to, &segment.from)
        };
        if is_up {
            let session = self.of_subscriber.entry(ue.0.clone());
            session.or_insert_with(|| segment.tunnel.clone());
        }
        let flow = self.flows.entry((ue.clone(), origin.clone())).or_default();
        if segment.syn && !segment.ack_flag && flow.up.first != Some(segment.seq) {
            *flow = Flow::default();
        }
        if segment.syn {
            let stream = if is_up { &mut flow.up } else { &mut flow.down };
            stream.first.get_or_insert(segment.seq);
            return;
        }
        if segment.payload.is_empty() {
            return;
        }
        let session = self.of_subscriber[&ue.0].clone();
        let mut counted: Vec<(Option<usize>, Classes)> = Vec::new();
        if is_up {
            counted.push((None, flow.request(segment)));
        } else {
            flow.answer(
                segment,
                self.films,
                |film, offset| {
                    let size = self.films[film].1.len();
                    let had = self.delivered.entry((session.clone(), film));
                    let had = had.or_insert_with(|| vec![false; size]);
                    std::mem::replace(&mut had[offset], true)
                },
                &mut counted,
            );
        }
        let first = flow.asked[0];
        for (film, classes) in counted {
            let key = (session.clone(), self.films[film.unwrap_or(first)].0);
            let sum = self.contents.entry(key).or_default();
            sum.wire += classes.sum();
            sum.unique += classes.unique;
            sum.repeat += classes.repeat;
            sum.retransmit += classes.retransmit;
            sum.overhead += classes.overhead;
            sum.charged += classes.charged;
        }
    }
}

impl Flow {
    /// A request, once or again.
    fn request(&mut self, segment: &Segment) -> Classes {
        let start = self.up.position(segment.seq);
        let mut classes = Classes::default();
        for at in 0..segment.payload.len() {
            let place = self.up.place(start + at);
            match std::mem::replace(place, Pass::Good) {
                Pass::NotYet => classes.overhead += 1,
                Pass::Good | Pass::Bad => classes.retransmit += 1,
            }
        }
        if classes.overhead > 0 {
            let text = String::from_utf8(segment.payload.clone()).unwrap();
            let number = text
                .strip_prefix("GET /film-")
                .unwrap()
                .split(' ')
                .next()
                .unwrap();
            self.asked.push(number.parse().unwrap());
        }
        classes
    }

    /// A piece of the answers; `delivered` says whether the session had a byte of a film before.
    fn answer(
        &mut self,
        segment: &Segment,
        films: &Films,
        mut delivered: impl FnMut(usize, usize) -> bool,
        counted: &mut Vec<(Option<usize>, Classes)>,
    ) {
        let start = self.down.position(segment.seq);
        let mut differs = false;
        for (position, byte) in (start..).zip(&segment.payload) {
            let body = self
                .bodies
                .iter()
                .find(|(range, ..)| range.contains(&position));
            let place = body.map(|(range, offset, film)| (*film, offset + position - range.start));
            let pass = self.down.place(position);
            let mut classes = Classes::default();
            let Some((film, offset)) = place else {
                match std::mem::replace(pass, Pass::Good) {
                    Pass::NotYet => {
                        classes.overhead = 1;
                        self.head(position, *byte, films);
                    }
                    Pass::Good | Pass::Bad => classes.retransmit = 1,
                }
                counted.push((None, classes));
                continue;
            };
            let is_equal = films[film].1[offset] == *byte;
            match *pass {
                Pass::Bad if !differs => classes.charged = 1,
                _ if differs || !is_equal => {
                    differs = true;
                    classes.charged = 1;
                    if *pass == Pass::NotYet {
                        *pass = Pass::Bad;
                    }
                }
                Pass::NotYet => {
                    *pass = Pass::Good;
                    if delivered(film, offset) {
                        classes.repeat = 1;
                    } else {
                        classes.unique = 1;
                    }
                }
                Pass::Good | Pass::Bad => classes.retransmit = 1,
            }
            counted.push((Some(film), classes));
        }
    }

    /// One more byte of a head; its last one says where the body is and what of the film it holds.
    fn head(&mut self, position: usize, byte: u8, films: &Films) {
        self.head.push(byte);
        if !self.head.ends_with(b"\r\n\r\n") {
            return;
        }
        let text = String::from_utf8(std::mem::take(&mut self.head)).unwrap();
        let after = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let digits = line.split(|digit: char| !digit.is_ascii_digit()).next();
            digits.and_then(|digits| digits.parse::<usize>().ok())
        };
        let length = after("Content-Length: ").unwrap();
        let offset = after("Content-Range: bytes ").unwrap_or(0);
        let film = self.asked[self.answered];
        assert!(offset + length <= films[film].1.len());
        self.answered += 1;
        self.bodies
            .push((position + 1..position + 1 + length, offset, film));
    }
}
