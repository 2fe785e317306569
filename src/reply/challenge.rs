//! `WWW-Authenticate` (RFC 9110 §11.6.1): reads challenges, and the `error` of Bearer challenges (rule H7).

/// The error for a line that breaks the grammar. Nothing in such a line counts (rule F9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Malformed;

/// The reason that a Bearer challenge gives for a refusal (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum BearerErrorCode {
    /// A code that is not listed here.
    Other,
    /// `invalid_request`: the request itself is malformed (RFC 6750).
    InvalidRequest,
    /// `invalid_token`: the token has expired or is invalid for another reason (RFC 6750).
    InvalidToken,
    /// `token_revoked`: the token was revoked, so a refresh would not help (rule D12).
    TokenRevoked,
    /// `insufficient_claims`: the token lacks a claim, and a refresh would not help (rule D12).
    InsufficientClaims,
    /// `insufficient_scope`: the token lacks a scope, and a refresh would not help (RFC 6750, rule D12).
    InsufficientScope,
}

/// Reads the `error` of the Bearer challenges in one `WWW-Authenticate` line. If there are several, the one that asks for
/// most care counts.
///
/// Returns `None` if no Bearer challenge has an `error`. The code is case-sensitive, and the names of the scheme and of
/// the parameter are not. Parameters of other schemes never count (rule H7).
///
/// # Errors
///
/// Returns [`Malformed`] if the line breaks the grammar anywhere, has no challenge, or has a Bearer challenge with two
/// `error` parameters (RFC 9110 §11.2). This voids only the line (rule F9).
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
            Part::Param { .. } | Part::Token68 => {}
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

    /// Returns the code as in a challenge, or `other` for one that is not listed here.
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

    /// Chooses the error that asks for most care: a scope, a claim, a revoked token, then the first one (rules H7, D12).
    pub(super) fn most_careful(first: Option<Self>, next: Option<Self>) -> Option<Self> {
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
    /// The start of a challenge. The parts up to the next scheme belong to it. Its name is not case-sensitive.
    Scheme(&'a [u8]),
    /// The data of a challenge in the token68 form. Such a challenge has no parameters.
    Token68,
    /// A parameter of the challenge. RFC 9110 §11.2 forbids the same name twice; the reader of a parameter checks it.
    Param {
        /// The name, a token. It is not case-sensitive.
        name: &'a [u8],
        /// The value, a token or a quoted string.
        value: Value<'a>,
    },
}

/// A parameter's value: a token, or the content of a quoted string.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// Returns the value's bytes, without the escapes of a quoted string.
    pub fn bytes(self) -> impl Iterator<Item = u8> + 'a {
        // A token has no backslash, so it stays as it is.
        let mut rest = self.0.iter().copied();
        core::iter::from_fn(move || match rest.next() {
            Some(b'\\') => rest.next(),
            other => other,
        })
    }

    /// Returns whether the value is equal to `bytes`.
    #[must_use]
    pub fn eq_bytes(self, bytes: &[u8]) -> bool {
        self.bytes().eq(bytes.iter().copied())
    }
}

/// The parts of one `WWW-Authenticate` line, in order.
///
/// The grammar is that of RFC 9110: empty list elements are skipped, and spaces and tabs are allowed around `=` and
/// commas. Other control characters are malformed, and so is a folded line. After a [`Malformed`] the iterator ends. The
/// parts before it belong to a line without a meaning, so a caller must discard them (rule F9).
#[derive(Clone, Debug)]
pub struct Challenges<'a> {
    rest: Text<'a>,
    place: Place,
}

/// The kind of the last part, which decides what can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The line's start: a challenge must follow.
    Start,
    /// The name of a scheme.
    Scheme,
    /// A part after which the same challenge can have more parameters.
    Open,
    /// A token68, or a scheme without white space after it: the challenge is complete.
    Closed,
    /// The line's end, or an error.
    End,
}

impl<'a> Challenges<'a> {
    /// Reads the value of one field line. Lines are not joined, so that one cannot void another (rule F9).
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

    /// Reads the part after a scheme's name and white space.
    fn token68_or_param(&mut self) -> Result<Part<'a>, Malformed> {
        // `a=` is a token68 and `a=b` a parameter: only the byte after `=` tells.
        let mut ahead = self.rest;
        let letters = ahead.take_while(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
        ahead.take_while(|byte| byte == b'=');
        ahead.skip_white_space();
        if !letters.is_empty() && ahead.element_ends() {
            self.rest = ahead;
            self.place = Place::Closed;
            return Ok(Part::Token68);
        }
        match self.scheme_or_param()? {
            Part::Scheme(_) => Err(Malformed),
            part => Ok(part),
        }
    }

    /// Reads the part after a comma: a token, which an equals sign makes the name of a parameter.
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

/// The unread rest of a line.
#[derive(Clone, Copy, Debug)]
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn token(&mut self) -> Result<&'a [u8], Malformed> {
        let token = self.take_while(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// Reads the content of a quoted string, from after its first quote.
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

    /// Returns whether a list element ends here.
    fn element_ends(self) -> bool {
        matches!(self.0.first(), None | Some(b','))
    }

    /// Skips empty list elements, and returns whether there was a comma.
    fn skip_commas(&mut self) -> bool {
        self.take_while(|byte| matches!(byte, b' ' | b'\t' | b',')).contains(&b',')
    }

    /// Skips spaces and tabs, and returns whether there were any.
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

    /// Returns the bytes from `self` up to `later`.
    fn until(self, later: Self) -> &'a [u8] {
        let length = self.0.len().saturating_sub(later.0.len());
        self.0.get(..length).unwrap_or(self.0)
    }
}
