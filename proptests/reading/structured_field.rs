//! Structured fields as a round trip, where the reader finds the members that a generator wrote, and against the crate `sfv`
//! (H5).

use proptest::prelude::*;
use retry_machine::fuzzing::structured_field::{Bare, List, Malformed, Member};

/// A bare item that owns its content.
#[derive(Clone, Debug, PartialEq)]
enum OwnBare {
    Integer(i64),
    Decimal(i64),
    String(Vec<u8>),
    Token(Vec<u8>),
    ByteSequence(Vec<u8>),
    Boolean(bool),
    Date(i64),
    DisplayString(Vec<u8>),
}

type OwnParams = Vec<(Vec<u8>, OwnBare)>;
type OwnItem = (OwnBare, OwnParams);

#[derive(Clone, Debug, PartialEq)]
enum OwnMember {
    Item(OwnItem),
    InnerList(Vec<OwnItem>, OwnParams),
}

/// Returns the part of a value that the reader keeps.
fn kept(bare: &OwnBare) -> Bare {
    match bare {
        OwnBare::Integer(number) => Bare::Integer(*number),
        OwnBare::Decimal(_) => Bare::Decimal,
        OwnBare::String(_) => Bare::String,
        OwnBare::Token(_) => Bare::Token,
        OwnBare::ByteSequence(_) => Bare::ByteSequence,
        OwnBare::Boolean(_) => Bare::Boolean,
        OwnBare::Date(_) => Bare::Date,
        OwnBare::DisplayString(_) => Bare::DisplayString,
    }
}

fn read(field: &[u8]) -> Result<Vec<Member<0>>, Malformed> {
    List::new(field, []).collect()
}

/// Returns the parameter of the member at this place.
fn param(field: &[u8], place: usize, key: &[u8]) -> Option<Bare> {
    List::new(field, [key]).nth(place).unwrap().unwrap().params[0]
}

/// Asserts that the reader finds these members.
fn assert_read(field: &[u8], members: &[OwnMember]) {
    let text = String::from_utf8_lossy(field);
    let read = read(field).unwrap_or_else(|Malformed| panic!("malformed: {text}"));
    assert_eq!(read.len(), members.len(), "{text}");
    for (place, (read, member)) in read.iter().zip(members).enumerate() {
        let (value, params) = match member {
            OwnMember::Item((bare, params)) => (Some(kept(bare)), params),
            OwnMember::InnerList(_, params) => (None, params),
        };
        assert_eq!(read.value, value, "{text}");
        for (key, _) in params {
            let last = params.iter().rfind(|(other, _)| other == key).map(|(_, value)| kept(value));
            assert_eq!(param(field, place, key), last, "{text}");
        }
        assert_eq!(param(field, place, b"key-of-no-parameter"), None, "{text}");
    }
}

/// Returns whether the crate `sfv` accepts the field.
fn is_list(field: &[u8]) -> bool {
    sfv::Parser::new(field).parse::<sfv::List>().is_ok()
}

/// Writes values, with white space that comes from a list of choices.
struct Writer<'a> {
    out: Vec<u8>,
    choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl<'a> Writer<'a> {
    fn new(choices: &'a [u8]) -> Self {
        Self { out: Vec::new(), choices: choices.iter().cycle() }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn choose<'b>(&mut self, options: &[&'b [u8]]) -> &'b [u8] {
        options[usize::from(*self.choices.next().unwrap_or(&0)) % options.len()]
    }

    fn list(mut self, members: &[OwnMember]) -> Vec<u8> {
        for (index, member) in members.iter().enumerate() {
            let lead = match index {
                0 => self.choose(&[b"", b" "]),
                _ => self.choose(&[b", ", b",", b"\t,", b" , \t"]),
            };
            self.push(lead);
            match member {
                OwnMember::Item(item) => self.item(item),
                OwnMember::InnerList(items, params) => self.inner_list(items, params),
            }
        }
        let end = self.choose(&[b"", b" "]);
        self.push(end);
        self.out
    }

    fn inner_list(&mut self, items: &[OwnItem], params: &OwnParams) {
        self.push(b"(");
        for (index, item) in items.iter().enumerate() {
            let lead = match index {
                0 => self.choose(&[b"", b"  "]),
                _ => self.choose(&[b" ", b"  "]),
            };
            self.push(lead);
            self.item(item);
        }
        let end = self.choose(&[b"", b" "]);
        self.push(end);
        self.push(b")");
        self.params(params);
    }

    fn item(&mut self, (bare, params): &OwnItem) {
        self.bare(bare);
        self.params(params);
    }

    fn params(&mut self, params: &OwnParams) {
        for (key, value) in params {
            let lead = self.choose(&[b";", b"; ", b";  "]);
            self.push(lead);
            self.push(key);
            if *value != OwnBare::Boolean(true) || self.choose(&[b"", b"?1"]) == b"?1" {
                self.push(b"=");
                self.bare(value);
            }
        }
    }

    fn bare(&mut self, bare: &OwnBare) {
        match bare {
            OwnBare::Integer(number) => self.push(number.to_string().as_bytes()),
            OwnBare::Decimal(thousandths) => {
                let sign = if *thousandths < 0 { "-" } else { "" };
                let (whole, rest) = (thousandths.abs() / 1000, thousandths.abs() % 1000);
                let mut text = format!("{sign}{whole}.{rest:03}");
                if self.choose(&[b"long", b"short"]) == b"short" {
                    while text.ends_with('0') && !text.ends_with(".0") {
                        text.pop();
                    }
                }
                self.push(text.as_bytes());
            }
            OwnBare::String(text) => {
                self.push(b"\"");
                for &byte in text {
                    if matches!(byte, b'"' | b'\\') {
                        self.push(b"\\");
                    }
                    self.push(&[byte]);
                }
                self.push(b"\"");
            }
            OwnBare::Token(token) => self.push(token),
            OwnBare::ByteSequence(base64) => self.push(&[b":", &base64[..], b":"].concat()),
            OwnBare::Boolean(truth) => self.push(if *truth { b"?1" } else { b"?0" }),
            OwnBare::Date(seconds) => self.push(format!("@{seconds}").as_bytes()),
            OwnBare::DisplayString(text) => self.push(&[b"%\"", &text[..], b"\""].concat()),
        }
    }
}

fn percent_encoded(text: &str) -> Vec<u8> {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'"' | b'%' | 0..0x20 | 0x7f.. => encoded += &format!("%{byte:02x}"),
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded.into_bytes()
}

const LARGEST: i64 = 999_999_999_999_999;

fn bare() -> impl Strategy<Value = OwnBare> {
    prop_oneof![
        prop_oneof![-LARGEST..=LARGEST, -9..100_i64].prop_map(OwnBare::Integer),
        prop_oneof![-LARGEST..=LARGEST, -9999..9999_i64].prop_map(OwnBare::Decimal),
        "[ -~]{0,12}".prop_map(|text| OwnBare::String(text.into_bytes())),
        "[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]{0,8}".prop_map(|token| OwnBare::Token(token.into_bytes())),
        "([A-Za-z0-9+/]{4}){0,3}([A-Za-z0-9+/]{2}={0,2}|[A-Za-z0-9+/]{3}=?)?"
            .prop_map(|base64| OwnBare::ByteSequence(base64.into_bytes())),
        any::<bool>().prop_map(OwnBare::Boolean),
        (-LARGEST..=LARGEST).prop_map(OwnBare::Date),
        any::<String>().prop_map(|text| OwnBare::DisplayString(percent_encoded(&text))),
    ]
}

fn item() -> impl Strategy<Value = OwnItem> {
    (bare(), params())
}

fn params() -> impl Strategy<Value = OwnParams> {
    // Few names, so that a key comes twice.
    let key = prop_oneof!["[a-d*]", "[a-z*][a-z0-9_.*-]{0,5}"];
    prop::collection::vec((key.prop_map(String::into_bytes), bare()), 0..4)
}

fn members(least: usize) -> impl Strategy<Value = Vec<OwnMember>> {
    let inner_list = (prop::collection::vec(item(), 0..4), params());
    let member = prop_oneof![
        3 => item().prop_map(OwnMember::Item),
        1 => inner_list.prop_map(|(items, params)| OwnMember::InnerList(items, params)),
    ];
    prop::collection::vec(member, least..5)
}

/// Bytes that structured fields are made of, so that random ones come close to the grammar.
fn near_miss() -> impl Strategy<Value = Vec<u8>> {
    let alphabet = prop::sample::select(b"aAz*019-. \t,;=()\"\\:?@%c3bc/+\x7f\xe9\n".to_vec());
    prop::collection::vec(prop_oneof![9 => alphabet, 1 => any::<u8>()], 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn h5_lists_survive_being_written_and_read(
        members in members(0), choices in prop::collection::vec(any::<u8>(), 1..16),
    ) {
        let field = Writer::new(&choices).list(&members);
        assert_read(&field, &members);
    }

    /// Field lines have the same members one by one and joined (RFC 9110 §5.3).
    #[test]
    fn h5_lists_may_be_split_over_field_lines(first in members(1), second in members(1)) {
        let (one, two) = (Writer::new(&[]).list(&first), Writer::new(&[]).list(&second));
        assert_read(&one, &first);
        assert_read(&two, &second);
        assert_read(&[&one[..], b", ", &two[..]].concat(), &[first, second].concat());
    }

    /// Inserts, removes or replaces one byte.
    #[test]
    fn h5_mutated_lists_are_read_strictly(
        members in members(0), at in any::<prop::sample::Index>(), byte in any::<u8>(), kind in 0..3_u8,
    ) {
        let mut field = Writer::new(&[]).list(&members);
        field.push(b' ');
        let at = at.index(field.len());
        match kind {
            0 => field[at] = byte,
            1 => field.insert(at, byte),
            _ => drop(field.remove(at)),
        }
        prop_assert_eq!(read(&field).is_ok(), is_list(&field));
    }

    #[test]
    fn h5_any_bytes_give_a_defined_result(
        field in prop_oneof![near_miss(), prop::collection::vec(any::<u8>(), 0..64)],
    ) {
        prop_assert_eq!(read(&field).is_ok(), is_list(&field));
        // An error ends the list.
        let results: Vec<bool> = List::new(&field, []).map(|member| member.is_err()).collect();
        prop_assert!(results.iter().rev().skip(1).all(|is_error| !is_error));
    }

    #[test]
    fn h5_display_strings_are_valid_utf8_exactly(bytes in prop::collection::vec(any::<u8>(), 0..6)) {
        let encoded: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
        let field = format!("%\"{encoded}\"");
        let is_valid = std::str::from_utf8(&bytes).is_ok();
        prop_assert_eq!(read(field.as_bytes()).is_ok(), is_valid);
    }
}

#[test]
fn h5_long_input_takes_linear_time() {
    for (unit, is_list) in [
        ("(", false),
        ("((", false),
        ("(1 ", false),
        ("()", false),
        ("(),", false),
        ("1,", false),
        ("\"", false),
        ("\"\\", false),
        ("9", false),
        ("a", true),
        (" ", true),
        (";a", false),
        ("a;", false),
        (":", false),
        ("%\"", false),
        (", ", false),
    ] {
        assert_eq!(read(unit.repeat(200_000).as_bytes()).is_ok(), is_list, "{unit}");
    }
    let list = "(1 2;a);b;c=\"\\\\\", ".repeat(50_000) + "1";
    assert_eq!(List::new(list.as_bytes(), []).filter(Result::is_ok).count(), 50_001);
    let params = String::from("1") + &";a=1".repeat(200_000) + ";a=2";
    assert_eq!(param(params.as_bytes(), 0, b"a"), Some(Bare::Integer(2)));
}
