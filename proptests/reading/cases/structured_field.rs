//! Single structured fields (H5).

use retry_machine::fuzzing::structured_field::{Bare, List, Malformed, Member};

fn members(field: &str) -> Result<Vec<Member<0>>, Malformed> {
    List::new(field.as_bytes(), []).collect()
}

fn param(field: &str, key: &[u8]) -> Option<Bare> {
    let first = List::new(field.as_bytes(), [key]).next();
    first.unwrap().unwrap().params[0]
}

/// Reads the only member of a list, which is not an inner list.
fn bare(field: &str) -> Result<Bare, Malformed> {
    match members(field)?.as_slice() {
        [Member { value: Some(bare), .. }] => Ok(*bare),
        _ => Err(Malformed),
    }
}

fn integers(field: &str) -> Result<Vec<i64>, Malformed> {
    let integer = |member: Member<0>| match member.value {
        Some(Bare::Integer(number)) => number,
        other => panic!("{other:?}"),
    };
    Ok(members(field)?.into_iter().map(integer).collect())
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
fn h5_decimals_have_at_most_twelve_digits_and_three() {
    for decimal in ["1.5", "-0.25", "00.001", "999999999999.999"] {
        assert_eq!(bare(decimal), Ok(Bare::Decimal));
    }
    assert_malformed(&["1.", ".5", "1.2345", "0.0000", "1000000000000.0", "1.2.3", "1 .2", "1.-2", "-.5"]);
}

#[test]
fn h5_strings_escape_quotes_and_backslashes_only() {
    for string in [r#""""#, r#""a \"b\" \\c ~""#, r#""\"""#] {
        assert_eq!(bare(string), Ok(Bare::String));
    }
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
}

#[test]
fn h5_tokens_begin_with_a_letter_or_star() {
    for token in ["a", "*", "text/html", "a_b-c.d3:f%00/*", "A!#$%&'*+-.^_`|~"] {
        assert_eq!(bare(token), Ok(Bare::Token));
    }
    assert_malformed(&["_a", "/a", "a(b", "a@b", "a b", "a,b", "a\u{e9}"]);
}

#[test]
fn h5_byte_sequences_are_base64() {
    for base64 in ["", "aGVsbG8=", "aGVsbG8", "iZ==", "iZ=", "iZ", "/+Ah"] {
        assert_eq!(bare(&format!(":{base64}:")), Ok(Bare::ByteSequence));
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
    assert_eq!(bare("?1"), Ok(Bare::Boolean));
    assert_eq!(bare("?0"), Ok(Bare::Boolean));
    assert_malformed(&["?", "?2", "?t", "?10", "true?"]);
}

#[test]
fn h5_dates_are_whole_seconds() {
    assert_eq!(bare("@0"), Ok(Bare::Date));
    assert_eq!(bare("@-62135596800"), Ok(Bare::Date));
    assert_malformed(&["@", "@1.5", "@a", "@ 1", "@@1", "@1000000000000000"]);
}

#[test]
fn h5_display_strings_are_valid_utf8() {
    for content in ["", "foo \\ bar", "f%c3%bc", "%22", "%00", "%ef%bb%bf", "%f0%9f%92%a9%c3%bc"] {
        assert_eq!(bare(&format!("%\"{content}\"")), Ok(Bare::DisplayString));
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
fn h5_members_fill_the_field_except_for_white_space() {
    assert_eq!(bare("  1  "), Ok(Bare::Integer(1)));
    assert_malformed(&["", " ", "\t1", "1 2", "1,", "(1)", "1;", "1 ;a", "\u{e9}"]);
}

#[test]
fn h5_the_last_of_equal_parameters_counts() {
    for field in ["a;r=1;t=5; r=2;b", "(a;r=9);r=1;t=5; r=2;b"] {
        assert_eq!(param(field, b"r"), Some(Bare::Integer(2)));
        assert_eq!(param(field, b"t"), Some(Bare::Integer(5)));
        assert_eq!(param(field, b"b"), Some(Bare::Boolean));
        assert_eq!(param(field, b"c"), None);
        assert_eq!(param(field, b"R"), None);
    }
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
        assert!(List::new(field.as_bytes(), []).any(|member| member.is_err()), "{field:?}");
    }
}

#[test]
fn h5_a_list_ends_at_its_first_error() {
    let mut list = List::new(b"1, 2, !, 3", []);
    assert!(list.next().unwrap().is_ok());
    assert!(list.next().unwrap().is_ok());
    assert_eq!(list.next().unwrap().err(), Some(Malformed));
    assert!(list.next().is_none());
}

#[test]
fn h5_inner_lists_hold_items() {
    for field in ["()", "(  )", "( 1  2;a )", "(\"a\" b)"] {
        assert_eq!(members(field).unwrap()[0].value, None);
    }
    assert_eq!(param("(1;a=1);a=3", b"a"), Some(Bare::Integer(3)));
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
        assert_eq!(members(field).err(), Some(Malformed), "{field}");
    }
}
