//! The documentation's pages are held to the code: each test that the page of rules names is there, and each rule has one.

use std::fs;
use std::path::Path;

/// All test code, as one text.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path).unwrap();
        }
    }
    text
}

#[test]
fn every_rule_has_a_test_and_every_test_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = sources(&root.join("proptests")) + &sources(&root.join("src"));
    let page = fs::read_to_string(root.join("docs/rules.md")).unwrap();
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| rule")).collect();
    for row in &rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        let [rule, _, tests] = cells[..] else { panic!("{row}") };
        let rule = rule.trim().to_lowercase();
        let quoted: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!quoted.is_empty(), "{rule} has no test");
        for name in quoted {
            if name.ends_with(".rs") {
                assert!(root.join(name).exists(), "{rule}: {name}");
            } else {
                assert!(code.contains(&format!("fn {name}(")), "{rule}: {name}");
            }
        }
    }
    let counts = [
        ("t", 7),
        ("h", 10),
        ("d", 14),
        ("p", 3),
        ("b", 4),
        ("l", 3),
        ("k", 8),
        ("s", 6),
        ("e", 3),
        ("f", 9),
        ("i", 13),
    ];
    assert_eq!(rows.len(), counts.iter().map(|(_, count)| count).sum::<usize>());
    for (group, count) in counts {
        for n in 1..=count {
            let row = format!("| {}{n} | ", group.to_uppercase());
            assert!(rows.iter().any(|line| line.starts_with(&row)), "{group}{n}");
        }
    }
}

#[test]
fn each_of_42_bugs_elsewhere_has_a_test_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = sources(&root.join("proptests")) + &sources(&root.join("src"));
    let page = fs::read_to_string(root.join("docs/peer_bugs.md")).unwrap();
    for number in 1..=42 {
        let row = page.lines().find(|line| line.starts_with(&format!("| {number}. "))).unwrap();
        let (_, why) = row.trim_matches('|').rsplit_once(" | ").unwrap();
        let names: Vec<_> = why.split('`').skip(1).step_by(2).filter(|name| name.contains('_')).collect();
        for name in &names {
            assert!(code.contains(&format!("fn {name}(")), "{number}: {name}");
        }
        assert!(!names.is_empty() || why.len() > 30, "{number}");
    }
}
