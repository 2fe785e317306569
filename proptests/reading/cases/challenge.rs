//! Single lines of `WWW-Authenticate` (H7, F9).

use retry_machine::fuzzing::challenge::BearerErrorCode::{
    self, InsufficientClaims, InsufficientScope, InvalidRequest, InvalidToken, Other, TokenRevoked,
};
use retry_machine::fuzzing::challenge::{Challenges, Malformed, Part, bearer_error};

/// Writes the parts in one notation: `scheme`, `:` for a token68, `name=value`, and `!` for an error.
fn parts(line: &str) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let parts: Vec<String> = Challenges::new(line.as_bytes())
        .map(|part| match part {
            Ok(Part::Scheme(scheme)) => text(scheme),
            Ok(Part::Token68) => ":".into(),
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
fn h7_several_challenges_share_one_line() {
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
    assert_eq!(parts("A b"), "A :");
    assert_eq!(parts("A b="), "A :");
    assert_eq!(parts("A b== , C"), "A : C");
    assert_eq!(parts("A +/-._~9=="), "A :");
    assert_eq!(parts("A b=c"), "A b=c");
    assert_eq!(parts("A b= c"), "A b=c");
    assert_eq!(parts("A b==c"), "A !");
    assert_eq!(parts("A =b"), "!");
    assert_eq!(parts("A b c"), "A !");
    assert_eq!(parts("A b c=d"), "A !");
    assert_eq!(parts("A b ="), "A !");
    // A challenge with a token68 has no parameters, so a name after it belongs to none.
    assert_eq!(parts("A b=, c=d"), "A : !");
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
    // Only after white space can parameters follow the scheme.
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
