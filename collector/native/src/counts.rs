//! Count rows as the rollups do: `collector/rollup.py` is the readable one of the two.
//!
//! Invariant: an event is counted as a whole or not at all. All that may fail comes before the first count.

use std::collections::HashMap;

use crate::copying::{self, Kind};
use crate::instant::SECOND;
use crate::json::Token;
use crate::plan::Placed;

const QUARTER: i64 = 900 * SECOND;
/// A text of more has no count of its own: it is counted as other.
const MOST_CHARACTERS: usize = 64;

/// How events of a shape are counted, by the numbers of their fields: `Counted` of `collector/plan.py`.
#[derive(Debug)]
pub struct Counted {
    pub kind: usize,
    pub purchase: String,
    pub amount: Option<usize>,
    pub dimensions: Vec<Dimension>,
}

#[derive(Debug)]
pub struct Dimension {
    pub name: String,
    pub field: usize,
    pub bands: Vec<(i64, String)>,
}

/// What each slot of a quarter-hour's counts is about, over all shapes.
#[derive(Debug, Default)]
pub struct Slots {
    /// Stage and type.
    types: Vec<(String, String)>,
    /// Dimension and value, where the values are a closed list.
    values: Vec<(String, String)>,
    /// Dimensions whose values are texts.
    texts: Vec<String>,
}

/// How one shape is counted: the field of its type with the slots of its labels, and the label that has revenue.
#[derive(Debug)]
pub struct CountedShape {
    kind: usize,
    types: Vec<usize>,
    revenue: Option<(usize, usize)>,
    dimensions: Vec<(usize, By)>,
}

#[derive(Debug)]
enum By {
    /// A slot for each label.
    Labels(Vec<usize>),
    /// The first number of each band, and its slot.
    Bands(Vec<i64>, Vec<usize>),
    Text(usize),
}

impl Slots {
    /// The error says what does not fit to the fields.
    pub fn plan(&mut self, stage: &str, counted: Counted, fields: &[Placed]) -> Result<CountedShape, String> {
        let labels = |number: usize| match fields.get(number).map(|field| &field.kind) {
            Some(Kind::Label(labels)) => Ok(labels.iter().map(|label| String::from_utf8_lossy(label).into_owned())),
            _ => Err(format!("{stage} has no labels in field {number}")),
        };
        let types: Vec<_> = labels(counted.kind)?.collect();
        let purchase = types.iter().position(|kind| *kind == counted.purchase);
        let types = types.into_iter().map(|kind| slot(&mut self.types, (stage.to_owned(), kind))).collect();
        let mut dimensions = Vec::new();
        for Dimension { name, field, bands } in counted.dimensions {
            let mut of = |value| slot(&mut self.values, (name.clone(), value));
            let by = match fields.get(field).map(|field| &field.kind) {
                Some(Kind::Label(_)) if bands.is_empty() => By::Labels(labels(field)?.map(of).collect()),
                Some(Kind::Text { .. }) if bands.is_empty() && !has_text(&dimensions) => {
                    By::Text(slot(&mut self.texts, name))
                }
                Some(
                    Kind::Smallint { least: 0, .. } | Kind::Integer { least: 0, .. } | Kind::Bigint { least: 0, .. },
                ) if bands.first().is_some_and(|band| band.0 == 0) => {
                    let (bounds, names): (Vec<_>, Vec<_>) = bands.into_iter().unzip();
                    By::Bands(bounds, names.into_iter().map(&mut of).collect())
                }
                _ => return Err(format!("{name} of {stage} cannot be counted by field {field}")),
            };
            dimensions.push((field, by));
        }
        Ok(CountedShape { kind: counted.kind, types, revenue: purchase.zip(counted.amount), dimensions })
    }
}

/// One text a shape is enough, and is read without a list.
fn has_text(dimensions: &[(usize, By)]) -> bool {
    dimensions.iter().any(|(_, by)| matches!(by, By::Text(_)))
}

/// Where it stands in the list; it is added if need be.
fn slot<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|other| *other == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

/// The counts of one quarter-hour, by slot.
struct Quarter {
    number: i64,
    /// Events, and cents.
    types: Vec<(u32, i64)>,
    values: Vec<u32>,
    texts: Vec<Texts>,
}

#[derive(Default)]
struct Texts {
    values: HashMap<Box<[u8]>, u32>,
    other: u32,
}

pub struct Counts<'a> {
    slots: &'a Slots,
    quarters: Vec<Quarter>,
    /// Where in `quarters` each number stands, and the one that was counted last.
    known: HashMap<i64, usize>,
    last: usize,
    found: Vec<usize>,
}

impl<'a> Counts<'a> {
    pub fn new(slots: &'a Slots) -> Self {
        Self { slots, quarters: Vec::new(), known: HashMap::new(), last: 0, found: Vec::new() }
    }

    /// Count an event whose row was written. `None`, and nothing is counted, where a value is not what it has to be.
    pub fn count(
        &mut self,
        instant: i64,
        shape: &CountedShape,
        fields: &[Placed],
        tokens: &[Token],
        scratch: &mut Vec<u8>,
    ) -> Option<()> {
        let kind = label(&fields[shape.kind], tokens, scratch)?;
        let cents = match shape.revenue {
            Some((purchase, amount)) if purchase == kind => match tokens[fields[amount].place] {
                Token::Text(text) => copying::cents(text.read(scratch)?)?,
                _ => 0,
            },
            _ => 0,
        };
        let mut text = None;
        self.found.clear();
        for (number, by) in &shape.dimensions {
            let field = &fields[*number];
            match (by, tokens[field.place]) {
                (By::Labels(slots), _) => self.found.push(slots[label(field, tokens, scratch)?]),
                (By::Bands(bounds, slots), Token::Number(digits)) => {
                    let value = copying::unsigned(digits)?;
                    self.found.push(slots[bounds.partition_point(|&bound| bound <= value) - 1]);
                }
                (By::Text(slot), Token::Text(value)) => text = Some((*slot, value)),
                _ => return None,
            }
        }
        let text = match text {
            Some((slot, value)) => Some((slot, value.read(scratch)?)),
            None => None,
        };
        let quarter = self.quarter(instant.div_euclid(QUARTER));
        let counted = &mut self.quarters[quarter];
        let count = &mut counted.types[shape.types[kind]];
        *count = (count.0 + 1, count.1 + cents);
        for &slot in &self.found {
            counted.values[slot] += 1;
        }
        if let Some((slot, value)) = text {
            let texts = &mut counted.texts[slot];
            match texts.values.get_mut(value) {
                Some(count) => *count += 1,
                None if is_short(value) => drop(texts.values.insert(value.into(), 1)),
                None => texts.other += 1,
            }
        }
        Some(())
    }

    fn quarter(&mut self, number: i64) -> usize {
        if self.quarters.get(self.last).is_none_or(|last| last.number != number) {
            self.last = *self.known.entry(number).or_insert_with(|| {
                self.quarters.push(Quarter {
                    number,
                    types: vec![(0, 0); self.slots.types.len()],
                    values: vec![0; self.slots.values.len()],
                    texts: self.slots.texts.iter().map(|_| Texts::default()).collect(),
                });
                self.quarters.len() - 1
            });
        }
        self.last
    }

    /// Quarter, stage, type, events and cents of each type that was met.
    pub fn events(&self) -> impl Iterator<Item = (i64, &str, &str, u32, i64)> {
        self.quarters.iter().flat_map(|quarter| {
            let met = self.slots.types.iter().zip(&quarter.types).filter(|(_, count)| count.0 > 0);
            met.map(|((stage, kind), count)| (quarter.number, stage.as_str(), kind.as_str(), count.0, count.1))
        })
    }

    /// Quarter, dimension, value and events of each value that was met.
    pub fn audience(&self) -> impl Iterator<Item = (i64, &str, Option<&str>, u32)> {
        self.quarters.iter().flat_map(|quarter| {
            let values = self.slots.values.iter().zip(&quarter.values);
            let values = values.map(|((name, value), &count)| (name, Some(value.as_str()), count));
            let texts = self.slots.texts.iter().zip(&quarter.texts).flat_map(|(name, Texts { values, other })| {
                // A text is UTF-8, or it would not have been counted.
                let values = values.iter().map(move |(value, &count)| (name, std::str::from_utf8(value).ok(), count));
                values.chain([(name, None, *other)])
            });
            let met = values.chain(texts).filter(|(_, _, count)| *count > 0);
            met.map(|(name, value, count)| (quarter.number, name.as_str(), value, count))
        })
    }
}

/// Which label of its list a field has.
fn label(field: &Placed, tokens: &[Token], scratch: &mut Vec<u8>) -> Option<usize> {
    match (&field.kind, tokens[field.place]) {
        (Kind::Label(labels), Token::Text(text)) => {
            let text = text.read(scratch)?;
            labels.iter().position(|label| label == text)
        }
        _ => None,
    }
}

/// Whether a text has a count of its own.
fn is_short(text: &[u8]) -> bool {
    text.len() <= MOST_CHARACTERS || text.iter().filter(|&byte| byte & 0xc0 != 0x80).count() <= MOST_CHARACTERS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Field, Part, Plan, Shape};
    use crate::rows::{Request, Rows};

    fn plan() -> Result<Plan, String> {
        let field = |path: &str, kind| Field { path: path.into(), nullable: path == "sold", kind };
        let fields = vec![
            field("at", Kind::Timestamp),
            field("stage", Kind::Label(vec![b"top".to_vec()])),
            field("type", Kind::Label(vec![b"look".to_vec(), b"buy".to_vec()])),
            field("sold", Kind::Amount),
            field("age", Kind::Smallint { least: 0, most: 100 }),
            field("land", Kind::Text { least: 0, most: 200 }),
        ];
        let dimension = |name: &str, field, bands: &[(i64, &str)]| {
            let bands = bands.iter().map(|&(from, name)| (from, name.to_owned())).collect();
            Dimension { name: name.into(), field, bands }
        };
        let counted = Counted {
            kind: 2,
            purchase: "buy".into(),
            amount: Some(3),
            dimensions: vec![dimension("age", 4, &[(0, "young"), (30, "old")]), dimension("land", 5, &[])],
        };
        Plan::new("stage", "at", 1_000, vec![Shape { label: "top".into(), fields, row: vec![Part::Field(5)], counted }])
    }

    fn line(at: &str, kind: &str, sold: &str, age: u32, land: &str) -> String {
        format!(
            r#"{{"at":"2000-01-01T{at}Z","stage":"top","type":"{kind}","sold":{sold},"age":{age},"land":"{land}"}}"#
        )
    }

    #[test]
    fn rows_are_counted_by_quarter_type_and_value() {
        let plan = plan().unwrap();
        let (long, limit) = ("é".repeat(65), "é".repeat(64));
        let lines = [
            line("00:00:00", "buy", "\"1.5\"", 29, "A"),
            line("00:14:59.999999", "buy", "\"9999999999.99\"", 30, "A"),
            line("00:14:59", "look", "\"7\"", 100, &long),
            line("00:15:00", "buy", "null", 0, &limit),
            line("00:15:00", "buy", "null", 101, "A"), // not taken
        ];
        let mut rows = Rows::new(&plan, 0);
        let all = Request { earliest: 0, latest: i64::MAX, closing: b"" };
        assert_eq!(lines.iter().filter(|line| rows.take(line.as_bytes(), &all)).count(), 4);
        let (_, counts) = rows.finish();
        assert_eq!(
            counts.events().collect::<Vec<_>>(),
            [(0, "top", "look", 1, 0), (0, "top", "buy", 2, 1_000_000_000_149), (1, "top", "buy", 1, 0)]
        );
        assert_eq!(
            counts.audience().collect::<Vec<_>>(),
            [
                (0, "age", Some("young"), 1),
                (0, "age", Some("old"), 2),
                (0, "land", Some("A"), 2),
                (0, "land", None, 1),
                (1, "age", Some("young"), 1),
                (1, "land", Some(limit.as_str()), 1),
            ]
        );
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let fields = |kind| vec![Placed { place: 0, nullable: false, kind }];
        let counted = |dimensions| Counted { kind: 0, purchase: String::new(), amount: None, dimensions };
        let labels = Kind::Label(vec![b"a".to_vec()]);
        let banded = Dimension { name: "a".into(), field: 0, bands: vec![(0, "b".into())] };
        assert!(Slots::default().plan("top", counted(vec![]), &fields(Kind::Amount)).is_err());
        assert!(Slots::default().plan("top", counted(vec![banded]), &fields(labels)).is_err());
    }
}
