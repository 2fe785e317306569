//! The structured-field lists of `RateLimit` and `RateLimit-Policy` (H5, RFC 9651 §4.2.1).

#[derive(Clone, Debug, PartialEq)]
enum Bare {
    Integer(i64),
    /// A String or a Token: a possible name of a member (F9).
    Name,
    Other,
}

/// One member of a list: an item, or an inner list, whose contents do not matter.
#[derive(Debug)]
pub struct Member {
    item: Bare,
    parameters: Vec<(String, Bare)>,
}

impl Member {
    /// F9: returns whether the name is a String or a Token.
    pub fn named(&self) -> bool {
        self.item == Bare::Name
    }

    /// Returns a parameter that must be a non-negative Integer. The last of several counts.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ()> {
        match self.parameters.iter().rev().find(|(key, _)| key == name) {
            None => Ok(None),
            Some((_, Bare::Integer(number))) => u64::try_from(*number).map(Some).map_err(|_| ()),
            Some(_) => Err(()),
        }
    }
}

/// Draft 7's `limit=…, remaining=…, reset=…` (H5).
#[derive(Debug, Default)]
pub struct Dictionary(Vec<(String, Bare)>);

impl Dictionary {
    /// RFC 9651 §4.2: several lines are one dictionary.
    pub fn extend(&mut self, later: Dictionary) {
        self.0.extend(later.0);
    }

    /// Returns the last good value of a key, a non-negative Integer. A bad one is dropped.
    pub fn number(&self, name: &str) -> Option<u64> {
        let values = self.0.iter().filter(|(key, _)| key == name);
        values.filter_map(|(_, value)| good(value)).next_back()
    }

    /// Returns whether a value is bad.
    pub fn has_a_bad_value(&self) -> bool {
        self.0.iter().any(|(_, value)| good(value).is_none())
    }
}

fn good(value: &Bare) -> Option<u64> {
    match value {
        Bare::Integer(number) => u64::try_from(*number).ok(),
        Bare::Name | Bare::Other => None,
    }
}

/// One line of `RateLimit`.
#[derive(Debug)]
pub enum Line {
    List(Vec<Member>),
    Dictionary(Dictionary),
}

/// Reads one line of `RateLimit`. Returns `None` if it has a syntax error.
pub fn quotas(line: &[u8]) -> Option<Line> {
    line_list(line).map(Line::List).or_else(|| line_dictionary(line).map(Line::Dictionary))
}

/// RFC 9651 §4.2.2, with the keys of draft 7 only.
fn line_dictionary(line: &[u8]) -> Option<Dictionary> {
    let mut input = Input(line);
    input.spaces();
    let mut entries = Vec::new();
    loop {
        matches!(input.peek(), Some(b'a'..=b'z' | b'*')).then_some(())?;
        let key = input.run(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'));
        let key = String::from_utf8_lossy(key).into_owned();
        ["limit", "remaining", "reset"].contains(&key.as_str()).then_some(())?;
        let value = if input.take(b'=') {
            input.member()?.item
        } else {
            input.parameters()?;
            Bare::Other
        };
        entries.push((key, value));
        input.white_space();
        if input.0.is_empty() {
            return Some(Dictionary(entries));
        }
        input.take(b',').then_some(())?;
        input.white_space();
        // A key must follow: a trailing comma is an error.
    }
}

/// Reads all lines of a field, each of which is a list. Returns `None` if any has a syntax error.
pub fn list(lines: &[&[u8]]) -> Option<Vec<Member>> {
    let lists: Option<Vec<_>> = lines.iter().map(|line| line_list(line)).collect();
    Some(lists?.into_iter().flatten().collect())
}

fn line_list(line: &[u8]) -> Option<Vec<Member>> {
    let mut input = Input(line);
    input.spaces();
    let mut members = Vec::new();
    if input.0.is_empty() {
        return Some(members);
    }
    loop {
        members.push(input.member()?);
        input.white_space();
        if input.0.is_empty() {
            return Some(members);
        }
        input.take(b',').then_some(())?;
        input.white_space();
        if input.0.is_empty() {
            return None; // A trailing comma.
        }
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, c: u8) -> bool {
        self.peek() == Some(c) && self.next().is_some()
    }

    fn spaces(&mut self) {
        while self.take(b' ') {}
    }

    fn white_space(&mut self) {
        while self.take(b' ') || self.take(b'\t') {}
    }

    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.0.iter().take_while(|c| belongs(**c)).count();
        let (run, rest) = self.0.split_at(length);
        self.0 = rest;
        run
    }

    fn member(&mut self) -> Option<Member> {
        if !self.take(b'(') {
            return self.item();
        }
        loop {
            self.spaces();
            if self.take(b')') {
                return Some(Member { item: Bare::Other, parameters: self.parameters()? });
            }
            self.item()?;
            matches!(self.peek(), Some(b' ' | b')')).then_some(())?;
        }
    }

    fn item(&mut self) -> Option<Member> {
        Some(Member { item: self.bare()?, parameters: self.parameters()? })
    }

    fn parameters(&mut self) -> Option<Vec<(String, Bare)>> {
        let mut list = Vec::new();
        while self.take(b';') {
            self.spaces();
            matches!(self.peek(), Some(b'a'..=b'z' | b'*')).then_some(())?;
            let key = self.run(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'));
            let value = if self.take(b'=') { self.bare()? } else { Bare::Other };
            list.push((String::from_utf8_lossy(key).into_owned(), value));
        }
        Some(list)
    }

    fn bare(&mut self) -> Option<Bare> {
        match self.peek()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'a'..=b'z' | b'A'..=b'Z' | b'*' => {
                self.run(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&c));
                Some(Bare::Name)
            }
            b':' => {
                self.next();
                let digits = self.run(|c| c.is_ascii_alphanumeric() || b"+/=".contains(&c));
                (self.take(b':') && is_base64(digits)).then_some(Bare::Other)
            }
            b'?' => {
                self.next();
                (self.take(b'0') || self.take(b'1')).then_some(Bare::Other)
            }
            b'@' => {
                self.next();
                matches!(self.number()?, Bare::Integer(_)).then_some(Bare::Other)
            }
            b'%' => self.display_string(),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Bare> {
        let negative = self.take(b'-');
        let whole = self.run(|c| c.is_ascii_digit());
        if whole.is_empty() {
            return None;
        }
        if self.take(b'.') {
            let fraction = self.run(|c| c.is_ascii_digit());
            return (whole.len() <= 12 && (1..=3).contains(&fraction.len())).then_some(Bare::Other);
        }
        if whole.len() > 15 {
            return None;
        }
        let value = whole.iter().fold(0, |sum, c| sum * 10 + i64::from(c - b'0'));
        Some(Bare::Integer(if negative { -value } else { value }))
    }

    fn string(&mut self) -> Option<Bare> {
        self.next();
        loop {
            match self.next()? {
                b'"' => return Some(Bare::Name),
                b'\\' => {
                    matches!(self.next()?, b'"' | b'\\').then_some(())?;
                }
                b' '..=b'~' => {}
                _ => return None,
            }
        }
    }

    fn display_string(&mut self) -> Option<Bare> {
        self.next();
        self.take(b'"').then_some(())?;
        let mut bytes = Vec::new();
        loop {
            match self.next()? {
                b'"' => return std::str::from_utf8(&bytes).is_ok().then_some(Bare::Other),
                b'%' => {
                    let mut digit = || {
                        let c = self.next().filter(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))?;
                        Some(if c.is_ascii_digit() { c - b'0' } else { c - b'a' + 10 })
                    };
                    bytes.push(digit()? * 16 + digit()?);
                }
                c @ b' '..=b'~' => bytes.push(c),
                _ => return None,
            }
        }
    }
}

fn is_base64(digits: &[u8]) -> bool {
    let padding = digits.iter().rev().take_while(|c| **c == b'=').count();
    let digits = &digits[..digits.len() - padding];
    // RFC 9651 §4.2.7: the padding may be missing; one more digit is less than a byte.
    !digits.contains(&b'=') && digits.len() % 4 != 1 && padding <= (4 - digits.len() % 4) % 4
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each member has a name, and its `r`.
    type Read = Option<Vec<(bool, Result<Option<u64>, ()>)>>;

    fn read(text: &str) -> Read {
        let members = list(&[text.as_bytes()])?;
        Some(members.iter().map(|m| (m.named(), m.number("r"))).collect())
    }

    #[test]
    fn h5_members_are_read_with_their_numbers() {
        assert_eq!(read("\"a\";r=5;t=3, b;r=0"), Some(vec![(true, Ok(Some(5))), (true, Ok(Some(0)))]));
        assert_eq!(read("a;r=-1"), Some(vec![(true, Err(()))]));
        assert_eq!(read("a;r=1.5"), Some(vec![(true, Err(()))]));
        assert_eq!(read("a;r"), Some(vec![(true, Err(()))]));
        assert_eq!(read("a;r=1;r=2"), Some(vec![(true, Ok(Some(2)))]));
        assert_eq!(read("100;r=1"), Some(vec![(false, Ok(Some(1)))]));
        assert_eq!(read("(a b);r=1"), Some(vec![(false, Ok(Some(1)))]));
        assert_eq!(read("a;pk=:QUI=:;d=@12;b=?1;s=%\"%c3%a9\""), Some(vec![(true, Ok(None))]));
        assert_eq!(read(""), Some(vec![]));
    }

    #[test]
    fn h5_draft_7_is_a_dictionary_of_its_three_keys() {
        let read = |text: &str| match quotas(text.as_bytes()) {
            Some(Line::Dictionary(all)) => {
                Some((["limit", "remaining", "reset"].map(|key| all.number(key)), all.has_a_bad_value()))
            }
            Some(Line::List(_)) | None => None,
        };
        assert_eq!(read("limit=10, remaining=0,reset=5"), Some(([Some(10), Some(0), Some(5)], false)));
        assert_eq!(read("limit=100;w=60"), Some(([Some(100), None, None], false)));
        assert_eq!(read("reset=1, reset=2"), Some(([None, None, Some(2)], false)));
        assert_eq!(read("reset=1, reset=-2"), Some(([None, None, Some(1)], true)));
        assert_eq!(read("limit=1.5, reset, remaining=-1"), Some(([None, None, None], true)));
        assert_eq!(read("limit=(1 2), reset=5"), Some(([None, None, Some(5)], true)));
        for bad in ["limit=10,", "limit=10, window=5", "Limit=10", "limit=", "limit=10 remaining=5", ""] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn h5_a_syntax_error_voids_the_field() {
        for bad in ["a,", "a,,b", "a;", "a;R=1", "a;r=", "limit=100, remaining=5", "\"a", "a;r=1234567890123456", "a b"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(list(&[b"a;r=1", b"b;"]).is_none());
        assert_eq!(list(&[b"a;r=1", b"b;r=2"]).map(|l| l.len()), Some(2));
    }
}
