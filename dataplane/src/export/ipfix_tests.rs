use std::collections::BTreeMap;

use qlink_types::units::Bytes;

use super::*;
use crate::export::elements::VARIABLE;

const PEN: u32 = 32_473;
const DOMAIN: u32 = 7;

type Key = (u32, u16);

/// What a collector that learned our format from the RFC alone knows.
#[derive(Default)]
struct Collector {
    templates: BTreeMap<u16, Vec<(Key, u16)>>,
    records: Vec<(u16, BTreeMap<Key, Vec<u8>>)>,
    next_sequence: u32,
    messages: usize,
}

impl Collector {
    fn take(&mut self, message: &[u8]) {
        assert!(message.len() <= MESSAGE_MAX);
        let mut head = Input(message);
        assert_eq!(head.u16(), 10);
        assert_eq!(usize::from(head.u16()), message.len());
        assert_eq!(head.u32(), 1_700_000_000);
        assert_eq!(head.u32(), self.next_sequence);
        assert_eq!(head.u32(), DOMAIN);
        while !head.0.is_empty() {
            let (set, length) = (head.u16(), usize::from(head.u16()));
            let body = Input(head.bytes(length - 4));
            match set {
                2 | 3 => self.templates(body, set == 3),
                _ => self.data(set, body),
            }
        }
        self.messages += 1;
    }

    fn templates(&mut self, mut body: Input<'_>, options: bool) {
        while !body.0.is_empty() {
            let (id, count) = (body.u16(), body.u16());
            if options {
                assert!(body.u16() > 0, "an options template has scopes");
            }
            let fields = (0..count).map(|_| {
                let (element, length) = (body.u16(), body.u16());
                let pen = if element & 0x8000 == 0 { 0 } else { body.u32() };
                ((pen, element & 0x7fff), length)
            });
            self.templates.insert(id, fields.collect());
        }
    }

    fn data(&mut self, set: u16, mut body: Input<'_>) {
        let fields = self.templates[&set].clone();
        while !body.0.is_empty() {
            let mut record = BTreeMap::new();
            for (key, length) in &fields {
                let length = match *length {
                    VARIABLE => usize::from(body.bytes(1)[0]),
                    length => usize::from(length),
                };
                record.insert(*key, body.bytes(length).to_vec());
            }
            self.records.push((set, record));
            self.next_sequence = self.next_sequence.wrapping_add(1);
        }
    }

    fn of(&self, template: u16) -> Vec<&BTreeMap<Key, Vec<u8>>> {
        let of_it = self.records.iter().filter(|(id, _)| *id == template);
        of_it.map(|(_, record)| record).collect()
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        head
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.bytes(4).try_into().unwrap())
    }
}

fn session(ue: &str) -> SessionRecord {
    SessionRecord {
        start_ms: 1_700_000_000_001,
        end_ms: 1_700_000_000_002,
        end: EndReason::Active,
        ue: ue.parse().unwrap(),
        uplink: Volume {
            octets: 3,
            packets: 4,
        },
        downlink: Volume {
            octets: 5,
            packets: 6,
        },
        session: SessionId::new([1; 16]),
        incarnation: Incarnation::new(9),
        teid: Teid::new(0x0102_0304),
        payer: PayerKind::Operator,
        sponsor: Some((
            PackageId::new([2; 16]),
            PackageEpoch::new(3),
            ViewerKey::new([4; 32]),
        )),
        classes: ByteClasses {
            wire_payload: Bytes::new(28),
            verified_unique: Bytes::new(1),
            retransmit: Bytes::new(2),
            verified_repeat: Bytes::new(3),
            overhead_allowed: Bytes::new(4),
            undelivered: Bytes::new(5),
            user_charged: Bytes::new(6),
            pending: Bytes::new(7),
        },
        personal: 8,
        uncertain: 10,
        violations: 0,
    }
}

fn collect(write: impl FnOnce(&mut MessageWriter, &mut dyn FnMut(&[u8]))) -> Collector {
    let mut collector = Collector::default();
    let mut writer = MessageWriter::new(DOMAIN, PEN);
    writer.set_time(1_700_000_000);
    let mut out = |message: &[u8]| collector.take(message);
    writer.templates(&mut out);
    write(&mut writer, &mut out);
    writer.flush(&mut out);
    assert_eq!(writer.sequence(), collector.next_sequence);
    collector
}

#[test]
fn a_session_record_is_read_back_by_its_template_alone() {
    let collector = collect(|writer, mut out| {
        writer.record(&Record::Session(&session("10.45.0.2")), &mut out);
        writer.record(&Record::Session(&session("2001:db8::2")), &mut out);
    });

    let [v4] = collector.of(256)[..] else {
        unreachable!("one record")
    };
    let [v6] = collector.of(257)[..] else {
        unreachable!("one record")
    };
    let number = |record: &BTreeMap<Key, Vec<u8>>, key| {
        let bytes = record[&key].iter();
        bytes.fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    assert_eq!(v4[&(0, 8)], [10, 45, 0, 2]);
    assert_eq!(v6[&(0, 27)][..4], [0x20, 0x01, 0x0d, 0xb8]);
    for record in [v4, v6] {
        let standard = [85, 86].map(|element| number(record, (0, element)));
        let reverse = [85, 86].map(|element| number(record, (REVERSE_PEN, element)));
        assert_eq!((standard, reverse), ([3, 4], [5, 6]));
        let classes: Vec<u64> = (8..=18).map(|own| number(record, (PEN, own))).collect();
        assert_eq!(classes, [28, 1, 2, 3, 4, 5, 6, 7, 8, 10, 0]);
        assert_eq!(record[&(PEN, 1)], [1; 16]);
        assert_eq!(number(record, (PEN, 2)), 0x0102_0304);
        assert_eq!(record[&(PEN, 5)], [4; 32]);
    }
}

#[test]
fn every_own_element_is_described_by_name_and_type() {
    let collector = collect(|_, _| {});

    let described = collector.of(TYPE_INFORMATION.id);

    assert_eq!(described.len(), OWN_ELEMENTS.len());
    for (record, element) in described.iter().zip(OWN_ELEMENTS) {
        assert_eq!(record[&(0, 346)], PEN.to_be_bytes());
        assert_eq!(record[&(0, 303)], element.field.element.to_be_bytes());
        assert_eq!(record[&(0, 341)], element.name.as_bytes());
    }
}

#[test]
fn a_thousand_records_of_all_kinds_fit_messages_and_keep_their_order() {
    let content = ContentRecord {
        session: SessionId::new([1; 16]),
        incarnation: Incarnation::new(9),
        content: ContentId::new([7; 32]),
        classes: ByteClasses::default(),
    };
    let block = PortBlockRecord {
        observed_ms: 1,
        event: PortBlockEvent::Allocated,
        ue: IpAddr::from([10, 45, 0, 2]),
        outside: Ipv4Addr::new(192, 0, 2, 1),
        ports: (1024, 2047),
        session: SessionId::new([1; 16]),
    };
    let collector = collect(|writer, mut out| {
        for number in 0..250 {
            let drops = DropRecord {
                packets: number,
                incarnation: Incarnation::new(9),
                worker: 0,
                reason: "teid_unknown",
            };
            writer.record(&Record::Session(&session("10.45.0.2")), &mut out);
            writer.record(&Record::Content(&content), &mut out);
            writer.record(&Record::Drops(&drops), &mut out);
            writer.record(&Record::PortBlock(&block), &mut out);
        }
    });

    assert!(collector.messages > 50);
    for template in [256, 258, 259, 260] {
        assert_eq!(collector.of(template).len(), 250, "{template}");
    }
    for (number, record) in (0_u64..).zip(collector.of(259)) {
        assert_eq!(record[&(0, 135)], number.to_be_bytes());
        assert_eq!(record[&(PEN, 19)], b"teid_unknown");
    }
    assert_eq!(collector.of(260)[0][&(0, 362)], 2047_u16.to_be_bytes());
}

#[test]
fn templates_count_as_no_data_records() {
    let mut writer = MessageWriter::new(DOMAIN, PEN);
    let mut messages = 0;

    writer.templates(&mut |_| messages += 1);
    writer.flush(&mut |_| messages += 1);

    assert!(messages > 0);
    assert_eq!(writer.sequence() as usize, OWN_ELEMENTS.len());
}
