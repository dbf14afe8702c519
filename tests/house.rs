//! The house rules, as tests: who may know whom, who may speak, what may never be committed, and
//! that the README tells the truth.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

use std::fs;
use std::path::{Path, PathBuf};

use sealift::error::Exit;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The files below a directory, sorted.
fn files(directory: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(directory), &mut found);
    found.sort();
    assert!(!found.is_empty(), "{directory} is empty");
    found
}

/// The modules that lib.rs declares, floor by floor: groups of `mod` lines.
fn floors() -> Vec<Vec<String>> {
    let lib = text("src/lib.rs");
    let mut floors: Vec<Vec<String>> = Vec::new();
    let mut open = false;
    for line in lib.lines().filter(|line| !line.starts_with("#[")) {
        let declared = line.trim_start_matches("pub ").strip_prefix("mod ");
        let declared = declared.and_then(|rest| rest.strip_suffix(';'));
        match declared {
            Some(name) if open => floors.last_mut().unwrap().push(name.to_owned()),
            Some(name) => floors.push(vec![name.to_owned()]),
            None => {}
        }
        open = declared.is_some();
    }
    floors
}

/// The room that a source file belongs to.
fn room(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    inside.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// The rooms that a text uses, by `crate::ROOM` or `crate::{ROOM, …}`.
fn used(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for rest in text.split("crate::").skip(1) {
        let word =
            |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        match rest.strip_prefix('{') {
            Some(list) => {
                // At the outermost level of the braces only: `{limits, oci::{self, Name}}`.
                let mut depth = 0;
                let mut start = true;
                for (at, c) in list.char_indices() {
                    if start && !c.is_whitespace() {
                        rooms.push(word(&list[at..]));
                        start = false;
                    }
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        _ => {}
                    }
                }
            }
            None => rooms.push(word(rest)),
        }
    }
    rooms.retain(|room: &String| !room.is_empty());
    rooms
}

/// What a file says outside comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn lib_lists_every_room_on_its_floor() {
    let expected = [
        vec!["text"],
        vec!["error", "limits", "oci", "release", "rules"],
        vec!["content", "plan", "trust"],
        vec!["evidence"],
        vec![
            "artifact",
            "audit",
            "bundle",
            "docker_archive",
            "history",
            "layout",
            "manifest",
            "policy",
            "registry",
            "server",
            "store",
        ],
        vec!["verbs"],
        vec!["cli"],
    ];
    assert_eq!(floors(), expected);
    let mut declared = floors().concat();
    let mut there: Vec<String> = files("src").iter().map(|path| room(path)).collect();
    there.retain(|room| room != "lib" && room != "main");
    there.dedup();
    declared.sort();
    there.sort();
    assert_eq!(there, declared);
}

#[test]
fn imports_go_down_the_floors() {
    let floors = floors();
    let floor = |room: &str| floors.iter().position(|floor| floor.iter().any(|name| name == room));
    let mut wrong = Vec::new();
    for path in files("src") {
        let from = room(&path);
        let Some(own) = floor(&from) else { continue };
        for to in used(&code(&path)) {
            let Some(target) = floor(&to) else { continue };
            let before = |floor: &[String]| {
                let at = |room: &str| floor.iter().position(|name| name == room);
                at(&to) < at(&from)
            };
            // From the places on nobody knows a neighbour; below, a room may use what stands before it.
            let places = floor("artifact").unwrap();
            let allowed =
                to == from || target < own || (target == own && own < places && before(&floors[own]));
            if !allowed {
                wrong.push(format!("{}: {from} (floor {own}) uses {to} (floor {target})", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_are_found_in_every_form() {
    let text =
        "use crate::error::Result;\nuse crate::{limits, oci::{self, Name}};\nlet x = crate::plan::Plan;";
    assert_eq!(used(text), ["error", "limits", "oci", "plan"]);
}

#[test]
fn only_the_mouth_prints_and_only_it_and_the_credentials_read_the_environment() {
    let mut wrong = Vec::new();
    for path in files("src") {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let code = code(&path);
        let prints = [
            "println!",
            "print!(",
            "eprintln!",
            "eprint!(",
            "io::stdout",
            "io::stderr",
            "stdout()",
            "stderr()",
        ];
        let reads = ["env::var", "env::vars", "env::args"];
        // The program's entry hands over its arguments; logins lie where other tools put them.
        let may_read = ["src/cli/", "src/main.rs", "src/registry/credentials.rs"];
        for word in prints.iter().filter(|word| code.contains(**word) && !name.starts_with("src/cli/")) {
            wrong.push(format!("{name}: {word}"));
        }
        for word in reads.iter().filter(|word| code.contains(**word)) {
            if !may_read.iter().any(|place| name.starts_with(place)) {
                wrong.push(format!("{name}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn verify_and_inspect_know_no_registry() {
    for verb in ["verify", "inspect"] {
        let rooms = used(&code(&root().join(format!("src/verbs/{verb}.rs"))));
        assert!(!rooms.iter().any(|room| room == "registry"), "{verb} uses {rooms:?}");
    }
}

#[test]
fn no_private_key_is_committed() {
    for path in files("keys").into_iter().chain(files("manifests")).chain(files("src")) {
        let text = fs::read_to_string(&path).unwrap();
        // A PEM block, as opposed to a mention of one.
        assert!(!text.contains("PRIVATE KEY-----\nM"), "{}", path.display());
    }
    for path in files("keys") {
        assert!(!fs::read_to_string(&path).unwrap().contains("BEGIN PRIVATE KEY"), "{}", path.display());
    }
}

#[test]
fn the_readme_lists_the_exit_codes() {
    let readme = text("README.md");
    let first_cell = |line: &str| line.strip_prefix('|')?.split('|').next()?.trim().parse::<u8>().ok();
    let listed: Vec<u8> = readme.lines().filter_map(first_cell).collect();
    let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
    assert_eq!(listed, codes);
}

#[test]
fn the_readme_says_how_to_begin() {
    let readme = text("README.md");
    for command in ["cargo run --release -- demo", "tests/run"] {
        assert!(readme.lines().any(|line| line.trim() == command), "{command}");
    }
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut links = 0;
    for document in ["README.md", "FORMAT.md", "CHANGELOG.md", "keys/README.md"] {
        let directory = root().join(document).parent().unwrap().to_owned();
        for rest in text(document).split("](").skip(1) {
            let target = rest.split(')').next().unwrap().split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            links += 1;
            assert!(directory.join(target).exists(), "{document} links to {target}");
        }
    }
    assert!(links > 0);
}

#[test]
fn flags_in_the_readme_exist() {
    use std::process::Command;
    let help = |verb: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealift"));
        let output = command.args(verb).arg("--help").output().unwrap();
        assert!(output.status.success(), "{verb:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let readme = text("README.md");
    let examples = readme.split("```").skip(1).step_by(2).flat_map(str::lines);
    let mut checked = 0;
    let commands = examples.flat_map(|line| line.split(" | "));
    for line in
        commands.filter_map(|line| line.strip_prefix("ssh edge ").unwrap_or(line).strip_prefix("sealift "))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let verb = if ["key", "license", "store"].contains(&words[0]) { &words[..2] } else { &words[..1] };
        let help = help(verb);
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag), "{line}");
            checked += 1;
        }
    }
    assert!(checked > 0);
}

#[test]
fn nothing_sleeps_and_no_test_is_skipped_in_silence() {
    for path in files("tests").into_iter().chain(files("src")).chain(files("benches")) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let ignored = ["#[", "ignore"].concat();
        assert!(!text.contains(&ignored), "{}", path.display());
        let sleeps = ["thread::", "sleep"].concat();
        assert!(!text.contains(&sleeps), "{}", path.display());
    }
}
