//! Numbers in fields (H2, H5, H11).

/// Reads `1*DIGIT`, saturating.
fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum: u64, c| sum.saturating_mul(10).saturating_add(u64::from(c - b'0'))))
}

/// H2: reads `1*DIGIT [ "." 1*DIGIT ]` as its whole part and the digits of its fraction.
fn decimal(value: &[u8]) -> Option<(u64, &[u8])> {
    let Some(point) = value.iter().position(|c| *c == b'.') else {
        return Some((digits(value)?, b""));
    };
    let fraction = &value[point + 1..];
    digits(fraction)?;
    Some((digits(&value[..point])?, fraction))
}

/// The parts of one unit into which a fraction is read. Whatever is smaller counts as one of them.
const PARTS: i128 = 1_000_000_000_000_000_000;

/// Returns a fraction in parts of its unit, rounded up.
fn parts(fraction: &[u8]) -> i128 {
    let digit = |n: usize| i128::from(fraction.get(n).map_or(0, |c| c - b'0'));
    let whole = (0..18).fold(0, |sum, n| sum * 10 + digit(n));
    let rest = fraction.iter().skip(18).any(|c| *c != b'0');
    whole + i128::from(rest)
}

/// Returns the number times `unit`, rounded up.
fn times(value: &[u8], unit: i128) -> Option<i128> {
    let (whole, fraction) = decimal(value)?;
    Some(i128::from(whole) * unit + (parts(fraction) * unit + PARTS - 1) / PARTS)
}

/// H2: reads a number of milliseconds, rounded up.
pub fn millis(value: &[u8]) -> Option<i128> {
    times(value, 1)
}

/// H2: reads a number of seconds as milliseconds, rounded up.
pub fn seconds(value: &[u8]) -> Option<i128> {
    times(value, 1000)
}

/// Reads the whole part of a number.
pub fn whole(value: &[u8]) -> Option<u64> {
    Some(decimal(value)?.0)
}

/// H5: reads a count, without a fraction and without the window behind it.
pub fn count(value: &[u8]) -> Option<u64> {
    let number = value.split(|c| *c == b';').next().unwrap_or(value);
    whole(super::trim(number))
}

/// H11: reads `6m0s` as milliseconds, rounded up. The units have any order; a bare zero needs none.
pub fn duration(value: &[u8]) -> Option<i128> {
    if value == b"0" {
        return Some(0);
    }
    let mut rest = std::str::from_utf8(value).ok().filter(|text| !text.is_empty())?;
    let (mut nanos, mut fractions) = (0_i128, 0_i128);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit = match unit {
            "d" => 86_400_000_000_000,
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        let (whole, fraction) = decimal(number.as_bytes())?;
        nanos += i128::from(whole) * unit;
        fractions += parts(fraction) * unit;
        rest = tail;
    }
    nanos += (fractions + PARTS - 1) / PARTS;
    Some((nanos + 999_999) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2_decimals_are_rounded_up_to_whole_milliseconds() {
        for (text, ms) in [
            ("2", 2000),
            ("2.0", 2000),
            ("0.0001", 1),
            ("1.234", 1234),
            ("1.2340000000000000000000001", 1235),
            ("0.000000000000000000000000", 0),
            ("599.9999", 600_000),
        ] {
            assert_eq!(seconds(text.as_bytes()), Some(ms), "{text}");
        }
        assert_eq!(millis(b"1.5"), Some(2));
        assert_eq!(millis(b"1.0"), Some(1));
        for text in ["", ".5", "5.", "1.5.5", "+1", "-1", "1e3", "inf", "0x10", "1,5", "1 .5", "\u{661}"] {
            assert_eq!(seconds(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn h5_counts_lose_their_fraction_and_their_window() {
        assert_eq!(count(b"588.9"), Some(588));
        assert_eq!(count(b"100;w=21600"), Some(100));
        assert_eq!(count(b"100 ; w=21600"), Some(100));
        assert_eq!(count(b"100, 100;w=60"), None);
        assert_eq!(count(b";w=60"), None);
    }

    #[test]
    fn h11_durations_are_summed_before_they_are_rounded() {
        for (text, ms) in [
            ("0", 0),
            ("6m0s", 360_000),
            ("1d1h", 90_000_000),
            ("1s1m", 61_000),
            ("7.66s", 7660),
            ("1us999us", 1),
            ("0.5ms0.5ms", 1),
            ("1ns", 1),
            ("20\u{b5}s", 1),
        ] {
            assert_eq!(duration(text.as_bytes()), Some(ms), "{text}");
        }
        for text in ["", "1", "s", "1 s", "-1s", "1S", "1s,", "1.s", "1x", "00"] {
            assert_eq!(duration(text.as_bytes()), None, "{text}");
        }
    }
}
