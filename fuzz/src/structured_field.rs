//! Structured fields against the crate `sfv`.

#[allow(dead_code, clippy::all, clippy::pedantic)]
#[path = "../../src/reply/structured_field.rs"]
mod subject;

use sfv::{BareItem, ListEntry, Parser};

use self::subject::{Bare, InnerList, Item, List, Member, Params, Value};

/// `data` is read as a List and as an Item.
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

    let ours = Item::parse(data).ok();
    let theirs = Parser::new(data).parse::<sfv::Item>().ok();
    assert_eq!(ours.is_some(), theirs.is_some(), "RFC 9651 §4.2.3: {:?}", data.escape_ascii().to_string());
    if let (Some(ours), Some(theirs)) = (ours, theirs) {
        same_item(&ours, &theirs);
    }
}

fn same_member(ours: &Member<'_>, theirs: &ListEntry) {
    match (&ours.value, theirs) {
        (Value::Bare(bare), ListEntry::Item(theirs)) => {
            same_bare(*bare, &theirs.bare_item);
            same_params(&ours.params, &theirs.params);
        }
        (Value::InnerList(list), ListEntry::InnerList(theirs)) => {
            same_list(list, &theirs.items);
            same_params(&ours.params, &theirs.params);
        }
        _ => panic!("{ours:?} is not {theirs:?}"),
    }
}

fn same_list(ours: &InnerList<'_>, theirs: &[sfv::Item]) {
    assert_eq!(ours.clone().count(), theirs.len());
    ours.clone().zip(theirs).for_each(|(ours, theirs)| same_item(&ours, theirs));
}

fn same_item(ours: &Item<'_>, theirs: &sfv::Item) {
    same_bare(ours.bare, &theirs.bare_item);
    same_params(&ours.params, &theirs.params);
}

fn same_params(ours: &Params<'_>, theirs: &sfv::Parameters) {
    for (key, value) in theirs {
        same_bare(ours.get(key.as_str().as_bytes()).expect("a parameter that they have"), value);
    }
    for (key, _) in ours.clone() {
        assert!(theirs.keys().any(|theirs| theirs.as_str().as_bytes() == key), "a parameter that they have not");
    }
}

fn same_bare(ours: Bare<'_>, theirs: &BareItem) {
    let same = match (ours, theirs) {
        (Bare::Integer(ours), BareItem::Integer(theirs)) => ours == i64::from(*theirs),
        (Bare::Decimal(ours), BareItem::Decimal(theirs)) => ours == i64::from(theirs.as_integer_scaled_1000()),
        (Bare::String(ours), BareItem::String(theirs)) => ours.eq_bytes(theirs.as_str().as_bytes()),
        (Bare::Token(ours), BareItem::Token(theirs)) => ours == theirs.as_str().as_bytes(),
        (Bare::ByteSequence(ours), BareItem::ByteSequence(theirs)) => {
            let digits = ours.iter().filter(|byte| **byte != b'=').count();
            digits * 6 / 8 == theirs.len()
        }
        (Bare::Boolean(ours), BareItem::Boolean(theirs)) => ours == *theirs,
        (Bare::Date(ours), BareItem::Date(theirs)) => ours == i64::from(theirs.unix_seconds()),
        (Bare::DisplayString(_), BareItem::DisplayString(_)) => true,
        _ => false,
    };
    assert!(same, "{ours:?} is not {theirs:?}");
}
