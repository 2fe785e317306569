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
        same_member(last.map(|(_, ours)| ours).expect("each key"), theirs);
    }
    let is_known = |name: &[u8]| theirs.keys().any(|key| key.as_str().as_bytes() == name);
    assert!(ours.iter().all(|(name, _)| is_known(name)), "no other key");

    let mut entries = Dictionary::new(data);
    let longest = entries.by_ref().take(data.len() + 1).count();
    assert!(longest <= data.len() && entries.next().is_none(), "a dictionary ends");
}

fn check_list(data: &[u8]) {
    let ours: Result<Vec<_>, _> = List::new(data).collect();
    let theirs = Parser::new(data).parse::<sfv::List>().ok();
    assert_eq!(ours.is_ok(), theirs.is_some(), "RFC 9651 §4.2.1: {:?}", data.escape_ascii().to_string());
    for (ours, theirs) in ours.iter().flatten().zip(theirs.iter().flatten()) {
        same_member(ours, theirs);
    }
    assert_eq!(ours.map_or(0, |ours| ours.len()), theirs.map_or(0, |theirs| theirs.len()));

    let mut members = List::new(data);
    let longest = members.by_ref().take(data.len() + 1).count();
    assert!(longest <= data.len() && members.next().is_none(), "a list ends");
}

fn same_member(ours: &Member<'_>, theirs: &ListEntry) {
    let params = match theirs {
        ListEntry::Item(item) => {
            assert!(ours.value.is_some_and(|bare| is_same(bare, &item.bare_item)), "{ours:?} is not {theirs:?}");
            &item.params
        }
        ListEntry::InnerList(list) => {
            assert_eq!(ours.value, None, "{theirs:?} is an inner list");
            &list.params
        }
    };
    for (key, value) in params {
        let bare = ours.params.get(key.as_str().as_bytes());
        assert!(bare.is_some_and(|bare| is_same(bare, value)), "{key}={bare:?} is not {value:?}");
    }
    for key in [&b"q"[..], b"r", b"t", b"w"] {
        let is_there = params.keys().any(|theirs| theirs.as_str().as_bytes() == key);
        assert_eq!(ours.params.get(key).is_some(), is_there, "{ours:?} is not {theirs:?}");
    }
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
