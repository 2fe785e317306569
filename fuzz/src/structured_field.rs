//! Structured fields against the crate `sfv`.

use retry_machine::fuzzing::structured_field::{Bare, List, Member};
use sfv::{BareItem, ListEntry, Parser};

/// Checks `data` as a List.
pub fn check(data: &[u8]) {
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
