//! Structured fields (RFC 9651): reads the Lists of `RateLimit` and `RateLimit-Policy`, and the Dictionary that draft 7 made of
//! `RateLimit` (rule H5).
//!
//! The grammar is checked whole and strictly, as section 4.2 asks: a field that breaks it anywhere has no meaning. Of the
//! values only integers are kept, because rate limits need no others.

use core::iter::FusedIterator;

/// The error for a field that breaks the grammar. Nothing in such a field counts (RFC 9651 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Malformed;

/// The members of a List (RFC 9651 §3.1), in order, each with the parameters that have one of `N` keys.
///
/// Members are read one by one, so those before an error are returned although the field has no meaning: a caller must
/// discard them. After a [`Malformed`] the iterator ends. An empty field is an empty list.
#[derive(Clone, Debug)]
pub struct List<'a, const N: usize> {
    rest: Text<'a>,
    keys: [&'a [u8]; N],
}

impl<'a, const N: usize> List<'a, N> {
    /// Reads the value of one field line, and of each member's parameters those with these keys.
    ///
    /// A list in several lines is the list of the lines joined by commas (RFC 9110 §5.3). Reading line by line gives the
    /// same members, with two exceptions: an empty line, which is malformed if joined, and a string that a line's end
    /// cuts, which is malformed here.
    #[must_use]
    pub fn new(line: &'a [u8], keys: [&'a [u8]; N]) -> Self {
        Self { rest: Text::new(line), keys }
    }
}

impl<const N: usize> Iterator for List<'_, N> {
    type Item = Result<Member<N>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let keys = &self.keys;
        self.rest.next_of(|text| text.member(keys))
    }
}

impl<const N: usize> FusedIterator for List<'_, N> {}

/// The keys and members of a Dictionary (RFC 9651 §3.2), in order. A key can come again.
///
/// As with [`List`], what comes before an error has no meaning, and after a [`Malformed`] the iterator ends.
#[derive(Clone, Debug)]
pub struct Dictionary<'a> {
    rest: Text<'a>,
}

impl<'a> Dictionary<'a> {
    /// Reads the value of one field line.
    #[must_use]
    pub fn new(line: &'a [u8]) -> Self {
        Self { rest: Text::new(line) }
    }
}

impl<'a> Iterator for Dictionary<'a> {
    type Item = Result<(&'a [u8], Member<0>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest.next_of(Text::entry)
    }
}

impl FusedIterator for Dictionary<'_> {}

/// A member of a List or a Dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member<const N: usize> {
    /// The member's value, or `None` for an inner list.
    pub value: Option<Bare>,
    /// The values of the parameters (RFC 9651 §3.1.2) with the `N` keys, of the value or of the inner list as a whole. Of
    /// several with one key the last counts.
    pub params: [Option<Bare>; N],
}

/// A bare item (RFC 9651 §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bare {
    /// An integer of at most 15 digits.
    Integer(i64),
    /// A decimal number of at most 12 digits before the point and 3 after it.
    Decimal,
    /// ASCII text in quotes.
    String,
    /// A word without quotes, such as `text/html`.
    Token,
    /// Bytes as base64, whose padding may be missing.
    ByteSequence,
    /// `?1`, `?0`, or a parameter or a key without a value.
    Boolean,
    /// A Unix time in whole seconds.
    Date,
    /// Unicode text, percent-encoded.
    DisplayString,
}

/// The unread rest of a field. Each method reads one production of RFC 9651 §4.2. After a `None` the position has no
/// meaning.
#[derive(Clone, Copy, Debug)]
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn new(line: &'a [u8]) -> Self {
        let mut text = Text(line);
        text.skip_spaces();
        text
    }

    /// Reads the next one with `read`, and what stands behind it. After an error nothing is left.
    fn next_of<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Result<T, Malformed>> {
        if self.0.is_empty() {
            return None;
        }
        let item = read(self).and_then(|item| self.comma().map(|()| item));
        if item.is_none() {
            *self = Text(&[]);
        }
        Some(item.ok_or(Malformed))
    }

    /// Reads what stands between two members, or the end of the field.
    fn comma(&mut self) -> Option<()> {
        self.skip_white_space();
        if !self.0.is_empty() {
            self.expect(b',')?;
            self.skip_white_space();
            // After a comma there must be a member.
            self.0.first()?;
        }
        Some(())
    }

    fn entry(&mut self) -> Option<(&'a [u8], Member<0>)> {
        let key = self.key()?;
        let member = if self.skip(b'=') {
            self.member(&[])?
        } else {
            Member { value: Some(Bare::Boolean), params: self.params(&[])? }
        };
        Some((key, member))
    }

    fn member<const N: usize>(&mut self, keys: &[&[u8]; N]) -> Option<Member<N>> {
        let value = if self.skip(b'(') {
            self.inner_list()?;
            None
        } else {
            Some(self.bare()?)
        };
        Some(Member { value, params: self.params(keys)? })
    }

    /// Reads from after the opening parenthesis to after the closing one.
    fn inner_list(&mut self) -> Option<()> {
        loop {
            self.skip_spaces();
            if self.skip(b')') {
                return Some(());
            }
            self.bare()?;
            self.params(&[])?;
            matches!(self.0.first()?, b' ' | b')').then_some(())?;
        }
    }

    fn params<const N: usize>(&mut self, keys: &[&[u8]; N]) -> Option<[Option<Bare>; N]> {
        let mut params = [None; N];
        while self.skip(b';') {
            self.skip_spaces();
            let key = self.key()?;
            let value = if self.skip(b'=') { self.bare()? } else { Bare::Boolean };
            for (wanted, param) in keys.iter().zip(&mut params) {
                if key == *wanted {
                    *param = Some(value);
                }
            }
        }
        Some(params)
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        self.word(
            |first| matches!(first, b'a'..=b'z' | b'*'),
            |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'),
        )
    }

    fn bare(&mut self) -> Option<Bare> {
        match *self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'*' | b'A'..=b'Z' | b'a'..=b'z' => self.token(),
            b':' => self.byte_sequence(),
            b'?' => self.boolean(),
            b'@' => self.date(),
            b'%' => self.display_string(),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Bare> {
        let sign = if self.skip(b'-') { -1 } else { 1 };
        let (mut number, mut length) = (0, 0);
        while let [digit @ b'0'..=b'9', rest @ ..] = self.0 {
            // An `i64` holds 15 digits. With more of them it is malformed.
            number = if length < 15 { number * 10 + i64::from(digit - b'0') } else { 0 };
            length += 1;
            self.0 = rest;
        }
        if self.skip(b'.') {
            let fraction = self.take_while(|byte| byte.is_ascii_digit());
            return (matches!(length, 1..=12) && matches!(fraction.len(), 1..=3)).then_some(Bare::Decimal);
        }
        matches!(length, 1..=15).then_some(Bare::Integer(sign * number))
    }

    fn string(&mut self) -> Option<Bare> {
        self.expect(b'"')?;
        loop {
            match self.byte()? {
                b'"' => return Some(Bare::String),
                b'\\' => matches!(self.byte()?, b'"' | b'\\').then_some(())?,
                b' '..=b'~' => {}
                _ => return None,
            }
        }
    }

    fn token(&mut self) -> Option<Bare> {
        self.word(|first| first.is_ascii_alphabetic() || first == b'*', is_token_byte)?;
        Some(Bare::Token)
    }

    fn byte_sequence(&mut self) -> Option<Bare> {
        self.expect(b':')?;
        let digits = self.take_while(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte));
        let padding = self.take_while(|byte| byte == b'=');
        self.expect(b':')?;
        // RFC 9651 §4.2.7: padding may be missing, and pad bits need not be zero.
        let longest_padding = match digits.len() % 4 {
            0 => 0,
            2 => 2,
            3 => 1,
            _ => return None,
        };
        (padding.len() <= longest_padding).then_some(Bare::ByteSequence)
    }

    fn boolean(&mut self) -> Option<Bare> {
        self.expect(b'?')?;
        matches!(self.byte()?, b'0' | b'1').then_some(Bare::Boolean)
    }

    fn date(&mut self) -> Option<Bare> {
        self.expect(b'@')?;
        matches!(self.number()?, Bare::Integer(_)).then_some(Bare::Date)
    }

    fn display_string(&mut self) -> Option<Bare> {
        self.expect(b'%')?;
        self.expect(b'"')?;
        // The bytes of the character that is being decoded, and their number.
        let (mut utf8, mut filled) = ([0; 4], 0);
        loop {
            let byte = match self.byte()? {
                b'"' => return (filled == 0).then_some(Bare::DisplayString),
                b'%' => self.hex_digit()? * 16 + self.hex_digit()?,
                byte @ b' '..=b'~' => byte,
                _ => return None,
            };
            *utf8.get_mut(filled)? = byte;
            filled = match core::str::from_utf8(utf8.get(..=filled)?) {
                Ok(_) => 0,
                // The character is incomplete. If it can never be valid, there is no place for a fifth byte.
                Err(_) => filled + 1,
            };
        }
    }

    fn hex_digit(&mut self) -> Option<u8> {
        match self.byte()? {
            digit @ b'0'..=b'9' => Some(digit - b'0'),
            digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }

    /// Reads one byte that `begins` allows, and the bytes after it that `continues` allows.
    fn word(&mut self, begins: impl Fn(u8) -> bool, continues: impl Fn(u8) -> bool) -> Option<&'a [u8]> {
        begins(*self.0.first()?).then(|| self.take_while(continues))
    }

    fn skip_spaces(&mut self) {
        self.take_while(|byte| byte == b' ');
    }

    fn skip_white_space(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    fn skip(&mut self, expected: u8) -> bool {
        match self.0 {
            [first, rest @ ..] if *first == expected => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, expected: u8) -> Option<()> {
        self.skip(expected).then_some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let start = self.0;
        while let [first, rest @ ..] = self.0 {
            if !belongs(*first) {
                break;
            }
            self.0 = rest;
        }
        start.get(..start.len() - self.0.len()).unwrap_or_default()
    }
}

/// Returns whether a token can go on with this byte (RFC 9651 §3.3.4).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
}
