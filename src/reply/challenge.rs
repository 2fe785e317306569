//! `WWW-Authenticate` (RFC 9110 section 11.6.1): reads challenges, and of Bearer ones the `error` (H7).

/// The field line breaks the grammar. Nothing that it seemed to say counts (F9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Malformed;

/// What a Bearer challenge gives as the reason of a refusal (RFC 6750 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum BearerErrorCode {
    /// A code that is not listed here.
    Other,
    /// `invalid_request`: the request itself is wrong (RFC 6750).
    InvalidRequest,
    /// `invalid_token`: the token has expired or is not good for another reason (RFC 6750).
    InvalidToken,
    /// `token_revoked`: the token was withdrawn (D12).
    TokenRevoked,
    /// `insufficient_claims`: the token lacks claims that a refresh does not give (D12).
    InsufficientClaims,
    /// `insufficient_scope`: the token may not do this (RFC 6750, D12).
    InsufficientScope,
}

/// The `error` of the Bearer challenges in one `WWW-Authenticate` line; of several the one that
/// [asks for most care](BearerErrorCode::most_careful).
///
/// `None` if no Bearer challenge has an `error`. The code is compared case-sensitively, the names of
/// scheme and parameter are not. Other schemes' parameters never count (H7).
///
/// # Errors
///
/// [`Malformed`] if the line breaks the grammar anywhere, holds no challenge at all, or gives one
/// Bearer challenge two `error` parameters (RFC 9110 section 11.2). This voids the line only (F9).
pub fn bearer_error(line: &[u8]) -> Result<Option<BearerErrorCode>, Malformed> {
    let mut error = None;
    let mut is_bearer = false;
    let mut has_error = false;
    for part in Challenges::new(line) {
        match part? {
            Part::Scheme(scheme) => {
                is_bearer = scheme.eq_ignore_ascii_case(b"Bearer");
                has_error = false;
            }
            Part::Param { name, value } if is_bearer && name.eq_ignore_ascii_case(b"error") => {
                if has_error {
                    return Err(Malformed);
                }
                has_error = true;
                error = BearerErrorCode::most_careful(error, Some(BearerErrorCode::from_code(value)));
            }
            Part::Param { .. } | Part::Token68(_) => {}
        }
    }
    Ok(error)
}

impl BearerErrorCode {
    const LISTED: [Self; 5] = [
        Self::InvalidRequest,
        Self::InvalidToken,
        Self::TokenRevoked,
        Self::InsufficientClaims,
        Self::InsufficientScope,
    ];

    /// The code as it stands in a challenge; `other` for those that are not listed here.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidToken => "invalid_token",
            Self::TokenRevoked => "token_revoked",
            Self::InsufficientClaims => "insufficient_claims",
            Self::InsufficientScope => "insufficient_scope",
        }
    }

    /// Of several errors the one that asks for most care: scope, claims, a revoked token, then whichever came first
    /// (H7, D12).
    #[must_use]
    pub fn most_careful(first: Option<Self>, next: Option<Self>) -> Option<Self> {
        let care = |error: Option<Self>| match error {
            None => 0,
            Some(Self::Other | Self::InvalidRequest | Self::InvalidToken) => 1,
            Some(Self::TokenRevoked) => 2,
            Some(Self::InsufficientClaims) => 3,
            Some(Self::InsufficientScope) => 4,
        };
        if care(next) > care(first) { next } else { first }
    }

    fn from_code(code: Value<'_>) -> Self {
        let named = |listed: &Self| code.eq_bytes(listed.name().as_bytes());
        Self::LISTED.into_iter().find(named).unwrap_or(Self::Other)
    }
}

/// One piece of a `WWW-Authenticate` line, borrowed from it.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// A challenge begins; the parts up to the next scheme are its own. Compare without case.
    Scheme(&'a [u8]),
    /// The challenge's data in the token68 form; such a challenge has no parameters.
    Token68(&'a [u8]),
    /// A parameter of the challenge. The same name may come again: RFC 9110 section 11.2 forbids it,
    /// which is left to the reader of that parameter.
    Param {
        /// The name, a token. Compare without case.
        name: &'a [u8],
        /// The value, a token or a quoted string.
        value: Value<'a>,
    },
}

/// A parameter's value: a token, or what stands between the quotes of a quoted string.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// The value's bytes, a quoted string's without its escapes.
    pub fn bytes(self) -> impl Iterator<Item = u8> + 'a {
        // A token holds no backslash, so this leaves it as it is.
        let mut rest = self.0.iter().copied();
        core::iter::from_fn(move || match rest.next() {
            Some(b'\\') => rest.next(),
            other => other,
        })
    }

    /// Whether the value means exactly these bytes.
    #[must_use]
    pub fn eq_bytes(self, bytes: &[u8]) -> bool {
        self.bytes().eq(bytes.iter().copied())
    }
}

/// The parts of one `WWW-Authenticate` line, in order.
///
/// The grammar is RFC 9110's: empty list elements are skipped, spaces and tabs may stand around `=`
/// and commas, other control characters (a folded line too) are malformed. After a [`Malformed`] the
/// iterator ends. The parts before it were read from a line that means nothing (F9): a caller keeps
/// none of them.
#[derive(Clone, Debug)]
pub struct Challenges<'a> {
    rest: Text<'a>,
    place: Place,
}

/// What came last, which decides what may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing: a challenge must follow.
    Start,
    /// A scheme's name.
    Scheme,
    /// Something after which the same challenge may have (further) parameters.
    Open,
    /// A token68, or a scheme without white space after it: the challenge is complete.
    Closed,
    /// The line's end, or an error.
    End,
}

impl<'a> Challenges<'a> {
    /// Reads the value of one field line. Lines are not joined, so that one cannot spoil another (F9).
    #[must_use]
    pub fn new(line: &'a [u8]) -> Self {
        Self { rest: Text(line), place: Place::Start }
    }

    fn part(&mut self) -> Result<Option<Part<'a>>, Malformed> {
        let last = self.place;
        if last == Place::End {
            return Ok(None);
        }
        let spaced = self.rest.skip_white_space();
        if last == Place::Scheme {
            self.place = if spaced { Place::Open } else { Place::Closed };
            if spaced && !self.rest.element_ends() {
                return self.token68_or_param().map(Some);
            }
        }
        let separated = self.rest.skip_commas();
        if self.rest.0.is_empty() {
            return if last == Place::Start { Err(Malformed) } else { Ok(None) };
        }
        if !separated && last != Place::Start {
            return Err(Malformed);
        }
        self.scheme_or_param().map(Some)
    }

    /// What may follow a scheme's name and white space.
    fn token68_or_param(&mut self) -> Result<Part<'a>, Malformed> {
        // `a=` is a token68 and `a=b` a parameter: only what follows tells.
        let mut ahead = self.rest;
        let letters = ahead.take_while(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
        ahead.take_while(|byte| byte == b'=');
        let token68 = self.rest.until(ahead);
        ahead.skip_white_space();
        if !letters.is_empty() && ahead.element_ends() {
            self.rest = ahead;
            self.place = Place::Closed;
            return Ok(Part::Token68(token68));
        }
        match self.scheme_or_param()? {
            Part::Scheme(_) => Err(Malformed),
            part => Ok(part),
        }
    }

    /// What may follow a comma: a token, which an equals sign makes a parameter's name.
    fn scheme_or_param(&mut self) -> Result<Part<'a>, Malformed> {
        let name = self.rest.token()?;
        let mut ahead = self.rest;
        ahead.skip_white_space();
        if !ahead.skip(b'=') {
            self.place = Place::Scheme;
            return Ok(Part::Scheme(name));
        }
        if self.place != Place::Open {
            return Err(Malformed);
        }
        ahead.skip_white_space();
        let value = if ahead.skip(b'"') { ahead.quoted_string()? } else { ahead.token()? };
        self.rest = ahead;
        Ok(Part::Param { name, value: Value(value) })
    }
}

impl<'a> Iterator for Challenges<'a> {
    type Item = Result<Part<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let part = self.part().transpose();
        if !matches!(part, Some(Ok(_))) {
            self.place = Place::End;
        }
        part
    }
}

impl core::iter::FusedIterator for Challenges<'_> {}

/// What is still unread.
#[derive(Clone, Copy, Debug)]
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn token(&mut self) -> Result<&'a [u8], Malformed> {
        let token = self.take_while(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// The content of a quoted string, from after its first quote.
    fn quoted_string(&mut self) -> Result<&'a [u8], Malformed> {
        let start = *self;
        loop {
            let content = start.until(*self);
            let byte = match self.byte()? {
                b'"' => return Ok(content),
                b'\\' => self.byte()?,
                byte => byte,
            };
            if !matches!(byte, b'\t' | b' '..=b'~' | 0x80..) {
                return Err(Malformed);
            }
        }
    }

    /// Whether a list element ends here.
    fn element_ends(self) -> bool {
        matches!(self.0.first(), None | Some(b','))
    }

    /// Skips empty list elements; says whether there was a comma.
    fn skip_commas(&mut self) -> bool {
        self.take_while(|byte| matches!(byte, b' ' | b'\t' | b',')).contains(&b',')
    }

    /// Says whether there was any.
    fn skip_white_space(&mut self) -> bool {
        !self.take_while(|byte| matches!(byte, b' ' | b'\t')).is_empty()
    }

    fn skip(&mut self, expected: u8) -> bool {
        let rest = self.0.strip_prefix(&[expected]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(byte)
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.0.iter().position(|&byte| !belongs(byte));
        let (taken, rest) = length.and_then(|at| self.0.split_at_checked(at)).unwrap_or((self.0, &[]));
        self.0 = rest;
        taken
    }

    /// What has been read since `self`, of which `later` is the end.
    fn until(self, later: Self) -> &'a [u8] {
        let length = self.0.len().saturating_sub(later.0.len());
        self.0.get(..length).unwrap_or(self.0)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::string::String;
    use std::vec::Vec;

    use super::{BearerErrorCode, Challenges, Malformed, Part, bearer_error};
    use BearerErrorCode::*;

    /// The parts in one notation: `scheme`, `:token68`, `name=value`; `!` where it is malformed.
    fn parts(line: &str) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let parts: Vec<String> = Challenges::new(line.as_bytes())
            .map(|part| match part {
                Ok(Part::Scheme(scheme)) => text(scheme),
                Ok(Part::Token68(data)) => format!(":{}", text(data)),
                Ok(Part::Param { name, value }) => {
                    format!("{}={}", text(name), text(&value.bytes().collect::<Vec<u8>>()))
                }
                Err(Malformed) => "!".into(),
            })
            .collect();
        parts.join(" ")
    }

    fn error(line: &str) -> Result<Option<BearerErrorCode>, Malformed> {
        bearer_error(line.as_bytes())
    }

    #[test]
    fn h7_several_challenges_stand_in_one_line() {
        assert_eq!(parts("A, B"), "A B");
        assert_eq!(parts("A,B"), "A B");
        assert_eq!(parts("A a=1, b=\"2\", B c=3"), "A a=1 b=2 B c=3");
        assert_eq!(parts("A a=1,B,C c=3"), "A a=1 B C c=3");
        assert_eq!(error("New, Bearer error=\"invalid_token\", Basic"), Ok(Some(InvalidToken)));
    }

    #[test]
    fn h7_quoted_strings_are_unescaped() {
        assert_eq!(parts(r#"A a="b \"c\" \\ \d""#), r#"A a=b "c" \ d"#);
        assert_eq!(parts(r#"A a="""#), "A a=");
        assert_eq!(parts("A a=\"\t\u{e9}\\\u{e9}\""), "A a=\t\u{e9}\u{e9}");
        assert_eq!(error(r#"Bearer error="insufficient\_scope""#), Ok(Some(InsufficientScope)));
    }

    #[test]
    fn h7_quoted_strings_hold_any_byte_but_control_characters() {
        for byte in 0..=u8::MAX {
            let line = [b"A a=\"\\", &[byte][..], b"\""].concat();
            let is_text = byte == b'\t' || !byte.is_ascii_control();
            assert_eq!(bearer_error(&line).is_ok(), is_text, "{byte}");
        }
    }

    #[test]
    fn h7_broken_quoted_strings_are_malformed() {
        for line in [
            r#"Bearer error="invalid_token"#,
            r#"Bearer error="invalid_token\"#,
            r#"Bearer error="invalid_token\""#,
            r#"Bearer error=""invalid_token"#,
            r#"Bearer error="invalid_token"x"#,
            "Bearer error=\"invalid_token\0\"",
            "Bearer error=\"invalid_token\u{1f}\"",
            "Bearer error=\"invalid_token\\\u{7f}\"",
        ] {
            assert_eq!(error(line), Err(Malformed), "{line:?}");
        }
    }

    #[test]
    fn h7_token68_is_told_from_parameters() {
        assert_eq!(parts("A b"), "A :b");
        assert_eq!(parts("A b="), "A :b=");
        assert_eq!(parts("A b== , C"), "A :b== C");
        assert_eq!(parts("A +/-._~9=="), "A :+/-._~9==");
        assert_eq!(parts("A b=c"), "A b=c");
        assert_eq!(parts("A b= c"), "A b=c");
        assert_eq!(parts("A b==c"), "A !");
        assert_eq!(parts("A =b"), "!");
        assert_eq!(parts("A b c"), "A !");
        assert_eq!(parts("A b c=d"), "A !");
        assert_eq!(parts("A b ="), "A !");
        // A token68 challenge has no parameters, so a name that follows belongs to none.
        assert_eq!(parts("A b=, c=d"), "A :b= !");
        assert_eq!(parts("A a=1, b=="), "A a=1 !");
    }

    #[test]
    fn h7_unknown_schemes_may_come_first() {
        let line = "Negotiate YII=, X!y a=1, Bearer realm=\"r\", error=\"insufficient_claims\"";
        assert_eq!(error(line), Ok(Some(InsufficientClaims)));
    }

    #[test]
    fn h7_empty_list_elements_are_skipped() {
        assert_eq!(parts(", ,A a=1,,\t, b=2 ,, B,"), "A a=1 b=2 B");
        assert_eq!(parts("A , a=1"), "A a=1");
        // The white space after the scheme is what lets parameters follow.
        assert_eq!(parts("A, a=1"), "A !");
    }

    #[test]
    fn h7_white_space_may_surround_commas_and_equals_signs() {
        assert_eq!(parts(" \tA \ta \t=\t 1\t,\tb= \"2\" "), "A a=1 b=2");
        assert_eq!(parts("A a=1 b=2"), "A a=1 !");
        assert_eq!(parts("A a=1 B"), "A a=1 !");
    }

    #[test]
    fn h7_names_match_without_case_and_codes_with_it() {
        assert_eq!(error("bEARER eRROR=invalid_request"), Ok(Some(InvalidRequest)));
        assert_eq!(error("Bearer error=Invalid_Request"), Ok(Some(Other)));
        assert_eq!(error("Bearer error=\"\""), Ok(Some(Other)));
        assert_eq!(error("Bearer error=token_revoked"), Ok(Some(TokenRevoked)));
        assert_eq!(error("Bearer error_description=invalid_token"), Ok(None));
    }

    #[test]
    fn h7_a_parameter_may_be_named_like_a_scheme() {
        assert_eq!(parts("A a=1, basic=2, Basic b=3"), "A a=1 basic=2 Basic b=3");
        assert_eq!(error("A a=1, Bearer=x, error=invalid_token"), Ok(None));
        assert_eq!(error("A a=1, Bearer = x, error=invalid_token"), Ok(None));
    }

    #[test]
    fn h7_another_schemes_error_never_counts() {
        assert_eq!(error("New error=\"invalid_token\", Bearer realm=\"x\""), Ok(None));
        assert_eq!(error("Bearer realm=\"x\", New error=\"invalid_token\""), Ok(None));
        assert_eq!(error("Bearer, DPoP error=\"invalid_token\""), Ok(None));
    }

    #[test]
    fn h7_a_challenge_inside_a_quoted_string_never_counts() {
        let line = r#"Basic realm="x, Bearer error=\"invalid_token\", ", Bearer realm="error=invalid_token""#;
        assert_eq!(error(line), Ok(None));
    }

    #[test]
    fn h7_of_several_bearer_errors_the_most_careful_wins() {
        let ascending = ["invalid_token", "token_revoked", "insufficient_claims", "insufficient_scope"];
        for (careful, code) in ascending.iter().enumerate() {
            for lesser in &ascending[..careful] {
                let alone = error(&format!("Bearer error={code}"));
                assert_ne!(alone, error(&format!("Bearer error={lesser}")));
                assert_eq!(error(&format!("Bearer error={code}, Bearer error={lesser}")), alone);
                assert_eq!(error(&format!("Bearer error={lesser}, Bearer error={code}")), alone);
            }
        }
    }

    #[test]
    fn h7_of_bearer_errors_that_ask_for_no_care_the_first_counts() {
        let alike = ["x", "invalid_request", "invalid_token"];
        for first in alike {
            for second in alike {
                let alone = error(&format!("Bearer error={first}"));
                assert_eq!(error(&format!("Bearer error={first}, Bearer error={second}")), alone);
            }
        }
    }

    #[test]
    fn f9_a_malformed_line_says_nothing() {
        for line in [
            "",
            " ",
            " , ,",
            "error=insufficient_scope",
            "=x",
            "Bearer=x",
            "Bearer\"x\"",
            "Bearer error=insufficient_scope, error=insufficient_scope",
            "Bearer error=insufficient_scope; a=b",
            "Bearer error=insufficient_scope scope=x",
            "Bearer error=insufficient_scope, realm=https://example.com",
            "Bearer error=insufficient_scope, a=",
            "Bearer error=insufficient_scope,\r\n a=b",
            "Bearer error=insufficient_scope\n",
            "Bearer error=insufficient_scope, a=\"b\r\n c\"",
            "Bearer error=insufficient_scope\0",
            "Bearer error=insufficient_scope, \u{e9}=b",
        ] {
            assert_eq!(error(line), Err(Malformed), "{line:?}");
        }
    }

    #[test]
    fn f9_nothing_comes_after_a_malformed_part() {
        let mut challenges = Challenges::new(b"A a=1 B, C");
        assert_eq!(challenges.by_ref().take(3).filter(Result::is_err).count(), 1);
        assert!(challenges.next().is_none());
    }
}
