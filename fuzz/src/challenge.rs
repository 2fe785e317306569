//! `WWW-Authenticate`: the meaning of a challenge does not depend on the way it is written.

use retry_machine::fuzzing::challenge::{BearerErrorCode, Challenges, Malformed, Part, bearer_error};

/// A part with its own bytes.
#[derive(PartialEq, Eq, Clone, Debug)]
enum Owned {
    Scheme(Vec<u8>),
    Token68,
    Param(Vec<u8>, Vec<u8>),
}

/// Checks `data` as a line.
pub fn check(data: &[u8]) {
    let error = bearer_error(data);
    assert_eq!(bearer_error(data), error, "I12");
    let mut parts = Challenges::new(data);
    assert!(parts.by_ref().take(data.len() + 1).count() <= data.len().max(1), "a line ends");
    assert!(parts.next().is_none(), "it is fused");

    let Some(parts) = read(data) else {
        assert_eq!(error, Err(Malformed), "F9: a malformed line says nothing");
        return;
    };
    assert!(matches!(parts.first(), Some(Owned::Scheme(_))), "a line begins with a challenge");
    assert_eq!(error.ok(), expected(&parts), "H7");

    let plain = write(&parts);
    assert_eq!(read(&plain).as_ref(), Some(&parts), "written plainly: {}", plain.escape_ascii());
    let padded = [b" ,\t, ".as_slice(), data, b" , ,"].concat();
    assert_eq!(read(&padded).as_ref(), Some(&parts), "empty list elements mean nothing");
    let twice = [data, b", ", data].concat();
    assert_eq!(read(&twice), Some([parts.clone(), parts].concat()), "challenges are told apart");
}

fn read(line: &[u8]) -> Option<Vec<Owned>> {
    let owned = |part: Part<'_>| match part {
        Part::Scheme(scheme) => Owned::Scheme(scheme.into()),
        Part::Token68 => Owned::Token68,
        Part::Param { name, value } => Owned::Param(name.into(), value.bytes().collect()),
    };
    Challenges::new(line).map(|part| part.map(owned).ok()).collect()
}

fn write(parts: &[Owned]) -> Vec<u8> {
    let mut line = Vec::new();
    let mut is_first_param = false;
    for (n, part) in parts.iter().enumerate() {
        match part {
            Owned::Scheme(scheme) => {
                line.extend_from_slice(if n == 0 { b"" } else { b"," });
                line.extend_from_slice(scheme);
                line.push(b' ');
                is_first_param = true;
            }
            Owned::Token68 => line.extend_from_slice(b"QUJD=="),
            Owned::Param(name, value) => {
                line.extend_from_slice(if is_first_param { b"" } else { b"," });
                is_first_param = false;
                line.extend_from_slice(name);
                line.extend_from_slice(b"=\"");
                line.extend(value.iter().flat_map(|byte| [b'\\', *byte]));
                line.push(b'"');
            }
        }
    }
    line
}

/// The errors, those that ask for most care first (H7, D12).
const ERRORS: [(&[u8], BearerErrorCode); 5] = [
    (b"insufficient_scope", BearerErrorCode::InsufficientScope),
    (b"insufficient_claims", BearerErrorCode::InsufficientClaims),
    (b"token_revoked", BearerErrorCode::TokenRevoked),
    (b"invalid_token", BearerErrorCode::InvalidToken),
    (b"invalid_request", BearerErrorCode::InvalidRequest),
];

/// Returns the error of the Bearer challenges that asks for most care, else the first, or `None` if one of them has two.
fn expected(parts: &[Owned]) -> Option<Option<BearerErrorCode>> {
    let mut ranks = Vec::new();
    let (mut is_bearer, mut errors) = (false, 0);
    for part in parts {
        match part {
            Owned::Scheme(scheme) => (is_bearer, errors) = (scheme.eq_ignore_ascii_case(b"bearer"), 0),
            Owned::Param(name, value) if is_bearer && name.eq_ignore_ascii_case(b"error") => {
                errors += 1;
                ranks.push(ERRORS.iter().position(|(code, _)| code == value).unwrap_or(ERRORS.len()));
            }
            _ => {}
        }
        if errors > 1 {
            return None;
        }
    }
    // Of the errors that ask for no care, the first one counts.
    let careful = ranks.iter().copied().min().filter(|rank| *rank < 3);
    Some(
        careful
            .or(ranks.first().copied())
            .map(|rank| ERRORS.get(rank).map_or(BearerErrorCode::Other, |(_, error)| *error)),
    )
}
