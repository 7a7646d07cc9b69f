//! Read JSON where it stands: a cursor over one line, without a tree and without a copy.
//!
//! Invariant: what it reads is strict JSON (RFC 8259). `None` means "not proved": the line breaks JSON, or is of a
//! kind that is left to the Python reference, such as one that nests deeply. Raw bytes of texts are not checked to
//! be UTF-8, since the reference does not check those that it skips; `Text::read` does.

/// `MAX_DEPTH` of the contract. What is deeper is left to the reference, which refuses it.
const DEEPEST: u32 = 128;

/// One value. Numbers and texts keep their place in the line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    Missing,
    Null,
    Number(&'a [u8]),
    Text(Text<'a>),
    /// true, false, a list or an object
    Other,
}

/// A text between its quotes, as it stands in the line. Its escapes are valid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Text<'a> {
    raw: &'a [u8],
    pub escaped: bool,
    ascii: bool,
}

impl<'a> Text<'a> {
    /// The UTF-8 that is meant; `scratch` holds it where it does not stand in the line itself.
    pub fn read<'t>(self, scratch: &'t mut Vec<u8>) -> Option<&'t [u8]>
    where
        'a: 't,
    {
        let meant = self.meant(scratch);
        (self.ascii || std::str::from_utf8(meant).is_ok()).then_some(meant)
    }

    /// As `read`, where it stands in the line itself.
    pub fn standing(self) -> Option<&'a [u8]> {
        (!self.escaped && (self.ascii || std::str::from_utf8(self.raw).is_ok())).then_some(self.raw)
    }

    /// As `read`, without asking whether it is UTF-8.
    pub fn meant<'t>(self, scratch: &'t mut Vec<u8>) -> &'t [u8]
    where
        'a: 't,
    {
        if !self.escaped {
            return self.raw;
        }
        scratch.clear();
        let mut rest = self.raw;
        while let Some(at) = memchr::memchr(b'\\', rest) {
            scratch.extend_from_slice(&rest[..at]);
            let (meant, length) = escape(&rest[at..]).expect("checked when it was read");
            scratch.extend_from_slice(meant.encode_utf8(&mut [0; 4]).as_bytes());
            rest = &rest[at + length..];
        }
        scratch.extend_from_slice(rest);
        scratch
    }
}

/// The character that an escape means, and the escape's length. Half a surrogate pair means none.
fn escape(rest: &[u8]) -> Option<(char, usize)> {
    let meant = match rest.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = unit(rest)?;
            if !(0xd800..0xdc00).contains(&first) {
                return Some((char::from_u32(first)?, 6));
            }
            let second = unit(rest.get(6..)?)?;
            if !(0xdc00..0xe000).contains(&second) {
                return None;
            }
            return Some((char::from_u32(0x1_0000 + ((first - 0xd800) << 10 | (second - 0xdc00)))?, 12));
        }
        _ => return None,
    };
    Some((meant, 2))
}

/// The UTF-16 unit of `\u` and four hexadecimal digits.
fn unit(rest: &[u8]) -> Option<u32> {
    let digits = rest.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte that ends a run of plain text: a quote, a backslash, a control character.
/// Bits above the lowest one that is set may be wrong.
fn ends(word: u64) -> u64 {
    let below = |limit: u8| word.wrapping_sub(EACH * u64::from(limit));
    let equal = |byte: u8| (word ^ (EACH * u64::from(byte))).wrapping_sub(EACH);
    (below(0x20) | equal(b'"') | equal(b'\\')) & !word & HIGH
}

/// What lines are likely to go on with. Its first bytes are a number, which is compared at once.
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

    /// The next byte that is no white space; the cursor stands on it.
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.line.get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// Step over this byte, which has to come next.
    pub fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// How far it has come.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether nothing but white space is left.
    pub fn finished(mut self) -> bool {
        self.peek().is_none()
    }

    /// Step over what is expected if the line goes on with it.
    pub fn take_expected(&mut self, expected: &Expected) -> bool {
        let found = expected.begins(&self.line[self.at..]);
        if found {
            self.at += expected.bytes.len();
        }
        found
    }

    /// Step over these bytes if the line goes on with them.
    fn take_exactly(&mut self, bytes: &[u8]) -> bool {
        let rest = &self.line[self.at..];
        let found = rest.first() == bytes.first() && rest.starts_with(bytes); // the first alone tells most apart
        if found {
            self.at += bytes.len();
        }
        found
    }

    /// Read an object: `member` is called with the cursor behind the quote that opens a key, and has to read the key,
    /// the colon and the value.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.nested(b'{', b'}', |cursor| {
            cursor.take(b'"')?;
            member(cursor)
        })
    }

    /// Read any value. Lists and objects are checked and passed over.
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

    /// Read what separates a list's or an object's items; each item is read by `item`.
    fn nested(&mut self, open: u8, close: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(open)?;
        self.depth += 1;
        if self.depth > DEEPEST {
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

    /// Read a text; the cursor stands behind its opening quote.
    pub fn text(&mut self) -> Option<Text<'a>> {
        let start = self.at;
        let (mut escaped, mut high) = (false, 0);
        loop {
            while let Some(chunk) = self.line[self.at..].first_chunk() {
                let word = u64::from_le_bytes(*chunk);
                let ends = ends(word);
                if ends != 0 {
                    let plain = ends.trailing_zeros() / 8;
                    high |= word & ((1 << (8 * plain)) - 1);
                    self.at += plain as usize;
                    break;
                }
                high |= word;
                self.at += chunk.len();
            }
            match *self.line.get(self.at)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    let (meant, length) = escape(&self.line[self.at..])?;
                    high |= u64::from(!meant.is_ascii()) << 7;
                    self.at += length;
                }
                0..0x20 => return None,
                byte => {
                    high |= u64::from(byte);
                    self.at += 1;
                }
            }
        }
        let raw = &self.line[start..self.at];
        self.at += 1;
        Some(Text { raw, escaped, ascii: high & HIGH == 0 })
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
    fn what_is_expected_is_told_from_all_else() {
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

    fn text(line: &[u8]) -> Option<Vec<u8>> {
        let Token::Text(text) = read(line)? else { return None };
        text.read(&mut Vec::new()).map(<[u8]>::to_vec)
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
        assert!(read(nested(DEEPEST as usize).as_bytes()).is_some());
        assert_eq!(read(nested(DEEPEST as usize + 1).as_bytes()), None);
        assert_eq!(read(nested(1_000_000).as_bytes()), None);
        let many = format!("[{}]", vec!["[]"; 1000].join(","));
        assert!(read(many.as_bytes()).is_some(), "siblings are not nested");
    }

    #[test]
    fn finds_the_end_of_a_text_wherever_it_is() {
        for before in 0..20 {
            for after in 0..20 {
                for (special, meant) in [("", ""), ("\\\"", "\""), ("\\u00e9", "é"), ("é", "é"), ("\u{7f}", "\u{7f}")]
                {
                    let [a, b] = [before, after].map(|count| "x".repeat(count));
                    let line = format!("\"{a}{special}{b}\"");
                    assert_eq!(text(line.as_bytes()), Some(format!("{a}{meant}{b}").into_bytes()), "{line}");
                    let control = format!("\"{a}{special}{b}\u{1f}\"");
                    assert_eq!(read(control.as_bytes()), None, "{control}");
                }
            }
        }
    }

    #[test]
    fn reads_escapes() {
        assert_eq!(text(br#""\"\\\/\b\f\n\r\t""#), Some(b"\"\\/\x08\x0c\n\r\t".to_vec()));
        assert_eq!(text(br#""\u0041\u00DF\u20ac\uD83D\uDE00\uffff""#), Some("Aß€😀\u{ffff}".into()));
    }

    #[test]
    fn a_text_is_utf8_when_it_is_read() {
        for raw in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xe2\x82\\u0041"] {
            let line = [b"\"", raw, b"\""].concat();
            assert!(read(&line).is_some(), "passed over");
            assert_eq!(text(&line), None, "but not read");
        }
    }
}
