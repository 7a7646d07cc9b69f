//! A JSON text: find its end and decode it.
//!
//! Invariant: an accepted text has valid escapes and no control character. Its bytes may be invalid UTF-8; `read`
//! checks them.

/// A text between its quotes, as in the line. Its escapes are valid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Text<'a> {
    pub raw: &'a [u8],
    pub escaped: bool,
    ascii: bool,
}

impl<'a> Text<'a> {
    /// The text at the start of `rest`, after its opening quote.
    #[inline]
    pub fn take(rest: &'a [u8]) -> Option<Self> {
        let (mut at, mut escaped, mut high) = (0, false, 0);
        loop {
            while let Some(chunk) = rest[at..].first_chunk() {
                let word = u64::from_le_bytes(*chunk);
                let ends = ends(word);
                if ends != 0 {
                    let plain = ends.trailing_zeros() / 8;
                    high |= word & ((1 << (8 * plain)) - 1);
                    at += plain as usize;
                    break;
                }
                high |= word;
                at += chunk.len();
            }
            match *rest.get(at)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    let (character, length) = escape(&rest[at..])?;
                    high |= u64::from(!character.is_ascii()) << 7;
                    at += length;
                }
                0..0x20 => return None,
                byte => {
                    high |= u64::from(byte);
                    at += 1;
                }
            }
        }
        Some(Self { raw: &rest[..at], escaped, ascii: high & HIGH == 0 })
    }

    /// The decoded UTF-8; `scratch` holds it if it has escapes.
    pub fn read<'t>(self, scratch: &'t mut Vec<u8>) -> Option<&'t [u8]>
    where
        'a: 't,
    {
        let unescaped = self.unescaped(scratch);
        (self.ascii || std::str::from_utf8(unescaped).is_ok()).then_some(unescaped)
    }

    /// As `read`, for a text without escapes.
    pub fn borrowed(self) -> Option<&'a [u8]> {
        (!self.escaped && (self.ascii || std::str::from_utf8(self.raw).is_ok())).then_some(self.raw)
    }

    /// As `read`, without checking that it is UTF-8.
    pub fn unescaped<'t>(self, scratch: &'t mut Vec<u8>) -> &'t [u8]
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
            let (character, length) = escape(&rest[at..]).expect("checked when it was read");
            scratch.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            rest = &rest[at + length..];
        }
        scratch.extend_from_slice(rest);
        scratch
    }
}

/// The character of an escape and the length of the escape. `None` for half a surrogate pair.
fn escape(rest: &[u8]) -> Option<(char, usize)> {
    let character = match rest.get(1)? {
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
    Some((character, 2))
}

/// The UTF-16 unit of `\u` and four hexadecimal digits.
fn unit(rest: &[u8]) -> Option<u32> {
    let digits = rest.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte that ends a run of plain text: a quote, a backslash, a control character. Bits above the
/// lowest one that is set may be wrong.
fn ends(word: u64) -> u64 {
    let below = |limit: u8| word.wrapping_sub(EACH * u64::from(limit));
    let equal = |byte: u8| (word ^ (EACH * u64::from(byte))).wrapping_sub(EACH);
    (below(0x20) | equal(b'"') | equal(b'\\')) & !word & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &[u8]) -> Option<Vec<u8>> {
        Text::take(&line[1..])?.read(&mut Vec::new()).map(<[u8]>::to_vec)
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
                    assert!(Text::take(&control.as_bytes()[1..]).is_none(), "{control}");
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
            assert!(Text::take(&line[1..]).is_some(), "passed over");
            assert_eq!(text(&line), None, "but not read");
        }
    }
}
