//! The documentation's pages are held to the code: each test that the page of rules names is there, and each rule has one.

use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

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

/// The rows of a page's tables that begin with the number of a rule: their cells.
fn rows(page: &str) -> Vec<Vec<String>> {
    let page = fs::read_to_string(root().join(page)).unwrap();
    let cells = |row: &str| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| rule")).map(cells);
    rows.filter(|cells: &Vec<String>| cells[0].len() <= 3).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_rule_has_a_test_and_every_test_named_exists() {
    let code = sources(&root().join("proptests")) + &sources(&root().join("src"));
    let rows: Vec<_> = rows("docs/rules.md").into_iter().chain(rows("docs/trust.md")).collect();
    for row in &rows {
        let (rule, tests) = (&row[0], &row[2]);
        assert!(quoted(tests).count() > 0, "{rule} has no test");
        for name in quoted(tests) {
            if name.ends_with(".rs") {
                assert!(root().join(name).exists(), "{rule}: {name}");
            } else {
                assert!(code.contains(&format!("fn {name}(")), "{rule}: {name}");
            }
        }
    }
    let counts = [7, 10, 14, 3, 4, 3, 8, 6, 3, 9, 13];
    let expected: Vec<_> = "THDPBLKSEFI"
        .chars()
        .zip(counts)
        .flat_map(|(group, count)| (1..=count).map(move |n| format!("{group}{n}")))
        .collect();
    assert_eq!(rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>(), expected);
}

/// That its tests catch it is seen by `.ci/planted`.
#[test]
fn every_invariant_has_a_planted_bug_that_its_tests_catch() {
    let rows = rows("docs/trust.md");
    let mut named = Vec::new();
    for row in &rows {
        let [rule, _, tests, bugs] = &row[..] else { panic!("{row:?}") };
        assert!(quoted(bugs).count() > 0, "{rule} has no planted bug");
        for bug in quoted(bugs) {
            let patch = fs::read_to_string(root().join(format!("proptests/planted/{bug}.patch"))).unwrap();
            assert!(patch.starts_with(&format!("{rule}: ")), "{bug}");
            let caught: Vec<_> = patch.lines().filter_map(|line| line.strip_prefix("Caught by: --test ")).collect();
            assert!(!caught.is_empty(), "{bug}");
            for test in caught {
                let (_, name) = test.split_once(' ').unwrap();
                assert!(quoted(tests).any(|test| test == name), "{bug}: {name}");
            }
            named.push(format!("{bug}.patch"));
        }
    }
    let mut files: Vec<_> = fs::read_dir(root().join("proptests/planted"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    named.sort();
    assert_eq!(files, named);
}

#[test]
fn each_of_42_bugs_elsewhere_has_a_test_or_a_reason() {
    let code = sources(&root().join("proptests")) + &sources(&root().join("src"));
    let page = fs::read_to_string(root().join("docs/peer_bugs.md")).unwrap();
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
