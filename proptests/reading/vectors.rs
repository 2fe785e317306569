//! Other projects' test vectors (H3, H5, H7, F9).

use std::fs;

use retry_machine::Policy;
use retry_machine::fuzzing::challenge::{BearerErrorCode, Challenges, Malformed, Part};
use retry_machine::fuzzing::http_date::HttpDate;
use retry_machine::fuzzing::structured_field::{Bare, List, Malformed as MalformedList, Member};
use serde_json::Value as Json;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proptests/data/vectors");

/// The year in which the vectors read two-digit years.
const REFERENCE_YEAR: i32 = 2026;

fn cases(file: &str) -> Vec<Json> {
    let text = fs::read_to_string(format!("{VECTORS}/{file}")).unwrap();
    let mut file: Json = serde_json::from_str(&text).unwrap();
    let Json::Array(cases) = file["cases"].take() else { panic!("{file}") };
    assert!(!cases.is_empty());
    cases
}

fn array(value: &Json) -> &[Json] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Json) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

// HTTP-date.

fn date_input(case: &Json) -> String {
    let part = |part: &Json| match part {
        Json::String(text) => text.clone(),
        _ => text(&part["repeat"]).repeat(part["times"].as_u64().unwrap().try_into().unwrap()),
    };
    case["input"].as_str().map_or_else(|| array(&case["input_parts"]).iter().map(part).collect(), ToOwned::to_owned)
}

#[test]
fn h3_http_date_vectors() {
    for case in cases("http_date.json") {
        let input = date_input(&case);
        assert!(!input.is_empty() || case["input"].is_string(), "{case}");
        let ours = HttpDate::parse(input.as_bytes()).and_then(|date| date.unix_seconds(REFERENCE_YEAR));
        match text(&case["class"]) {
            // We take the date whatever weekday is named, second 60 and years before 1970.
            "must_accept" | "must_accept_or_policy" => {
                assert!(ours.is_some() && ours == case["expect_unix"].as_i64(), "{ours:?} {case}");
            }
            "must_reject" => assert_eq!(ours, None, "{case}"),
            "lenient" => {
                let mut origins = array(&case["origins"]).iter().map(|origin| &origin["expect"]);
                let agrees = |seconds| origins.any(|expect| *expect == "accept" || *expect == seconds);
                assert!(ours.is_none_or(agrees), "{ours:?} {case}");
            }
            other => panic!("unknown class {other}"),
        }
    }
}

// Structured fields, in the encoding of the vectors' suite. The reader keeps the kind of a value, and of an integer the
// number.

fn bare_json(bare: Bare) -> Json {
    match bare {
        Bare::Integer(number) => number.into(),
        other => format!("{other:?}").into(),
    }
}

/// Returns the kind of a value in the suite, or the number of an integer.
fn kind_json(expected: &Json) -> Json {
    match expected {
        Json::Number(number) if number.is_i64() => return expected.clone(),
        Json::Number(_) => "Decimal",
        Json::String(_) => "String",
        Json::Bool(_) => "Boolean",
        tagged => match text(&tagged["__type"]) {
            "token" => "Token",
            "binary" => "ByteSequence",
            "date" => "Date",
            "displaystring" => "DisplayString",
            other => panic!("unknown type {other}"),
        },
    }
    .into()
}

/// Asserts that the reader finds the member at this place of the suite's field: a value or an inner list, and parameters.
fn assert_member(field: &str, (place, member): (usize, &Member<0>), expected: &Json, case: &Json) {
    match expected[0].as_array() {
        Some(_) => assert_eq!(member.value, None, "{case}"),
        None => assert_eq!(member.value.map(bare_json), Some(kind_json(&expected[0])), "{case}"),
    }
    for param in array(&expected[1]) {
        let keyed = List::new(field.as_bytes(), [text(&param[0]).as_bytes()]).nth(place).unwrap().unwrap();
        assert_eq!(keyed.params[0].map(bare_json), Some(kind_json(&param[1])), "{case}");
    }
}

#[test]
fn h5_structured_field_vectors() {
    let (mut run, mut out_of_scope) = (0, 0);
    for case in cases("rate_limit.json").iter().filter(|case| case["kind"] == "sf") {
        let lines: Vec<&str> = array(&case["raw"]).iter().map(text).collect();
        let field = lines.join(", ");
        let members: Result<Vec<_>, MalformedList> = List::new(field.as_bytes(), []).collect();
        let expected = &case["expect"];
        match (text(&case["header_type"]), members) {
            ("dictionary", _) => {
                out_of_scope += 1;
                continue;
            }
            ("list", members) if expected["must_fail"] == true => assert!(members.is_err(), "{case}"),
            // A list of no member or of two is not an item, and only a list may end with a tab.
            ("item", members) if expected["must_fail"] == true => {
                assert!(members.is_err() || members.unwrap().len() != 1 || field.ends_with('\t'), "{case}");
            }
            // A field that may fail does not fail here.
            ("item", members) => {
                let [member] = members.unwrap().try_into().unwrap_or_else(|_| panic!("{case}"));
                assert_member(&field, (0, &member), &expected["value"], case);
            }
            ("list", members) => {
                let members = members.unwrap();
                assert_eq!(members.len(), array(&expected["value"]).len(), "{case}");
                let expected = array(&expected["value"]);
                let members = members.iter().enumerate().zip(expected);
                members.for_each(|(member, expected)| assert_member(&field, member, expected, case));
            }
            (other, _) => panic!("unknown type {other}"),
        }
        run += 1;
    }
    println!("{run} items and lists; {out_of_scope} dictionaries out of scope");
    assert!(run > out_of_scope);
}

#[test]
fn h5_rate_limit_field_vectors() {
    for case in cases("rate_limit.json").iter().filter(|case| case["kind"] == "ratelimit_sf") {
        for (name, key) in [("ratelimit", "ratelimit"), ("ratelimit-policy", "policy")] {
            let lines = array(&case["headers"]).iter().filter(|header| text(&header[0]).eq_ignore_ascii_case(name));
            let members: Vec<_> = lines.flat_map(|header| List::new(text(&header[1]).as_bytes(), LIMIT_KEYS)).collect();
            if case["class"] == "must" {
                let expected = array(&case["expect"][key]);
                assert_eq!(members.len(), expected.len(), "{case}");
                members.iter().zip(expected).for_each(|(member, expected)| assert_limit(member, expected, case));
            }
        }
    }
}

const LIMIT_KEYS: [&[u8]; 6] = [b"q", b"w", b"r", b"t", b"pk", b"qu"];

/// Asserts that the reader finds a named member and its parameters.
fn assert_limit(member: &Result<Member<6>, MalformedList>, expected: &Json, case: &Json) {
    let member = member.as_ref().unwrap();
    assert_eq!(member.value, Some(Bare::String), "{case}");
    for (key, value) in expected.as_object().unwrap().iter().filter(|(key, _)| *key != "policy") {
        let value = if key == "pk" { Bare::ByteSequence } else { value.as_i64().map_or(Bare::String, Bare::Integer) };
        let place = LIMIT_KEYS.iter().position(|known| *known == key.as_bytes()).unwrap_or_else(|| panic!("{key}"));
        assert_eq!(member.params[place], Some(value), "{case}");
    }
}

// WWW-Authenticate.

fn challenges_json(line: &[u8]) -> Result<Vec<Json>, Malformed> {
    let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut challenges: Vec<Json> = Vec::new();
    for part in Challenges::new(line) {
        match part? {
            Part::Scheme(scheme) => challenges.push(serde_json::json!({
                "scheme": string(&scheme.to_ascii_lowercase()),
                "params": {},
            })),
            Part::Token68 => {
                let challenge = challenges.last_mut().unwrap();
                challenge["token68"] = true.into();
                challenge.as_object_mut().unwrap().remove("params");
            }
            Part::Param { name, value } => {
                let value: Vec<u8> = value.bytes().collect();
                let name = string(&name.to_ascii_lowercase());
                challenges.last_mut().unwrap()["params"][name] = string(&value).into();
            }
        }
    }
    Ok(challenges)
}

fn expected_error(bearer: &Json) -> Option<BearerErrorCode> {
    bearer["error"].as_str().map(|code| match code {
        "insufficient_scope" => BearerErrorCode::InsufficientScope,
        "insufficient_claims" => BearerErrorCode::InsufficientClaims,
        "token_revoked" => BearerErrorCode::TokenRevoked,
        "invalid_token" => BearerErrorCode::InvalidToken,
        "invalid_request" => BearerErrorCode::InvalidRequest,
        _ => BearerErrorCode::Other,
    })
}

#[test]
fn h7_challenge_vectors() {
    for case in cases("challenge.json") {
        let lines: Vec<&[u8]> = array(&case["www_authenticate"]).iter().map(|line| text(line).as_bytes()).collect();
        // F9: a malformed line is void, the others count.
        let good: Vec<Json> = lines.iter().filter_map(|line| challenges_json(line).ok()).flatten().collect();
        let mut challenges = Policy::flextell().reader(None, 401);
        lines.iter().for_each(|line| challenges.feed(b"WWW-Authenticate", line));
        let error = challenges.finish().challenge();
        let mut expect = case["expect"].clone();
        // The reader does not keep the data of a token68.
        for challenge in expect["challenges"].as_array_mut().into_iter().flatten() {
            if let Some(data) = challenge.get_mut("token68").filter(|data| data.is_string()) {
                *data = true.into();
            }
        }
        let is_invalid = expect["valid"] == false;
        match text(&case["class"]) {
            "must" | "derived" => {
                assert_eq!(good.is_empty(), is_invalid, "{case}");
                assert_eq!(good, array(&expect["challenges"]), "{case}");
                if expect["bearer"].is_object() {
                    assert_eq!(error, expected_error(&expect["bearer"]), "{case}");
                }
            }
            // Where another client takes less, we may take more, and the reverse; where both take
            // the line they agree.
            "policy" | "lenient" => {
                let agrees = good.is_empty() || is_invalid || good == array(&expect["challenges"]);
                assert!(agrees, "{good:?} {case}");
            }
            other => panic!("unknown class {other}"),
        }
    }
}
