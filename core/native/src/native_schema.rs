//! The schema of a source for the parser: the keys of its events, and how they become a row.

use crate::field::{Field, PlacedField};
use crate::json::{Cursor, Expected, Token};
use crate::pg_copy::ColumnType;
use crate::slots::{Counted, CountedShape, Slots};

/// A part of a row, in the order in which it is written: bytes that all rows of the shape share, or a field by its
/// number.
#[derive(Debug)]
pub enum Part {
    Constant(Vec<u8>),
    Field(usize),
}

/// The events whose tag has this label. A field that is not part of the row is validated, too.
#[derive(Debug)]
pub struct Shape {
    pub label: String,
    pub fields: Vec<Field>,
    pub row: Vec<Part>,
    pub counted: Counted,
}

#[derive(Debug)]
pub struct NativeSchema {
    pub shapes: Vec<PlannedShape>,
    pub slots: Slots,
    /// The index of the key that selects the shape.
    pub tag: usize,
    /// Larger events are not accepted.
    pub max_bytes: usize,
    keys: Keys,
}

#[derive(Debug)]
pub struct PlannedShape {
    pub label: String,
    /// The field with the instant that must be in the window of time, and that gives a row its day.
    pub instant: usize,
    pub fields: Vec<PlacedField>,
    pub row: Vec<Part>,
    /// The fields that are not part of the row.
    pub unwritten: Vec<usize>,
    pub counted: CountedShape,
}

impl NativeSchema {
    /// Returns an error that names the invalid part of the schema.
    pub fn new(tag: &str, instant: &str, max_bytes: usize, shapes: Vec<Shape>) -> Result<Self, String> {
        let (mut keys, mut planned, mut slots) = (Keys::default(), Vec::new(), Slots::default());
        for Shape { label, fields, row, counted } in shapes {
            let (instant, fields) = keys.shape(&label, instant, fields)?;
            let mut unwritten: Vec<_> = (0..fields.len()).collect();
            for part in &row {
                if let Part::Field(number) = *part {
                    if number >= fields.len() {
                        return Err(format!("{label} has no field {number}"));
                    }
                    unwritten.retain(|&other| other != number);
                }
            }
            let counted = slots.plan(&label, counted, &fields)?;
            planned.push(PlannedShape { label, instant, fields, row, unwritten, counted });
        }
        let tag = keys.place(tag)?;
        Ok(Self { shapes: planned, slots, tag, max_bytes, keys })
    }

    /// Find the value of each known key. Returns `None` if the line is not proved to be an event: it is not a JSON
    /// object, or a known key occurs twice.
    pub fn tokens<'a>(&self, line: &'a [u8], tokens: &mut Vec<Token<'a>>, scratch: &mut Vec<u8>) -> Option<()> {
        let mut cursor = Cursor::new(line);
        self.keys.read(&mut cursor, tokens, scratch)?;
        cursor.finished().then_some(())
    }
}

/// The known keys of all shapes of a source, each with an index for its value.
#[derive(Debug, Default)]
pub struct Keys {
    places: usize,
    root: Node,
}

impl Keys {
    /// The index of the key at this path; it is added if it is missing.
    pub fn place(&mut self, path: &str) -> Result<usize, String> {
        self.root.place(path, &mut self.places).ok_or(format!("{path} is an object elsewhere"))
    }

    /// The number of the field with the instant, and the fields of a shape with their indexes.
    pub fn shape(
        &mut self,
        label: &str,
        instant: &str,
        fields: Vec<Field>,
    ) -> Result<(usize, Vec<PlacedField>), String> {
        let timed = |field: &Field| {
            field.path == instant && !field.nullable && matches!(field.column_type, ColumnType::Timestamp)
        };
        let timed = fields.iter().position(timed).ok_or(format!("{label} has no instant {instant}"))?;
        let placed = fields
            .into_iter()
            .map(|Field { path, nullable, column_type }| {
                Ok(PlacedField { place: self.place(&path)?, nullable, column_type })
            })
            .collect::<Result<_, String>>()?;
        Ok((timed, placed))
    }

    /// Read an object, and store the value of each key at its index. Returns `None` if it is not an object or a key
    /// occurs twice.
    pub fn read<'a>(&self, cursor: &mut Cursor<'a>, tokens: &mut Vec<Token<'a>>, scratch: &mut Vec<u8>) -> Option<()> {
        tokens.clear();
        tokens.resize(self.places, Token::Missing);
        self.root.read(cursor, tokens, scratch)
    }
}

/// The keys of one object, in the order in which events probably have them.
#[derive(Debug, Default)]
struct Node {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    /// The key and its closing quote.
    quoted: Expected,
    place: usize,
    /// The keys in it, if it is an object.
    inner: Option<Node>,
}

impl Node {
    /// The index of the key at this path; it is added if it is missing. Returns `None` if it is an object or is in a
    /// value.
    fn place(&mut self, path: &str, places: &mut usize) -> Option<usize> {
        let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        let quoted = [name.as_bytes(), b"\""].concat();
        let index = self.keys.iter().position(|key| key.quoted.bytes == quoted).unwrap_or_else(|| {
            self.keys.push(Key { quoted: Expected::new(quoted), place: *places, inner: rest.map(|_| Self::default()) });
            *places += 1;
            self.keys.len() - 1
        });
        let key = &mut self.keys[index];
        match (rest, &mut key.inner) {
            (None, None) => Some(key.place),
            (Some(rest), Some(inner)) => inner.place(rest, places),
            _ => None,
        }
    }

    /// Read an object.
    fn read<'a>(&self, cursor: &mut Cursor<'a>, tokens: &mut [Token<'a>], scratch: &mut Vec<u8>) -> Option<()> {
        let mut likely = 0;
        cursor.object(|cursor| {
            let index = self.key(likely, cursor, scratch)?;
            cursor.take(b':')?;
            let Some(key) = self.keys.get(index) else {
                return cursor.value().map(drop);
            };
            likely = index + 1;
            if !matches!(tokens[key.place], Token::Missing) {
                return None; // the reference decides which one counts
            }
            tokens[key.place] = match &key.inner {
                None => cursor.value()?,
                Some(inner) => inner.read(cursor, tokens, scratch).map(|()| Token::Other)?,
            };
            Some(())
        })
    }

    /// Read a key. Returns its number, or the number of keys if it is unknown.
    fn key(&self, likely: usize, cursor: &mut Cursor, scratch: &mut Vec<u8>) -> Option<usize> {
        let mut order = (likely..self.keys.len()).chain(0..likely);
        if let Some(known) = order.find(|&index| cursor.take_expected(&self.keys[index].quoted)) {
            return Some(known);
        }
        let name = cursor.text()?.unescaped(scratch); // written with an escape, it may still be a known key
        let known = self.keys.iter().position(|key| key.quoted.bytes.strip_suffix(b"\"") == Some(name));
        Some(known.unwrap_or(self.keys.len()))
    }
}
