//! PostgreSQL's binary COPY format: validate and write each type of value.
//!
//! A field is its length (32 bits, big-endian) and its bytes; NULL has the length -1. This is the fast version of
//! `collector/parse/pg_copy.py`.

use crate::instant;
use crate::json::Token;
use crate::text::Text;

const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// The type and limits of a value: `ColumnType` of `collector/parse/pg_copy.py`, with the limits of the contract.
#[derive(Debug)]
pub enum ColumnType {
    /// A text with so many bytes of UTF-8, without NUL.
    Text {
        minimum: i64,
        maximum: i64,
    },
    /// A text of a closed list.
    Label(Vec<Vec<u8>>),
    Smallint {
        minimum: i64,
        maximum: i64,
    },
    Integer {
        minimum: i64,
        maximum: i64,
    },
    Bigint {
        minimum: i64,
        maximum: i64,
    },
    Timestamp,
    Amount,
}

/// The result of `write` for a null.
pub const NOTHING: i64 = -1;

/// Write one field. Returns `None` if the value is not proved to be valid; the caller discards what was written by
/// then. Otherwise returns the value as a number, so that nothing is read twice: the integer itself, the index of a
/// label, the microseconds of an instant, the cents of an amount, the length of a text.
pub fn write(
    column_type: &ColumnType,
    nullable: bool,
    token: Token,
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
) -> Option<i64> {
    match token {
        Token::Null if nullable => {
            out.extend_from_slice(&NULL);
            Some(NOTHING)
        }
        Token::Number(digits) => write_integer(column_type, digits, out),
        Token::Text(text) => write_text(column_type, text, out, scratch),
        Token::Null | Token::Missing | Token::Other => None,
    }
}

fn write_integer(column_type: &ColumnType, digits: &[u8], out: &mut Vec<u8>) -> Option<i64> {
    let value = unsigned(digits)?;
    match *column_type {
        ColumnType::Smallint { minimum, maximum } if (minimum..=maximum).contains(&value) => {
            bytes(&i16::try_from(value).ok()?.to_be_bytes(), out);
        }
        ColumnType::Integer { minimum, maximum } if (minimum..=maximum).contains(&value) => {
            bytes(&i32::try_from(value).ok()?.to_be_bytes(), out);
        }
        ColumnType::Bigint { minimum, maximum } if (minimum..=maximum).contains(&value) => {
            bytes(&value.to_be_bytes(), out);
        }
        _ => return None,
    }
    Some(value)
}

/// A number that consists of digits. A sign, a point, an exponent or more than 18 digits are not accepted.
fn unsigned(digits: &[u8]) -> Option<i64> {
    if digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
}

fn write_text(column_type: &ColumnType, text: Text, out: &mut Vec<u8>, scratch: &mut Vec<u8>) -> Option<i64> {
    let escaped = text.escaped;
    let text = text.read(scratch)?;
    let meaning = match column_type {
        ColumnType::Text { minimum, maximum } => {
            let length = text.len() as i64;
            let has_nul = escaped && memchr::memchr(0, text).is_some(); // it can only be an escape
            ((*minimum..=*maximum).contains(&length) && !has_nul).then_some(length)?
        }
        ColumnType::Label(labels) => labels.iter().position(|label| label == text)? as i64,
        ColumnType::Timestamp => {
            let instant = instant::read(text)?;
            bytes(&instant.to_be_bytes(), out);
            return Some(instant);
        }
        ColumnType::Amount => return write_amount(text, out),
        ColumnType::Smallint { .. } | ColumnType::Integer { .. } | ColumnType::Bigint { .. } => return None,
    };
    bytes(text, out);
    Some(meaning)
}

fn bytes(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(value.len() as i32).to_be_bytes());
    out.extend_from_slice(value);
}

/// Parse `[0-9]{1,10}(\.[0-9]{1,2})?` to the whole part and the cents.
fn amount(text: &[u8]) -> Option<(i64, i64)> {
    let (whole, cents) = match text.iter().position(|&byte| byte == b'.') {
        None => (text, 0),
        Some(point) => {
            let fraction = &text[point + 1..];
            let scale = match fraction.len() {
                1 => 10,
                2 => 1,
                _ => return None,
            };
            (&text[..point], unsigned(fraction)? * scale)
        }
    };
    if whole.is_empty() || whole.len() > 10 {
        return None;
    }
    Some((unsigned(whole)?, cents))
}

/// Write an amount as numeric with two decimals, in digits of base 10,000.
fn write_amount(text: &[u8], out: &mut Vec<u8>) -> Option<i64> {
    let (whole, cents) = amount(text)?;
    let digits = [whole / 100_000_000, whole / 10_000 % 10_000, whole % 10_000, cents * 100].map(|digit| digit as u16);
    let first = digits.iter().position(|&digit| digit != 0).unwrap_or(4);
    let last = digits.iter().rposition(|&digit| digit != 0).map_or(4, |last| last + 1);
    let digits = &digits[first..last];
    let weight = if digits.is_empty() { 0 } else { 2 - first as i16 };
    out.extend_from_slice(&(8 + 2 * digits.len() as i32).to_be_bytes());
    for head in [digits.len() as i16, weight, 0, 2] {
        out.extend_from_slice(&head.to_be_bytes()); // count of digits, weight, sign, display scale
    }
    for digit in digits {
        out.extend_from_slice(&digit.to_be_bytes());
    }
    Some(whole * 100 + cents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Cursor;

    const TEXT: ColumnType = ColumnType::Text { minimum: 1, maximum: 4 };
    const SMALLINT: ColumnType = ColumnType::Smallint { minimum: 0, maximum: 32_767 };

    fn written(column_type: &ColumnType, value: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let token = Cursor::new(value).value()?;
        write(column_type, false, token, &mut out, &mut Vec::new()).map(|_| out)
    }

    #[test]
    fn a_text_is_measured_in_the_utf8_that_it_means() {
        assert_eq!(written(&TEXT, br#""abcd""#), Some(b"\0\0\0\x04abcd".to_vec()));
        assert_eq!(written(&TEXT, br#""\u00e9\ud83d\ude00""#), None);
        assert_eq!(written(&TEXT, br#""\ud83d\ude00""#), Some("\0\0\0\x04😀".into()));
        assert_eq!(written(&TEXT, b"\"\xf0\x9f\x98\""), None);
        for text in [r#""""#, r#""abcde""#, r#""a\u0000""#, "null", "5"] {
            assert_eq!(written(&TEXT, text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_label_is_one_of_its_list() {
        let column_type = ColumnType::Label(vec![b"top".to_vec(), b"bottom".to_vec()]);
        assert_eq!(written(&column_type, br#""t\u006fp""#), Some(b"\0\0\0\x03top".to_vec()));
        for text in [r#""Top""#, r#""to""#, r#""""#, "null"] {
            assert_eq!(written(&column_type, text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_number_is_digits_within_its_limits() {
        assert_eq!(written(&SMALLINT, b"0"), Some(vec![0, 0, 0, 2, 0, 0]));
        assert_eq!(written(&SMALLINT, b"32767"), Some(vec![0, 0, 0, 2, 0x7f, 0xff]));
        assert_eq!(written(&ColumnType::Integer { minimum: 0, maximum: 1 << 40 }, b"2147483648"), None);
        assert_eq!(
            written(&ColumnType::Bigint { minimum: 0, maximum: i64::MAX }, b"4294967296"),
            Some(vec![0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0])
        );
        for text in ["32768", "-1", "-0", "1.0", "1e1", "01", "99999999999999999999999", "true", "\"1\"", "null"] {
            assert_eq!(written(&SMALLINT, text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_amount_is_written_in_base_ten_thousand() {
        let amount = |text: &str| written(&ColumnType::Amount, format!("\"{text}\"").as_bytes());
        let numeric = |weight: i16, digits: &[u16]| {
            let mut field = (8 + 2 * digits.len() as i32).to_be_bytes().to_vec();
            field.extend([digits.len() as i16, weight, 0, 2].map(i16::to_be_bytes).concat());
            field.extend(digits.iter().flat_map(|digit| digit.to_be_bytes()));
            Some(field)
        };
        assert_eq!(amount("0"), numeric(0, &[]));
        assert_eq!(amount("0.01"), numeric(-1, &[100]));
        assert_eq!(amount("0.5"), numeric(-1, &[5000]));
        assert_eq!(amount("203.95"), numeric(0, &[203, 9500]));
        assert_eq!(amount("10000"), numeric(1, &[1]));
        assert_eq!(amount("0100000000.10"), numeric(2, &[1, 0, 0, 1000]));
        assert_eq!(amount("9999999999.99"), numeric(2, &[99, 9999, 9999, 9900]));
        for text in
            ["", ".", ".5", "5.", "5.123", "12345678901", "-1", "+1", "1e2", "1,5", " 1", "1 ", "1.2.3", "\u{661}"]
        {
            assert_eq!(amount(text), None, "{text}");
        }
    }

    #[test]
    fn null_is_written_where_it_may_stand() {
        let mut out = Vec::new();
        assert_eq!(write(&TEXT, true, Token::Null, &mut out, &mut Vec::new()), Some(NOTHING));
        assert_eq!(out, NULL);
        assert_eq!(write(&TEXT, true, Token::Missing, &mut out, &mut Vec::new()), None);
    }
}
