//! RFC 3339 instants in PostgreSQL's unit: microseconds since 2000-01-01T00:00:00Z.

pub const SECOND: i64 = 1_000_000;
pub const DAY: i64 = 86_400 * SECOND;

/// The first instant of 2101, the end of the allowed range: 101 years, 25 of them leap years (2100 is not).
const END: i64 = (101 * 365 + 25) * DAY;

/// Parse `YYYY-MM-DDTHH:MM:SS[.f…](Z|±HH:MM|±HHMM|±HH)`, a day that exists in the years 2000 to 2100. Returns `None`
/// for other texts. T and Z may be lower case. Of one to nine digits of fraction, the first six count.
pub fn read(text: &[u8]) -> Option<i64> {
    let (head, tail) = text.split_first_chunk::<19>()?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b't', h1, h2, b':', n1, n2, b':', s1, s2] = *head else {
        return None;
    };
    if ![y1, y2, y3, y4, m1, m2, d1, d2, h1, h2, n1, n2, s1, s2].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let pair = |tens: u8, ones: u8| i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
    let (year, month, day) = (pair(y1, y2) * 100 + pair(y3, y4), pair(m1, m2), pair(d1, d2));
    let (hour, minute, second) = (pair(h1, h2), pair(n1, n2), pair(s1, s2));
    let (microseconds, zone) = fraction(tail)?;
    if day == 0 || day > days_of(year, month)? || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = hour * 3600 + minute * 60 + second - offset(zone)?;
    let instant = days_since_2000(year, month, day) * DAY + seconds * SECOND + microseconds;
    (0..END).contains(&instant).then_some(instant)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
}

/// Microseconds of the fraction after the seconds, and the rest of the text. Digits after the sixth are truncated.
fn fraction(tail: &[u8]) -> Option<(i64, &[u8])> {
    let Some(behind) = tail.strip_prefix(b".") else {
        return Some((0, tail));
    };
    let count = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, zone) = behind.split_at(count);
    (1..=9).contains(&count).then_some(())?;
    let kept = count.min(6);
    Some((number(&digits[..kept])? * 10_i64.pow(6 - kept as u32), zone))
}

/// Seconds that a zone is ahead of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match *zone {
        [b'Z' | b'z'] => return Some(0),
        [sign @ (b'+' | b'-'), h1, h2] => (sign, [h1, h2], *b"00"),
        [sign @ (b'+' | b'-'), h1, h2, m1, m2] | [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            (sign, [h1, h2], [m1, m2])
        }
        _ => return None,
    };
    let (hours, minutes) = (number(&hours)?, number(&minutes)?);
    let ahead = hours * 3600 + minutes * 60;
    (hours <= 23 && minutes <= 59).then_some(if sign == b'+' { ahead } else { -ahead })
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> Option<i64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if is_leap(year) { 29 } else { 28 }),
        _ => None,
    }
}

/// Days since 2000-01-01. The year starts in March, so that a leap day is its last day.
fn days_since_2000(year: i64, month: i64, day: i64) -> i64 {
    let year = if month < 3 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let from_year_0 = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year;
    from_year_0 - 730_425 // for 2000-01-01
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_2000() {
        assert_eq!(read(b"2000-01-01T00:00:00Z"), Some(0));
        assert_eq!(read(b"2000-01-01t00:00:00.000001z"), Some(1));
        assert_eq!(read(b"2026-11-22T07:25:58.541Z"), Some(848_647_558_541_000));
        assert_eq!(read(b"2100-12-31T23:59:59.999999Z"), Some(END - 1));
    }

    #[test]
    fn follows_every_day_of_the_calendar() {
        let mut expected = 0;
        for year in 2000..=2100 {
            for month in 1..=12 {
                for day in 1..=days_of(year, month).unwrap() {
                    let text = format!("{year}-{month:02}-{day:02}T00:00:00Z");
                    assert_eq!(read(text.as_bytes()), Some(expected * DAY), "{text}");
                    expected += 1;
                }
            }
        }
        assert_eq!(expected * DAY, END);
    }

    #[test]
    fn takes_offsets_into_account() {
        assert_eq!(read(b"2000-01-02T01:30:00+01:30"), Some(DAY));
        assert_eq!(read(b"2000-01-02T01:30:00+0130"), Some(DAY));
        assert_eq!(read(b"2000-01-02T01:00:00+01"), Some(DAY));
        assert_eq!(read(b"2000-01-01T00:00:00-0000"), Some(0));
        assert_eq!(read(b"1999-12-31T23:59:59-00:01"), Some(59 * SECOND));
        assert_eq!(read(b"2000-01-01T00:00:00+00:01"), None);
        assert_eq!(read(b"2100-12-31T23:59:59-23:59"), None);
    }

    #[test]
    fn cuts_to_microseconds() {
        assert_eq!(read(b"2000-01-01T00:00:00.0000019Z"), Some(1));
        assert_eq!(read(b"2000-01-01T00:00:00.123456789+00"), Some(123_456));
        assert_eq!(read(b"2100-12-31T23:59:59.999999999Z"), Some(END - 1));
        assert_eq!(read(b"1999-12-31T23:59:59.999999999Z"), None);
    }

    #[test]
    fn takes_nothing_else() {
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T07:25:58",
            "2026-11-22 07:25:58Z",
            "2026-11-22T07:25Z",
            "2026-11-22T07:25:58.Z",
            "2026-11-22T07:25:58.1234567890Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T23:60:00Z",
            "2026-11-22T23:59:60Z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-13-10T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-11-22T07:25:58+24:00",
            "2026-11-22T07:25:58+10:60",
            "2026-11-22T07:25:58+2400",
            "2026-11-22T07:25:58+24",
            "2026-11-22T07:25:58+0060",
            "2026-11-22T07:25:58+1",
            "2026-11-22T07:25:58+100",
            "2026-11-22T07:25:58+10:",
            "2026-11-22T07:25:58+10:0",
            "2026-11-22T07:25:58 1000",
            "2026-11-22T07:25:58ZZ",
            "+026-11-22T07:25:58Z",
            "0000-01-01T00:00:00Z",
            "1999-12-31T23:59:59Z",
            "2101-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }
}
