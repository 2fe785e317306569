// Checks the prose of this repository against the patterns in `.ci/prose.yml`: pages, comments, names of functions, and the
// messages in `src`. Prints `file:line: "found" → "better"` for each finding. Takes the files as its arguments; with
// `--self-test` it proves instead that it finds every pattern in every kind of prose.
'use strict';
const fs = require('fs');
const path = require('path');
const prh = require(path.resolve('target/prose/node_modules/prh'));

const RULES = path.join(__dirname, 'prose.yml');

// prh tries the examples of every rule as it reads it.
function load() {
    try {
        return prh.fromYAMLFilePath(RULES);
    } catch (error) {
        console.log(`${RULES}: ${error.message}`);
        return process.exit(1);
    }
}
const engine = load();

// Everything below cuts a file into chunks of prose that belong together: { line, text }, one line of text for each line
// of the file, so that a pattern matches across a line break and a finding still names its line.

const lineOf = (text, index) => text.slice(0, index).split('\n').length;

// Joins lines of prose that follow each other: [line, text, kind] each.
function grouped(lines) {
    const chunks = [];
    let last = null;
    for (const [line, text, kind] of lines) {
        if (last && last.kind === kind && last.line + last.text.length === line) last.text.push(text);
        else chunks.push((last = { line, kind, text: [text] }));
    }
    return chunks;
}

// Leaves out the code between ``` and the targets of links.
function withoutCode(lines) {
    let fenced = false;
    return lines.map((line) => {
        const fence = /^\s*(```|~~~)/.test(line);
        if (fence) fenced = !fenced;
        return fence || fenced ? '' : line.replace(/\]\([^)]*\)/g, ']').replace(/https?:\/\/[^\s)>]+/g, '');
    });
}

function markdown(source) {
    const lines = withoutCode(source.split('\n')).map((text, index) => [index + 1, text, 'page']);
    return grouped(lines.filter(([, text]) => text.trim() !== '')).map(({ line, text }) => ({ line, text: text.join('\n') }));
}

// Comments of shell scripts and of TOML.
function hashes(source) {
    const lines = source.split('\n').map((text, index) => [index + 1, (/(?:^|\s)#\s+(.*)$/.exec(text) || [])[1], 'comment']);
    return grouped(lines.filter(([, text]) => text)).map(({ line, text }) => ({ line, text: text.join('\n') }));
}

// The words above a patch.
function patch(source) {
    return markdown(source.slice(0, source.search(/^(diff |--- )/m)));
}

const TOKEN = new RegExp(
    [
        /(?<comment>\/\/[^\n]*)/,
        /(?<raw>\bb?r(?<fence>#*)"[\s\S]*?"\k<fence>)/,
        /(?<string>"(?:\\[\s\S]|[^"\\])*")/,
        /'(?:\\(?:u\{[^}]*\}|.[^']{0,3})|[^'\\\n])'/,
        /\bfn\s+(?<name>[a-z]\w*)/,
    ].map((part) => part.source).join('|'),
    'g',
);
const FUNCTION = /^\s*(?:#!?\[[^\n]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?(?:const\s+|async\s+|unsafe\s+)*fn\b/;

// The marker ¶ stands for the beginning of a documentation comment, and ¶fn if it is a function's.
function rust(source, messages) {
    const chunks = [];
    const comments = [];
    const tests = source.search(/^mod tests\b/m);
    for (const { 0: token, index, groups } of source.matchAll(TOKEN)) {
        const line = lineOf(source, index);
        if (groups.comment) {
            const [, kind, text] = /^(\/\/[/!]?)\s?(.*)$/.exec(token);
            comments.push([line, text, kind]);
        } else if (groups.name && /_.*_/.test(groups.name)) {
            chunks.push({ line, text: groups.name.replace(/_/g, ' ') + '.' });
        } else if (messages && groups.string && /[a-z]\s/.test(token) && (tests < 0 || index < tests)) {
            chunks.push({ line, text: token.slice(1, -1).replace(/\\\n/g, '\n') });
        }
    }
    const lines = source.split('\n');
    for (const { line, kind, text } of grouped(comments)) {
        const prose = withoutCode(text);
        if (kind !== '//') {
            const after = lines.slice(line - 1 + text.length, line + 20 + text.length).join('\n');
            prose[0] = (kind === '///' && FUNCTION.test(after) ? '¶fn ' : '¶ ') + prose[0];
        }
        // A paragraph is a chunk.
        chunks.push(...markdown(prose.join('\n')).map((part) => ({ line: line - 1 + part.line, text: part.text })));
    }
    return chunks;
}

function prose(file, source) {
    if (file.endsWith('.rs')) return rust(source, file.startsWith('src/'));
    if (file.endsWith('.md')) return markdown(source);
    if (file.endsWith('.patch')) return patch(source);
    return hashes(source);
}

const shown = (text) => text.replace(/¶(fn)?/, '').replace(/\s+/g, ' ').trim();

// The findings in a file: { line, found, better } each.
function findings(file, source) {
    return prose(file, source).flatMap(({ line, text }) =>
        engine.makeChangeSet(file, text).diffs.map((diff) => ({
            line: line - 1 + lineOf(text, diff.index),
            found: shown(text.slice(diff.index, diff.tailIndex)),
            better: shown(diff.newText),
        })),
    ).sort((a, b) => a.line - b.line);
}

// Every rule must have an example that it changes (prh itself sees that it becomes what the example says), and every kind
// of prose must be found on its line, and nothing else.
function selfTest() {
    const failures = [];
    const rules = require(path.resolve('target/prose/node_modules/js-yaml')).load(fs.readFileSync(RULES, 'utf8')).rules;
    for (const { pattern, expected, specs = [] } of rules) {
        if (typeof pattern !== 'string' || !specs.some(({ from, to }) => from !== to)) {
            failures.push(`${pattern || expected}: no example that it changes`);
        }
    }
    const planted = [
        ['a.rs', '/// Waits.\n///\n/// It waits for\n/// ever.\nfn f() {}\n', [3]],
        ['a.rs', '//! It waits for ever.\n', [1]],
        ['a.rs', 'let c = \'"\'; // It waits for ever.\nlet s = "// for ever";\n', [1]],
        ['a.rs', '/// Waits.\n/// ```\n/// // for ever\n/// ```\n/// For ever.\nfn f() {}\n', [5]],
        ['a.rs', '#[test]\nfn it_waits_for_ever() {}\n', [2]],
        ['a.rs', '/// How many were sent.\nn: u32,\n', [1]],
        ['a.rs', '/// The number sent.\n#[must_use]\npub const fn sent() {}\n/// The number sent.\nn: u32,\n', [1]],
        ['src/a.rs', '#[error("it waits \\\n    for ever")]\n', [2]],
        ['src/a.rs', 'mod tests {\n    const S: &str = "it waits for ever";\n}\n', []],
        ['tests/a.rs', 'const S: &str = "it waits for ever";\n', []],
        ['a.md', '# A\n\n```\nfor ever\n```\n\nIt waits for\never, [says](https://for%20ever.example/for ever).\n', [7]],
        ['a.toml', '[a] # It waits for ever.\nfor = "ever"\n', [1]],
        ['run', '#!/bin/sh\n# It waits for\n# ever.\n', [2]],
        ['a.patch', 'It waits for ever.\n--- a\n+++ b\n-for ever\n', [1]],
    ];
    for (const [file, source, expected] of planted) {
        const lines = findings(file, source).map(({ line }) => line);
        if (String(lines) !== String(expected)) failures.push(`${file}: findings on [${lines}], not [${expected}]: ${source}`);
    }
    failures.forEach((failure) => console.log(failure));
    console.log(`${rules.length} patterns and ${planted.length} kinds of prose tried, ${failures.length} not as expected`);
    return failures.length;
}

function check(files) {
    let count = 0;
    for (const file of files.filter((name) => fs.existsSync(name))) {
        for (const { line, found, better } of findings(file, fs.readFileSync(file, 'utf8'))) {
            count += 1;
            console.log(`${file}:${line}: "${found}" → "${better}"`);
        }
    }
    console.log(`${files.length} files, ${count} findings`);
    return files.length === 0 ? 1 : count;
}

const args = process.argv.slice(2);
process.exitCode = (args[0] === '--self-test' ? selfTest() : check(args)) === 0 ? 0 : 1;
