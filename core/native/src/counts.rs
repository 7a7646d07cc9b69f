//! Count rows for the rollups: the fast version of `collector/parse/rollup.py`.
//!
//! Invariant: an event is counted completely or not at all. Everything that may fail is done before the first count.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::instant::SECOND;
use crate::json::Token;
use crate::slots::{By, CountedShape, Slots};

const QUARTER: i64 = 900 * SECOND;
/// A longer text has no count of its own: it is counted as other.
const MAX_CHARACTERS: usize = 64;

/// The counts of one quarter-hour, by slot.
pub struct Quarter<'a> {
    pub number: i64,
    /// Events and cents.
    types: Vec<(u32, i64)>,
    values: Vec<u32>,
    texts: Vec<Texts<'a>>,
}

struct Texts<'a> {
    values: HashMap<Cow<'a, [u8]>, u32, Seeded>,
    other: u32,
}

/// A faster hash for short texts than the standard library's. Each message has its own random seed, which prevents
/// deliberate collisions.
#[derive(Clone, Copy)]
struct Seeded(u64);

impl BuildHasher for Seeded {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

struct Folded(u64);

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn write_usize(&mut self, length: usize) {
        self.write_u64(length as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub struct Counts<'a> {
    slots: &'a Slots,
    quarters: Vec<Quarter<'a>>,
    /// The index in `quarters` of each number, and the index used last.
    known: HashMap<i64, usize>,
    last: usize,
    seed: Seeded,
    /// The expected number of texts in the first quarter-hour.
    likely_texts: usize,
}

/// The sum of counts with the same slots.
pub fn total<'a>(slots: &'a Slots, many: impl IntoIterator<Item = &'a [Quarter<'static>]>) -> Vec<Quarter<'a>> {
    let mut sum = Counts::new(slots, 0);
    many.into_iter().flatten().for_each(|quarter| sum.add(quarter));
    sum.quarters
}

impl<'a> Counts<'a> {
    pub fn new(slots: &'a Slots, likely_texts: usize) -> Self {
        let known = HashMap::new();
        let seed = Seeded(RandomState::new().hash_one(0));
        Self { slots, quarters: Vec::new(), known, last: 0, seed, likely_texts }
    }

    /// Count an event whose row was written: `values` are the results of `pg_copy::write` for each field of its shape.
    /// Returns `None`, and counts nothing, if a text is not valid.
    pub fn count(
        &mut self,
        instant: i64,
        shape: &CountedShape,
        values: &[i64],
        tokens: &[Token<'a>],
        scratch: &mut Vec<u8>,
    ) -> Option<()> {
        let text = match shape.text.map(|(slot, place)| (slot, tokens[place])) {
            Some((slot, Token::Text(text))) => Some((
                slot,
                match text.borrowed() {
                    Some(standing) => Cow::Borrowed(standing),
                    None => Cow::Owned(text.read(scratch)?.to_vec()),
                },
            )),
            Some(_) => return None,
            None => None,
        };
        let quarter = self.quarter(instant.div_euclid(QUARTER));
        let counted = &mut self.quarters[quarter];
        let event_type = values[shape.event_type] as usize;
        let count = &mut counted.types[shape.types[event_type]];
        count.0 += 1;
        if let Some((purchase, amount)) = shape.revenue
            && purchase == event_type
        {
            count.1 += values[amount].max(0);
        }
        for (field, by) in &shape.dimensions {
            let value = values[*field];
            let slot = match by {
                By::Labels(slots) => slots[value as usize],
                By::Bands(bounds, slots) => slots[bounds.partition_point(|&bound| bound <= value) - 1],
            };
            counted.values[slot] += 1;
        }
        if let Some((slot, value)) = text {
            let texts = &mut counted.texts[slot];
            match texts.values.get_mut(&value) {
                Some(count) => *count += 1,
                None if is_short(&value) => drop(texts.values.insert(value, 1)),
                None => texts.other += 1,
            }
        }
        Some(())
    }

    fn quarter(&mut self, number: i64) -> usize {
        if self.quarters.get(self.last).is_none_or(|last| last.number != number) {
            let likely = std::mem::take(&mut self.likely_texts);
            let empty = || Texts { values: HashMap::with_capacity_and_hasher(likely, self.seed), other: 0 };
            self.last = *self.known.entry(number).or_insert_with(|| {
                self.quarters.push(Quarter {
                    number,
                    types: vec![(0, 0); self.slots.types.len()],
                    values: vec![0; self.slots.values.len()],
                    texts: self.slots.texts.iter().map(|_| empty()).collect(),
                });
                self.quarters.len() - 1
            });
        }
        self.last
    }

    fn add(&mut self, counted: &'a Quarter) {
        let quarter = self.quarter(counted.number);
        let sum = &mut self.quarters[quarter];
        for (sum, (events, cents)) in sum.types.iter_mut().zip(&counted.types) {
            *sum = (sum.0 + events, sum.1 + cents);
        }
        for (sum, events) in sum.values.iter_mut().zip(&counted.values) {
            *sum += events;
        }
        for (sum, Texts { values, other }) in sum.texts.iter_mut().zip(&counted.texts) {
            sum.other += other;
            for (value, events) in values {
                *sum.values.entry(Cow::Borrowed(value)).or_default() += events;
            }
        }
    }

    /// The counts without references to the message.
    pub fn keep(self) -> Vec<Quarter<'static>> {
        self.quarters.into_iter().map(Quarter::keep).collect()
    }
}

impl Quarter<'_> {
    fn keep(self) -> Quarter<'static> {
        let keep = |Texts { values, other }: Texts| {
            let mut kept = HashMap::with_capacity_and_hasher(values.len(), *values.hasher());
            kept.extend(values.into_iter().map(|(value, events)| (Cow::Owned(value.into_owned()), events)));
            Texts { values: kept, other }
        };
        let Quarter { number, types, values, texts } = self;
        Quarter { number, types, values, texts: texts.into_iter().map(keep).collect() }
    }

    /// Stage and type, events and cents of each type that occurs. `types` are the names of `Slots::types`.
    pub fn events<'n, N>(&self, types: &'n [N]) -> impl Iterator<Item = (&'n N, (u32, i64))> {
        types.iter().zip(self.types.iter().copied()).filter(|(_, (count, _))| *count > 0)
    }

    /// Dimension and value, and events of each value of a closed list that occurs. `values` are the names of
    /// `Slots::values`.
    pub fn values<'n, N>(&self, values: &'n [N]) -> impl Iterator<Item = (&'n N, u32)> {
        values.iter().zip(self.values.iter().copied()).filter(|(_, count)| *count > 0)
    }

    /// Dimension, value and events of each text that occurs. `texts` are the names of `Slots::texts`.
    pub fn texts<'n, N>(&'n self, texts: &'n [N]) -> impl Iterator<Item = (&'n N, Option<&'n str>, u32)> {
        texts.iter().zip(&self.texts).flat_map(|(name, Texts { values, other })| {
            // A counted text is valid UTF-8.
            let values = values.iter().map(|(value, &count)| (std::str::from_utf8(value).ok(), count));
            let met = values.chain([(None, *other)]).filter(|(_, count)| *count > 0);
            met.map(move |(value, count)| (name, value, count))
        })
    }
}

/// Whether a text has a count of its own.
fn is_short(text: &[u8]) -> bool {
    text.len() <= MAX_CHARACTERS || text.iter().filter(|&byte| byte & 0xc0 != 0x80).count() <= MAX_CHARACTERS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Field;
    use crate::native_schema::{NativeSchema, Part, Shape};
    use crate::pg_copy::ColumnType;
    use crate::rows::{Request, Rows};
    use crate::slots::{Counted, Dimension};

    fn schema() -> Result<NativeSchema, String> {
        let field = |path: &str, column_type| Field { path: path.into(), nullable: path == "sold", column_type };
        let fields = vec![
            field("at", ColumnType::Timestamp),
            field("stage", ColumnType::Label(vec![b"top".to_vec()])),
            field("type", ColumnType::Label(vec![b"look".to_vec(), b"buy".to_vec()])),
            field("sold", ColumnType::Amount),
            field("age", ColumnType::Smallint { minimum: 0, maximum: 100 }),
            field("land", ColumnType::Text { minimum: 0, maximum: 200 }),
        ];
        let dimension = |name: &str, field, bands: &[(i64, &str)]| {
            let bands = bands.iter().map(|&(from, name)| (from, name.to_owned())).collect();
            Dimension { name: name.into(), field, bands }
        };
        let counted = Counted {
            event_type: 2,
            purchase: "buy".into(),
            amount: Some(3),
            dimensions: vec![dimension("age", 4, &[(0, "young"), (30, "old")]), dimension("land", 5, &[])],
        };
        NativeSchema::new(
            "stage",
            "at",
            1_000,
            vec![Shape { label: "top".into(), fields, row: vec![Part::Field(5)], counted }],
        )
    }

    fn line(at: &str, event_type: &str, sold: &str, age: u32, land: &str) -> String {
        format!(
            r#"{{"at":"2000-01-01T{at}Z","stage":"top","type":"{event_type}","sold":{sold},"age":{age},"land":"{land}"}}"#
        )
    }

    #[test]
    fn rows_are_counted_by_quarter_type_and_value() {
        let schema = schema().unwrap();
        let (long, limit) = ("é".repeat(65), "é".repeat(64));
        let lines = [
            line("00:00:00", "buy", "\"1.5\"", 29, "A"),
            line("00:14:59.999999", "buy", "\"9999999999.99\"", 30, "A"),
            line("00:14:59", "look", "\"7\"", 100, &long),
            line("00:15:00", "buy", "null", 0, &limit),
            line("00:15:00", "buy", "null", 101, "A"), // not accepted
        ];
        let mut rows = Rows::new(&schema, 0);
        let all = Request { earliest: 0, latest: i64::MAX, closing: b"" };
        assert_eq!(lines.iter().filter(|line| rows.take(line.as_bytes(), &all)).count(), 4);
        let kept = rows.finish().1.keep();
        let [first, second] = kept.as_slice() else { panic!("not two quarter-hours") };
        assert_eq!((first.number, second.number), (0, 1));
        assert_eq!(
            first.events(&["look", "buy"]).collect::<Vec<_>>(),
            [(&"look", (1, 0)), (&"buy", (2, 1_000_000_000_149))]
        );
        assert_eq!(second.events(&["look", "buy"]).collect::<Vec<_>>(), [(&"buy", (1, 0))]);
        assert_eq!(first.values(&["young", "old"]).collect::<Vec<_>>(), [(&"young", 1), (&"old", 2)]);
        assert_eq!(second.values(&["young", "old"]).collect::<Vec<_>>(), [(&"young", 1)]);
        assert_eq!(first.texts(&["land"]).collect::<Vec<_>>(), [(&"land", Some("A"), 2), (&"land", None, 1)]);
        assert_eq!(second.texts(&["land"]).collect::<Vec<_>>(), [(&"land", Some(limit.as_str()), 1)]);
        let twice = total(&schema.slots, [kept.as_slice(), kept.as_slice()]);
        let [first, second] = twice.as_slice() else { panic!("not two quarter-hours") };
        assert_eq!((first.number, second.number), (0, 1));
        assert_eq!(
            first.events(&["look", "buy"]).collect::<Vec<_>>(),
            [(&"look", (2, 0)), (&"buy", (4, 2_000_000_000_298))]
        );
        assert_eq!(second.values(&["young", "old"]).collect::<Vec<_>>(), [(&"young", 2)]);
        assert_eq!(first.texts(&["land"]).collect::<Vec<_>>(), [(&"land", Some("A"), 4), (&"land", None, 2)]);
    }
}
