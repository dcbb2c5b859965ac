//! `pixtoll test [PATH…]`: rule tests, against simulated providers and for nothing.

mod report;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;

use super::envelope::{envelope, print};
use super::{DONE, FAILED, Global, NO, WRONG, complain, failed, load};
use crate::app::rule_bench::{Coverage, SimBench};
use crate::app::{self, StartError};
use crate::config::{Problem, Settings};
use crate::plugin::trial::{self, Verdict};
use report::{Told, as_json, as_junit, as_text, coverage_as_json, coverage_as_text};

/// How the name of a test file ends.
const ENDINGS: &[&str] = &["_test.lua", "_test.luau"];
/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(300);
/// Folders that hold what others made.
const FOREIGN: &[&str] = &["node_modules", "target"];

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Test files, or folders to look for *_test.lua in [default: this folder]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Writes the outcome as JUnit XML, for CI systems
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Tells which lines of the rules' hooks no case has run
    #[arg(long)]
    coverage: bool,
    /// Runs the tests again whenever a Lua file beside them changes, until it is stopped
    #[arg(long, conflicts_with = "junit")]
    watch: bool,
}

/// A test file and what its cases came to.
struct Ran {
    file: PathBuf,
    verdicts: Vec<Verdict>,
}

/// What all of them came to.
struct Outcome {
    ran: Vec<Ran>,
    /// Where it was asked for.
    coverage: Option<Coverage>,
}

pub(super) async fn run(args: TestArgs, global: &Global) -> u8 {
    if !args.watch {
        return once(&args, global).await;
    }
    loop {
        let before = watched(&args.paths);
        once(&args, global).await;
        eprintln!("waiting for a change; Ctrl-C ends");
        while watched(&args.paths) == before {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return DONE,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

/// Every Lua file beside the tests, with when it was written.
fn watched(paths: &[PathBuf]) -> Vec<(PathBuf, Option<SystemTime>)> {
    let tests = find(paths).unwrap_or_default();
    let folders: BTreeSet<&Path> = tests.iter().filter_map(|test| test.parent()).collect();
    let is_lua = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        matches!(ending, Some("lua" | "luau"))
    };
    let mut files = Vec::new();
    for folder in folders {
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        files.extend(entries.map(|entry| entry.path()).filter(is_lua));
    }
    files.sort();
    let written = |path: &Path| fs::metadata(path).and_then(|facts| facts.modified()).ok();
    let all = files.into_iter().map(|path| {
        let written = written(&path);
        (path, written)
    });
    all.collect()
}

async fn once(args: &TestArgs, global: &Global) -> u8 {
    let settings = match load(global) {
        Ok(settings) => settings,
        Err(error) => return complain(&error, global, "test"),
    };
    let files = match find(&args.paths) {
        Ok(files) => files,
        Err(problem) => return failed("test", global, WRONG, &[*problem]),
    };
    let coverage = args.coverage;
    let work = tokio::task::spawn_blocking(move || run_all(settings, files, coverage));
    let Outcome { ran, coverage } = match work.await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => return complain(&error, global, "test"),
        Err(error) => {
            let problem = Problem::anywhere("test", format!("the tests broke off: {error}"));
            return failed("test", global, FAILED, &[problem]);
        }
    };
    if let Some(path) = &args.junit
        && let Err(error) = fs::write(path, as_junit(&ran))
    {
        let problem = Problem::anywhere("junit", format!("{}: {error}", path.display()))
            .remedy("name a file that can be written");
        return failed("test", global, FAILED, &[problem]);
    }
    let told = Told::of(&ran);
    let code = if told.failed == 0 { DONE } else { NO };
    if global.json {
        let mut data = as_json(&ran, &told);
        if let Some(coverage) = &coverage {
            data["coverage"] = coverage_as_json(coverage);
        }
        print(&format!("{}\n", envelope("test", code == DONE, data, &[])));
    } else {
        print(&as_text(&ran, &told));
        print(&coverage.as_ref().map(coverage_as_text).unwrap_or_default());
    }
    code
}

/// Runs every file, one after the other: each call has the machine to itself.
fn run_all(settings: Settings, files: Vec<PathBuf>, coverage: bool) -> Result<Outcome, StartError> {
    let prices = app::hook_prices(&settings)?;
    let mut problems = Vec::new();
    let mut ran = Vec::new();
    let bench = SimBench::new(settings);
    let bench = Arc::new(match coverage {
        true => bench.with_coverage(),
        false => bench,
    });
    for file in files {
        let bench: Arc<SimBench> = Arc::clone(&bench);
        match trial::run(&file, Arc::clone(&prices), bench) {
            Ok(verdicts) => ran.push(Ran { file, verdicts }),
            Err(found) => problems.push(app::plugin_problem(found)),
        }
    }
    bench.close();
    let coverage = coverage.then(|| bench.coverage());
    match problems.is_empty() {
        true => Ok(Outcome { ran, coverage }),
        false => Err(StartError(problems)),
    }
}

/// The test files that were meant, sorted within each folder.
fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Box<Problem>> {
    let here = [PathBuf::from(".")];
    let paths = if paths.is_empty() { &here } else { paths };
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            search(path, &mut files);
        } else if path.is_file() {
            files.push(path.clone());
        } else {
            let what = format!("there is no file or folder {}", path.display());
            return Err(Box::new(
                Problem::anywhere("usage", what).remedy("name a *_test.lua file, or its folder"),
            ));
        }
    }
    if files.is_empty() {
        let problem = Problem::anywhere("no_tests", "no *_test.lua file was found")
            .remedy("write one beside the rule, as in plugins/README.md");
        return Err(Box::new(problem));
    }
    Ok(files)
}

fn search(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let foreign = name.starts_with('.') || FOREIGN.contains(&name);
        if path.is_dir() && !path.is_symlink() && !foreign {
            search(&path, files);
        } else if ENDINGS.iter().any(|ending| name.ends_with(ending)) && path.is_file() {
            let plain = path.strip_prefix("./").unwrap_or(&path);
            files.push(plain.to_path_buf());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_files_are_found_in_folders_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            path
        };
        let wanted = [put("a_test.lua"), put("rules/b_test.luau")];
        for other in ["a.lua", "node_modules/c_test.lua", ".git/d_test.lua"] {
            put(other);
        }
        assert_eq!(find(&[dir.path().to_path_buf()]).unwrap(), wanted);
        let named = dir.path().join("a.lua");
        assert_eq!(find(std::slice::from_ref(&named)).unwrap(), [named]);
        assert!(find(&[dir.path().join("none")]).is_err());
        assert!(find(&[dir.path().join(".git/none")]).is_err());
    }
}
