//! Structured fields against the crate `sfv`.

use retry_machine::fuzzing::structured_field::{Bare, Dictionary, List, Member};
use sfv::{BareItem, ListEntry, Parser};

/// Checks `data` as a List and as a Dictionary.
pub fn check(data: &[u8]) {
    check_list(data);
    check_dictionary(data);
}

fn check_dictionary(data: &[u8]) {
    let ours: Result<Vec<_>, _> = Dictionary::new(data).collect();
    let theirs = Parser::new(data).parse::<sfv::Dictionary>().ok();
    assert_eq!(ours.is_ok(), theirs.is_some(), "RFC 9651 §4.2.2: {:?}", data.escape_ascii().to_string());
    let (ours, theirs) = (ours.unwrap_or_default(), theirs.unwrap_or_default());
    for (key, theirs) in &theirs {
        let last = ours.iter().rev().find(|(name, _)| *name == key.as_str().as_bytes());
        same_value(last.map(|(_, ours)| ours.value).expect("each key"), theirs);
    }
    let is_known = |name: &[u8]| theirs.keys().any(|key| key.as_str().as_bytes() == name);
    assert!(ours.iter().all(|(name, _)| is_known(name)), "no other key");

    let mut entries = Dictionary::new(data);
    let longest = entries.by_ref().take(data.len() + 1).count();
    assert!(longest <= data.len() && entries.next().is_none(), "a dictionary ends");
}

fn check_list(data: &[u8]) {
    let ours: Result<Vec<_>, _> = List::new(data, KEYS).collect();
    let theirs = Parser::new(data).parse::<sfv::List>().ok();
    assert_eq!(ours.is_ok(), theirs.is_some(), "RFC 9651 §4.2.1: {:?}", data.escape_ascii().to_string());
    for (ours, theirs) in ours.iter().flatten().zip(theirs.iter().flatten()) {
        same_member(ours, theirs);
    }
    assert_eq!(ours.map_or(0, |ours| ours.len()), theirs.map_or(0, |theirs| theirs.len()));

    let mut members = List::new(data, KEYS);
    let longest = members.by_ref().take(data.len() + 1).count();
    assert!(longest <= data.len() && members.next().is_none(), "a list ends");
}

/// The parameters that are compared: those of rate limits, and short ones.
const KEYS: [&[u8]; 7] = [b"q", b"w", b"r", b"t", b"a", b"b", b"*"];

fn same_member(ours: &Member<7>, theirs: &ListEntry) {
    same_value(ours.value, theirs);
    let (ListEntry::Item(sfv::Item { params, .. }) | ListEntry::InnerList(sfv::InnerList { params, .. })) = theirs;
    for (key, ours) in KEYS.iter().zip(ours.params) {
        let theirs = params.iter().find(|(name, _)| name.as_str().as_bytes() == *key).map(|(_, value)| value);
        let are_same = match (ours, theirs) {
            (Some(ours), Some(theirs)) => is_same(ours, theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        };
        assert!(are_same, "{key:?}: {ours:?} is not {theirs:?}");
    }
}

fn same_value(ours: Option<Bare>, theirs: &ListEntry) {
    let are_same = match theirs {
        ListEntry::Item(item) => ours.is_some_and(|bare| is_same(bare, &item.bare_item)),
        ListEntry::InnerList(_) => ours.is_none(),
    };
    assert!(are_same, "{ours:?} is not {theirs:?}");
}

fn is_same(ours: Bare, theirs: &BareItem) -> bool {
    match theirs {
        BareItem::Integer(theirs) => ours == Bare::Integer((*theirs).into()),
        BareItem::Decimal(_) => ours == Bare::Decimal,
        BareItem::String(_) => ours == Bare::String,
        BareItem::Token(_) => ours == Bare::Token,
        BareItem::ByteSequence(_) => ours == Bare::ByteSequence,
        BareItem::Boolean(_) => ours == Bare::Boolean,
        BareItem::Date(_) => ours == Bare::Date,
        BareItem::DisplayString(_) => ours == Bare::DisplayString,
    }
}
