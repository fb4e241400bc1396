//! Holds the sources to their floors and habits, by reading them. What it enforces is explained in
//! snapfold-architecture(7); each check names the file and line that break it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder of `src/` and its floor: it may name folders of lower floors, and itself.
const FLOORS: [(&str, u32); 10] = [
    ("base", 1),
    ("codec", 2),
    ("store", 2),
    ("repo", 3),
    ("tree", 4),
    ("ops", 5),
    ("view", 5),
    ("mount", 6),
    ("host", 6),
    ("cli", 7),
];

/// A library and the places that may name it.
const KEEPERS: [(&str, &[&str]); 10] = [
    ("fuser", &["src/mount/"]),
    ("rocksdb", &["src/repo/index/", "src/repo/index.rs", "src/view/stage/"]),
    ("opendal", &["src/store/s3/"]),
    ("reqwest", &["src/store/s3/", "src/host/http.rs"]),
    ("tokio", &["src/store/s3/", "src/host/http.rs", "src/host/serve/"]),
    ("axum", &["src/host/serve/"]),
    ("hyper", &["src/host/serve/"]),
    ("maud", &["src/host/serve/page/"]),
    ("tar", &["src/ops/archive.rs"]),
    ("reed_solomon_simd", &["src/codec/shards.rs"]),
];

/// What only the command line may do, since the library never prints and never exits.
const PRINTING: [&str; 6] = ["println!", "eprintln!", "print!", "eprint!", "process::exit", "process::abort"];

/// What is never left behind.
const LEFTOVERS: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];

const MAX_LINES: usize = 600;
const MAX_COLUMNS: usize = 120;

struct Source {
    /// Relative to the project, with slashes.
    path: String,
    text: String,
    /// The same lines without comments and the insides of literals.
    code: String,
    /// Per line of `code`: whether it is in a `#[cfg(test)]` module.
    test: Vec<bool>,
}

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

fn files(dir: &str, ends: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(&project().join(dir), &mut found);
    found.sort();
    let name = |path: &Path| path.strip_prefix(project()).expect("below the project").to_string_lossy().into_owned();
    found.retain(|path| path.to_string_lossy().ends_with(ends));
    found.iter().map(|path| (name(path), fs::read_to_string(path).expect("UTF-8"))).collect()
}

fn sources(dir: &str) -> Vec<Source> {
    let source = |(path, text): (String, String)| {
        let code = bare(&text);
        let test = test_lines(&code);
        Source { path, text, code, test }
    };
    let mut sources: Vec<Source> = files(dir, ".rs").into_iter().map(source).collect();
    let modules: Vec<String> = sources.iter().flat_map(test_modules).collect();
    let of_tests = |path: &str| {
        let path = path.trim_end_matches(".rs");
        modules
            .iter()
            .any(|module| path.strip_prefix(&**module).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    for source in &mut sources {
        if of_tests(&source.path) {
            source.test.fill(true);
        }
    }
    sources
}

/// The modules that a source declares for tests alone, by their paths without `.rs`.
fn test_modules(source: &Source) -> Vec<String> {
    let file = source.path.trim_end_matches(".rs");
    let folder = ["/mod", "/lib", "/main"].iter().find_map(|name| file.strip_suffix(name)).unwrap_or(file);
    let declared = |line: &str| {
        let line =
            line.trim().trim_start_matches("pub ").trim_start_matches("pub(super) ").trim_start_matches("pub(crate) ");
        Some(format!("{folder}/{}", line.strip_prefix("mod ")?.strip_suffix(';')?))
    };
    source.code.lines().zip(&source.test).filter(|(_, test)| **test).filter_map(|(line, _)| declared(line)).collect()
}

/// The code alone: comments and the insides of string and character literals become spaces.
fn bare(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
    while at < chars.len() {
        let rest = &chars[at..];
        let end = match rest {
            ['/', '/', ..] => rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment(rest),
            ['r', '"', ..] | ['r', '#', '"' | '#', ..] if !ends_in_word(&out) => raw_string(rest),
            ['"', ..] => quoted(rest, '"'),
            // A character, not a lifetime.
            ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted(rest, '\''),
            _ => 0,
        };
        if end == 0 {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(rest[..end].iter().map(|&c| blank(c)));
            at += end;
        }
    }
    out
}

fn ends_in_word(text: &str) -> bool {
    // `br"..."` is a raw string too.
    text.chars().next_back().is_some_and(|c| is_word(c) && c != 'b')
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] if depth == 1 => return at + 2,
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn raw_string(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&c| c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let mut end = vec!['"'];
    end.extend(std::iter::repeat_n('#', hashes));
    let body = 2 + hashes;
    let found = rest[body..].windows(end.len()).position(|window| window == end);
    found.map_or(rest.len(), |found| body + found + end.len())
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Which lines of bare code stand in a module under `#[cfg(test)]`.
fn test_lines(code: &str) -> Vec<bool> {
    let mut lines = Vec::new();
    let (mut depth, mut armed, mut until) = (0_i64, false, None);
    for line in code.lines() {
        let marked = line.trim_start().starts_with("#[cfg(test)]");
        armed |= marked && until.is_none();
        let mut inside = until.is_some() || armed;
        for c in line.chars() {
            match c {
                '{' => {
                    if armed {
                        (until, armed) = (Some(depth), false);
                    }
                    depth += 1;
                }
                '}' => {
                    depth -= 1;
                    if until == Some(depth) {
                        until = None;
                    }
                }
                ';' if armed => armed = false,
                _ => {}
            }
        }
        inside |= until.is_some();
        lines.push(inside);
    }
    lines
}

/// The words of a text and where each begins.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(is_word)?;
        let end = text[start..].find(|c| !is_word(c)).map_or(text.len(), |len| start + len);
        at = end;
        Some((start, &text[start..end]))
    })
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The first words of what follows `crate::`, whether one path or a group of them.
fn roots(after: &str) -> Vec<String> {
    let after = after.trim_start();
    let Some(group) = after.strip_prefix('{') else {
        return words(after).next().filter(|(at, _)| *at == 0).map(|(_, word)| word.to_owned()).into_iter().collect();
    };
    let (mut depth, mut fresh, mut found) = (0, true, Vec::new());
    let mut word = String::new();
    for c in group.chars() {
        match c {
            _ if is_word(c) && depth == 0 && fresh => word.push(c),
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(std::mem::take(&mut word));
                fresh = true;
                continue;
            }
            _ => {}
        }
        fresh &= is_word(c) || (c.is_whitespace() && word.is_empty());
    }
    found.push(word);
    found.retain(|word| !word.is_empty());
    found
}

fn floor(folder: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == folder).map(|(_, floor)| *floor)
}

/// The folder of `src/` that a file belongs to: `repo` of `src/repo/mod.rs`.
fn folder(path: &str) -> Option<&str> {
    let (folder, _) = path.strip_prefix("src/")?.split_once('/')?;
    Some(folder)
}

fn imports(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in source.code.match_indices("crate::") {
        if source.code[..at].ends_with(is_word) {
            continue;
        }
        found.extend(roots(&source.code[at + 7..]).into_iter().map(|root| (line_of(&source.code, at), root)));
    }
    // As many `super::` as there are modules above name the crate's root as well. Inside an inline module (tests) one
    // more is needed, which this check then misses by one; none of the sources goes that far.
    let above = source.path.matches('/').count() - usize::from(source.path.ends_with("/mod.rs"));
    let climb = "super::".repeat(above);
    for (at, _) in source.code.match_indices(&climb).filter(|_| above > 0) {
        let before = &source.code[..at];
        if !before.ends_with("super::")
            && !before.ends_with(is_word)
            && !source.code[at + climb.len()..].starts_with("super")
        {
            let names = roots(&source.code[at + climb.len()..]);
            found.extend(
                names.into_iter().filter(|name| floor(name).is_some()).map(|name| (line_of(&source.code, at), name)),
            );
        }
    }
    found
}

#[track_caller]
fn none(found: Vec<String>, rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn a_floor_names_only_lower_floors() {
    let mut found = Vec::new();
    for source in sources("src") {
        let Some(own) = folder(&source.path) else { continue };
        let Some(level) = floor(own) else {
            found.push(format!("{}: folder {own} has no floor; give it one in tests/tidy.rs", source.path));
            continue;
        };
        for (line, name) in imports(&source) {
            match floor(&name) {
                _ if name == own => {}
                Some(other) if other < level => {}
                Some(other) => {
                    found.push(format!("{}:{line}: {own} (floor {level}) names {name} (floor {other})", source.path));
                }
                None => found.push(format!("{}:{line}: {own} names crate::{name}, which is no floor", source.path)),
            }
        }
    }
    none(found, "a floor imports only lower floors, and folders of one floor ignore each other");
}

#[test]
fn libraries_stay_with_their_keepers() {
    let mut found = Vec::new();
    for source in sources("src") {
        for (library, places) in KEEPERS {
            if places.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            let named = words(&source.code).find(|(_, word)| *word == library);
            found
                .extend(named.map(|(at, _)| format!("{}:{}: names {library}", source.path, line_of(&source.code, at))));
        }
    }
    none(found, "only mount/ names fuser, only repo/index/ and view/stage/ name rocksdb");
}

#[test]
fn only_the_command_line_prints_and_exits() {
    let mut found = Vec::new();
    for source in sources("src") {
        if source.path.starts_with("src/cli/") || source.path == "src/main.rs" {
            continue;
        }
        for (number, line) in source.code.lines().enumerate() {
            let printing = PRINTING.iter().find(|what| mentions(line, what) && !source.test[number]);
            found.extend(printing.map(|what| format!("{}:{}: {what}", source.path, number + 1)));
        }
    }
    none(found, "the library never prints and never exits");
}

/// Whether bare code has `what` as a word of its own.
fn mentions(line: &str, what: &str) -> bool {
    line.match_indices(what).any(|(at, _)| !line[..at].ends_with(is_word))
}

#[test]
fn nothing_is_left_half_done() {
    let mut found = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        for (number, line) in source.code.lines().enumerate() {
            let leftover = LEFTOVERS.iter().find(|what| mentions(line, what));
            found.extend(leftover.map(|what| format!("{}:{}: {what}", source.path, number + 1)));
        }
    }
    none(found, "no stubs and no debugging aids");
}

#[test]
fn every_unwrap_says_why_it_holds() {
    let mut found = Vec::new();
    for source in sources("src") {
        let text: Vec<&str> = source.text.lines().collect();
        for (number, line) in source.code.lines().enumerate() {
            let reason = |line: &str| line.contains("//");
            let explained = reason(text[number]) || number > 0 && reason(text[number - 1]);
            if line.contains(".unwrap()") && !source.test[number] && !explained {
                found.push(format!("{}:{}", source.path, number + 1));
            }
        }
    }
    none(found, "an unwrap() outside tests needs a comment that says why it holds");
}

#[test]
fn files_and_lines_stay_short() {
    let mut found = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            found.push(format!("{}: {lines} lines, {MAX_LINES} allowed", source.path));
        }
        for (number, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > MAX_COLUMNS {
                found.push(format!("{}:{}: {columns} columns, {MAX_COLUMNS} allowed", source.path, number + 1));
            }
        }
    }
    none(found, "files and lines stay short");
}

#[test]
fn every_module_says_what_it_is_for() {
    let mut found = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        // `tests.rs` beside what it tests says so by its name.
        if !source.text.starts_with("//! ") && !source.test.iter().all(|&test| test) {
            found.push(source.path);
        }
    }
    none(found, "a file begins with a comment that states its one job");
}

/// Prose: pages, the README, and the comments of sources and scripts.
fn prose() -> Vec<(String, String)> {
    let mut all = files("man", "");
    all.extend(files("scripts", ""));
    all.push(("README.md".into(), fs::read_to_string(project().join("README.md")).unwrap_or_default()));
    for source in sources("src").into_iter().chain(sources("tests")) {
        let comments: Vec<&str> =
            source.text.lines().map(|line| line.find("//").map_or("", |at| &line[at..])).collect();
        all.push((source.path, comments.join("\n")));
    }
    all
}

#[test]
fn every_path_that_prose_names_exists() {
    let mut found = Vec::new();
    for (path, text) in prose() {
        for (number, line) in text.lines().enumerate() {
            for word in line.split(|c: char| !(c.is_ascii_alphanumeric() || "_-./".contains(c))) {
                let word = word.trim_end_matches('.').trim_start_matches("./");
                let ours = ["src/", "scripts/", "tests/", "man/", ".ci/"].iter().any(|place| word.starts_with(place));
                if ours && !project().join(word).exists() {
                    found.push(format!("{path}:{}: {word}", number + 1));
                }
            }
        }
    }
    none(found, "prose names only paths that exist");
}

#[test]
fn every_page_and_section_that_prose_names_exists() {
    let pages: BTreeSet<String> =
        files("man", "").into_iter().map(|(path, _)| path["man/".len()..].to_owned()).collect();
    let mut found = Vec::new();
    for (path, text) in prose() {
        for (number, line) in text.lines().enumerate() {
            for (page, section) in references(line) {
                if !pages.contains(&page) {
                    found.push(format!("{path}:{}: page {page}", number + 1));
                    continue;
                }
                let Some(section) = section else { continue };
                let body = fs::read_to_string(project().join("man").join(&page)).expect("UTF-8");
                let heading = |line: &str| {
                    let title = line.strip_prefix(".Ss ").or_else(|| line.strip_prefix(".Sh "));
                    title.is_some_and(|title| title.trim_matches('"').eq_ignore_ascii_case(&section))
                };
                if !body.lines().any(heading) {
                    found.push(format!("{path}:{}: {page} has no section {section:?}", number + 1));
                }
            }
        }
    }
    none(found, "prose names only pages and sections that exist");
}

/// The references of one line: `snapfold-format(5), "Ranks"`, `.Xr snapfold-format 5`.
fn references(line: &str) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    if let Some(rest) = line.strip_prefix(".Xr ") {
        let mut parts = rest.split(' ');
        if let (Some(name), Some(section)) = (parts.next(), parts.next())
            && name.starts_with("snapfold")
        {
            found.push((format!("{name}.{section}"), None));
        }
    }
    for (at, _) in line.match_indices("snapfold") {
        let rest = &line[at..];
        let end = rest.find(|c: char| !(is_word(c) || c == '-')).unwrap_or(rest.len());
        let digit = rest[end..].strip_prefix('(').and_then(|rest| rest.chars().next()).filter(char::is_ascii_digit);
        let Some(digit) = digit.filter(|_| rest[end + 2..].starts_with(')')) else { continue };
        let section = rest[end + 3..].strip_prefix(", \"").and_then(|rest| rest.split_once('"'));
        found.push((format!("{}.{digit}", &rest[..end]), section.map(|(section, _)| section.to_owned())));
    }
    found
}

#[test]
fn the_checks_see_through_comments_literals_and_groups() {
    let code = bare("let a = \"crate::x\"; // crate::y\nlet b = '\"'; use crate::z; /* a /* b */ c */ r#\"dbg!\"#;");
    assert!(!code.contains("crate::x") && !code.contains("crate::y") && code.contains("crate::z"));
    assert!(!code.contains("dbg!") && code.lines().count() == 2);
    assert_eq!(roots("{base::{Id, units}, repo, codec::wire::Take};"), ["base", "repo", "codec"]);
    assert_eq!(roots("tree::Node;"), ["tree"]);
    assert_eq!(test_lines("a\n#[cfg(test)]\nmod tests {\n b\n}\nc"), [false, true, true, true, true, false]);
    let named = references("// snapfold-format(5), \"Ranks\" and snapfold(1)");
    assert_eq!(named, [("snapfold-format.5".into(), Some("Ranks".into())), ("snapfold.1".into(), None)]);
}
