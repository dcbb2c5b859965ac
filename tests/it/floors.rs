//! A module imports only from floors below its own: the arrows of the house, kept by a test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The floors, lowest first; a name is a module at the crate's root.
const FLOORS: &[&[&str]] = &[
    &[
        "image", "health", "bill", "budget", "cores", "cork", "current", "money", "near", "room",
        "wire", "task", "secret",
    ],
    &["dialect", "price", "action", "fit"],
    &["plugin", "cache", "upstream", "ledger", "record"],
    &["pipeline", "audit", "listen"],
    &["proxy", "dashboard", "sim"],
    &["config"],
    &["app"],
    &["cli", "main"],
];

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn modules_import_only_from_floors_below() {
    let floor: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, names)| names.iter().map(move |name| (*name, floor)))
        .collect();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in rust_files(&src) {
        let inside = file.strip_prefix(&src).unwrap();
        let module = inside
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let own = *floor
            .get(module)
            .unwrap_or_else(|| panic!("`{module}` stands on no floor: add it to the list"));
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
        if inside.ends_with("tests.rs") || inside.iter().any(|part| part == "tests") {
            continue; // tests may look at anything
        }
        for (number, line) in code.lines().enumerate() {
            let Some((_, rest)) = line.split_once("crate::") else {
                continue;
            };
            let used: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            let Some(other) = floor.get(used.as_str()) else {
                continue;
            };
            let is_doc = line.trim_start().starts_with("//");
            // Floor 1 is one language: its words may speak of each other.
            let is_language = own == 0 && *other == 0;
            if used != module && *other >= own && !is_doc && !is_language {
                wrong.push(format!(
                    "{}:{}: `{module}` imports `{used}`",
                    inside.display(),
                    number + 1
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "stations meet in the pipeline, not in each other:\n{}",
        wrong.join("\n")
    );
}
