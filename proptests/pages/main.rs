//! Holds the documentation's pages to the code: each rule has a text and a test, each rule that code cites has a text,
//! each test that a page names exists, and each invariant has a planted bug. Holds the tests to the code as well: they vary
//! each setting and give each event. `UPDATE_SNAPSHOTS=1` rewrites the index of tests and the examples of the trace format.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use retry_machine::replay::{EventRecord, Replay, Settings};

/// The groups of rules, each with its number of rules, in the order of the page.
const GROUPS: [(char, u32); 12] = [
    ('T', 7),
    ('H', 11),
    ('D', 18),
    ('P', 3),
    ('B', 5),
    ('L', 3),
    ('K', 12),
    ('S', 8),
    ('C', 14),
    ('E', 3),
    ('F', 9),
    ('I', 13),
];

/// Words in code that look like the number of a rule but mean something else, such as a part number.
const NOT_RULES: [&str; 0] = [];

/// The folders whose code may cite rules. The published crate lacks some of them.
const CODE: [&str; 5] = ["src", "proptests", "fuzz/src", "examples", "embedded/src"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the path and the text of each Rust file in these folders, in order.
fn files(folders: &[&str]) -> Vec<(String, String)> {
    fn add(folder: &Path, files: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
                files.push((name.to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut files = Vec::new();
    for folder in folders.iter().map(|folder| root().join(folder)).filter(|folder| folder.exists()) {
        add(&folder, &mut files);
    }
    files.sort();
    files
}

/// Returns all test code.
fn sources() -> Vec<(String, String)> {
    files(&["proptests", "src"])
}

/// Returns whether a file belongs to the reference model, whose own tests do not test the crate.
fn is_the_model(file: &str) -> bool {
    file.split('/').any(|folder| folder == "reference" || folder == "model")
}

fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix("fn ")?.split(['(', '<']).next())
}

fn is_a_test(name: &str, sources: &[(String, String)]) -> bool {
    sources.iter().any(|(_, text)| functions(text).any(|function| function == name))
}

/// Returns whether a word is a letter that names a group, and a number of one or two digits.
fn is_number_of_a_rule(word: &str) -> bool {
    let mut characters = word.chars();
    let is_group = characters.next().is_some_and(|letter| GROUPS.iter().any(|(group, _)| *group == letter));
    is_group && (2..=3).contains(&word.len()) && characters.all(|digit| digit.is_ascii_digit())
}

/// Returns the rules that the name of a test begins with: `t1_t5_…` holds T1 and T5.
fn rules_of(test: &str) -> impl Iterator<Item = String> {
    test.split('_').map(str::to_uppercase).take_while(|part| is_number_of_a_rule(part))
}

/// Returns the rules that a text cites.
fn cited(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| is_number_of_a_rule(word) && !NOT_RULES.contains(word))
}

/// Returns the rules that a Rust file cites, in its comments and in the names of its tests.
fn cited_by_code(text: &str) -> BTreeSet<String> {
    let comments = text.lines().filter_map(|line| line.split_once("//"));
    let in_comments = comments.flat_map(|(_, comment)| cited(comment)).map(String::from);
    in_comments.chain(functions(text).flat_map(rules_of)).collect()
}

/// Returns the tests whose names begin with this rule. The names are folded where a file has many, so that the table stays
/// short.
fn tests_of(rule: &str, sources: &[(String, String)]) -> String {
    let mut files = Vec::new();
    for (file, text) in sources.iter().filter(|(file, _)| !is_the_model(file)) {
        let mut names: Vec<_> = functions(text).filter(|test| rules_of(test).any(|of| of == rule)).collect();
        names.sort_unstable();
        match names.len() {
            0 => {}
            1..=4 => files.push(format!("`{}` (`{file}`)", names.join("`, `"))),
            many => {
                files.push(format!("<details><summary>{many} in `{file}`</summary>`{}`</details>", names.join("`, `")))
            }
        }
    }
    files.join("; ")
}

/// One rule of the page of rules.
struct Rule {
    number: String,
    title: String,
    text: String,
}

impl Rule {
    /// Returns the anchor that rustdoc gives the heading.
    fn anchor(&self) -> String {
        let heading = format!("{} {}", self.number, self.title).to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    }
}

/// Returns the rules that have a text: a heading such as `### L1: Never sooner`, and the lines up to the next heading.
fn rules() -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut is_in_a_rule = false;
    for line in page("rules.md").lines() {
        if line.starts_with('#') {
            is_in_a_rule = false;
            if let Some((number, title)) = line.strip_prefix("### ").and_then(|heading| heading.split_once(": ")) {
                is_in_a_rule = true;
                rules.push(Rule { number: number.to_owned(), title: title.to_owned(), text: String::new() });
            }
        } else if is_in_a_rule {
            let rule = rules.last_mut().unwrap();
            rule.text += line;
            rule.text += "\n";
        }
    }
    rules
}

/// Returns the cells of a row that begins with the number of a rule.
fn cells(line: &str) -> Option<Vec<&str>> {
    let cells: Vec<_> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
    is_number_of_a_rule(cells[0]).then_some(cells)
}

/// Returns the words between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

#[test]
fn the_page_of_rules_is_complete_and_in_order() {
    let rules = rules();
    let numbers: Vec<_> = rules.iter().map(|rule| rule.number.clone()).collect();
    let all = GROUPS.iter().flat_map(|(group, rules)| (1..=*rules).map(move |n| format!("{group}{n}")));
    assert_eq!(numbers, all.collect::<Vec<_>>());
    for Rule { number, text, .. } in &rules {
        let link = format!("[Tests](rule_tests#{})", number.to_lowercase());
        let (text, after) = text.split_once(&link).unwrap_or_else(|| panic!("{number} has no {link}"));
        assert!(after.trim().is_empty(), "{number}: the link is the end of the rule");
        assert!(text.trim().len() > 40, "{number} has no text");
    }
}

#[test]
fn the_index_of_tests_names_the_tests_of_each_rule() {
    let sources = sources();
    let mut expected = String::from(
        "# Index of tests\n\nThe tests that hold each rule of the page [`rules`](rules), found by their names: a test's name begins with the \
         numbers of its\nrules. `cargo test --all-features l1_` runs those of L1. Two tests hold all rules at once: the target `reference` \
         compares every\naction with an independent model of the rules, and the target `exhaustive` tries every order of events and checks \
         the\ninvariants on every edge. Written by `UPDATE_SNAPSHOTS=1 cargo test --test pages`.\n\n| rule | tests |\n|---|---|\n",
    );
    for rule in rules() {
        let tests = tests_of(&rule.number, &sources);
        assert!(!tests.is_empty(), "{} has no test", rule.number);
        let id = rule.number.to_lowercase();
        writeln!(expected, "| <a id=\"{id}\"></a>[{}](rules#{}) | {tests} |", rule.number, rule.anchor()).unwrap();
    }
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(root().join("docs/rule_tests.md"), &expected).unwrap();
    }
    assert!(
        page("rule_tests.md") == expected,
        "the index is out of date: `UPDATE_SNAPSHOTS=1 cargo test --test pages` rewrites it"
    );
}

#[test]
fn every_rule_that_code_or_a_page_cites_has_a_text() {
    let rules: BTreeSet<_> = rules().into_iter().map(|rule| rule.number).collect();
    let mut citations = 0;
    for (file, text) in files(&CODE) {
        let cited = cited_by_code(&text);
        citations += cited.len();
        let unknown: Vec<_> = cited.difference(&rules).collect();
        assert!(unknown.is_empty(), "{file} cites {unknown:?}: give them a text in docs/rules.md, or see NOT_RULES");
    }
    assert!(citations > 500, "only {citations} citations were found");
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path).unwrap();
            let unknown: Vec<_> = cited(&text).filter(|word| !rules.contains(*word)).collect();
            assert!(unknown.is_empty(), "{} cites {unknown:?}", path.display());
        }
    }
}

#[test]
fn citations_are_found_in_comments_and_in_the_names_of_tests() {
    let code = "// L1: never (D3–D4), not H2O or ISO_T2, H100 or h5\nlet t3 = \"K3\"; // S2\nfn b1_e2_f_f9() {}";
    let found: Vec<_> = cited_by_code(code).into_iter().collect();
    assert_eq!(found, ["B1", "D3", "D4", "E2", "L1", "S2"]);
}

/// Returns the action lines of a trace.
fn replayed(trace: &str, facts: bool) -> Vec<String> {
    let settings = trace.lines().find(|line| !EventRecord::is_event(line)).unwrap_or("{}");
    let mut replay = Replay::new(&Settings::parse(settings).unwrap()).unwrap();
    let events = trace.lines().filter(|line| EventRecord::is_event(line)).map(|line| EventRecord::parse(line).unwrap());
    let actions = events.filter_map(|event| replay.step(&event).unwrap());
    actions.map(|action| if facts { action.to_json_with_facts() } else { action.to_json() }.to_string()).collect()
}

/// Compares each block of action lines on the page of the trace format with the last actions of the trace above it.
#[test]
fn the_examples_of_the_trace_format_are_true() {
    let page = page("trace_format.md");
    let mut parts: Vec<_> = page.split("```").map(String::from).collect();
    let (mut trace, mut checked) = (String::new(), 0);
    for block in parts.iter_mut().skip(1).step_by(2) {
        let Some(lines) = block.strip_prefix("json\n") else { continue };
        if lines.contains("\"event\"") {
            lines.clone_into(&mut trace);
        } else {
            let actions = replayed(&trace, lines.contains("\"facts\""));
            let shown = actions[actions.len() - lines.lines().count()..].join("\n");
            *block = format!("json\n{shown}\n");
            checked += 1;
        }
    }
    let expected = parts.join("```");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(root().join("docs/trace_format.md"), &expected).unwrap();
    } else {
        assert!(
            page == expected,
            "the examples are out of date: `UPDATE_SNAPSHOTS=1 cargo test --test pages` rewrites them"
        );
    }
    assert_eq!(checked, 5);
}

/// Compares the table of invariants with the planted bugs. `.ci/planted` checks that the tests catch each bug.
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
    // The others break a rule that is not an invariant.
    let rules: BTreeSet<_> = rules().into_iter().map(|rule| rule.number).collect();
    let mut files: Vec<_> = fs::read_dir(root().join("proptests/planted"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    for bug in files.iter().filter(|bug| !bug.starts_with('i')) {
        let patch = fs::read_to_string(root().join("proptests/planted").join(bug)).unwrap();
        let (rule, _) = patch.split_once(": ").unwrap();
        assert!(rules.contains(rule) && bug.starts_with(&format!("{}_", rule.to_lowercase())), "{bug}");
        let caught: Vec<_> = patch.lines().filter_map(|line| line.strip_prefix("Caught by: --test ")).collect();
        assert!(!caught.is_empty(), "{bug}");
        for test in caught {
            let (_, name) = test.split_once(' ').unwrap();
            assert!(is_a_test(name, &sources), "{bug}: {name}");
        }
    }
    files.retain(|bug| bug.starts_with('i'));
    files.sort();
    named.sort();
    assert_eq!(files, named);
}

#[test]
fn each_of_55_bugs_elsewhere_has_a_test_or_a_reason() {
    let sources = sources();
    let page = page("peer_bugs.md");
    assert_eq!(page.lines().filter(|line| line.starts_with("| ") && line.contains(". ")).count(), 55);
    for number in 1..=55 {
        let row = page.lines().find(|line| line.starts_with(&format!("| {number}. "))).unwrap();
        let (_, why) = row.trim_matches('|').rsplit_once(" | ").unwrap();
        let names: Vec<_> = quoted(why).filter(|name| name.contains('_')).collect();
        for name in &names {
            assert!(is_a_test(name, &sources), "{number}: {name}");
        }
        assert!(!names.is_empty() || why.len() > 30, "{number}");
    }
}

/// Holds the page to the files of the clients. The documentation of the modules includes them; the page repeats them for
/// those who read it elsewhere.
#[test]
fn the_page_of_drivers_shows_the_clients_of_the_examples() {
    for example in ["examples/ureq.rs", "examples/reqwest.rs"] {
        let client = fs::read_to_string(root().join(example)).unwrap();
        let block = format!("```rust,no_run\n{client}```\n");
        assert!(page("drivers.md").contains(&block), "copy {example} into docs/drivers.md");
    }
}

/// Each file that must name each setter of `PolicyBuilder`. The next test holds the draws to the fields of the last one.
const VARIES_SETTINGS: [&str; 3] =
    ["src/replay/settings.rs", "proptests/golden/main.rs", "proptests/common/settings.rs"];

#[test]
fn the_tests_vary_every_setting() {
    let read = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    let policy = read("src/policy/builder.rs");
    let setters: Vec<_> = policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub const fn ")?.split_once("self, "))
        .map(|(start, _)| start.trim_end_matches("mut ").trim_end_matches('('))
        .collect();
    assert!(setters.len() >= 23, "{setters:?}");
    for file in VARIES_SETTINGS {
        let text = read(file);
        for setter in &setters {
            let is_named = [".", " "].iter().any(|before| text.contains(&format!("{before}{setter}(")));
            // A list of statuses is a short form of what `on` says.
            let has_longer_form = *setter == "retry_statuses" && text.contains(".on(");
            assert!(is_named || has_longer_form, "{file} does not vary {setter}");
        }
    }
}

/// The draws of settings: the strategies of the properties, and the fuzzed bytes.
const DRAWS: [&str; 2] = ["proptests/common/strategies.rs", "fuzz/src/events/settings.rs"];

/// Checks that no field is left out. The fuzzed draw begins with a preset and changes some fields, so it compiles without a
/// new one.
#[test]
fn both_draws_of_settings_name_every_field() {
    let read = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    let text = read("proptests/common/settings.rs");
    let (_, rest) = text.split_once("pub struct Settings {").unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    let fields: Vec<_> = body
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    assert!(fields.len() >= 18, "{fields:?}");
    for file in DRAWS {
        let text = read(file);
        let words: BTreeSet<_> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for field in &fields {
            assert!(words.contains(field), "{file} does not draw {field}");
        }
    }
}

#[test]
fn the_page_and_the_model_know_every_key_of_the_settings() {
    let read = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    let (settings, model) = (read("src/replay/settings.rs"), read("proptests/reference/model/settings.rs"));
    let generator = read("proptests/reference/generator.rs");
    let page = page("trace_format.md");
    let takes = settings.split("fields.take").skip(1).filter_map(|rest| rest.split_once("(\"")?.1.split('"').next());
    let overrides =
        settings.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" => ")).map(|(key, _)| key);
    let keys: BTreeSet<_> = takes.chain(overrides).collect();
    assert!(keys.len() >= 22, "{keys:?}");
    for key in keys {
        assert!(page.contains(&format!("| `{key}` |")), "docs/trace_format.md: {key}");
        assert!(model.contains(&format!("\"{key}\" => ")), "the model: {key}");
        // The generated traces have the default spread; `proptests/reference/bounds.rs` has the bounds.
        assert!(key == "spread_ms" || generator.contains(&format!("\"{key}\"")), "the generator: {key}");
    }
}

/// Each file that must name each event.
const GIVES_EVENTS: [&str; 6] = [
    "src/replay.rs",
    "proptests/common/support.rs",
    "proptests/common/history.rs",
    "proptests/exhaustive/main.rs",
    "fuzz/src/events/script.rs",
    "fuzz/src/snapshot/session.rs",
];

#[test]
fn the_tests_give_every_event() {
    let read = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    let text = read("src/event.rs");
    let (_, rest) = text.split_once("pub enum Event {").unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    let variants: Vec<_> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
        .map(|line| line.split(|c: char| !c.is_alphanumeric()).next().unwrap())
        .collect();
    assert!(variants.len() >= 5, "{variants:?}");
    for file in GIVES_EVENTS {
        let text = read(file);
        for event in &variants {
            // The target `events` gives the inputs that the history turns into events.
            let is_named = ["Event", "Input"]
                .iter()
                .any(|kind| [",", " ", "(", ")"].iter().any(|after| text.contains(&format!("{kind}::{event}{after}"))));
            assert!(is_named, "{file}: Event::{event}");
        }
    }
}

/// The calls that tell a login and a gate something directly.
const TOLD_DIRECTLY: [&str; 5] = [".report_refresh(", ".token_replaced(", ".token_removed(", ".open(", ".close("];

#[test]
fn the_tests_tell_logins_and_gates_everything() {
    let files = GIVES_EVENTS.iter().filter(|file| !["src/replay.rs", "fuzz/src/events/script.rs"].contains(file));
    for file in files {
        let text = fs::read_to_string(root().join(file)).unwrap();
        for call in TOLD_DIRECTLY {
            assert!(text.contains(call), "{file}: {call}");
        }
    }
}
