//! The three readers against other projects' test vectors (H3, H5, H7, F9).

use std::collections::BTreeMap;
use std::fs;

use crate::read::challenge::{BearerErrorCode, Challenges, Malformed, Part, bearer_error};
use crate::read::http_date::HttpDate;
use crate::read::structured_field::{Bare, InnerList, Item, List, Params, Value};
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

// Structured fields, in the encoding of the vectors' suite.

fn bare_json(bare: Bare<'_>) -> Json {
    let tagged = |kind: &str, value: Json| serde_json::json!({ "__type": kind, "value": value });
    let ascii = |bytes: &[u8]| Json::from(String::from_utf8(bytes.to_vec()).unwrap());
    match bare {
        Bare::Integer(number) => number.into(),
        Bare::Decimal(thousandths) => tagged("thousandths", thousandths.into()),
        Bare::String(quoted) => ascii(&quoted.bytes().collect::<Vec<u8>>()),
        Bare::Token(token) => tagged("token", ascii(token)),
        Bare::ByteSequence(base64) => tagged("binary", base32(&from_base64(base64)).into()),
        Bare::Boolean(truth) => truth.into(),
        Bare::Date(seconds) => tagged("date", seconds.into()),
        Bare::DisplayString(encoded) => tagged("displaystring", percent_decoded(encoded).into()),
    }
}

/// The suite writes a Decimal as a JSON number with a fraction, and does so for it alone.
fn exact_decimals(expected: &Json) -> Json {
    match expected {
        Json::Number(number) if number.is_f64() => {
            let thousandths = (number.as_f64().unwrap() * 1000.0).round();
            let thousandths: i64 = format!("{thousandths:.0}").parse().unwrap();
            serde_json::json!({ "__type": "thousandths", "value": thousandths })
        }
        Json::Array(values) => values.iter().map(exact_decimals).collect(),
        other => other.clone(),
    }
}

fn params_json(params: &Params<'_>) -> Json {
    let mut keys: Vec<&[u8]> = Vec::new();
    for (key, _) in params.clone() {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let pair = |key: &[u8]| {
        let name = std::str::from_utf8(key).unwrap();
        serde_json::json!([name, bare_json(params.get(key).unwrap())])
    };
    keys.into_iter().map(pair).collect()
}

fn item_json(item: &Item<'_>) -> Json {
    serde_json::json!([bare_json(item.bare), params_json(&item.params)])
}

fn inner_list_json(items: InnerList<'_>) -> Json {
    items.map(|item| item_json(&item)).collect()
}

fn list_json(field: &[u8]) -> Option<Json> {
    let member = |member: Result<_, _>| {
        let crate::read::structured_field::Member { value, params } = member.ok()?;
        let value = match value {
            Value::Bare(bare) => bare_json(bare),
            Value::InnerList(items) => inner_list_json(items),
        };
        Some(serde_json::json!([value, params_json(&params)]))
    };
    List::new(field).map(member).collect()
}

fn from_base64(text: &[u8]) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.iter().filter_map(|byte| alphabet.iter().position(|digit| digit == byte));
    let bits: Vec<usize> = digits.flat_map(|digit| (0..6).rev().map(move |at| digit >> at & 1)).collect();
    let byte = |bits: &[usize]| bits.iter().fold(0, |byte, bit| byte * 2 + u8::try_from(*bit).unwrap());
    bits.chunks_exact(8).map(byte).collect()
}

fn base32(bytes: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let digit = |bits: &[u8]| {
        let value = (0..5).fold(0, |value, at| value * 2 + bits.get(at).unwrap_or(&0));
        char::from(alphabet[usize::from(value)])
    };
    let mut text: String = bits.chunks(5).map(digit).collect();
    while text.len() % 8 != 0 {
        text.push('=');
    }
    text
}

fn percent_decoded(encoded: &[u8]) -> String {
    let mut bytes = Vec::new();
    let mut rest = std::str::from_utf8(encoded).unwrap();
    while let Some((plain, escaped)) = rest.split_once('%') {
        bytes.extend(plain.bytes());
        let (digits, after) = escaped.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
        rest = after;
    }
    bytes.extend(rest.bytes());
    String::from_utf8(bytes).unwrap()
}

#[test]
fn h5_structured_field_vectors() {
    let (mut run, mut out_of_scope) = (0, Vec::new());
    for case in cases("rate_limit.json").iter().filter(|case| case["kind"] == "sf") {
        let lines: Vec<&str> = array(&case["raw"]).iter().map(text).collect();
        let field = lines.join(", ");
        let ours = match text(&case["header_type"]) {
            "item" => Item::parse(field.as_bytes()).ok().map(|item| item_json(&item)),
            "list" => list_json(field.as_bytes()),
            "dictionary" => {
                out_of_scope.push(text(&case["name"]).to_owned());
                continue;
            }
            other => panic!("unknown type {other}"),
        };
        run += 1;
        if case["expect"]["must_fail"] == true {
            assert_eq!(ours, None, "{case}");
        } else {
            // What may fail does not fail here.
            assert_eq!(ours, Some(exact_decimals(&case["expect"]["value"])), "{case}");
        }
    }
    println!("{run} items and lists; {} dictionaries out of scope: {out_of_scope:?}", out_of_scope.len());
    assert!(run > out_of_scope.len());
}

#[test]
fn h5_rate_limit_field_vectors() {
    for case in cases("rate_limit.json").iter().filter(|case| case["kind"] == "ratelimit_sf") {
        let mut fields: BTreeMap<String, Vec<Json>> = BTreeMap::new();
        for header in array(&case["headers"]) {
            let (name, value) = (text(&header[0]).to_ascii_lowercase(), text(&header[1]));
            let key = match name.as_str() {
                "ratelimit" => "ratelimit",
                "ratelimit-policy" => "policy",
                _ => continue,
            };
            let members = fields.entry(key.into()).or_default();
            for member in List::new(value.as_bytes()) {
                let Ok(member) = member else { break };
                let Value::Bare(bare) = member.value else {
                    continue;
                };
                let mut read = serde_json::Map::new();
                if let Bare::String(name) = bare {
                    let name = String::from_utf8(name.bytes().collect()).unwrap();
                    read.insert("policy".into(), name.into());
                }
                for (key, _) in member.params.clone() {
                    let json = match member.params.get(key).unwrap() {
                        Bare::ByteSequence(base64) => std::str::from_utf8(base64).unwrap().into(),
                        other => bare_json(other),
                    };
                    read.insert(std::str::from_utf8(key).unwrap().into(), json);
                }
                members.push(read.into());
            }
        }
        if case["class"] == "must" {
            for key in ["ratelimit", "policy"] {
                let ours = fields.get(key).map_or(Json::Null, |members| members.clone().into());
                assert_eq!(ours, case["expect"][key], "{case}");
            }
        }
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
            Part::Token68(data) => {
                let challenge = challenges.last_mut().unwrap();
                challenge["token68"] = string(data).into();
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
        let error =
            lines.iter().map(|line| bearer_error(line).unwrap_or(None)).fold(None, BearerErrorCode::most_careful);
        let expect = &case["expect"];
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
