//! Reading error bodies: H8, F9, E3.

use retry_machine::{BodyError, CodeClass, ErrorBody, Event, FailureKind, Reply};

use crate::support::{Answer, Scene};

fn class(body: &str) -> CodeClass {
    ErrorBody::parse(body.as_bytes()).unwrap().class()
}

fn refused(body: &[u8]) -> BodyError {
    ErrorBody::parse(body).unwrap_err()
}

#[test]
fn h8_the_guides_example_bodies_are_read() {
    #[rustfmt::skip]
    let examples = [
        (r#"{"error": "invalid_token", "message": "The bearer token is expired or malformed."}"#,
            "invalid_token", "The bearer token is expired or malformed."),
        (r#"{"error": "validation_error", "message": "The 'email' field must be a valid email address."}"#,
            "validation_error", "The 'email' field must be a valid email address."),
        (r#"{"error": "rate_limit_exceeded", "message": "Please retry after 30 seconds."}"#,
            "rate_limit_exceeded", "Please retry after 30 seconds."),
    ];
    for (body, code, message) in examples {
        let body = ErrorBody::parse(body.as_bytes()).unwrap();
        assert_eq!((body.code(), body.message()), (Some(code), Some(message)));
    }
}

#[test]
fn h8_the_machine_sees_the_class_of_the_code() {
    assert_eq!(class(r#"{"error": "insufficient_scope"}"#), CodeClass::InsufficientScope);
    assert_eq!(class(r#"{"error": "insufficient_claims"}"#), CodeClass::InsufficientClaims);
    assert_eq!(class(r#"{"error": "token_revoked"}"#), CodeClass::TokenRevoked);
    assert_eq!(class(r#"{"error": "unauthorized"}"#), CodeClass::Other);
    assert_eq!(class(r#"{"message": "insufficient_scope"}"#), CodeClass::None);
}

#[test]
fn h8_an_invalid_error_body_gives_a_typed_error() {
    for body in ["", "   ", "<html>", "{", "{}x", "{error: 1}", "{'error': 'x'}", r#"{"error": "x",}"#, "\u{feff}{}"] {
        assert_eq!(refused(body.as_bytes()), BodyError::NotJson, "{body}");
    }
    for body in ["[]", "1", "null", r#""error""#, r#"["invalid_token", "text"]"#] {
        assert_eq!(refused(body.as_bytes()), BodyError::NotAnObject, "{body}");
    }
    for body in ["{}", r#"{"data": 1}"#, r#"{"Error": "x"}"#] {
        assert_eq!(refused(body.as_bytes()), BodyError::Empty, "{body}");
    }
    for body in [r#"{"error": 1}"#, r#"{"error": null, "message": "x"}"#, r#"{"error": "x", "message": ["y"]}"#] {
        assert_eq!(refused(body.as_bytes()), BodyError::WrongType, "{body}");
    }
    for body in [r#"{"error": "x", "error": "x"}"#, r#"{"message": "a", "error": "x", "message": 1}"#] {
        assert_eq!(refused(body.as_bytes()), BodyError::Duplicate, "{body}");
    }
}

#[test]
fn h8_invalid_utf_8_is_refused_even_in_ignored_fields() {
    assert_eq!(refused(b"{\"error\": \"\xff\"}"), BodyError::NotUtf8);
    assert_eq!(refused(b"{\"error\": \"x\", \"more\": \"\xc3\x28\"}"), BodyError::NotUtf8);
}

#[test]
fn h8_unknown_fields_are_ignored() {
    let body = ErrorBody::parse(br#"{"trace": {"a": [1, {}]}, "error": "x", "message": "y", "n": 1e9}"#).unwrap();
    assert_eq!((body.code(), body.message()), (Some("x"), Some("y")));
    // A lone surrogate is invalid text, which matters only in a field that is read.
    assert!(ErrorBody::parse(br#"{"error": "x", "more": "\ud800"}"#).is_ok());
    for body in [r#"{"error": "\ud800"}"#, r#"{"error": "x", "\udc00": 1}"#] {
        assert_eq!(refused(body.as_bytes()), BodyError::NotJson, "{body}");
    }
}

#[test]
fn f9_either_error_or_message_may_be_missing() {
    let body = ErrorBody::parse(br#"{"error": "x"}"#).unwrap();
    assert_eq!((body.code(), body.message()), (Some("x"), None));
    let body = ErrorBody::parse(br#"{"message": "y"}"#).unwrap();
    assert_eq!((body.code(), body.message()), (None, Some("y")));
}

#[test]
fn f9_a_body_has_at_most_64_kib() {
    let body = |length: usize| format!("{{\"error\": \"x\"{}}}", " ".repeat(length - 14));
    assert_eq!(body(65_536).len(), 65_536);
    assert!(ErrorBody::parse(body(65_536).as_bytes()).is_ok());
    assert_eq!(refused(body(65_537).as_bytes()), BodyError::TooLong);
}

#[test]
fn f9_a_body_is_at_most_64_levels_deep() {
    let body = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        format!(r#"{{"error": "x[[\"{{", "deep": {open}{close}}}"#)
    };
    assert!(ErrorBody::parse(body(64).as_bytes()).is_ok());
    assert_eq!(refused(body(65).as_bytes()), BodyError::TooDeep);
    assert_eq!(refused("[".repeat(60_000).as_bytes()), BodyError::TooDeep);
    // A closing bracket makes room again, except in a string.
    let siblings = format!(r#"{{"error": "x", "wide": [{}{{}}]}}"#, "{},".repeat(100));
    assert!(ErrorBody::parse(siblings.as_bytes()).is_ok());
    let (open, close) = (r#"["]]","#.repeat(64), "]".repeat(64));
    assert_eq!(refused(format!(r#"{{"error": "x", "deep": {open}0{close}}}"#).as_bytes()), BodyError::TooDeep);
}

#[test]
fn h8_a_driver_may_set_the_class_itself() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    let reply = Reply::new(401).with_code(CodeClass::TokenRevoked);
    assert_eq!(reply.code(), CodeClass::TokenRevoked);
    scene.at(10).tell(Event::Reply { attempt: 1, reply }).fails(FailureKind::Unauthorized);
}
