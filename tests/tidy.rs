//! The tree's own rules: module order, who may name the runtime, one codec and one handler file per
//! API, evidence for every acceptance line, and the small things a reviewer should not have to see.
//!
//! Every check collects all its findings, so that one run shows all there is to mend. The checks read
//! text, not syntax trees: `code_of` blanks comments and literals first, which is enough for a tree
//! that `cargo fmt` has been over, and keeps this file from matching itself.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use millstream::protocol::{SUPPORTED, Supported};

/// The modules of `src`, lowest first. A module may use only modules of lines above its own.
const ORDER: &[&[&str]] = &[
    &["types", "time", "limits"],
    &["record"],
    &["protocol"],
    &["client"],
    &["config"],
    &["metadata"],
    &["coordinator"],
    &["storage"],
    &["journal"],
    &["log"],
    &["partition"],
    &["metrics"],
    &["shard"],
    &["handlers"],
    &["net"],
    &["server"],
    &["cli"],
];

/// The modules that may name glommio, beside `storage/glommio.rs` and `main.rs`: the rest must build
/// and test without it.
const RUNTIME: &[&str] = &["shard", "handlers", "net", "server", "cli"];

/// A longer file holds more than one idea.
const LINES_MAX: usize = 900;

/// Folders of the root whose files are somebody else's bytes: built, stored by a broker, or golden.
const FOREIGN: &[&str] =
    &["target", ".git", "data", "millstream-data", "tests/data", "fuzz/corpus"];

/// Ends of names of the files these checks read.
const TEXT: &[&str] = &[
    "rs",
    "md",
    "toml",
    "sh",
    "py",
    "yml",
    "service",
    "conf",
    "json",
    "run",
    "justfile",
    ".gitignore",
];

type Outcome = Result<(), Findings>;

/// What is wrong, one finding a line. `Debug` is what a failed test prints.
struct Findings(String);

impl fmt::Debug for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Findings {
    fn from(text: String) -> Findings {
        Findings(text)
    }
}

// The tree.

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One text file of the tree.
struct Source {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The names of the modules this file stands in, outermost first; none for `lib.rs` and `main.rs`.
    fn modules(&self) -> Vec<&str> {
        let Some(inner) = self.path.strip_prefix("src/").and_then(|p| p.strip_suffix(".rs")) else {
            return Vec::new();
        };
        let inner = inner.strip_suffix("/mod").unwrap_or(inner);
        if matches!(inner, "lib" | "main") { Vec::new() } else { inner.split('/').collect() }
    }
}

fn tree() -> Result<Vec<Source>, String> {
    let mut found = Vec::new();
    walk(root(), "", &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<Source>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for entry in entries {
        let entry = entry.map_err(|e| format!("{}: {e}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let kind = entry.file_type().map_err(|e| format!("{path}: {e}"))?;
        if kind.is_dir() {
            if !FOREIGN.contains(&path.as_str()) {
                walk(&entry.path(), &path, found)?;
            }
        } else if TEXT.iter().any(|end| path.ends_with(end)) && path != "Cargo.lock" {
            let text = fs::read_to_string(entry.path()).map_err(|e| format!("{path}: {e}"))?;
            found.push(Source { path, text });
        }
    }
    Ok(())
}

/// Fails with every finding, one a line.
fn report(findings: &[String]) -> Outcome {
    if findings.is_empty() {
        return Ok(());
    }
    let head = format!("{} to mend:", findings.len());
    Err(Findings(format!("{head}\n  {}", findings.join("\n  "))))
}

// Reading Rust.

/// The text with comments, strings and character literals blanked, lines kept.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = text.get(at..).unwrap_or("");
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(text, at) {
            length
        } else if byte == b'"' {
            quoted(rest)
        } else if byte == b'\'' {
            character(rest)
        } else {
            0
        };
        if length == 0 {
            let next = rest.chars().next().unwrap_or(' ');
            out.push(next);
            at += next.len_utf8();
        } else {
            let blanked = rest.get(..length).unwrap_or(rest);
            out.push(' ');
            out.extend(blanked.chars().filter(|c| *c == '\n'));
            at += blanked.len();
        }
    }
    out
}

/// The length of the block comment `rest` starts with; they nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(here) = rest.get(at..) {
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(usize::MAX - at, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of the raw string at `at`, if one is there.
fn raw_string(text: &str, at: usize) -> Option<usize> {
    let before = text.get(..at)?.chars().next_back();
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let rest = text.get(at..)?;
    let body = rest
        .strip_prefix("br")
        .or_else(|| rest.strip_prefix("cr"))
        .or_else(|| rest.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let quoted = body.get(hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let close = quoted.find(&end)?;
    Some(rest.len() - quoted.len() + close + end.len())
}

/// The length of the string literal `rest` starts with.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of the character literal `rest` starts with, or 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest
            .get(2..)
            .and_then(|r| r.get(1..))
            .and_then(|r| r.find('\''))
            .map_or(0, |end| end + 4),
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands alone in `line`.
fn words<'a>(line: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    line.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = line.get(..*at).and_then(|l| l.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|l| l.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn first_word(text: &str) -> &str {
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    text.get(..end).unwrap_or("")
}

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|line| line.contains(&module))
}

/// The first segments of what follows `crate::`: one name, or those of a brace group.
fn heads(after: &str) -> Vec<&str> {
    let Some(group) = after.strip_prefix('{') else {
        return vec![first_word(after)];
    };
    let mut heads = Vec::new();
    let (mut depth, mut fresh) = (0usize, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && is_word(c) => {
                heads.push(first_word(group.get(at..).unwrap_or("")));
                fresh = false;
            }
            _ => {}
        }
    }
    heads
}

// The rules.

#[test]
fn modules_use_only_lower_modules() -> Outcome {
    let mut findings = Vec::new();
    for source in tree()?.iter().filter(|s| s.is_rust() && s.path.starts_with("src/")) {
        let code = code_of(&source.text);
        let modules = source.modules();
        let Some(own) = modules.first() else { continue };
        let Some(own_rank) = rank(own) else {
            findings.push(format!("{}: module `{own}` has no line in ORDER", source.path));
            continue;
        };
        let mut used = BTreeSet::new();
        for at in words(&code, "crate") {
            let after = code.get(at + "crate".len()..).unwrap_or("");
            if let Some(after) = after.strip_prefix("::") {
                used.extend(heads(after));
            }
        }
        for at in words(&code, "super") {
            used.extend(module_reached_by_super(&code, at, modules.len()));
        }
        for name in used.into_iter().filter(|name| name != own) {
            match rank(name) {
                Some(other) if other < own_rank => {}
                Some(_) => findings
                    .push(format!("{}: `{own}` stands below `{name}` and uses it", source.path)),
                None => {
                    findings.push(format!("{}: `crate::{name}` is no module of ORDER", source.path))
                }
            }
        }
    }
    report(&findings)
}

/// The top module that a chain of `super::` starting at `at` names, if it climbs that far. A chain
/// inside an inline module climbs less, which is why only known module names count.
fn module_reached_by_super(code: &str, at: usize, depth: usize) -> Option<&str> {
    if code.get(..at)?.ends_with("super::") {
        return None;
    }
    let mut rest = code.get(at..)?;
    let mut climbs = 0;
    while let Some(next) = rest.strip_prefix("super::") {
        rest = next;
        climbs += 1;
    }
    let name = first_word(rest);
    (climbs >= depth && rank(name).is_some()).then_some(name)
}

#[test]
fn only_the_edge_names_the_runtime() -> Outcome {
    let mut findings = Vec::new();
    for source in tree()?.iter().filter(|s| s.is_rust() && s.path.starts_with("src/")) {
        let own = source.modules().first().copied().unwrap_or("");
        if matches!(source.path.as_str(), "src/storage/glommio.rs" | "src/main.rs")
            || RUNTIME.contains(&own)
        {
            continue;
        }
        for (number, line) in code_of(&source.text).lines().enumerate() {
            for at in words(line, "glommio") {
                let before = line.get(..at).unwrap_or("");
                // The adapter's own module is called so too.
                if !(before.ends_with("mod ") || before.ends_with("::")) {
                    findings.push(format!("{}:{}: names glommio", source.path, number + 1));
                }
            }
        }
    }
    report(&findings)
}

#[test]
fn rust_files_keep_the_small_rules() -> Outcome {
    let mut findings = Vec::new();
    for source in tree()?.iter().filter(|s| s.is_rust()) {
        let code = code_of(&source.text);
        for (number, line) in code.lines().enumerate() {
            let mut finding =
                |what: &str| findings.push(format!("{}:{}: {what}", source.path, number + 1));
            for name in ["todo", "unimplemented", "dbg"] {
                if words(line, name)
                    .any(|at| line.get(at + name.len()..).is_some_and(|l| l.starts_with('!')))
                {
                    finding(&format!("`{name}!`"));
                }
            }
            if line.contains("#[ignore]") {
                finding("`#[ignore]` without a reason");
            }
        }
        for (number, attribute) in attributes(&code) {
            let exception = ["allow", "expect"].iter().any(|name| {
                words(&attribute, name)
                    .any(|at| attribute.get(at + name.len()..).is_some_and(|a| a.starts_with('(')))
            });
            if exception && words(&attribute, "reason").next().is_none() {
                findings.push(format!("{}:{number}: an exception without a reason", source.path));
            }
        }
    }
    report(&findings)
}

/// Every attribute with the number of its first line.
fn attributes(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices('#') {
        let rest = code.get(at + 1..).unwrap_or("");
        let rest = rest.strip_prefix('!').unwrap_or(rest);
        if !rest.starts_with('[') {
            continue;
        }
        let mut depth = 0usize;
        let length = rest.find(|c| {
            match c {
                '[' => depth += 1,
                ']' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let number = code.get(..at).unwrap_or("").matches('\n').count() + 1;
        found.push((number, rest.get(..length.unwrap_or(rest.len())).unwrap_or("").to_owned()));
    }
    found
}

#[test]
fn text_files_keep_the_small_rules() -> Outcome {
    // In pieces, so that this file does not hold them.
    let foreign =
        [["/ho", "me/"], ["/Us", "ers/"], ["/ro", "ot/"], ["/wo", "rk/"], ["../sh", "ared"]];
    let mut findings = Vec::new();
    for source in tree()? {
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            findings.push(format!("{}: {lines} lines, more than {LINES_MAX}", source.path));
        }
        if !source.text.is_empty() && !source.text.ends_with('\n') {
            findings.push(format!("{}: no newline at the end", source.path));
        }
        for (number, line) in source.text.lines().enumerate() {
            if line.ends_with([' ', '\t', '\r']) {
                findings.push(format!("{}:{}: blanks at the end", source.path, number + 1));
            }
            for needle in foreign.map(|parts| parts.concat()) {
                if line.contains(&needle) {
                    findings.push(format!(
                        "{}:{}: a path of one machine, `{needle}`",
                        source.path,
                        number + 1
                    ));
                }
            }
        }
    }
    report(&findings)
}

#[test]
fn the_expected_files_exist() -> Outcome {
    let expected = [
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "justfile",
        ".ci/run",
        "docs/architecture.md",
        "docs/storage-format.md",
        "docs/durability.md",
        "docs/compatibility.md",
        "docs/coordinators.md",
        "docs/operating.md",
        "docs/testing.md",
        "docs/glossary.md",
        "docs/benchmarks.md",
        "docs/decisions",
        "tests/acceptance.toml",
    ];
    let missing = expected.iter().filter(|path| !root().join(path).exists());
    report(&missing.map(|path| format!("{path} is missing")).collect::<Vec<_>>())
}

#[test]
fn links_lead_to_files() -> Outcome {
    let mut findings = Vec::new();
    for source in tree()? {
        let folder = root().join(&source.path).parent().map(Path::to_path_buf).unwrap_or_default();
        for (number, line) in source.text.lines().enumerate() {
            let links: Vec<PathBuf> = if source.path.ends_with(".md") {
                markdown_links(line).map(|link| folder.join(link)).collect()
            } else if source.is_rust() {
                documents_named(line).map(|link| root().join(link)).collect()
            } else {
                Vec::new()
            };
            for link in links.iter().filter(|link| !link.exists()) {
                findings.push(format!(
                    "{}:{}: no file at {}",
                    source.path,
                    number + 1,
                    link.display()
                ));
            }
        }
    }
    report(&findings)
}

/// The targets of `[text](target)` that are files, without their anchors.
fn markdown_links(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, _)| {
        let target = line.get(at + 2..)?.split(')').next()?;
        let file = target.split('#').next()?;
        (!file.is_empty() && !file.contains("://")).then_some(file)
    })
}

/// Every `docs/….md` that a line of code or comment names.
fn documents_named(line: &str) -> impl Iterator<Item = &str> {
    words(line, "docs").filter_map(|at| {
        let path = line.get(at..)?;
        let end = path
            .find(|c: char| !(is_word(c) || matches!(c, '/' | '-' | '.')))
            .unwrap_or(path.len());
        let path = path.get(..end)?;
        path.find(".md").and_then(|end| path.get(..end + ".md".len()))
    })
}

// The APIs.

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// An API is one codec file, one handler file and one line in `SUPPORTED`.
#[test]
fn every_api_has_its_files() -> Outcome {
    let mut findings = Vec::new();
    let names: BTreeSet<String> = SUPPORTED.iter().map(|api| snake_case(api.name)).collect();
    for folder in ["src/protocol/messages", "src/handlers"] {
        let folder_exists = root().join(folder).exists();
        for name in names.iter().filter(|_| folder_exists) {
            let path = format!("{folder}/{name}.rs");
            if !root().join(&path).exists() {
                findings.push(format!("{path} is missing"));
            }
        }
    }
    for source in tree()? {
        let messages = source.path.strip_prefix("src/protocol/messages/");
        let Some(name) = messages.and_then(|p| p.strip_suffix(".rs")) else {
            continue;
        };
        if name != "mod" && !names.contains(name) {
            findings.push(format!("{}: no such API in SUPPORTED", source.path));
        }
    }
    report(&findings)
}

#[test]
fn the_compatibility_table_equals_supported() -> Outcome {
    let path = root().join("docs/compatibility.md");
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let is_row = |line: &&str| {
        line.strip_prefix("| ").is_some_and(|l| l.starts_with(|c: char| c.is_ascii_digit()))
    };
    let told: Vec<String> = text.lines().filter(is_row).map(str::to_owned).collect();
    let row = |api: &Supported| {
        let (key, name, max) = (api.key.number(), api.name, api.max);
        format!("| {key} | {name} | {}-{max} | {}-{max} |", api.advertised_min, api.min)
    };
    let served: Vec<String> = SUPPORTED.iter().map(row).collect();
    let lacking = served.iter().filter(|row| !told.contains(row)).map(|row| format!("lacks {row}"));
    let wrong = told.iter().filter(|row| !served.contains(row)).map(|row| format!("has {row}"));
    report(&lacking.chain(wrong).collect::<Vec<_>>())
}

// Evidence.

/// One line of `tests/acceptance.toml`.
struct Line {
    id: String,
    text: String,
    shown_by: Vec<String>,
    missing: Option<String>,
}

fn acceptance() -> Result<Vec<Line>, String> {
    let path = root().join("tests/acceptance.toml");
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let document: toml::Table = text.parse().map_err(|e| format!("{}: {e}", path.display()))?;
    let lines = document
        .get("line")
        .and_then(toml::Value::as_array)
        .ok_or("no [[line]] in acceptance.toml")?;
    let string = |line: &toml::Value, key: &str| {
        line.get(key).and_then(toml::Value::as_str).map(str::to_owned)
    };
    let line = |line: &toml::Value| {
        let shown = line
            .get("shown_by")
            .and_then(toml::Value::as_array)
            .ok_or("a line without `shown_by`")?;
        Ok(Line {
            id: string(line, "id").ok_or("a line without `id`")?,
            text: string(line, "text").ok_or("a line without `text`")?,
            shown_by: shown.iter().filter_map(toml::Value::as_str).map(str::to_owned).collect(),
            missing: string(line, "missing"),
        })
    };
    lines.iter().map(line).collect()
}

/// A line of an issue is shown by a test that exists, or by a recipe; `missing` says in so many words
/// what is not shown yet, and goes when it is.
#[test]
fn every_acceptance_line_is_shown() -> Outcome {
    let sources = tree()?;
    let recipes = recipes(&sources);
    let mut findings = Vec::new();
    let mut ids = BTreeSet::new();
    for line in acceptance()? {
        if !ids.insert(line.id.clone()) {
            findings.push(format!("{}: twice", line.id));
        }
        if line.text.is_empty() {
            findings.push(format!("{}: no text", line.id));
        }
        if line.shown_by.is_empty() && line.missing.as_deref().is_none_or(str::is_empty) {
            findings.push(format!("{}: shown by nothing, and nothing said to be missing", line.id));
        }
        for shown in &line.shown_by {
            if let Err(why) = exists(shown, &sources, &recipes) {
                findings.push(format!("{}: {shown}: {why}", line.id));
            }
        }
    }
    report(&findings)
}

fn exists(shown: &str, sources: &[Source], recipes: &BTreeSet<String>) -> Result<(), String> {
    if let Some(command) = shown.strip_prefix("command: ") {
        let mut parts = command.split(' ');
        return match (parts.next(), parts.next()) {
            (Some("just"), Some(recipe)) if recipes.contains(recipe) => Ok(()),
            (Some("just"), Some(_)) => Err("no such recipe in the justfile".to_owned()),
            _ => Err("a command is `just RECIPE`".to_owned()),
        };
    }
    let (path, test) =
        shown.split_once("::").ok_or("neither `file.rs::test` nor `command: just recipe`")?;
    let source = sources.iter().find(|s| s.path == path).ok_or("no such file")?;
    let name = test.rsplit("::").next().unwrap_or(test);
    let code = code_of(&source.text);
    for at in words(&code, name) {
        let before = code.get(..at).unwrap_or("");
        let Some(before) = before.strip_suffix("fn ") else {
            continue;
        };
        // The attributes of a function stand between it and the item before it.
        let head = before.rfind(['}', ';']).and_then(|end| before.get(end..)).unwrap_or(before);
        if head.contains("#[test]") {
            return Ok(());
        }
    }
    Err("no such test in the file".to_owned())
}

/// The names of the justfile's recipes.
fn recipes(sources: &[Source]) -> BTreeSet<String> {
    let text = sources.iter().find(|s| s.path == "justfile").map_or("", |s| s.text.as_str());
    let head = |line: &str| {
        let name = line.split([' ', ':']).next().unwrap_or("");
        let is_recipe =
            line.starts_with(char::is_alphabetic) && line.contains(':') && !line.contains(":=");
        is_recipe.then(|| name.to_owned())
    };
    text.lines().filter_map(head).collect()
}

// The checks themselves.

#[test]
fn code_is_told_from_comments_and_literals() {
    let text = "let a = \"crate::net\"; // todo!\nlet b = r#\"x \" y\"#; /* a /* b */ c */ f('\\'', 'x', &'a c)";
    let code = code_of(text);
    for gone in ["crate", "todo", "x", "y", "b */", "\\"] {
        assert!(!code.contains(gone), "{gone} is still in {code}");
    }
    assert!(code.contains("let b =") && code.contains("&'a c"), "{code}");
    assert_eq!(code.lines().count(), 2);
}

#[test]
fn what_a_path_leads_to_is_seen() {
    assert_eq!(heads("{record::{A, B}, types::C, net}; other"), ["record", "types", "net"]);
    assert_eq!(heads("server::run()"), ["server"]);
    assert_eq!(module_reached_by_super("super::net::X", 0, 1), Some("net"));
    assert_eq!(module_reached_by_super("super::net::X", 0, 2), None);
    assert_eq!(
        attributes("#![allow(\na[0])] #[test]"),
        [(1, "[allow(\na[0])".to_owned()), (2, "[test".to_owned())]
    );
}
