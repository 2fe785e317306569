//! The documentation's pages are held to the code: each test that they name is there, each rule has one, and each
//! invariant a planted bug. `UPDATE_SNAPSHOTS=1` writes the tests' names into the page of rules anew.

use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All test code: each file's path and text.
fn sources() -> Vec<(String, String)> {
    fn add(folder: &Path, sources: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(&path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
                sources.push((name.to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut sources = Vec::new();
    add(&root().join("proptests"), &mut sources);
    add(&root().join("src"), &mut sources);
    sources.sort();
    sources
}

fn is_a_test(name: &str, sources: &[(String, String)]) -> bool {
    sources.iter().any(|(_, text)| text.contains(&format!("fn {name}(")))
}

/// The tests of a rule: those whose names begin with its number, among others'. Where a file has many, how many.
fn tests_of(rule: &str, sources: &[(String, String)]) -> String {
    let rule = rule.to_lowercase();
    let is_number = |part: &str| part.len() > 1 && part[1..].bytes().all(|byte| byte.is_ascii_digit());
    let is_of_rule = |name: &&str| name.split('_').take_while(|part| is_number(part)).any(|part| part == rule);
    let mut files = Vec::new();
    // What lies in `reference/` tests the model.
    for (file, text) in sources.iter().filter(|(file, _)| !file.starts_with("proptests/reference/")) {
        let functions = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn ")?.split('(').next());
        let mut names: Vec<_> = functions.filter(is_of_rule).collect();
        names.sort_unstable();
        match names.len() {
            0 => {}
            1..=4 => files.push(format!("`{}` (`{file}`)", names.join("`, `"))),
            many => files.push(format!("{many} in `{file}`")),
        }
    }
    files.join("; ")
}

/// The cells of a row that begins with the number of a rule.
fn cells(line: &str) -> Option<Vec<&str>> {
    let cells: Vec<_> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
    (cells[0].len() <= 3 && cells[0].ends_with(|last: char| last.is_ascii_digit())).then_some(cells)
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

#[test]
fn the_page_of_rules_names_the_tests_of_each() {
    let sources = sources();
    let page = page("rules.md");
    let mut rules = Vec::new();
    let mut expected = String::new();
    for line in page.lines() {
        if let Some(cells) = cells(line) {
            let tests = tests_of(cells[0], &sources);
            assert!(!tests.is_empty(), "{} has no test", cells[0]);
            rules.push(cells[0].to_owned());
            expected += &format!("| {} | {} | {tests} |\n", cells[0], cells[1]);
        } else {
            expected += line;
            expected += "\n";
        }
    }
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(root().join("docs/rules.md"), &expected).unwrap();
    } else {
        assert!(page == expected, "the page is old: `UPDATE_SNAPSHOTS=1 cargo test --test pages` writes it anew");
    }
    let groups = "THDPBLKSEF".chars().zip([7, 10, 14, 3, 4, 3, 8, 6, 3, 9]);
    let all: Vec<_> = groups.flat_map(|(group, rules)| (1..=rules).map(move |n| format!("{group}{n}"))).collect();
    assert_eq!(rules, all);
}

/// That its tests catch it is seen by `.ci/planted`.
#[test]
fn every_invariant_has_a_planted_bug_that_its_tests_catch() {
    let sources = sources();
    let page = page("trust.md");
    let rows: Vec<_> = page.lines().filter_map(cells).collect();
    assert_eq!(rows.len(), 13);
    let mut named = Vec::new();
    for (row, n) in rows.iter().zip(1..) {
        let [rule, _, tests, bugs] = row[..] else { panic!("{row:?}") };
        assert_eq!(rule, format!("I{n}"));
        for test in quoted(tests) {
            assert!(root().join(test).exists() || is_a_test(test, &sources), "{rule}: {test}");
        }
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
    let sources = sources();
    let page = page("peer_bugs.md");
    for number in 1..=42 {
        let row = page.lines().find(|line| line.starts_with(&format!("| {number}. "))).unwrap();
        let (_, why) = row.trim_matches('|').rsplit_once(" | ").unwrap();
        let names: Vec<_> = quoted(why).filter(|name| name.contains('_')).collect();
        for name in &names {
            assert!(is_a_test(name, &sources), "{number}: {name}");
        }
        assert!(!names.is_empty() || why.len() > 30, "{number}");
    }
}
