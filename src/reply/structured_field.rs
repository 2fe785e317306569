//! Structured fields (RFC 9651): reads the Items and Lists that `RateLimit` and its kin are (H5).
//!
//! Dictionaries are not read. The parser is strict, as section 4.2 wants: a field that breaks the
//! grammar anywhere means nothing. Values borrow from the field and are kept as they were sent.

/// The field breaks the grammar. Nothing that it seemed to say counts (RFC 9651 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Malformed;

/// The members of a List (RFC 9651 section 3.1), in order.
///
/// Members are read one by one, so that those before an error come out although the field means
/// nothing: a caller that acts on members first runs a clone to its end. After a [`Malformed`] the
/// iterator ends. An empty field is an empty list.
#[derive(Clone, Debug)]
pub struct List<'a> {
    rest: Text<'a>,
}

impl<'a> List<'a> {
    /// Reads one whole field value.
    ///
    /// A list in several field lines is that of the lines joined by a comma (RFC 9110 section 5.3).
    /// Reading line by line gives the same members, but for an empty line, which joined is
    /// malformed, and for a string cut by a line's end, which is malformed here.
    #[must_use]
    pub fn new(field: &'a [u8]) -> Self {
        let mut rest = Text(field);
        rest.skip_spaces();
        Self { rest }
    }
}

impl<'a> Iterator for List<'a> {
    type Item = Result<Member<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.0.is_empty() {
            return None;
        }
        let member = self.rest.member_and_comma();
        if member.is_none() {
            self.rest = Text(&[]);
        }
        Some(member.ok_or(Malformed))
    }
}

impl core::iter::FusedIterator for List<'_> {}

/// A List's member with its parameters.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// What the member holds.
    pub value: Value<'a>,
    /// What is said about it; of an inner list, about the whole of it.
    pub params: Params<'a>,
}

/// What a List's member holds.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// A single value.
    Bare(Bare<'a>),
    /// Items between parentheses.
    InnerList(InnerList<'a>),
}

/// An Item (RFC 9651 section 3.3): a value with its parameters.
#[derive(Clone, Debug)]
pub struct Item<'a> {
    /// The value.
    pub bare: Bare<'a>,
    /// What is said about it.
    pub params: Params<'a>,
}

impl<'a> Item<'a> {
    /// Reads a field that is one Item. Spaces may stand around it.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the field is not exactly one Item; an empty field is none.
    pub fn parse(field: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = Text(field);
        rest.skip_spaces();
        let item = rest.item().ok_or(Malformed)?;
        rest.skip_spaces();
        if rest.0.is_empty() { Ok(item) } else { Err(Malformed) }
    }
}

/// A bare item (RFC 9651 section 3.3). `==` compares what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bare<'a> {
    /// At most 15 digits, with a sign.
    Integer(i64),
    /// In thousandths: `-1.5` is -1500. At most 12 digits before the point.
    Decimal(i64),
    /// ASCII text in quotes.
    String(Quoted<'a>),
    /// A word without quotes, such as `text/html`.
    Token(&'a [u8]),
    /// Bytes as base64, still encoded; the padding may be missing.
    ByteSequence(&'a [u8]),
    /// `?1` or `?0`; also a parameter without a value, which is true.
    Boolean(bool),
    /// Seconds since 1970-01-01T00:00:00Z, without leap seconds, within ±999,999,999,999,999.
    Date(i64),
    /// Unicode text, still percent-encoded; it decodes to valid UTF-8.
    DisplayString(&'a [u8]),
}

/// A String's content, as it was sent.
///
/// Just the quote and the backslash are escaped, and they always are, so that `==` compares the
/// content as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quoted<'a>(&'a [u8]);

impl<'a> Quoted<'a> {
    /// What stands between the quotes, with its escapes.
    #[must_use]
    pub fn raw(self) -> &'a [u8] {
        self.0
    }

    /// The content, without its escapes: ASCII from space to tilde.
    pub fn bytes(self) -> impl Iterator<Item = u8> + 'a {
        let mut rest = self.0.iter().copied();
        core::iter::from_fn(move || match rest.next() {
            Some(b'\\') => rest.next(),
            other => other,
        })
    }

    /// Whether the content is exactly these bytes.
    #[must_use]
    pub fn eq_bytes(self, bytes: &[u8]) -> bool {
        self.bytes().eq(bytes.iter().copied())
    }
}

/// Parameters (RFC 9651 section 3.1.2): keys with values, checked already.
///
/// As an iterator it gives every parameter as it was sent, also one whose key comes again later and
/// overrules it; [`get`](Self::get) gives the one that counts.
#[derive(Clone, Debug)]
pub struct Params<'a> {
    rest: Text<'a>,
}

impl<'a> Params<'a> {
    /// The value that counts for this key: the last one.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Bare<'a>> {
        self.clone().filter(|&(name, _)| name == key).last().map(|(_, value)| value)
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = (&'a [u8], Bare<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.rest.param()
    }
}

/// The Items of an inner list (RFC 9651 section 3.1.1), in order, checked already.
#[derive(Clone, Debug)]
pub struct InnerList<'a> {
    rest: Text<'a>,
}

impl<'a> Iterator for InnerList<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest.skip_spaces();
        self.rest.item()
    }
}

/// What is still unread. Each method reads one production of RFC 9651 section 4.2; after a `None` the
/// position means nothing.
#[derive(Clone, Copy, Debug)]
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn member_and_comma(&mut self) -> Option<Member<'a>> {
        let member = self.member()?;
        self.skip_white_space();
        if !self.0.is_empty() {
            self.expect(b',')?;
            self.skip_white_space();
            // A trailing comma promises a member.
            self.0.first()?;
        }
        Some(member)
    }

    fn member(&mut self) -> Option<Member<'a>> {
        let value = if self.skip(b'(') { Value::InnerList(self.inner_list()?) } else { Value::Bare(self.bare()?) };
        Some(Member { value, params: self.params()? })
    }

    /// From after the opening parenthesis to after the closing one.
    fn inner_list(&mut self) -> Option<InnerList<'a>> {
        let start = *self;
        loop {
            self.skip_spaces();
            let items = start.until(*self);
            if self.skip(b')') {
                return Some(InnerList { rest: items });
            }
            self.item()?;
            matches!(self.0.first()?, b' ' | b')').then_some(())?;
        }
    }

    fn item(&mut self) -> Option<Item<'a>> {
        Some(Item { bare: self.bare()?, params: self.params()? })
    }

    fn params(&mut self) -> Option<Params<'a>> {
        let start = *self;
        while self.0.first() == Some(&b';') {
            self.param()?;
        }
        Some(Params { rest: start.until(*self) })
    }

    fn param(&mut self) -> Option<(&'a [u8], Bare<'a>)> {
        self.expect(b';')?;
        self.skip_spaces();
        let key = self.word(
            |first| matches!(first, b'a'..=b'z' | b'*'),
            |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'),
        )?;
        let value = if self.skip(b'=') { self.bare()? } else { Bare::Boolean(true) };
        Some((key, value))
    }

    fn bare(&mut self) -> Option<Bare<'a>> {
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

    fn number(&mut self) -> Option<Bare<'a>> {
        let sign = if self.skip(b'-') { -1 } else { 1 };
        let whole = self.take_while(|byte| byte.is_ascii_digit());
        // Called with at most 15 digits, which an `i64` holds.
        let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
        if !self.skip(b'.') {
            return matches!(whole.len(), 1..=15).then(|| Bare::Integer(sign * number(whole)));
        }
        let fraction = self.take_while(|byte| byte.is_ascii_digit());
        let scale = match fraction.len() {
            1 => 100,
            2 => 10,
            3 => 1,
            _ => return None,
        };
        matches!(whole.len(), 1..=12).then(|| Bare::Decimal(sign * (number(whole) * 1000 + number(fraction) * scale)))
    }

    fn string(&mut self) -> Option<Bare<'a>> {
        self.expect(b'"')?;
        let start = *self;
        loop {
            let content = start.until(*self);
            match self.byte()? {
                b'"' => return Some(Bare::String(Quoted(content.0))),
                b'\\' => matches!(self.byte()?, b'"' | b'\\').then_some(())?,
                b' '..=b'~' => {}
                _ => return None,
            }
        }
    }

    fn token(&mut self) -> Option<Bare<'a>> {
        self.word(
            |first| first.is_ascii_alphabetic() || first == b'*',
            |byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte),
        )
        .map(Bare::Token)
    }

    fn byte_sequence(&mut self) -> Option<Bare<'a>> {
        self.expect(b':')?;
        let start = *self;
        let digits = self.take_while(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte));
        let padding = self.take_while(|byte| byte == b'=');
        let base64 = start.until(*self);
        self.expect(b':')?;
        // Section 4.2.7: missing padding and non-zero pad bits are tolerated.
        let longest_padding = match digits.len() % 4 {
            0 => 0,
            2 => 2,
            3 => 1,
            _ => return None,
        };
        (padding.len() <= longest_padding).then_some(Bare::ByteSequence(base64.0))
    }

    fn boolean(&mut self) -> Option<Bare<'a>> {
        self.expect(b'?')?;
        match self.byte()? {
            b'0' => Some(Bare::Boolean(false)),
            b'1' => Some(Bare::Boolean(true)),
            _ => None,
        }
    }

    fn date(&mut self) -> Option<Bare<'a>> {
        self.expect(b'@')?;
        match self.number()? {
            Bare::Integer(seconds) => Some(Bare::Date(seconds)),
            _ => None,
        }
    }

    fn display_string(&mut self) -> Option<Bare<'a>> {
        self.expect(b'%')?;
        self.expect(b'"')?;
        let start = *self;
        // The character that is being decoded, and how many of its bytes are there.
        let (mut utf8, mut filled) = ([0; 4], 0);
        loop {
            let content = start.until(*self);
            let byte = match self.byte()? {
                b'"' => return (filled == 0).then_some(Bare::DisplayString(content.0)),
                b'%' => self.hex_digit()? * 16 + self.hex_digit()?,
                byte @ b' '..=b'~' => byte,
                _ => return None,
            };
            *utf8.get_mut(filled)? = byte;
            filled = match core::str::from_utf8(utf8.get(..=filled)?) {
                Ok(_) => 0,
                // Incomplete; or what will never be valid, and finds no place for a fifth byte.
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

    /// One byte that `begins` allows, then those that `continues` allows.
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
        self.expect(expected).is_some()
    }

    fn expect(&mut self, expected: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[expected])?;
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.0.iter().position(|&byte| !belongs(byte));
        let (taken, rest) = length.and_then(|at| self.0.split_at_checked(at)).unwrap_or((self.0, &[]));
        self.0 = rest;
        taken
    }

    /// What has been read since `self`, of which `later` is the end.
    fn until(self, later: Self) -> Self {
        let length = self.0.len().saturating_sub(later.0.len());
        Self(self.0.get(..length).unwrap_or(self.0))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    use super::{Bare, Item, List, Malformed, Params, Value};

    fn bare(field: &str) -> Result<Bare<'_>, Malformed> {
        Item::parse(field.as_bytes()).map(|item| item.bare)
    }

    fn text(content: &str) -> String {
        match bare(content) {
            Ok(Bare::String(text)) => String::from_utf8(text.bytes().collect()).unwrap(),
            other => format!("{other:?}"),
        }
    }

    fn integers(field: &str) -> Result<Vec<i64>, Malformed> {
        List::new(field.as_bytes())
            .map(|member| match member?.value {
                Value::Bare(Bare::Integer(number)) => Ok(number),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn assert_malformed(fields: &[&str]) {
        for field in fields {
            assert_eq!(bare(field), Err(Malformed), "{field:?}");
        }
    }

    #[test]
    fn h5_integers_have_at_most_fifteen_digits() {
        assert_eq!(bare("0"), Ok(Bare::Integer(0)));
        assert_eq!(bare("-0"), Ok(Bare::Integer(0)));
        assert_eq!(bare("007"), Ok(Bare::Integer(7)));
        assert_eq!(bare("-999999999999999"), Ok(Bare::Integer(-999_999_999_999_999)));
        assert_malformed(&["1000000000000000", "0000000000000000", "+1", "--1", "-", "- 1", "1e3", "0x1"]);
    }

    #[test]
    fn h5_decimals_are_exact_thousandths() {
        assert_eq!(bare("1.5"), Ok(Bare::Decimal(1500)));
        assert_eq!(bare("-0.25"), Ok(Bare::Decimal(-250)));
        assert_eq!(bare("00.001"), Ok(Bare::Decimal(1)));
        assert_eq!(bare("999999999999.999"), Ok(Bare::Decimal(999_999_999_999_999)));
        assert_malformed(&["1.", ".5", "1.2345", "0.0000", "1000000000000.0", "1.2.3", "1 .2", "1.-2", "-.5"]);
    }

    #[test]
    fn h5_strings_escape_quotes_and_backslashes_only() {
        assert_eq!(text(r#""""#), "");
        assert_eq!(text(r#""a \"b\" \\c ~""#), r#"a "b" \c ~"#);
        assert_malformed(&[
            r#"""#,
            r#""a"#,
            r#""a\"#,
            r#""a\""#,
            r#""\a""#,
            "\"\t\"",
            "\"\u{1f}\"",
            "\"\u{7f}\"",
            "\"\u{e9}\"",
            "'a'",
        ]);
        let Ok(Bare::String(quoted)) = bare(r#""\"""#) else { panic!() };
        assert_eq!(quoted.raw(), br#"\""#);
        assert!(quoted.eq_bytes(b"\""));
        assert!(!quoted.eq_bytes(b"") && !quoted.eq_bytes(b"\"\""));
    }

    #[test]
    fn h5_tokens_begin_with_a_letter_or_star() {
        for token in ["a", "*", "text/html", "a_b-c.d3:f%00/*", "A!#$%&'*+-.^_`|~"] {
            assert_eq!(bare(token), Ok(Bare::Token(token.as_bytes())));
        }
        assert_malformed(&["_a", "/a", "a(b", "a@b", "a b", "a,b", "a\u{e9}"]);
    }

    #[test]
    fn h5_byte_sequences_are_base64() {
        for base64 in ["", "aGVsbG8=", "aGVsbG8", "iZ==", "iZ=", "iZ", "/+Ah"] {
            assert_eq!(bare(&format!(":{base64}:")), Ok(Bare::ByteSequence(base64.as_bytes())));
        }
        assert_malformed(&[
            ":",
            ":aGVs",
            ":a:",
            ":aGVsa:",
            ":=:",
            ":aGVs=:",
            ":iZ===:",
            ":aGVsbG8==:",
            ":i=Z:",
            ":_-Ah:",
            ":aG Vs:",
        ]);
    }

    #[test]
    fn h5_booleans_are_one_digit() {
        assert_eq!(bare("?1"), Ok(Bare::Boolean(true)));
        assert_eq!(bare("?0"), Ok(Bare::Boolean(false)));
        assert_malformed(&["?", "?2", "?t", "?10", "true?"]);
    }

    #[test]
    fn h5_dates_are_whole_seconds() {
        assert_eq!(bare("@0"), Ok(Bare::Date(0)));
        assert_eq!(bare("@-62135596800"), Ok(Bare::Date(-62_135_596_800)));
        assert_malformed(&["@", "@1.5", "@a", "@ 1", "@@1", "@1000000000000000"]);
    }

    #[test]
    fn h5_display_strings_are_valid_utf8() {
        for content in ["", "foo \\ bar", "f%c3%bc", "%22", "%00", "%ef%bb%bf", "%f0%9f%92%a9%c3%bc"] {
            assert_eq!(bare(&format!("%\"{content}\"")), Ok(Bare::DisplayString(content.as_bytes())));
        }
        for content in [
            "%C3%BC",
            "%",
            "%c",
            "%c3",
            "%c3x",
            "%c3%28",
            "%a0%a1",
            "%c0%80",
            "%ed%a0%80",
            "%e2%82",
            "%f4%90%80%80",
            "%f5%80%80%80",
            "%f0%9f%92",
            "\t",
            "\u{1f}",
            "\u{7f}",
            "\u{fc}",
            "%-1",
            "%+1",
        ] {
            assert_malformed(&[&format!("%\"{content}\"")]);
        }
        assert_malformed(&["%", "%foo", "%\"", "%\"foo", "%'foo'"]);
    }

    #[test]
    fn h5_an_item_fills_the_field_but_for_spaces() {
        assert_eq!(bare("  1  "), Ok(Bare::Integer(1)));
        assert_malformed(&["", " ", "\t1", "1\t", "1 2", "1,", "(1)", "1;", "1 ;a", "\u{e9}"]);
    }

    #[test]
    fn h5_the_last_of_equal_parameters_counts() {
        let item = Item::parse(b"a;r=1;t=5; r=2;b").unwrap();
        assert_eq!(item.params.get(b"r"), Some(Bare::Integer(2)));
        assert_eq!(item.params.get(b"t"), Some(Bare::Integer(5)));
        assert_eq!(item.params.get(b"b"), Some(Bare::Boolean(true)));
        assert_eq!(item.params.get(b"c"), None);
        assert_eq!(item.params.get(b"R"), None);
        let keys: Vec<&[u8]> = item.params.map(|(key, _)| key).collect();
        assert_eq!(keys, vec![&b"r"[..], b"t", b"r", b"b"]);
    }

    #[test]
    fn h5_parameters_follow_the_grammar() {
        for params in ["", ";a", ";*", ";a=1", ";  a=1", ";a1_-.*=:AA:", ";a=\";\"", ";a=?0;a"] {
            assert!(bare(&format!("x{params}")).is_ok(), "{params}");
        }
        for params in [";", ";;a", ";A=1", ";1=1", ";a= 1", ";a =1", " ;a", ";\ta", ";a=", ";a=(1)", ";a=1b"] {
            assert!(bare(&format!("x{params}")).is_err(), "{params}");
        }
    }

    #[test]
    fn h5_lists_are_separated_by_commas() {
        assert_eq!(integers(""), Ok(vec![]));
        assert_eq!(integers("   "), Ok(vec![]));
        assert_eq!(integers("1"), Ok(vec![1]));
        assert_eq!(integers(" 1,2 \t,\t 3\t"), Ok(vec![1, 2, 3]));
        for field in [",", "1,", "1, ", ",1", "1,,2", "1 2", "\t1", "1;", "1, \u{e9}", "1\n,2"] {
            assert!(List::new(field.as_bytes()).any(|member| member.is_err()), "{field:?}");
        }
    }

    #[test]
    fn h5_a_list_ends_at_its_first_error() {
        let mut list = List::new(b"1, 2, !, 3");
        assert!(list.next().unwrap().is_ok());
        assert!(list.next().unwrap().is_ok());
        assert_eq!(list.next().unwrap().err(), Some(Malformed));
        assert!(list.next().is_none());
    }

    #[test]
    fn h5_inner_lists_hold_items() {
        let read = |field: &str| -> Result<(Vec<String>, String), Malformed> {
            let member = List::new(field.as_bytes()).next().unwrap()?;
            let Value::InnerList(items) = member.value else { panic!("{field}") };
            let show = |params: Params<'_>| format!("{:?}", params.get(b"a"));
            Ok((items.map(|item| format!("{:?} {}", item.bare, show(item.params))).collect(), show(member.params)))
        };
        let none = String::from("None");
        assert_eq!(read("()"), Ok((vec![], none.clone())));
        assert_eq!(read("(  )"), Ok((vec![], none.clone())));
        let (first, second) = (String::from("Integer(1) None"), String::from("Integer(2) Some(Boolean(true))"));
        assert_eq!(read("( 1  2;a )"), Ok((vec![first, second], none)));
        assert_eq!(read("();a=3"), Ok((vec![], String::from("Some(Integer(3))"))));
        for field in [
            "(",
            "(1",
            "(1 ",
            ")",
            "(1,2)",
            "(1\t2)",
            "(\t1)",
            "(1\t)",
            "(1(2))",
            "((1))",
            "(\"a\"\"b\")",
            "(1)2",
            "(1 )) ",
            "(1;)",
        ] {
            assert_eq!(List::new(field.as_bytes()).next().unwrap().err(), Some(Malformed), "{field}");
        }
    }
}
