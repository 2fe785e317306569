//! `WWW-Authenticate` (H7, RFC 9110 §11.6.1): a whole line of challenges, or nothing.

/// Returns the `error` parameters of a line's Bearer challenges, in order.
pub fn bearer_errors(line: &[u8]) -> Result<Vec<Vec<u8>>, ()> {
    let challenges = challenges(line)?;
    if challenges.is_empty() {
        return Err(());
    }
    let mut errors = Vec::new();
    for challenge in challenges {
        if challenge.scheme.eq_ignore_ascii_case(b"bearer") {
            let mut named = challenge.parameters.into_iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"error"));
            errors.extend(named.next().map(|(_, value)| value));
            if named.next().is_some() {
                return Err(()); // RFC 9110 §11.2
            }
        }
    }
    Ok(errors)
}

/// Returns the error that counts, if the machine knows its name.
pub fn weightiest(errors: &[Vec<u8>]) -> Option<&'static str> {
    let known = ["insufficient_scope", "insufficient_claims", "token_revoked"];
    let said = |name: &str| errors.iter().any(|e| e == name.as_bytes());
    known.into_iter().find(|name| said(name)).or(match errors.first()?.as_slice() {
        b"invalid_token" => Some("invalid_token"),
        b"invalid_request" => Some("invalid_request"),
        _ => Some("other"),
    })
}

/// Name and value.
type Parameter = (Vec<u8>, Vec<u8>);

struct Challenge {
    scheme: Vec<u8>,
    /// Whether a parameter may follow: there was white space after the scheme, and there is no token68.
    takes_parameters: bool,
    parameters: Vec<Parameter>,
}

struct Scanner<'a>(&'a [u8]);

fn challenges(line: &[u8]) -> Result<Vec<Challenge>, ()> {
    let mut scanner = Scanner(line);
    let mut found: Vec<Challenge> = Vec::new();
    loop {
        // Empty list elements.
        while scanner.white_space() || scanner.take(b',') {}
        if scanner.0.is_empty() {
            return Ok(found);
        }
        if let Some(parameter) = scanner.parameter()? {
            let current = found.last_mut().filter(|c| c.takes_parameters).ok_or(())?;
            current.parameters.push(parameter);
        } else {
            let scheme = scanner.token().ok_or(())?;
            let spaced = scanner.white_space();
            let mut challenge = Challenge { scheme, takes_parameters: spaced, parameters: Vec::new() };
            if spaced && scanner.token68() {
                challenge.takes_parameters = false;
            } else if let Some(parameter) = scanner.parameter()? {
                if !spaced {
                    return Err(());
                }
                challenge.parameters.push(parameter);
            }
            found.push(challenge);
        }
        scanner.white_space();
        if !scanner.0.is_empty() && scanner.0[0] != b',' {
            return Err(());
        }
    }
}

impl Scanner<'_> {
    fn take(&mut self, c: u8) -> bool {
        let found = self.0.first() == Some(&c);
        if found {
            self.0 = &self.0[1..];
        }
        found
    }

    fn white_space(&mut self) -> bool {
        let before = self.0.len();
        while self.take(b' ') || self.take(b'\t') {}
        self.0.len() < before
    }

    fn token(&mut self) -> Option<Vec<u8>> {
        let tchar = |c: &u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(c);
        let length = self.0.iter().take_while(|c| tchar(c)).count();
        let (token, rest) = self.0.split_at(length);
        self.0 = rest;
        (length > 0).then(|| token.to_vec())
    }

    /// Reads a token68 that fills its list element.
    fn token68(&mut self) -> bool {
        let char68 = |c: &u8| c.is_ascii_alphanumeric() || b"-._~+/".contains(c);
        let length = self.0.iter().take_while(|c| char68(c)).count();
        let mut rest = Scanner(&self.0[length..]);
        while rest.take(b'=') {}
        let end = rest.0;
        rest.white_space();
        let fills = length > 0 && rest.0.first().is_none_or(|c| *c == b',');
        if fills {
            self.0 = end;
        }
        fills
    }

    /// Reads `token BWS "=" BWS ( token / quoted-string )`, if a token with `=` is next.
    fn parameter(&mut self) -> Result<Option<Parameter>, ()> {
        let mut ahead = Scanner(self.0);
        let Some(name) = ahead.token() else {
            return Ok(None);
        };
        ahead.white_space();
        if !ahead.take(b'=') {
            return Ok(None);
        }
        ahead.white_space();
        let value = if ahead.take(b'"') { ahead.quoted()? } else { ahead.token().ok_or(())? };
        self.0 = ahead.0;
        Ok(Some((name, value)))
    }

    /// Reads the rest of a quoted-string, after its first quote.
    fn quoted(&mut self) -> Result<Vec<u8>, ()> {
        let text = |c: u8| c == b'\t' || (c >= b' ' && c != 0x7f);
        let mut value = Vec::new();
        loop {
            let (&c, rest) = self.0.split_first().ok_or(())?;
            self.0 = rest;
            match c {
                b'"' => return Ok(value),
                b'\\' => {
                    let (&escaped, rest) = self.0.split_first().filter(|(c, _)| text(**c)).ok_or(())?;
                    self.0 = rest;
                    value.push(escaped);
                }
                c if text(c) => value.push(c),
                _ => return Err(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(lines: &[&str]) -> Option<&'static str> {
        let errors: Vec<_> = lines.iter().filter_map(|l| bearer_errors(l.as_bytes()).ok()).flatten().collect();
        weightiest(&errors)
    }

    #[test]
    fn h7_bearer_errors_are_found_in_any_position() {
        assert_eq!(error(&["Bearer realm=\"x\", error=\"invalid_token\""]), Some("invalid_token"));
        assert_eq!(error(&["bearer ERROR=invalid_token"]), Some("invalid_token"));
        assert_eq!(error(&["Negotiate, , Bearer error = \"invalid_request\""]), Some("invalid_request"));
        assert_eq!(error(&["Negotiate abc==, Bearer error=\"in\\valid_token\""]), Some("invalid_token"));
        assert_eq!(error(&["Basic realm=\"a\"", "Bearer error=\"nonsense\""]), Some("other"));
        assert_eq!(error(&["Bearer error=invalid_token, Bearer error=insufficient_scope"]), Some("insufficient_scope"));
    }

    #[test]
    fn h7_quoted_text_and_other_schemes_say_nothing() {
        assert_eq!(error(&["Bearer realm=\"error=\\\"invalid_token\\\"\""]), None);
        assert_eq!(error(&["Basic realm=\"Bearer error=invalid_token\""]), None);
        assert_eq!(error(&["DPoP error=\"invalid_token\", Bearer"]), None);
        assert_eq!(error(&["Bearer abc"]), None);
        assert_eq!(error(&[""]), None);
    }

    #[test]
    fn f9_a_malformed_challenge_voids_its_line_only() {
        for bad in [
            "Bearer error=\"invalid_token",
            "Bearer error=insufficient_scope x y",
            "error=insufficient_scope",
            "Bearer abc, error=insufficient_scope",
            "Bearer error=insufficient_scope, \u{e9}",
        ] {
            assert!(bearer_errors(bad.as_bytes()).is_err(), "{bad}");
            assert_eq!(error(&[bad, "Bearer error=invalid_token"]), Some("invalid_token"), "{bad}");
        }
    }
}
