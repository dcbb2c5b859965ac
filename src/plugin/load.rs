//! Reading a plugin: compile, run once, check what it returned.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use mlua::chunk::Compiler;
use mlua::{Error, Lua, Table, Value};
use parking_lot::Mutex;

use super::args::kind;
use super::engine::{Code, Script, Vm, function};
use super::fault::{describe, raise};
use super::meter::IN_PLACE;
use super::near::{nearest, no_such};
use super::options::{self, Mistake};
use super::picture::Pictures;
use super::subject::Hook;
use super::{Entry, House, LoadProblem, PluginSource, shipped};

/// Bytes of one file.
const SOURCE: u64 = 256 * 1024;
/// Files that one plugin may require.
const FILES: usize = 64;
/// Compiling cannot be interrupted, only waited for; no file of this size needs so long.
const COMPILING: Duration = Duration::from_secs(5);

/// Keys of the table that a plugin returns.
const KEYS: &[&str] = &[
    "options",
    "on_request",
    "on_failure",
    "on_budget",
    "on_response",
    "on_decision",
    "holds",
];

/// A plugin's text and where it is from.
struct Source {
    name: String,
    file: String,
    text: String,
    folder: Option<PathBuf>,
}

/// Loads one plugin.
///
/// # Errors
/// Every mistake that was found in it.
pub(super) fn load(entry: &Entry, house: &Arc<House>) -> Result<Script, Vec<LoadProblem>> {
    let source = read(&entry.source).map_err(|problem| vec![problem])?;
    let bytecode = compile_with(&source.file, &source.text, entry.coverage);
    let bytecode = bytecode.map_err(|problem| vec![problem])?;
    let library = Arc::new(Library::new(source.folder.clone(), &source.file));
    let code = Code {
        file: source.file.clone(),
        bytecode,
        library: Arc::clone(&library),
        house: Arc::clone(house),
        aside: entry.observe || entry.aside,
        coverage: entry.coverage.then(Mutex::default),
    };
    let (mut vm, value) = Vm::open(&code).map_err(|error| vec![source.failed(&error)])?;
    let slow_to_start = vm.loaded_in > IN_PLACE;
    library.seal();
    let table = source.check(&value)?;
    let defaults: Option<Table> = table.raw_get("options").unwrap_or_default();
    let merged = options::merge(&vm.lua, defaults.as_ref(), &entry.options, house)
        .map_err(|mistakes| source.mistaken(mistakes))?;
    vm.adopt(&table, merged)
        .map_err(|error| vec![source.failed(&error)])?;
    Ok(Script {
        digest: library.digest(&source.text),
        name: source.name,
        file: source.file,
        slow_to_start,
        code,
        options: entry.options.clone(),
        hooks: vm.hooks().collect(),
        holds: vm.holds(),
        pictures: Pictures::new(source.folder),
        idle: Mutex::new(vec![vm]),
    })
}

fn read(source: &PluginSource) -> Result<Source, LoadProblem> {
    match source {
        PluginSource::Shipped(name) => match shipped::source(name) {
            Some(text) => Ok(Source {
                name: name.clone(),
                file: format!("{name}.lua"),
                text: text.to_owned(),
                folder: None,
            }),
            None => Err(unknown_shipped(name)),
        },
        PluginSource::File(path) => {
            let file = path.display().to_string();
            let text =
                read_text(path).map_err(|(message, remedy)| problem(&file, message, remedy))?;
            let stem = path.file_stem().unwrap_or(path.as_os_str());
            Ok(Source {
                name: stem.to_string_lossy().into_owned(),
                text,
                folder: Some(path.parent().map(Path::to_path_buf).unwrap_or_default()),
                file,
            })
        }
    }
}

fn unknown_shipped(name: &str) -> LoadProblem {
    let names = || shipped::ALL.iter().map(|(name, _)| *name);
    let remedy = match nearest(name, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "there is {}; a file of your own is named with its ending, like rules/{name}.lua",
            names().collect::<Vec<_>>().join(", ")
        ),
    };
    problem(name, "no shipped plugin has this name".to_owned(), remedy)
}

/// The text of a file, or what is wrong and what to do.
pub(super) fn read_text(path: &Path) -> Result<String, (String, String)> {
    let meta = std::fs::metadata(path).map_err(|error| {
        let remedy = "check the path; it counts from the folder of the configuration";
        (format!("cannot be read: {error}"), remedy.to_owned())
    })?;
    if !meta.is_file() {
        return Err(("is no file".to_owned(), "name a Lua file".to_owned()));
    }
    if meta.len() > SOURCE {
        return Err((
            format!("is {} bytes long, {SOURCE} is the most", meta.len()),
            "split it, and `require` its parts".to_owned(),
        ));
    }
    let bytes = std::fs::read(path).map_err(|error| {
        (
            format!("cannot be read: {error}"),
            "check its rights".to_owned(),
        )
    })?;
    String::from_utf8(bytes).map_err(|_| {
        let remedy = "save it as UTF-8; compiled Lua is not taken";
        ("is no text in UTF-8".to_owned(), remedy.to_owned())
    })
}

/// What is wrong with a file as a whole.
pub(super) fn problem(file: &str, message: String, remedy: impl Into<String>) -> LoadProblem {
    LoadProblem {
        file: file.to_owned(),
        line: None,
        column: None,
        message,
        remedy: remedy.into(),
    }
}

/// Compiles a text, on a thread of its own so that it can be given up on.
pub(super) fn compile(file: &str, text: &str) -> Result<Vec<u8>, LoadProblem> {
    compile_with(file, text, false)
}

/// As [`compile`]; with `coverage`, the code also notes which of its lines run.
fn compile_with(file: &str, text: &str, coverage: bool) -> Result<Vec<u8>, LoadProblem> {
    let (tell, told) = mpsc::channel();
    let source = text.to_owned();
    let started = std::thread::Builder::new()
        .name("lua-compile".to_owned())
        .spawn(move || {
            let compiler = Compiler::new()
                .set_optimization_level(1)
                .set_debug_level(1)
                .set_coverage_level(u8::from(coverage));
            // Nobody listens any more when it took too long.
            let _ = tell.send(compiler.compile(source));
        });
    if let Err(error) = started {
        return Err(problem(
            file,
            format!("no thread to compile it: {error}"),
            "",
        ));
    }
    match told.recv_timeout(COMPILING) {
        Ok(Ok(bytecode)) => Ok(bytecode),
        Ok(Err(error)) => Err(syntax(file, &error)),
        Err(_) => Err(problem(
            file,
            format!("takes more than {} s to compile", COMPILING.as_secs()),
            "make it simpler",
        )),
    }
}

/// The compiler's complaint with its line.
fn syntax(file: &str, error: &Error) -> LoadProblem {
    let text = match error {
        Error::SyntaxError { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let mut found = problem(file, text.clone(), "correct the syntax");
    // `3: what is wrong`, with a colon in front or without.
    let parts = text.trim_start_matches(':').split_once(':');
    if let Some((line, what)) = parts
        && let Ok(line) = line.parse()
    {
        found.line = Some(line);
        found.message = what.trim().to_owned();
    }
    found
}

impl Source {
    /// Checks what the file returned.
    fn check(&self, value: &Value) -> Result<Table, Vec<LoadProblem>> {
        let Value::Table(table) = value else {
            let what = format!("returns {}, not a table of hooks", kind(value));
            let remedy = "end it with return { on_request = function(call, options) … end }";
            return Err(vec![problem(&self.file, what, remedy)]);
        };
        let mut problems: Vec<LoadProblem> = table
            .pairs::<Value, Value>()
            .flatten()
            .filter_map(|(key, value)| self.check_key(&key, &value))
            .collect();
        if problems.is_empty() {
            problems.extend(self.check_together(table));
        }
        if problems.is_empty() {
            return Ok(table.clone());
        }
        problems.sort_by_key(|problem| problem.line);
        Err(problems)
    }

    fn check_key(&self, key: &Value, value: &Value) -> Option<LoadProblem> {
        let Value::String(key) = key else {
            let what = "the returned table has an entry without a name".to_owned();
            return Some(problem(&self.file, what, "give it the name of a hook"));
        };
        let key = key.to_string_lossy();
        if !KEYS.contains(&key.as_str()) {
            let what = no_such(&key, "hook or key of a plugin", &key, KEYS.iter().copied());
            return Some(self.at(&key, what, "correct the name"));
        }
        let wanted = match key.as_str() {
            "options" => "table",
            "holds" => "boolean",
            _ => "function",
        };
        if kind(value) != wanted {
            let what = format!("`{key}` must be a {wanted}, it is a {}", kind(value));
            let remedy = match wanted {
                "boolean" => "write holds = true, or leave it out".to_owned(),
                _ => format!("make it a {wanted}"),
            };
            return Some(self.at(&key, what, remedy));
        }
        let hook = Hook::ALL.into_iter().find(|hook| hook.as_str() == key)?;
        self.check_parameters(hook, value)
    }

    /// A hook that names more parameters than it is called with would find nil in the last.
    fn check_parameters(&self, hook: Hook, value: &Value) -> Option<LoadProblem> {
        let info = value.as_function()?.info();
        let given = hook.arguments();
        if usize::from(info.num_params) <= given.len() || info.what == "C" {
            return None;
        }
        let what = format!(
            "`{}` has {} parameters, it is called with ({})",
            hook.as_str(),
            info.num_params,
            given.join(", ")
        );
        Some(self.at(hook.as_str(), what, "take the others out"))
    }

    /// What is wrong with keys that are right one by one.
    fn check_together(&self, table: &Table) -> Option<LoadProblem> {
        let has = |key: &str| table.contains_key(key).unwrap_or(false);
        let hooks = Hook::ALL.map(Hook::as_str);
        if !hooks.iter().any(|hook| has(hook)) {
            let what = format!("has no hook: there are {}", hooks.join(", "));
            return Some(problem(&self.file, what, "add one, or take the plugin out"));
        }
        if has("holds") && !has("on_response") {
            let what = "`holds` is about on_response, and there is none".to_owned();
            return Some(self.at("holds", what, "add on_response, or take `holds` out"));
        }
        None
    }

    fn mistaken(&self, mistakes: Vec<Mistake>) -> Vec<LoadProblem> {
        let remedy = "correct it under the plugin's `with:`";
        mistakes
            .into_iter()
            .map(|mistake| match mistake.option {
                Some(option) => self.at(&option, mistake.what, remedy),
                None => problem(&self.file, mistake.what, remedy),
            })
            .collect()
    }

    /// A problem at the first place where `word` is given a value.
    fn at(&self, word: &str, message: String, remedy: impl Into<String>) -> LoadProblem {
        let mut found = problem(&self.file, message, remedy);
        if let Some((line, column)) = locate(&self.text, word) {
            (found.line, found.column) = (Some(line), Some(column));
        }
        found
    }

    /// A problem out of an error while the file ran.
    fn failed(&self, error: &Error) -> LoadProblem {
        let (message, at) = describe(error);
        let mut found = problem(&self.file, message, "correct the file");
        if let Some((file, line)) = at.as_deref().and_then(|at| at.rsplit_once(':')) {
            found.file = file.to_owned();
            found.line = line.parse().ok();
        }
        found
    }
}

/// Line and column, from 1, of the first `word =` in a text.
fn locate(text: &str, word: &str) -> Option<(u32, u32)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.lines().zip(1u32..).find_map(|(line, number)| {
        let code = line.split("--").next().unwrap_or(line);
        code.match_indices(word).find_map(|(start, _)| {
            let whole = !code[..start].ends_with(is_part);
            let given = code[start + word.len()..].trim_start().starts_with('=');
            let column = u32::try_from(code[..start].chars().count() + 1).ok()?;
            (whole && given).then_some((number, column))
        })
    })
}

/// What `require` reaches: text files in the plugin's own folder, read while the plugin loads.
///
/// A hook reads no files, so that what runs is what was digested and checked.
pub(super) struct Library {
    folder: Option<PathBuf>,
    /// What stands before a module's name in messages.
    prefix: String,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    sealed: bool,
    modules: BTreeMap<String, Arc<Module>>,
}

struct Module {
    file: String,
    text: String,
    bytecode: Vec<u8>,
}

/// Name of a VM's table of loaded modules.
const LOADED: &str = "pixtoll.loaded";

impl Library {
    /// Of the plugin or test `file` in `folder`; a shipped one has none.
    pub(super) fn new(folder: Option<PathBuf>, file: &str) -> Library {
        let prefix = file.rfind('/').map_or("", |slash| &file[..=slash]);
        Library {
            folder,
            prefix: prefix.to_owned(),
            shelf: Mutex::default(),
        }
    }

    /// The files of the plugin `file`: itself first, then what it requires.
    pub(super) fn files(&self, file: &str) -> Vec<PathBuf> {
        if self.folder.is_none() {
            return Vec::new();
        }
        let shelf = self.shelf.lock();
        let modules = shelf.modules.values().map(|module| module.file.as_str());
        std::iter::once(file)
            .chain(modules)
            .map(PathBuf::from)
            .collect()
    }

    /// From now on only what has been read can be required.
    fn seal(&self) {
        self.shelf.lock().sealed = true;
    }

    /// Eight hex digits over the plugin's text and its modules'.
    fn digest(&self, text: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(text.as_bytes());
        for (name, module) in &self.shelf.lock().modules {
            for part in [name, &module.text] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
        }
        hasher.finalize().to_hex()[..8].to_owned()
    }

    /// Puts `require` among the globals.
    pub(super) fn install(self: &Arc<Self>, lua: &Lua) -> Result<(), Error> {
        lua.set_named_registry_value(LOADED, lua.create_table()?)?;
        let library = Arc::clone(self);
        let require = lua.create_function(move |lua, name: String| library.require(lua, &name))?;
        lua.globals().raw_set("require", require)
    }

    fn require(&self, lua: &Lua, name: &str) -> Result<Value, Error> {
        let key = plain_name(name).ok_or_else(|| {
            let what = format!(
                "require \"{name}\": name a file in the plugin's own folder, like require \"colours\" or \"lib/colours\""
            );
            raise(lua, what)
        })?;
        let loaded: Table = lua.named_registry_value(LOADED)?;
        match loaded.raw_get::<Value>(key.as_str())? {
            Value::Nil => {}
            Value::Boolean(false) => {
                return Err(raise(
                    lua,
                    format!("require \"{name}\": the files require each other"),
                ));
            }
            value => return Ok(value),
        }
        let module = self.module(&key).map_err(|why| raise(lua, why))?;
        loaded.raw_set(key.as_str(), false)?;
        let value: Value = function(lua, &module.file, &module.bytecode)?.call(())?;
        // A module that returns nothing has still been run.
        let value = if value.is_nil() {
            Value::Boolean(true)
        } else {
            value
        };
        loaded.raw_set(key.as_str(), &value)?;
        Ok(value)
    }

    fn module(&self, name: &str) -> Result<Arc<Module>, String> {
        let mut shelf = self.shelf.lock();
        if let Some(module) = shelf.modules.get(name) {
            return Ok(Arc::clone(module));
        }
        if shelf.sealed {
            return Err(format!(
                "require \"{name}\": a hook reads no files; require it at the top of the file"
            ));
        }
        if shelf.modules.len() >= FILES {
            return Err(format!("a plugin may require {FILES} files at most"));
        }
        let module = Arc::new(self.read(name)?);
        shelf.modules.insert(name.to_owned(), Arc::clone(&module));
        Ok(module)
    }

    fn read(&self, name: &str) -> Result<Module, String> {
        let folder = self
            .folder
            .as_ref()
            .ok_or("a shipped plugin requires nothing")?;
        // An empty path is the working directory.
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let missing = |why: String| format!("require \"{name}\": {why}");
        let root = folder
            .canonicalize()
            .map_err(|error| missing(error.to_string()))?;
        let (path, ending) = ["lua", "luau"]
            .into_iter()
            .find_map(|ending| {
                let path = root.join(format!("{name}.{ending}")).canonicalize().ok()?;
                Some((path, ending))
            })
            .ok_or_else(|| missing(format!("there is no {}{name}.lua", self.prefix)))?;
        if !path.starts_with(&root) {
            return Err(missing(
                "the file is a link to outside the plugin's folder".to_owned(),
            ));
        }
        let file = format!("{}{name}.{ending}", self.prefix);
        let text = read_text(&path).map_err(|(why, _)| missing(format!("{file} {why}")))?;
        let bytecode = compile(&file, &text).map_err(|problem| problem.to_string())?;
        Ok(Module {
            file,
            text,
            bytecode,
        })
    }
}

/// The name of a module in one spelling; `None` when it could lead out of the folder.
fn plain_name(name: &str) -> Option<String> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let name = name
        .strip_suffix(".luau")
        .or(name.strip_suffix(".lua"))
        .unwrap_or(name);
    let letters = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let plain = !name.is_empty()
        && name.len() <= 200
        && name.chars().all(letters)
        && !name.starts_with('/')
        && Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| name.to_owned())
}
