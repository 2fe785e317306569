//! HTTP-date (H3, RFC 9110 §5.6.7), as its grammar says.

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const LONG_DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads a date as Unix seconds. Returns `None` if it is malformed. Two-digit years need the reference year.
pub fn parse(value: &[u8], reference: Option<i128>) -> Option<i128> {
    let text = std::str::from_utf8(value).ok()?;
    imf_fixdate(text).or_else(|| rfc850(text, reference)).or_else(|| asctime(text))
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT`.
fn imf_fixdate(text: &str) -> Option<i128> {
    let (day_name, rest) = text.split_once(", ")?;
    let [day, month, year, time, zone] = parts(rest)?;
    (DAYS.contains(&day_name) && zone == "GMT").then_some(())?;
    unix(number(year, 4)?, month, number(day, 2)?, time)
}

/// Reads `Sunday, 06-Nov-94 08:49:37 GMT`.
fn rfc850(text: &str, reference: Option<i128>) -> Option<i128> {
    let (day_name, rest) = text.split_once(", ")?;
    let [date, time, zone] = parts(rest)?;
    (LONG_DAYS.contains(&day_name) && zone == "GMT").then_some(())?;
    let [day, month, year] = <[&str; 3]>::try_from(date.split('-').collect::<Vec<_>>()).ok()?;
    // F9: the latest year with these two digits that is at most the reference plus 50.
    let last = reference? + 50;
    let year = last - (last - number(year, 2)?).rem_euclid(100);
    unix(year, month, number(day, 2)?, time)
}

/// Reads `Sun Nov  6 08:49:37 1994`.
fn asctime(text: &str) -> Option<i128> {
    // The day is two digits, or a space and one digit.
    let (head, tail) = (text.get(..8)?, text.get(10..)?);
    let day = text.get(8..10)?;
    let [day_name, month, ""] = parts(head)? else {
        return None;
    };
    let ["", time, year] = parts(tail)? else {
        return None;
    };
    DAYS.contains(&day_name).then_some(())?;
    let day = match day.strip_prefix(' ') {
        Some(digit) => number(digit, 1)?,
        None => number(day, 2)?,
    };
    unix(number(year, 4)?, month, day, time)
}

/// H11: reads `2026-11-26T10:02:03.5+01:00` as Unix milliseconds, rounded up. The seconds may be missing.
pub fn rfc3339(value: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(value).ok()?;
    let date = text.get(..10)?;
    let [year, month, day] = <[&str; 3]>::try_from(date.split('-').collect::<Vec<_>>()).ok()?;
    let month = MONTHS.get(usize::try_from(number(month, 2)?.checked_sub(1)?).ok()?)?;
    let rest = text.get(10..)?.strip_prefix(['T', 't', ' '])?;
    let zone_at = rest.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.')?;
    let (time, zone) = rest.split_at(zone_at);
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let sign = if zone.starts_with('-') { -1 } else { zone.starts_with('+').then_some(1)? };
            let (hours, minutes) = zone[1..].split_once(':')?;
            let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
            (hours <= 23 && minutes <= 59).then_some(())?;
            sign * (hours * 60 + minutes) * 60
        }
    };
    let (time, fraction) = time.split_once('.').map_or((time, "0"), |(time, fraction)| (time, fraction));
    let has_seconds = time.matches(':').count() == 2;
    if text.contains('.') && !has_seconds {
        return None;
    }
    let fraction_ms = super::number::seconds(format!("0.{fraction}").as_bytes())?;
    let time = if has_seconds { time.to_string() } else { format!("{time}:00") };
    let seconds = unix(number(year, 4)?, month, number(day, 2)?, &time)?;
    Some((seconds - offset) * 1000 + fraction_ms)
}

fn parts<const N: usize>(text: &str) -> Option<[&str; N]> {
    text.split(' ').collect::<Vec<_>>().try_into().ok()
}

/// Reads exactly `length` digits.
fn number(text: &str, length: usize) -> Option<i128> {
    (text.len() == length && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse().ok())?
}

fn unix(year: i128, month: &str, day: i128, time: &str) -> Option<i128> {
    let month = MONTHS.iter().position(|m| *m == month)?;
    let [hour, minute, second] = <[&str; 3]>::try_from(time.split(':').collect::<Vec<_>>()).ok()?;
    let (hour, minute, second) = (number(hour, 2)?, number(minute, 2)?, number(second, 2)?);
    let in_range = (1..=month_lengths(year)[month]).contains(&day) && hour <= 23 && minute <= 59 && second <= 60;
    in_range.then_some(())?;
    let days = days_before_year(year) + month_lengths(year)[..month].iter().sum::<i128>() + day - 1;
    Some(((days - days_before_year(1970)) * 24 + hour) * 3600 + minute * 60 + second)
}

fn leap(year: i128) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_lengths(year: i128) -> [i128; 12] {
    [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

/// Returns the days from 1 January of year 0 to 1 January of `year`.
fn days_before_year(year: i128) -> i128 {
    let past = year - 1;
    year * 365 + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400)
}

/// Returns the year of a Unix time.
pub fn year_of(seconds: i128) -> i128 {
    let days = seconds.div_euclid(86_400) + days_before_year(1970);
    let mut year = days.div_euclid(366);
    while days_before_year(year + 1) <= days {
        year += 1;
    }
    year
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h3_three_forms_mean_the_same_instant() {
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse(text.as_bytes(), Some(2026)), Some(784_111_777), "{text}");
        }
    }

    #[test]
    fn h3_agrees_with_httpdate_on_every_day_of_four_centuries() {
        for day in 0..146_097_u64 {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(day * 86_400 + day % 86_400);
            let text = httpdate::fmt_http_date(time);
            assert_eq!(parse(text.as_bytes(), None), Some(i128::from(day * 86_400 + day % 86_400)), "{text}");
            let year: i128 = text[12..16].parse().unwrap();
            assert_eq!(year_of(i128::from(day) * 86_400), year);
        }
    }

    #[test]
    fn h3_impossible_and_misspelled_dates_are_malformed() {
        for text in [
            "Thu, 31 Feb 2000 00:00:00 GMT",
            "Thu, 29 Feb 1900 00:00:00 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov  6 08:49:37 1994 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "",
        ] {
            assert_eq!(parse(text.as_bytes(), Some(2026)), None, "{text}");
        }
    }

    #[test]
    fn h3_second_sixty_and_a_wrong_weekday_are_accepted() {
        assert_eq!(parse(b"Sat, 31 Dec 2016 23:59:60 GMT", None), Some(1_483_228_800));
        assert_eq!(parse(b"Mon, 06 Nov 1994 08:49:37 GMT", None), Some(784_111_777));
    }

    #[test]
    fn h11_rfc_3339_times_may_lack_their_seconds() {
        for (text, ms) in [
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14t22:13:20z", 1_700_000_000_000),
            ("2023-11-14 22:13:20.0001Z", 1_700_000_000_001),
            ("2023-11-14T23:43+01:30", 1_699_999_980_000),
            ("2023-11-14T22:13Z", 1_699_999_980_000),
            ("2023-11-14T22:13:20-00:00", 1_700_000_000_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ] {
            assert_eq!(rfc3339(text.as_bytes()), Some(ms), "{text}");
        }
        for text in [
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-11-14T22Z",
            "2023-11-14T22:13.5Z",
            "2023-11-14T22:13:20.Z",
            "2023-02-30T22:13:20Z",
            "2023-13-14T22:13:20Z",
            "2023-00-14T22:13:20Z",
            "2023-11-14T24:13:20Z",
            "2023-11-14T22:13:20+0100",
            "2023-11-14T22:13:20+24:00",
            "2023-11-14_22:13:20Z",
            "23-11-14T22:13:20Z",
            "",
        ] {
            assert_eq!(rfc3339(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn h3_two_digit_years_are_at_most_fifty_years_ahead() {
        let year = |text: &str, reference| parse(text.as_bytes(), Some(reference)).map(year_of);
        assert_eq!(year("Sunday, 06-Nov-76 08:49:37 GMT", 2026), Some(2076));
        assert_eq!(year("Sunday, 06-Nov-77 08:49:37 GMT", 2026), Some(1977));
        assert_eq!(year("Sunday, 06-Nov-10 08:49:37 GMT", 2070), Some(2110));
        assert_eq!(year("Sunday, 06-Nov-26 08:49:37 GMT", 2026), Some(2026));
        assert_eq!(parse(b"Sunday, 06-Nov-26 08:49:37 GMT", None), None);
    }
}
