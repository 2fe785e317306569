//! `WWW-Authenticate` as a round trip, where the reader finds the challenges that a generator wrote (H7, F9).

use proptest::prelude::*;
use retry_machine::fuzzing::challenge::{BearerErrorCode, Challenges, Malformed, Part, bearer_error};

#[derive(Clone, Debug, PartialEq)]
enum Data {
    Params(Vec<(String, Vec<u8>)>),
    Token68,
}

type Challenge = (String, Data);

fn read(line: &[u8]) -> Result<Vec<Challenge>, Malformed> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("names are ASCII");
    let mut challenges: Vec<Challenge> = Vec::new();
    for part in Challenges::new(line) {
        match part? {
            Part::Scheme(scheme) => challenges.push((text(scheme), Data::Params(Vec::new()))),
            Part::Token68 => {
                let (_, last) = challenges.last_mut().expect("a scheme comes first");
                assert_eq!(*last, Data::Params(Vec::new()), "a token68 stands alone");
                *last = Data::Token68;
            }
            Part::Param { name, value } => {
                let bytes: Vec<u8> = value.bytes().collect();
                assert!(value.eq_bytes(&bytes));
                assert!(!value.eq_bytes(&[&bytes[..], b"x"].concat()));
                match challenges.last_mut() {
                    Some((_, Data::Params(params))) => params.push((text(name), bytes)),
                    other => panic!("a parameter of {other:?}"),
                }
            }
        }
    }
    Ok(challenges)
}

/// Finds the error of the Bearer challenges in the whole structure.
fn expected_error(challenges: &[Challenge]) -> Result<Option<BearerErrorCode>, Malformed> {
    let mut errors = Vec::new();
    for (scheme, data) in challenges {
        let Data::Params(params) = data else { continue };
        if !scheme.eq_ignore_ascii_case("bearer") {
            continue;
        }
        let own: Vec<_> = params.iter().filter(|(name, _)| name.eq_ignore_ascii_case("error")).collect();
        if own.len() > 1 {
            return Err(Malformed);
        }
        errors.extend(own.iter().map(|(_, value)| match value.as_slice() {
            b"insufficient_scope" => BearerErrorCode::InsufficientScope,
            b"insufficient_claims" => BearerErrorCode::InsufficientClaims,
            b"token_revoked" => BearerErrorCode::TokenRevoked,
            b"invalid_token" => BearerErrorCode::InvalidToken,
            b"invalid_request" => BearerErrorCode::InvalidRequest,
            _ => BearerErrorCode::Other,
        }));
    }
    let careful =
        [BearerErrorCode::InsufficientScope, BearerErrorCode::InsufficientClaims, BearerErrorCode::TokenRevoked];
    Ok(careful.into_iter().find(|error| errors.contains(error)).or(errors.first().copied()))
}

/// The grammar of RFC 9110 once more, written to be obvious: each production gives every place where
/// it can end. Spaces and tabs are the same, and the line may have some around it.
mod grammar {
    use std::collections::BTreeSet;

    type Ends = BTreeSet<usize>;

    pub fn accepts(line: &[u8]) -> bool {
        let elements = list(line, &white_space(line, &[0].into()), challenge);
        let has_challenge = line.iter().any(|byte| !b" \t,".contains(byte));
        has_challenge && white_space(line, &elements).contains(&line.len())
    }

    /// `[ element ] *( OWS "," OWS [ element ] )`, RFC 9110 section 5.6.1.2.
    fn list(line: &[u8], starts: &Ends, element: fn(&[u8], &Ends) -> Ends) -> Ends {
        let mut ends = starts.clone();
        ends.extend(element(line, starts));
        loop {
            let comma = one(line, &white_space(line, &ends), |byte| byte == b',');
            let after = white_space(line, &comma);
            let before = ends.len();
            ends.extend(element(line, &after));
            ends.extend(after);
            if ends.len() == before {
                return ends;
            }
        }
    }

    fn challenge(line: &[u8], starts: &Ends) -> Ends {
        let scheme = token(line, starts);
        let space = one(line, &scheme, |byte| b" \t".contains(&byte));
        let space = white_space(line, &space);
        let letters = many(line, &space, |byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
        let token68 = or_none(many(line, &letters, |byte| byte == b'='), letters);
        &(&scheme | &token68) | &list(line, &space, param)
    }

    fn param(line: &[u8], starts: &Ends) -> Ends {
        let name = white_space(line, &token(line, starts));
        let equals = white_space(line, &one(line, &name, |byte| byte == b'='));
        &token(line, &equals) | &quoted_string(line, &equals)
    }

    fn quoted_string(line: &[u8], starts: &Ends) -> Ends {
        let mut ends = one(line, starts, |byte| byte == b'"');
        loop {
            let backslash = one(line, &ends, |byte| byte == b'\\');
            let pair = one(line, &backslash, |byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..));
            let text =
                one(line, &ends, |byte| matches!(byte, b'\t' | b' ' | 0x21 | 0x23..=0x5b | 0x5d..=0x7e | 0x80..));
            let before = ends.len();
            ends.extend(pair.into_iter().chain(text));
            if ends.len() == before {
                return one(line, &ends, |byte| byte == b'"');
            }
        }
    }

    fn token(line: &[u8], starts: &Ends) -> Ends {
        many(line, starts, |byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    }

    fn white_space(line: &[u8], starts: &Ends) -> Ends {
        or_none(many(line, starts, |byte| b" \t".contains(&byte)), starts.clone())
    }

    fn or_none(mut some: Ends, none: Ends) -> Ends {
        some.extend(none);
        some
    }

    fn many(line: &[u8], starts: &Ends, belongs: fn(u8) -> bool) -> Ends {
        let mut ends = Ends::new();
        let mut next = one(line, starts, belongs);
        while !next.is_empty() {
            ends.extend(&next);
            next = one(line, &next, belongs);
        }
        ends
    }

    fn one(line: &[u8], starts: &Ends, belongs: fn(u8) -> bool) -> Ends {
        starts.iter().filter(|&&at| line.get(at).is_some_and(|&byte| belongs(byte))).map(|at| at + 1).collect()
    }
}

fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}

/// Writes challenges; the choices say which of the equal ways is taken.
fn write(challenges: &[Challenge], choices: &[u8]) -> Vec<u8> {
    let mut choices = choices.iter().cycle();
    let mut choose =
        |options: &[&str]| -> String { options[usize::from(*choices.next().unwrap_or(&0)) % options.len()].into() };
    let mut line = choose(&["", " ", ",", "\t, ,"]).into_bytes();
    for (index, (scheme, data)) in challenges.iter().enumerate() {
        if index > 0 {
            line.extend(choose(&[", ", ",", " ,", ",,", "\t,\t,"]).bytes());
        }
        line.extend(scheme.bytes());
        match data {
            Data::Token68 => {
                line.extend(choose(&[" ", "  ", "\t"]).bytes());
                line.extend(choose(&["QUJD==", "a", "b=", "A9._~+/-", "-"]).bytes());
            }
            Data::Params(params) => {
                for (index, (name, value)) in params.iter().enumerate() {
                    let lead = match index {
                        0 => choose(&[" ", "  ", "\t", " , "]),
                        _ => choose(&[", ", ",", " , ", ",,"]),
                    };
                    line.extend(lead.bytes());
                    line.extend(name.bytes());
                    line.extend(choose(&["=", "=", " =", "= ", "\t=\t"]).bytes());
                    if is_token(value) && choose(&["token", "string"]) == "token" {
                        line.extend(value);
                        continue;
                    }
                    line.push(b'"');
                    for &byte in value {
                        if matches!(byte, b'"' | b'\\') || choose(&["", "", "", "\\"]) == "\\" {
                            line.push(b'\\');
                        }
                        line.push(byte);
                    }
                    line.push(b'"');
                }
            }
        }
    }
    line.extend(choose(&["", " ", ",", " ,\t"]).bytes());
    line
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![9 => b' '..=b'~', 1 => 0x80..=0xff_u8, 1 => Just(b'\t')];
    const HOSTILE: [&str; 4] = ["Bearer error=\"invalid_token\"", ", Bearer error=insufficient_scope", "=", ","];
    prop_oneof![
        prop::collection::vec(text, 0..8),
        prop::sample::select(&HOSTILE[..]).prop_map(|text| text.into()),
        code(),
    ]
}

fn code() -> impl Strategy<Value = Vec<u8>> {
    const CODES: [&str; 8] = [
        "invalid_request",
        "invalid_token",
        "insufficient_scope",
        "insufficient_claims",
        "token_revoked",
        "Invalid_Token",
        "insufficient_scope ",
        "unsupported",
    ];
    prop::sample::select(&CODES[..]).prop_map(|code| code.into())
}

fn challenge() -> impl Strategy<Value = Challenge> {
    let name = prop_oneof!["error|ERROR|Bearer|realm", "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,6}"];
    let params = prop::collection::vec(prop_oneof![(name, value()), (Just(String::from("error")), code())], 0..4);
    let data = prop_oneof![
        4 => params.prop_map(Data::Params),
        1 => Just(Data::Token68),
    ];
    let scheme = prop_oneof!["Bearer|bearer|BEARER", "Basic|DPoP|Bearer2|error", "[a-z!#$]{1,4}"];
    (scheme, data)
}

fn near_miss() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: [&str; 14] =
        ["Bearer", "error", "insufficient_scope", "=", "\"", ",", " ", "\t", "\\", "x", "==", "/", "\n", "\u{e9}"];
    prop::collection::vec(prop::sample::select(&WORDS[..]), 0..12).prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn h7_challenges_survive_being_written_and_read(
        challenges in prop::collection::vec(challenge(), 1..5),
        choices in prop::collection::vec(any::<u8>(), 1..32),
    ) {
        let line = write(&challenges, &choices);
        prop_assert_eq!(bearer_error(&line), expected_error(&challenges), "{}", String::from_utf8_lossy(&line));
        prop_assert_eq!(read(&line), Ok(challenges), "{}", String::from_utf8_lossy(&line));
    }

    /// F9: whatever else a line says, one control character in it voids it.
    #[test]
    fn f9_a_control_character_voids_the_line(
        challenges in prop::collection::vec(challenge(), 1..4),
        at in any::<prop::sample::Index>(),
        control in prop_oneof![0..b'\t', b'\n'..b' ', Just(0x7f)],
    ) {
        let mut line = write(&challenges, &[]);
        line.insert(at.index(line.len() + 1), control);
        prop_assert_eq!(bearer_error(&line), Err(Malformed));
    }

    #[test]
    fn h7_any_bytes_give_a_defined_result(
        line in prop_oneof![near_miss(), prop::collection::vec(any::<u8>(), 0..64)],
    ) {
        let challenges = read(&line);
        prop_assert_eq!(challenges.is_ok(), grammar::accepts(&line));
        prop_assert_eq!(&challenges, &read(&line));
        let error = bearer_error(&line);
        prop_assert_eq!(error, bearer_error(&line));
        match challenges {
            Ok(challenges) => {
                prop_assert!(!challenges.is_empty());
                prop_assert_eq!(error, expected_error(&challenges));
                prop_assert_eq!(read(&write(&challenges, &[])), Ok(challenges));
            }
            Err(Malformed) => prop_assert_eq!(error, Err(Malformed)),
        }
        // An error is the last thing that a line gives.
        let results: Vec<bool> = Challenges::new(&line).map(|part| part.is_err()).collect();
        prop_assert!(results.iter().rev().skip(1).all(|is_error| !is_error));
    }

    #[test]
    fn h7_mutated_challenges_are_read_strictly(
        challenges in prop::collection::vec(challenge(), 1..4),
        at in any::<prop::sample::Index>(), byte in any::<u8>(), kind in 0..3_u8,
    ) {
        let mut line = write(&challenges, &[]);
        let at = at.index(line.len());
        match kind {
            0 => line[at] = byte,
            1 => line.insert(at, byte),
            _ => drop(line.remove(at)),
        }
        let read_again = read(&line);
        prop_assert_eq!(read_again.is_ok(), grammar::accepts(&line));
        if let Ok(challenges) = read_again {
            prop_assert_eq!(bearer_error(&line), expected_error(&challenges));
            prop_assert_eq!(read(&write(&challenges, &[])), Ok(challenges));
        }
    }
}

#[test]
fn h7_long_input_takes_linear_time() {
    for (unit, is_read) in [
        ("a", true),
        ("a ", false),
        ("a,", true),
        ("a ,", true),
        ("a=", false),
        (",", false),
        (" ", false),
        ("=", false),
        ("\"", false),
        ("a \"", false),
        ("\\", false),
        ("a b,", true),
        ("a b=c,", true),
    ] {
        let line = unit.repeat(200_000);
        assert_eq!(bearer_error(line.as_bytes()).is_ok(), is_read, "{unit}");
    }
    let spaces = " ".repeat(200_000);
    let line = format!("Bearer{spaces}error{spaces}={spaces}invalid_token{spaces},{spaces}B{spaces}");
    assert_eq!(bearer_error(line.as_bytes()), Ok(Some(BearerErrorCode::InvalidToken)));
}
