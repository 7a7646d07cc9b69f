//! Read JSON in place: a cursor over one line, without a tree and without copies.
//!
//! Invariant: it accepts only strict JSON (RFC 8259). `None` means "not proved": the line is invalid JSON, or is left
//! to the Python reference, for example because it is nested deeply. The bytes of texts are not checked to be UTF-8,
//! because the reference does not check the texts that it skips; `Text::read` checks them.

use crate::text::Text;

/// `MAX_DEPTH` of the contract. Deeper nesting is left to the reference, which rejects it.
const MAX_DEPTH: u32 = 128;

/// One value. Numbers and texts refer to the line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    Missing,
    Null,
    Number(&'a [u8]),
    Text(Text<'a>),
    /// true, false, a list or an object
    Other,
}

/// The bytes that probably come next in a line. The first 16 are compared as one number.
#[derive(Debug)]
pub struct Expected {
    pub bytes: Vec<u8>,
    head: u128,
    mask: u128,
}

impl Expected {
    pub fn new(bytes: Vec<u8>) -> Self {
        let (mut head, mut mask) = ([0; 16], [0; 16]);
        for (at, byte) in bytes.iter().enumerate().take(head.len()) {
            (head[at], mask[at]) = (*byte, 0xff);
        }
        Self { bytes, head: u128::from_le_bytes(head), mask: u128::from_le_bytes(mask) }
    }

    fn begins(&self, rest: &[u8]) -> bool {
        match rest.first_chunk() {
            Some(chunk) if u128::from_le_bytes(*chunk) & self.mask != self.head => false,
            Some(chunk) if self.bytes.len() <= chunk.len() => true,
            _ => rest.starts_with(&self.bytes),
        }
    }
}

pub struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
    depth: u32,
}

impl<'a> Cursor<'a> {
    pub fn new(line: &'a [u8]) -> Self {
        Self { line, at: 0, depth: 0 }
    }

    /// The next byte that is not white space; the cursor moves to it.
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.line.get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// Skip this byte, which must come next.
    pub fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// The position of the cursor.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether only white space is left.
    pub fn finished(mut self) -> bool {
        self.peek().is_none()
    }

    /// Skip the expected bytes if they come next. Returns whether they did.
    pub fn take_expected(&mut self, expected: &Expected) -> bool {
        let found = expected.begins(&self.line[self.at..]);
        if found {
            self.at += expected.bytes.len();
        }
        found
    }

    /// Skip these bytes if they come next. Returns whether they did.
    fn take_exactly(&mut self, bytes: &[u8]) -> bool {
        let rest = &self.line[self.at..];
        let found = rest.first() == bytes.first() && rest.starts_with(bytes); // the first byte usually differs
        if found {
            self.at += bytes.len();
        }
        found
    }

    /// Read an object: `member` is called with the cursor after the opening quote of a key, and must read the key, the
    /// colon and the value.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.nested(b'{', b'}', |cursor| {
            cursor.take(b'"')?;
            member(cursor)
        })
    }

    /// Read any value. Lists and objects are validated and skipped.
    pub fn value(&mut self) -> Option<Token<'a>> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.text().map(Token::Text)
            }
            b'{' => self
                .object(|cursor| {
                    cursor.text()?;
                    cursor.take(b':')?;
                    cursor.value().map(drop)
                })
                .map(|()| Token::Other),
            b'[' => self.nested(b'[', b']', |cursor| cursor.value().map(drop)).map(|()| Token::Other),
            b'n' => self.take_exactly(b"null").then_some(Token::Null),
            b't' => self.take_exactly(b"true").then_some(Token::Other),
            b'f' => self.take_exactly(b"false").then_some(Token::Other),
            _ => self.number().map(Token::Number),
        }
    }

    /// Read a list or an object; `item` reads each of its items.
    fn nested(&mut self, open: u8, close: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(open)?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        if self.peek()? != close {
            item(self)?;
            while self.peek()? == b',' {
                self.at += 1;
                item(self)?;
            }
        }
        self.take(close)?;
        self.depth -= 1;
        Some(())
    }

    /// Read a text; the cursor is after its opening quote.
    pub fn text(&mut self) -> Option<Text<'a>> {
        let text = Text::take(&self.line[self.at..])?;
        self.at += text.raw.len() + 1;
        Some(text)
    }

    fn number(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        self.take_exactly(b"-");
        let first = self.at;
        self.digits()?;
        if self.line[first] == b'0' && self.at > first + 1 {
            return None;
        }
        if self.take_exactly(b".") {
            self.digits()?;
        }
        if self.take_exactly(b"e") || self.take_exactly(b"E") {
            let _signed = self.take_exactly(b"+") || self.take_exactly(b"-");
            self.digits()?;
        }
        Some(&self.line[start..self.at])
    }

    /// One digit or more.
    fn digits(&mut self) -> Option<()> {
        let count = self.line[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_tokens_differ_from_all_others() {
        let all = b"abcdefghijklmnopqrstuvwxyz";
        for length in 1..=20 {
            let expected = Expected::new(all[..length].to_vec());
            for given in 0..=all.len() {
                let mut cursor = Cursor::new(&all[..given]);
                assert_eq!(cursor.take_expected(&expected), given >= length);
                assert_eq!(cursor.at, if given >= length { length } else { 0 });
            }
            for wrong in 0..length {
                let mut line = *all;
                line[wrong] ^= 1;
                assert!(!Cursor::new(&line).take_expected(&expected));
            }
        }
    }

    fn read(line: &[u8]) -> Option<Token<'_>> {
        let mut cursor = Cursor::new(line);
        let token = cursor.value()?;
        cursor.finished().then_some(token)
    }

    #[test]
    fn takes_json() {
        for line in [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "10",
            "-1.5e+10",
            "1E5",
            "1e200000",
            "[]",
            "{}",
            " [ 1 , [ ] , { } ] ",
            "{\"a\":{\"b\":[1,\"c\"]},\"a\":null}",
            "\t\r\n\"\"",
        ] {
            assert!(read(line.as_bytes()).is_some(), "{line}");
        }
    }

    #[test]
    fn takes_nothing_else() {
        for line in [
            "",
            " ",
            "nul",
            "nulll",
            "True",
            "NaN",
            "Infinity",
            "-",
            "+1",
            "01",
            "-01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "0x1",
            "[",
            "]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" 1}",
            "{1:2}",
            "{}{}",
            "'a'",
            "\"a",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\u+123\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"\\ud800\\",
            "\"\t\"",
            "\"\0\"",
            "\u{feff}null",
            "// a comment",
        ] {
            assert_eq!(read(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn leaves_deep_nesting_to_the_reference() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(read(nested(MAX_DEPTH as usize).as_bytes()).is_some());
        assert_eq!(read(nested(MAX_DEPTH as usize + 1).as_bytes()), None);
        assert_eq!(read(nested(1_000_000).as_bytes()), None);
        let many = format!("[{}]", vec!["[]"; 1000].join(","));
        assert!(read(many.as_bytes()).is_some(), "siblings are not nested");
    }
}
