//! Every example runs: its configuration checks, its rule loads, and it does what its page says.

use std::path::Path;
use std::process::Command;

fn examples() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.retain(|path| path.is_dir());
    found.sort();
    found
}

#[test]
fn every_example_does_what_it_says() {
    let examples = examples();
    assert!(examples.len() >= 3, "{examples:?}");
    for example in examples {
        let state = tempfile::TempDir::new().unwrap();
        let run = |arguments: &[&str]| {
            Command::new(env!("CARGO_BIN_EXE_pixtoll"))
                .args(arguments)
                .current_dir(&example)
                .env("XDG_STATE_HOME", state.path())
                .env("PATH", with_our_binary())
                .output()
                .unwrap()
        };
        let checked = run(&["check"]);
        let text = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{}: {text}", example.display());
        let tried = run(&["run", "--sim", "--", "sh", "./try.sh"]);
        let out = String::from_utf8_lossy(&tried.stdout);
        let err = String::from_utf8_lossy(&tried.stderr);
        assert!(
            tried.status.success(),
            "{}:\n{out}\n{err}",
            example.display()
        );
        let wanted = std::fs::read_to_string(example.join("expect.txt")).unwrap();
        for line in wanted.lines() {
            assert!(
                out.contains(line) || err.contains(line),
                "{}: no `{line}` in\n{out}\n{err}",
                example.display()
            );
        }
    }
}

fn with_our_binary() -> String {
    let own = Path::new(env!("CARGO_BIN_EXE_pixtoll"))
        .parent()
        .unwrap()
        .display()
        .to_string();
    format!("{own}:{}", std::env::var("PATH").unwrap())
}
