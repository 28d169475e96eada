//! Holds what `ARCHITECTURE.md` says of the source: who may import whom, where colours live, that
//! every file says what it is for, and that nothing names one machine.
//!
//! Reads the text of the sources, not the compiler's view. Test modules (`#[cfg(test)]`) may import
//! what they like. The checker itself is tested on planted violations below.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A room of `src/` (a folder or a file), the rooms it may import, and which great libraries.
struct Room {
    name: &'static str,
    may: &'static [&'static str],
    libraries: &'static [&'static str],
}

const fn room(
    name: &'static str,
    may: &'static [&'static str],
    libraries: &'static [&'static str],
) -> Room {
    Room {
        name,
        may,
        libraries,
    }
}

/// Rooms that everyone may import: plain data, errors, careful writing, what prompts mean.
const FOR_ALL: [&str; 4] = ["error", "files", "prompt", "request"];

/// The libraries that only some rooms may use.
const WATCHED: [&str; 5] = ["tch", "egui", "eframe", "tokenizers", "easel_kernels"];

/// The table of `ARCHITECTURE.md`, "Who may import whom".
const ROOMS: &[Room] = &[
    room("request", &[], &[]),
    room("error", &[], &["tch"]),
    room("files", &[], &[]),
    room("prompt", &[], &[]),
    room("settings", &[], &[]),
    room("paths", &[], &[]),
    room("schedule", &[], &[]),
    room("samplers", &["schedule"], &["tch"]),
    room("models", &[], &["tch", "easel_kernels"]),
    room("checkpoint", &[], &["tch"]),
    room("text", &["models::layers"], &["tch", "tokenizers"]),
    room(
        "families",
        &["schedule", "samplers", "models", "checkpoint", "text"],
        &["tch"],
    ),
    room(
        "pipeline",
        &[
            "families",
            "schedule",
            "samplers",
            "models",
            "checkpoint",
            "text",
            // What a picture format can hold, asked before drawing.
            "output",
        ],
        &["tch"],
    ),
    room("output", &[], &[]),
    room(
        "worker",
        &["pipeline", "output", "families", "checkpoint"],
        &["tch"],
    ),
    room(
        "app",
        &["worker", "settings", "output"],
        &["egui", "eframe"],
    ),
    room("cli", &["worker", "settings", "output", "paths"], &[]),
    room(
        "main",
        &["app", "cli", "worker", "settings", "paths"],
        &["egui", "eframe"],
    ),
];

/// Rooms whose parts do not import each other, beside what all of them may share.
const SEPARATE_PARTS: [(&str, &[&str]); 2] = [("models", &["layers"]), ("families", &["lora"])];

#[test]
fn rooms_import_only_what_the_table_allows() {
    let faults: Vec<String> = sources(&["src"])
        .iter()
        .flat_map(|(path, text)| import_faults(path, text))
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_file_begins_by_saying_what_it_is_for() {
    let faults: Vec<String> =
        sources(&["src", "tests", "xtask", "benches", "examples", "build.rs"])
            .iter()
            .filter(|(path, text)| {
                path.extension().is_some_and(|kind| kind == "rs") && !is_introduced(text)
            })
            .map(|(path, _)| format!("{} does not begin with `//!`", path.display()))
            .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn colours_are_written_in_the_theme_only() {
    let faults: Vec<String> = sources(&["src/app"])
        .iter()
        .filter(|(path, _)| !path.ends_with("theme.rs"))
        .flat_map(|(path, text)| colour_faults(path, text))
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn no_file_names_one_machine_or_a_package_registry() {
    let everywhere = [
        "src",
        "tests",
        "xtask",
        "benches",
        "examples",
        "assets",
        "build.rs",
        "Cargo.toml",
        "clippy.toml",
        ".cargo",
        ".ci",
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "NOTICES.md",
    ];
    let faults: Vec<String> = sources(&everywhere)
        .iter()
        .flat_map(|(path, text)| machine_faults(path, text))
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_room_is_in_the_table() {
    let rooms: BTreeSet<String> = sources(&["src"])
        .iter()
        .filter_map(|(path, _)| module_of(path)?.first().cloned())
        .collect();
    for room in rooms {
        assert!(
            room == "lib" || ROOMS.iter().any(|known| known.name == room),
            "src/{room} has no line in the table of tests/architecture.rs and ARCHITECTURE.md"
        );
    }
}

// --- reading ---

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The text files under some paths of the repository: path within it, and text.
fn sources(under: &[&str]) -> Vec<(PathBuf, String)> {
    let mut waiting: Vec<PathBuf> = under.iter().map(|path| root().join(path)).collect();
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            found.push((path.strip_prefix(root()).unwrap().to_path_buf(), text));
        }
    }
    found.sort();
    found
}

/// `src/samplers/ddim.rs` -> `[samplers, ddim]`, `src/samplers/mod.rs` -> `[samplers]`.
fn module_of(path: &Path) -> Option<Vec<String>> {
    let inside = path.strip_prefix("src").ok()?.with_extension("");
    let mut module: Vec<String> = inside
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    Some(module)
}

/// The code without comments, text literals and test modules.
fn code_of(text: &str) -> String {
    let code = without_comments_and_literals(text);
    let mut kept = String::new();
    let mut rest = code.as_str();
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = match (rest.find(';'), rest.find('{')) {
            (Some(semicolon), Some(brace)) if brace < semicolon => closing_brace(rest, brace),
            (Some(semicolon), _) => semicolon + 1,
            (None, Some(brace)) => closing_brace(rest, brace),
            (None, None) => rest.len(),
        };
        rest = &rest[end..];
    }
    kept + rest
}

/// The place behind the brace that closes the one at `open`.
fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (at, character) in code[open..].char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at + 1;
        }
    }
    code.len()
}

/// Blanks comments and the insides of string and character literals.
fn without_comments_and_literals(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let at = |index: usize| characters.get(index).copied().unwrap_or('\0');
    let mut out = String::new();
    let mut index = 0;
    while index < characters.len() {
        match at(index) {
            '/' if at(index + 1) == '/' => {
                while index < characters.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            '/' if at(index + 1) == '*' => {
                while index < characters.len() && !(at(index) == '*' && at(index + 1) == '/') {
                    index += 1;
                }
                index += 2;
            }
            'r' if matches!(at(index + 1), '"' | '#') && !is_word(at(index.wrapping_sub(1))) => {
                index = raw_string_end(&characters, index, &mut out);
            }
            '"' => {
                index += 1;
                while index < characters.len() && at(index) != '"' {
                    index += if at(index) == '\\' { 2 } else { 1 };
                }
                index += 1;
                out.push_str("\"\"");
            }
            // 'x' and '\n' are characters; 'a without a closing quote is a lifetime.
            '\'' if at(index + 1) == '\\' => {
                index += 3;
                while index < characters.len() && at(index) != '\'' {
                    index += 1;
                }
                index += 1;
            }
            '\'' if at(index + 2) == '\'' => index += 3,
            other => {
                out.push(other);
                index += 1;
            }
        }
    }
    out
}

/// Skips `r"…"` or `r#"…"#`; a raw identifier (`r#type`) is kept.
fn raw_string_end(characters: &[char], start: usize, out: &mut String) -> usize {
    let hashes = characters[start + 1..]
        .iter()
        .take_while(|c| **c == '#')
        .count();
    let mut index = start + 1 + hashes;
    if characters.get(index) != Some(&'"') {
        out.push('r');
        return start + 1;
    }
    index += 1;
    let closing: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    while index < characters.len() && !characters[index..].starts_with(&closing) {
        index += 1;
    }
    out.push_str("\"\"");
    index + closing.len()
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Words and the signs that paths are made of.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut characters = code.chars().peekable();
    while let Some(character) = characters.next() {
        if is_word(character) {
            let mut word = String::from(character);
            while let Some(next) = characters.next_if(|next| is_word(*next)) {
                word.push(next);
            }
            tokens.push(word);
        } else if character == ':' && characters.next_if_eq(&':').is_some() {
            tokens.push("::".to_owned());
        } else if !character.is_whitespace() {
            tokens.push(character.to_string());
        }
    }
    tokens
}

/// Every path in the code that begins with one of `heads`, groups spread out:
/// `use crate::{error::Error, files};` gives `[crate, error, Error]` and `[crate, files]`.
fn paths(code: &str, heads: &[&str]) -> Vec<Vec<String>> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let begins = index == 0 || tokens[index - 1] != "::";
        let goes_on = tokens.get(index + 1).is_some_and(|next| next == "::");
        let is_used = index > 0 && tokens[index - 1] == "use";
        if begins && (goes_on || is_used) && heads.contains(&token.as_str()) {
            read_path(&tokens, index, Vec::new(), &mut found);
        }
    }
    found
}

/// Reads one path or group from `index` on, behind what stands before it. Returns where it ends.
fn read_path(
    tokens: &[String],
    mut index: usize,
    before: Vec<String>,
    found: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = before;
    loop {
        match tokens.get(index).map(String::as_str) {
            Some("{") => {
                index += 1;
                while tokens.get(index).is_some_and(|token| token != "}") {
                    index = read_path(tokens, index, path.clone(), found);
                    while tokens
                        .get(index)
                        .is_some_and(|token| token != "," && token != "}")
                    {
                        index += 1; // `as name`
                    }
                    if tokens.get(index).is_some_and(|token| token == ",") {
                        index += 1;
                    }
                }
                return index + 1;
            }
            Some(word) => {
                path.push(word.to_owned());
                index += 1;
            }
            None => break,
        }
        if tokens.get(index).is_some_and(|token| token == "::") {
            index += 1;
        } else {
            break;
        }
    }
    found.push(path);
    index
}

// --- rules ---

/// What a file imports against the table.
fn import_faults(path: &Path, text: &str) -> Vec<String> {
    let Some(module) = module_of(path) else {
        return Vec::new();
    };
    let Some(room) = ROOMS
        .iter()
        .find(|room| module.first().is_some_and(|first| first == room.name))
    else {
        return Vec::new();
    };
    let code = code_of(text);
    let mut faults = Vec::new();
    for imported in paths(&code, &["crate", "super", "easel"]) {
        let target = absolute(&module, &imported);
        if !may_import(room, &module, &target) {
            faults.push(format!(
                "{}: {} may not import {}",
                path.display(),
                room.name,
                target.join("::")
            ));
        }
    }
    for imported in paths(&code, &WATCHED) {
        let library = &imported[0];
        if !room.libraries.contains(&library.as_str()) {
            faults.push(format!(
                "{}: {} may not use {library}",
                path.display(),
                room.name
            ));
        }
    }
    faults
}

/// A path from the crate's root, `super` resolved.
fn absolute(module: &[String], imported: &[String]) -> Vec<String> {
    if imported[0] != "super" {
        return imported[1..].to_vec();
    }
    let ups = imported.iter().take_while(|word| *word == "super").count();
    let stays = module.len().saturating_sub(ups);
    module[..stays]
        .iter()
        .chain(&imported[ups..])
        .cloned()
        .collect()
}

fn may_import(room: &Room, module: &[String], target: &[String]) -> bool {
    let Some(first) = target.first() else {
        return true;
    };
    if first == room.name {
        let parts = SEPARATE_PARTS.iter().find(|(name, _)| *name == room.name);
        let (Some((_, shared)), Some(own), Some(other)) = (parts, module.get(1), target.get(1))
        else {
            return true;
        };
        let is_part = root().join("src").join(room.name).join(other).is_dir()
            || root()
                .join("src")
                .join(room.name)
                .join(other)
                .with_extension("rs")
                .is_file();
        return own == other || !is_part || shared.contains(&other.as_str());
    }
    // A macro, a type re-exported by the crate's root: not a room.
    let is_room = ROOMS.iter().any(|known| known.name == first);
    let whole = target.join("::");
    !is_room
        || FOR_ALL.contains(&first.as_str())
        || room
            .may
            .iter()
            .any(|may| whole == *may || whole.starts_with(&format!("{may}::")))
}

fn is_introduced(text: &str) -> bool {
    text.starts_with("//! ") && text.lines().next().is_some_and(|line| line.len() > 12)
}

/// Colours made from numbers or names.
fn colour_faults(path: &Path, text: &str) -> Vec<String> {
    const HARMLESS: [&str; 3] = ["TRANSPARENT", "PLACEHOLDER", "WHITE"];
    let code = code_of(text);
    let mut faults = Vec::new();
    for colour in paths(&code, &["Color32", "egui", "Rgba", "ecolor"]) {
        let Some(at) = colour
            .iter()
            .position(|word| word == "Color32" || word == "Rgba")
        else {
            continue;
        };
        let Some(made) = colour.get(at + 1) else {
            continue;
        };
        let is_named = made
            .chars()
            .all(|letter| letter.is_uppercase() || letter == '_');
        if made.starts_with("from_") || (is_named && !HARMLESS.contains(&made.as_str())) {
            faults.push(format!(
                "{}: {} belongs into app/theme.rs",
                path.display(),
                colour.join("::")
            ));
        }
    }
    if code.contains("hex_color!") {
        faults.push(format!(
            "{}: hex_color! belongs into app/theme.rs",
            path.display()
        ));
    }
    faults
}

/// Absolute paths of one machine, and hosts of package registries. Spelled in halves, so that this
/// file does not find itself.
fn machine_faults(path: &Path, text: &str) -> Vec<String> {
    let homes =
        ["ro|ot/", "ho|me/", "wo|rk/", "Us|ers/"].map(|half| format!("/{}", half.replace('|', "")));
    let hosts = [
        "py|pi.org",
        "python|hosted",
        "index.crates|.io",
        "static.crates|.io",
        "registry.npm|js",
        "proxy.golang|.org",
    ]
    .map(|half| half.replace('|', ""));
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let is_absolute = |home: &String| {
            line.match_indices(home.as_str()).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                before.is_none_or(|character| {
                    !is_word(character) && !matches!(character, '.' | '/' | '~' | '}' | '-')
                })
            })
        };
        if homes.iter().any(is_absolute) || hosts.iter().any(|host| line.contains(host.as_str())) {
            faults.push(format!(
                "{}:{}: {}",
                path.display(),
                number + 1,
                line.trim()
            ));
        }
    }
    faults
}

// --- the checker finds what is planted ---

fn planted(path: &str, code: &str) -> usize {
    import_faults(Path::new(path), code).len()
}

#[test]
fn planted_imports_are_found() {
    for (path, code) in [
        ("src/samplers/ddim.rs", "use crate::pipeline::plan::Plan;"),
        (
            "src/samplers/ddim.rs",
            "use crate::{\n    error::Result,\n    models::{layers::Linear, unet},\n};",
        ),
        (
            "src/samplers/mod.rs",
            "fn f() { super::worker::channel(); }",
        ),
        (
            "src/samplers/ddim.rs",
            "pub(super) use super::super::worker::message::Event as E;",
        ),
        ("src/text/clip.rs", "use crate::models::unet::UNet;"),
        ("src/app/panels/prompt.rs", "fn f(t: &tch::Tensor) {}"),
        ("src/app/state.rs", "use crate::pipeline;"),
        ("src/settings.rs", "use tch;"),
        ("src/cli.rs", "use crate::checkpoint::{self, detect};"),
        ("src/worker/engine.rs", "fn paint(ui: &mut egui::Ui) {}"),
        ("src/main.rs", "use easel::pipeline::generate;"),
        (
            "src/schedule/betas.rs",
            "/// Fine.\nuse crate::samplers::Run;\n#[cfg(test)]\nmod tests {}",
        ),
    ] {
        assert!(planted(path, code) > 0, "{path}: {code}");
    }
}

#[test]
fn what_is_allowed_is_left_alone() {
    for (path, code) in [
        (
            "src/samplers/ddim.rs",
            "use crate::{error::Result, schedule::Schedule};\nuse super::Run;\nuse tch::Tensor;",
        ),
        (
            "src/text/clip.rs",
            "use crate::models::layers::{Linear, attention};",
        ),
        (
            "src/settings.rs",
            "// use tch::Tensor and crate::pipeline\nconst A: &str = \"crate::pipeline::x\";",
        ),
        (
            "src/settings.rs",
            "const A: &str = r#\"tch::\"x\" crate::worker\"#; const C: char = '\"';",
        ),
        (
            "src/cli.rs",
            "pub(crate) fn f() { self::g(); crate::worker::channel(); }",
        ),
        (
            "src/schedule/betas.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::samplers::Run;\n    fn f() { if true {} }\n}",
        ),
        ("src/lib.rs", "pub mod app;"),
    ] {
        assert_eq!(
            planted(path, code),
            0,
            "{path}: {code}: {:?}",
            import_faults(Path::new(path), code)
        );
    }
}

#[test]
fn code_behind_a_test_module_is_still_read() {
    let code = "#[cfg(test)]\nuse crate::worker::x;\n#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::app::App;";
    assert_eq!(planted("src/schedule/mod.rs", code), 1);
}

#[test]
fn planted_colours_are_found() {
    let path = Path::new("src/app/panels/prompt.rs");
    for code in [
        "let a = Color32::from_rgb(1, 2, 3);",
        "ui.visuals_mut().override_text_color = Some(egui::Color32::RED);",
        "const A: Color32 = hex_color!(\"#fff\");",
        "let a = egui::Rgba::from_gray(0.5);",
    ] {
        assert_eq!(colour_faults(path, code).len(), 1, "{code}");
    }
    let fine = "let a = egui::Color32::WHITE; let b: Color32 = theme.accent; // Color32::RED";
    assert!(colour_faults(path, fine).is_empty());
}

#[test]
fn planted_machines_are_found() {
    let home = ["/ho", "me/anna/models"].concat();
    let host = ["https://py", "pi.org/simple"].concat();
    for line in [format!("read(\"{home}\")"), home.clone(), host] {
        assert_eq!(machine_faults(Path::new("a"), &line).len(), 1, "{line}");
    }
    for line in ["src/app/home/mod.rs", "../shared/work/x", "target/release"] {
        assert!(machine_faults(Path::new("a"), line).is_empty(), "{line}");
    }
}

#[test]
fn a_file_without_its_purpose_is_found() {
    assert!(is_introduced("//! Turns prompts into tokens.\n"));
    for text in [
        "use std::fmt;\n",
        "// Turns prompts into tokens.\n",
        "//! x\n",
        "",
    ] {
        assert!(!is_introduced(text), "{text:?}");
    }
}
