//! Read an array of events for the gateway: the bytes of a body in, the events of each source out, one a line.
//!
//! Invariant: an element is accepted only if the Python reference (`gateway/split.py` and the contract) accepts it with
//! the same bytes. Reading stops before the first element that is not proved to be valid, and only before an object
//! after a comma. The reference can resume there as if it had read everything before.

use std::panic::{AssertUnwindSafe, catch_unwind};

use memchr::memmem::Finder;

use crate::field::{Field, PlacedField};
use crate::json::{Cursor, Token};
use crate::native_schema::Keys;
use crate::pg_copy;

/// The source of an event is expected within so many bytes.
const HEAD_BYTES: usize = 256;
/// Maximum bytes around an event: white space, comma, bracket.
const MARGIN_BYTES: usize = 1024;

#[derive(Debug)]
pub struct BatchReader {
    sources: Vec<Source>,
    max_bytes: usize,
}

/// The declaration of a source: its name, its tag, and the fields of each shape.
pub struct SourceDescription {
    pub name: String,
    pub tag: String,
    pub shapes: Vec<(String, Vec<Field>)>,
}

#[derive(Debug)]
struct Source {
    name: String,
    quoted: Finder<'static>,
    tag: usize,
    shapes: Vec<Shape>,
    keys: Keys,
}

#[derive(Debug)]
struct Shape {
    label: String,
    fields: Vec<PlacedField>,
    instant: usize,
}

/// The allowed instants, and the number of bytes after which reading stops.
#[derive(Clone, Copy)]
pub struct Bounds {
    pub earliest: i64,
    pub latest: i64,
    pub enough: usize,
}

/// The events of one source: their number, and one event a line.
#[derive(Debug, PartialEq)]
pub struct Block<'a> {
    pub source: &'a str,
    pub events: usize,
    pub lines: Vec<u8>,
}

/// The events that were read, one block for each source that has any. `resume_at` is `None` at the end of the array.
#[derive(Debug, PartialEq)]
pub struct Run<'a> {
    pub resume_at: Option<usize>,
    pub blocks: Vec<Block<'a>>,
}

/// A valid event: its source, its bytes, and where the next event begins.
struct ValidEvent<'a> {
    source: usize,
    event: &'a [u8],
    next: Option<usize>,
}

#[derive(Default)]
struct Buffers<'a> {
    tokens: Vec<Token<'a>>,
    row: Vec<u8>,
    scratch: Vec<u8>,
}

impl BatchReader {
    /// Returns an error that names the invalid part of the declaration.
    pub fn new(instant: &str, max_bytes: usize, sources: Vec<SourceDescription>) -> Result<Self, String> {
        let sources = sources.into_iter().map(|source| Source::new(source, instant)).collect::<Result<_, _>>()?;
        Ok(Self { sources, max_bytes })
    }

    /// Read elements of the array in `body`, from `start`, where an element may begin.
    pub fn read(&self, body: &[u8], start: usize, bounds: Bounds) -> Run<'_> {
        let of = self.sources.iter().map(|source| source.name.as_str());
        let mut blocks: Vec<_> = of.map(|source| Block { source, events: 0, lines: Vec::new() }).collect();
        let resume_at = self.fill(&mut blocks, body, start, bounds);
        blocks.retain(|block| block.events > 0);
        Run { resume_at, blocks }
    }

    /// Read elements into the blocks, one for each source in order. Returns where to resume.
    fn fill(&self, blocks: &mut [Block], body: &[u8], start: usize, bounds: Bounds) -> Option<usize> {
        let mut buffers = Buffers::default();
        let mut at = start;
        while at < body.len() && at - start < bounds.enough {
            // A panic (a defect) leaves the event to the reference.
            let event = catch_unwind(AssertUnwindSafe(|| self.event(body, at, bounds, &mut buffers)));
            let Some(ValidEvent { source, event, next }) = event.ok().flatten() else {
                break;
            };
            let block = &mut blocks[source];
            if block.events == 0 {
                block.lines.reserve((body.len() - start).min(bounds.enough) / self.sources.len());
            } else {
                block.lines.push(b'\n');
            }
            block.lines.extend_from_slice(event);
            block.events += 1;
            at = next?;
        }
        Some(at)
    }

    fn event<'a>(
        &self,
        body: &'a [u8],
        at: usize,
        bounds: Bounds,
        buffers: &mut Buffers<'a>,
    ) -> Option<ValidEvent<'a>> {
        let rest = &body[at..];
        let near = &rest[..rest.len().min(self.max_bytes + MARGIN_BYTES)];
        let begin = near.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))?;
        let near = &near[begin..];
        let head = &near[..near.len().min(HEAD_BYTES)];
        let likely = self.sources.iter().position(|source| source.quoted.find(head).is_some()).unwrap_or(0);
        let others = (0..self.sources.len()).filter(|&other| other != likely);
        let (source, length) = std::iter::once(likely)
            .chain(others)
            .find_map(|number| Some((number, self.sources[number].event(near, bounds, buffers)?)))?;
        let event = &near[..length];
        if length > self.max_bytes || memchr::memchr2(b'\n', b'\r', event).is_some() {
            return None;
        }
        let mut cursor = Cursor::new(&near[length..]);
        let next = if cursor.take(b',').is_some() {
            (cursor.peek()? == b'{').then_some(())?;
            Some(at + begin + length + cursor.at())
        } else {
            cursor.take(b']')?;
            (begin + near.len() == rest.len() && cursor.finished()).then_some(())?;
            None
        };
        Some(ValidEvent { source, event, next })
    }
}

impl Source {
    fn new(description: SourceDescription, instant: &str) -> Result<Self, String> {
        let SourceDescription { name, tag, shapes } = description;
        let (mut keys, mut planned) = (Keys::default(), Vec::new());
        for (label, fields) in shapes {
            let (instant, fields) = keys.shape(&label, instant, fields)?;
            planned.push(Shape { label, fields, instant });
        }
        let tag = keys.place(&tag)?;
        let quoted = Finder::new(format!("\"{name}\"").as_bytes()).into_owned();
        Ok(Self { name, quoted, tag, shapes: planned, keys })
    }

    /// The length of the valid event at the start of `near`.
    fn event<'a>(&self, near: &'a [u8], bounds: Bounds, buffers: &mut Buffers<'a>) -> Option<usize> {
        let Buffers { tokens, row, scratch } = buffers;
        let mut cursor = Cursor::new(near);
        self.keys.read(&mut cursor, tokens, scratch)?;
        let Token::Text(tag) = tokens[self.tag] else {
            return None;
        };
        let tag = tag.read(scratch)?;
        let shape = self.shapes.iter().find(|shape| shape.label.as_bytes() == tag)?;
        row.clear(); // the row is discarded: writing a field validates it as the collector does
        for (number, field) in shape.fields.iter().enumerate() {
            let value = pg_copy::write(&field.column_type, field.nullable, tokens[field.place], row, scratch)?;
            if number == shape.instant && !(bounds.earliest..=bounds.latest).contains(&value) {
                return None;
            }
        }
        Some(cursor.at())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg_copy::ColumnType;

    fn reader() -> BatchReader {
        let description = |name: &str| SourceDescription {
            name: name.into(),
            tag: "tag".into(),
            shapes: vec![(
                "t".into(),
                vec![
                    Field { path: "at".into(), nullable: false, column_type: ColumnType::Timestamp },
                    Field { path: "of".into(), nullable: false, column_type: ColumnType::Label(vec![name.into()]) },
                ],
            )],
        };
        BatchReader::new("at", 100, vec![description("a"), description("b")]).unwrap()
    }

    fn event(of: &str) -> String {
        format!(r#"{{"tag":"t","at":"2000-01-01T00:00:01Z","of":"{of}"}}"#)
    }

    fn read(body: &str, enough: usize) -> (Option<usize>, Vec<(String, usize, String)>) {
        let reader = reader();
        let run = reader.read(body.as_bytes(), 1, Bounds { earliest: 0, latest: i64::MAX, enough });
        let text = |block: Block| (block.source.to_owned(), block.events, String::from_utf8(block.lines).unwrap());
        (run.resume_at, run.blocks.into_iter().map(text).collect())
    }

    fn block(source: &str, events: usize, lines: &str) -> (String, usize, String) {
        (source.into(), events, lines.into())
    }

    #[test]
    fn an_array_of_valid_events_is_read_to_its_end() {
        let (a, b) = (event("a"), event("b"));
        let expected = vec![block("a", 2, &format!("{a}\n{a}")), block("b", 1, &b)];
        assert_eq!(read(&format!("[{a},{b},{a}]"), 1000), (None, expected.clone()));
        assert_eq!(read(&format!("[ \n{a}\r\n,\t{b} ,\n {a}\n ] \n"), 1000), (None, expected));
    }

    #[test]
    fn it_stops_before_what_is_not_proved_to_be_valid() {
        let a = event("a");
        let resume_at = 1 + a.len() + 1;
        for bad in
            ["{}", "{", "{\"a\":1}}", &event("c"), &a.replace('{', "{\n"), &format!("{a}{a}"), &a.replace(":\"", "\"")]
        {
            for behind in ["]", &format!(",{a}]")] {
                let found = read(&format!("[{a},{bad}{behind}"), 1000);
                assert_eq!(found, (Some(resume_at), vec![block("a", 1, &a)]), "{bad}{behind}");
            }
        }
        let (none, long) = (Vec::new(), a.replace('{', &format!("{{{}", " ".repeat(100))));
        assert_eq!(read(&format!("[{long}]"), 1000), (Some(1), none.clone()));
        for body in ["[", "[]", "[ ]", &format!("[{a}"), &format!("[{a},"), &format!("[{a},]"), &format!("[{a},1]")] {
            assert_eq!(read(body, 1000), (Some(1), none.clone()), "{body}");
        }
        for body in [format!("[{a}]x"), format!("[{a}],{a}]"), format!("[{a}]{}", " ".repeat(2000))] {
            assert_eq!(read(&body, 1000), (Some(1), none.clone()), "{body}");
        }
    }

    #[test]
    fn it_stops_when_it_has_enough() {
        let a = event("a");
        let body = format!("[{a},{a},{a}]");
        assert_eq!(read(&body, 1).0, Some(a.len() + 2));
        assert_eq!(read(&body, a.len() + 2).0, Some(2 * a.len() + 3));
        assert_eq!(read(&body, 0).0, Some(1));
    }

    #[test]
    fn the_window_of_time_is_the_requests() {
        let body = format!("[{}]", event("a"));
        let read =
            |earliest, latest| reader().read(body.as_bytes(), 1, Bounds { earliest, latest, enough: 9 }).resume_at;
        assert_eq!(read(1_000_000, 1_000_000), None);
        assert_eq!(read(0, 999_999), Some(1));
        assert_eq!(read(1_000_001, i64::MAX), Some(1));
    }
}
