//! Convert the lines of a message to the rows of each day.
//!
//! Invariant: a line is accepted only if the Python reference accepts it, with the same bytes. The reference decides
//! about all other lines.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::counts::Counts;
use crate::instant::DAY;
use crate::json::Token;
use crate::native_schema::{NativeSchema, Part};
use crate::pg_copy;

/// What the events of one request share.
pub struct Request<'a> {
    /// The first and the last allowed instant, in microseconds since 2000.
    pub earliest: i64,
    pub latest: i64,
    /// The columns at the end of each row.
    pub closing: &'a [u8],
}

/// The rows of one day, without the header and trailer of COPY.
pub struct Day {
    /// The day, counted from 2000-01-01.
    pub number: i64,
    pub count: usize,
    pub copy: Vec<u8>,
}

pub struct Rows<'a> {
    schema: &'a NativeSchema,
    /// In order of first occurrence.
    days: Vec<Day>,
    counts: Counts<'a>,
    /// The expected size of the first day's rows.
    likely_bytes: usize,
    row: Vec<u8>,
    tokens: Vec<Token<'a>>,
    /// The results of `pg_copy::write` for each field of the event's shape.
    values: Vec<i64>,
    scratch: Vec<u8>,
}

impl<'a> Rows<'a> {
    pub fn new(schema: &'a NativeSchema, likely_bytes: usize) -> Self {
        let (row, tokens, values, scratch) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let counts = Counts::new(&schema.slots, (likely_bytes / 1024).min(256));
        Self { schema, days: Vec::new(), counts, likely_bytes, row, tokens, values, scratch }
    }

    /// Read an event, add its row and count it. Returns whether it was accepted.
    pub fn take(&mut self, line: &'a [u8], request: &Request) -> bool {
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        // A panic (a defect) leaves only this line to the reference.
        let day = catch_unwind(AssertUnwindSafe(|| self.write(line, request, &mut row))).ok().flatten();
        if let Some(day) = day {
            self.add(day, &row);
        }
        self.row = row;
        day.is_some()
    }

    /// Add a row that was written and counted elsewhere.
    pub fn add(&mut self, day: i64, row: &[u8]) {
        let index = self.days.iter().rposition(|rows| rows.number == day).unwrap_or_else(|| {
            let copy = Vec::with_capacity(if self.days.is_empty() { self.likely_bytes } else { 0 });
            self.days.push(Day { number: day, count: 0, copy });
            self.days.len() - 1
        });
        self.days[index].count += 1;
        self.days[index].copy.extend_from_slice(row);
    }

    pub fn finish(self) -> (Vec<Day>, Counts<'a>) {
        (self.days, self.counts)
    }

    /// Write an event's row. Returns its day, or `None` if the event is not proved to be valid.
    fn write(&mut self, line: &'a [u8], request: &Request, row: &mut Vec<u8>) -> Option<i64> {
        if line.len() > self.schema.max_bytes {
            return None;
        }
        let (tokens, values, scratch) = (&mut self.tokens, &mut self.values, &mut self.scratch);
        self.schema.tokens(line, tokens, scratch)?;
        let Token::Text(tag) = tokens[self.schema.tag] else {
            return None;
        };
        let tag = tag.read(scratch)?;
        let shape = self.schema.shapes.iter().find(|shape| shape.label.as_bytes() == tag)?;
        values.resize(shape.fields.len(), pg_copy::NOTHING);
        let mut field = |number: usize, row: &mut Vec<u8>| {
            let field = &shape.fields[number];
            values[number] = pg_copy::write(&field.column_type, field.nullable, tokens[field.place], row, scratch)?;
            Some(())
        };
        for &number in &shape.unwritten {
            field(number, row)?;
        }
        row.clear();
        for part in &shape.row {
            match part {
                Part::Constant(bytes) => row.extend_from_slice(bytes),
                Part::Field(number) => field(*number, row)?,
            }
        }
        row.extend_from_slice(request.closing);
        let instant = values[shape.instant];
        if !(request.earliest..=request.latest).contains(&instant) {
            return None;
        }
        self.counts.count(instant, &shape.counted, values, tokens, scratch)?;
        Some(instant.div_euclid(DAY))
    }
}

/// The lines of a message after its header, separated by line breaks.
pub fn lines(mut rest: Option<&[u8]>) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let body = rest?;
        let end = memchr::memchr(b'\n', body);
        rest = end.map(|end| &body[end + 1..]);
        Some(&body[..end.unwrap_or(body.len())])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Field;
    use crate::native_schema::Shape;
    use crate::pg_copy::ColumnType;
    use crate::slots::Counted;

    const ALL: Request = Request { earliest: 0, latest: i64::MAX, closing: b"." };

    fn field(path: &str, nullable: bool) -> Field {
        let column_type =
            if path == "at" { ColumnType::Timestamp } else { ColumnType::Text { minimum: 0, maximum: 9 } };
        Field { path: path.into(), nullable, column_type }
    }

    /// The shape's tag, which is also its only event type.
    fn tag(label: &str) -> Field {
        Field { path: "tag".into(), nullable: false, column_type: ColumnType::Label(vec![label.into()]) }
    }

    fn counted(event_type: usize) -> Counted {
        Counted { event_type, purchase: String::new(), amount: None, dimensions: Vec::new() }
    }

    fn schema() -> NativeSchema {
        let shape = |label: &str, key: &str| Shape {
            label: label.into(),
            fields: vec![field("at", false), field("in.text", false), field(key, true), tag(label)],
            row: vec![Part::Constant(b">".to_vec()), Part::Field(2)],
            counted: counted(3),
        };
        NativeSchema::new("tag", "at", 200, vec![shape("a", "in.a"), shape("b", "in.b")]).unwrap()
    }

    /// The rows of each day, and the number of lines that were not accepted.
    fn read(lines: &[&str], request: &Request) -> (Vec<(i64, usize, String)>, usize) {
        let schema = schema();
        let mut rows = Rows::new(&schema, 0);
        let left = lines.iter().filter(|line| !rows.take(line.as_bytes(), request)).count();
        let days = rows.finish().0.into_iter();
        (days.map(|day| (day.number, day.count, String::from_utf8_lossy(&day.copy).into_owned())).collect(), left)
    }

    #[test]
    fn rows_of_a_day_stand_together_in_their_order() {
        let lines = [
            r#"{"tag":"a","at":"2000-01-02T00:00:00Z","in":{"text":"","a":"1"}}"#,
            r#"{"tag":"b","at":"2000-01-01T00:00:00Z","in":{"b":"2","text":""}}"#,
            r#" { "in" : { "a" : "3" , "text" : "" , "b" : {} } , "at" : "2000-01-02T23:59:59Z" , "tag" : "a" } "#,
        ];
        let day = |day, count, copy: &str| (day, count, copy.to_owned());
        let expected = vec![day(1, 2, ">\0\0\0\x011.>\0\0\0\x013."), day(0, 1, ">\0\0\0\x012.")];
        assert_eq!(read(&lines, &ALL), (expected, 0));
    }

    #[test]
    fn whatever_is_not_proved_leaves_no_trace() {
        for line in [
            "",
            "[]",
            "{}",
            "{",
            r#"{"tag":"a","at":"2000-01-02T00:00:00Z","in":{"text":"","a":"1"}},"#,
            r#"{"tag":"c","at":"2000-01-02T00:00:00Z","in":{"text":"","a":"1"}}"#,
            r#"{"tag":"a","at":"2000-01-02T00:00:00Z","in":{"text":"","b":"1"}}"#,
            r#"{"tag":"a","at":"2000-01-02T00:00:00Z","in":{"text":7,"a":"1"}}"#,
            r#"{"tag":"a","at":"2000-01-02T00:00:00Z","in":{"text":null,"a":"1"}}"#,
            r#"{"tag":"a","at":"2000-01-02T00:00:00Z","in":{"text":"","a":"1","a":"1"}}"#,
            r#"{"tag":"a","at":"2000-01-02T00:00:00Z","in":{"text":"","a":"1","\u0061":"1"}}"#,
            r#"{"tag":"a","at":"2000-01-02T00:00:00Z","in":{"text":"","a":"1"},"in":1}"#,
            r#"{"tag":"a","at":"2000-01-02T00:00:00Z","in":[]}"#,
            r#"{"tag":"a","at":"soon","in":{"text":"","a":"1"}}"#,
            r#"{"tag":"a","at":null,"in":{"text":"","a":"1"}}"#,
            r#"{"tag":"a","in":{"text":"","a":"1"}}"#,
        ] {
            assert_eq!(read(&[line], &ALL), (vec![], 1), "{line}");
        }
        let long =
            format!(r#"{{"tag":"a","at":"2000-01-02T00:00:00Z","in":{{"text":"","a":"1"}}}}{}"#, " ".repeat(200));
        assert_eq!(read(&[&long], &ALL), (vec![], 1));
    }

    #[test]
    fn the_window_of_time_is_the_requests() {
        let line = r#"{"tag":"a","at":"2000-01-01T00:00:01Z","in":{"text":"","a":null}}"#;
        let taken = |earliest, latest| read(&[line], &Request { earliest, latest, closing: b"" }).1 == 0;
        assert!(taken(1_000_000, 1_000_000));
        assert!(!taken(1_000_001, 2_000_000));
        assert!(!taken(0, 999_999));
    }

    #[test]
    fn a_defect_costs_its_line_the_short_way_and_no_more() {
        let mut broken = schema();
        broken.shapes[0].row.push(Part::Field(99));
        let mut rows = Rows::new(&broken, 0);
        let [a, b] = ["a", "b"]
            .map(|tag| format!(r#"{{"tag":"{tag}","at":"2000-01-01T00:00:00Z","in":{{"text":"","{tag}":null}}}}"#));
        assert!(!rows.take(a.as_bytes(), &ALL));
        assert!(rows.take(b.as_bytes(), &ALL));
        let (days, counts) = rows.finish();
        assert_eq!(days[0].copy, b">\xff\xff\xff\xff.");
        assert_eq!(counts.keep()[0].events(&["a", "b"]).collect::<Vec<_>>(), [(&"b", (1, 0))]);
    }

    #[test]
    fn a_description_that_does_not_fit_together_is_rejected() {
        let shape = |path: &str, number| Shape {
            label: "a".into(),
            fields: vec![field(path, false), tag("a"), field("at", false)],
            row: vec![Part::Field(number)],
            counted: counted(1),
        };
        assert!(NativeSchema::new("tag", "at", 1, vec![shape("in", 0), shape("in.text", 0)]).is_err());
        assert!(NativeSchema::new("tag", "at", 1, vec![shape("in.text", 0), shape("in", 0)]).is_err());
        assert!(NativeSchema::new("tag", "at", 1, vec![shape("in", 3)]).is_err());
        assert!(NativeSchema::new("tag", "in", 1, vec![shape("in", 0)]).is_err());
        assert!(NativeSchema::new("tag", "at", 1, vec![shape("in", 0)]).is_ok());
    }

    #[test]
    fn lines_are_what_line_breaks_separate() {
        let all = |body| lines(body).map(<[u8]>::len).collect::<Vec<_>>();
        assert_eq!(all(None), []);
        assert_eq!(all(Some(b"")), [0]);
        assert_eq!(all(Some(b"a\nbc\n")), [1, 2, 0]);
    }
}
