//! Rule tests: a file `NAME_test.lua` beside `NAME.lua`, in which every call travels the real way
//! and comes back as its decision record.
//!
//! Who makes the calls is a [`Bench`]: this module knows Lua, and the bench knows the pipeline.

mod expect;
pub(super) mod kept;
pub(super) mod told;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use mlua::{Error, Function, Lua, Table, UserData, UserDataMethods, Value, VmState};
use parking_lot::Mutex;
use serde_json::Value as Json;

use super::args::{Given, options, show, span};
use super::fault::{describe, place_at, position, raise};
use super::helpers::{self, strict_table};
use super::load::{self, Library};
use super::meter::Meter;
use super::money::amount;
use super::stage::Stage;
use super::{House, LoadProblem, Prices, sandbox};
use crate::action::Class;
use crate::budget::Budget;
use crate::image::{ImageRequest, ModelId};
use crate::money::Usd;
use expect::Decided;

/// CPU that one case may use, apart from the calls that it makes.
const CASE: Duration = Duration::from_secs(2);
const MEMORY: usize = 64 << 20;
/// What a test can call in the `test` table.
pub(super) const TEST: &[&str] = &["rules", "config", "case", "expect", "from_log", "request"];
/// Methods of what `test.rules` returns.
#[cfg(test)]
pub(super) const METHODS: &[&str] = &["call", "clock", "spent"];
/// What `test.rules` takes besides file and options.
const WORLD: &[&str] = &["classes", "budgets"];

/// Which rules a call meets.
#[derive(Clone, Debug)]
pub struct Ruleset {
    /// Differs from that of every other ruleset of the process.
    pub id: u64,
    /// `None`: the plugins of the configuration, in order.
    pub one: Option<(PathBuf, Json)>,
    /// Laid over the classes of the configuration.
    pub classes: BTreeMap<String, Class>,
    /// Laid over the budgets of the configuration.
    pub budgets: Vec<Budget>,
}

/// A call that a test makes.
#[derive(Clone, Debug)]
pub struct TestCall {
    pub request: ImageRequest,
    pub app: Option<String>,
    pub tags: Vec<String>,
    /// When it arrives.
    pub at: Timestamp,
    pub deadline: Option<Duration>,
    pub max_cost: Option<Usd>,
    /// What each attempt gets, in order and in the words of the simulated providers; further ones
    /// succeed.
    pub answers: Vec<String>,
}

/// Makes the calls of rule tests.
pub trait Bench: Send + Sync {
    /// A case begins: nothing of earlier ones is remembered.
    fn begin(&self);
    /// The decision record of a call that has travelled.
    ///
    /// # Errors
    /// Why it could not be made.
    fn call(&self, rules: &Ruleset, call: TestCall) -> Result<Json, String>;
    /// Lets so much of a budget be spent when the next call that it applies to arrives.
    ///
    /// # Errors
    /// When these rules have no such budget.
    fn spent(&self, rules: &Ruleset, budget: &str, amount: Usd) -> Result<(), String>;
    /// A request as an app sends it in that dialect; `model` where the body does not name one.
    ///
    /// # Errors
    /// Why it is none.
    fn read(
        &self,
        dialect: &str,
        model: Option<&ModelId>,
        body: Vec<u8>,
    ) -> Result<ImageRequest, String>;
}

/// What a case came to.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub name: String,
    /// `None` when it holds.
    pub failure: Option<Failed>,
    pub took: Duration,
}

/// Why a case does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// One line a difference.
    pub message: String,
    /// `file:line`, where it is known.
    pub at: Option<String>,
}

/// Runs the cases of a test file, in order. Blocks for as long as its calls take.
///
/// # Errors
/// What is wrong with the file itself.
pub fn run(
    path: &Path,
    prices: Arc<dyn Prices>,
    bench: Arc<dyn Bench>,
) -> Result<Vec<Verdict>, LoadProblem> {
    let file = path.display().to_string();
    let text =
        load::read_text(path).map_err(|(message, remedy)| load::problem(&file, message, remedy))?;
    let bytecode = load::compile(&file, &text)?;
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let house = Arc::new(House {
        prices,
        classes: BTreeMap::new(),
        counters: Arc::default(),
    });
    let meter = Arc::new(Meter::new());
    let trial = Arc::new(Trial {
        folder: folder.clone(),
        bench,
        meter: Arc::clone(&meter),
        verdicts: Mutex::default(),
        clock: Mutex::default(),
    });
    meter.start(CASE);
    let library = Arc::new(Library::new(Some(folder), &file));
    let ran = open(&trial, &house, &library)
        .and_then(|lua| super::engine::function(&lua, &file, &bytecode)?.call::<()>(()));
    let verdicts = std::mem::take(&mut *trial.verdicts.lock());
    match ran {
        Err(error) => {
            let (message, at) = describe(&error);
            let mut found = load::problem(&file, message, "correct the test");
            found.line = at.and_then(|at| at.rsplit_once(':')?.1.parse().ok());
            Err(found)
        }
        Ok(()) if verdicts.is_empty() => Err(load::problem(
            &file,
            "has no case".to_owned(),
            "add test.case(\"what holds\", function() … end)",
        )),
        Ok(()) => Ok(verdicts),
    }
}

fn open(trial: &Arc<Trial>, house: &Arc<House>, library: &Arc<Library>) -> Result<Lua, Error> {
    let stage = Arc::new(Stage::new(Arc::clone(house), true));
    let lua = sandbox::open(&stage, &trial.meter)?;
    helpers::install(&lua, &stage)?;
    library.install(&lua)?;
    trial.install(&lua)?;
    sandbox::close(&lua)?;
    lua.set_memory_limit(MEMORY)?;
    let watch = Arc::clone(&trial.meter);
    lua.set_interrupt(move |lua| {
        if watch.interrupt() {
            return Ok(VmState::Continue);
        }
        watch.stopped_at(|| place_at(lua, 0));
        Err(sandbox::too_long())
    });
    Ok(lua)
}

/// One test file while it runs.
struct Trial {
    folder: PathBuf,
    bench: Arc<dyn Bench>,
    meter: Arc<Meter>,
    verdicts: Mutex<Vec<Verdict>>,
    clock: Mutex<Clock>,
}

/// The clock of a case: stands still until a call or the test moves it.
#[derive(Default)]
struct Clock(Option<Timestamp>);

impl Clock {
    fn read(&mut self) -> Timestamp {
        *self.0.get_or_insert_with(Timestamp::now)
    }
}

impl Trial {
    fn install(self: &Arc<Self>, lua: &Lua) -> Result<(), Error> {
        let table = lua.create_table()?;
        let trial = Arc::clone(self);
        let rules = lua.create_function(
            move |lua, (file, given, world): (String, Option<Value>, Option<Table>)| {
                let json = given.map_or(Ok(Json::Null), |given| told::json(&given));
                let json = json.map_err(|why| raise(lua, why))?;
                let world = world.map_or_else(|| Ok(World::default()), |world| World::read(&world));
                let world = world.map_err(|why| raise(lua, why))?;
                let path = trial.path(&file).map_err(|why| raise(lua, why))?;
                Ok(trial.ruleset(Some((path, json)), world))
            },
        )?;
        table.raw_set("rules", rules)?;
        let trial = Arc::clone(self);
        let config = lua.create_function(move |_, ()| Ok(trial.ruleset(None, World::default())))?;
        table.raw_set("config", config)?;
        let trial = Arc::clone(self);
        let case = lua.create_function(move |_, (name, body): (String, Function)| {
            trial.case(name, &body);
            Ok(())
        })?;
        table.raw_set("case", case)?;
        table.raw_set("expect", lua.create_function(expect::expect)?)?;
        let trial = Arc::clone(self);
        let from_log = lua.create_function(
            move |lua, (path, id, about): (String, String, Option<Table>)| {
                let path = trial.folder.join(path);
                let call = kept::from_log(&path, &id).and_then(|call| kept::told(call, &about));
                call.map(KeptCall).map_err(|why| raise(lua, why))
            },
        )?;
        table.raw_set("from_log", from_log)?;
        let trial = Arc::clone(self);
        let request = lua.create_function(
            move |lua, (path, dialect, about): (String, String, Option<Table>)| {
                let path = trial.folder.join(path);
                let call = kept::request(&path, &dialect, &about, &*trial.bench);
                call.and_then(|call| kept::told(call, &about))
                    .map(KeptCall)
                    .map_err(|why| raise(lua, why))
            },
        )?;
        table.raw_set("request", request)?;
        strict_table(lua, &table, "test", "function", TEST.to_vec())?;
        table.set_readonly(true);
        lua.globals().raw_set("test", table)
    }

    /// A shipped plugin's name as it is, a file beside the test.
    fn path(&self, file: &str) -> Result<PathBuf, String> {
        if !file.contains(['.', '/']) {
            return Ok(file.into());
        }
        let path = self.folder.join(file);
        match path.is_file() {
            true => Ok(path),
            false => Err(format!(
                "test.rules: there is no file {}; it counts from the test's folder",
                path.display()
            )),
        }
    }

    fn ruleset(self: &Arc<Self>, one: Option<(PathBuf, Json)>, world: World) -> RulesRef {
        static LAST: AtomicU64 = AtomicU64::new(0);
        RulesRef {
            trial: Arc::clone(self),
            rules: Ruleset {
                id: LAST.fetch_add(1, Ordering::Relaxed),
                one,
                classes: world.classes,
                budgets: world.budgets,
            },
        }
    }

    /// Runs a case; one that fails does not keep the next from running.
    fn case(&self, name: String, body: &Function) {
        self.bench.begin();
        *self.clock.lock() = Clock::default();
        self.meter.start(CASE);
        let began = Instant::now();
        let failure = body.call::<()>(()).err().map(|error| {
            let (message, at) = describe(&error);
            let at = at.or_else(|| self.meter.place());
            Failed { message, at }
        });
        let took = began.elapsed();
        self.verdicts.lock().push(Verdict {
            name,
            failure,
            took,
        });
        self.meter.start(CASE);
    }
}

/// What rules are tested in, besides what the configuration says.
#[derive(Default)]
struct World {
    classes: BTreeMap<String, Class>,
    budgets: Vec<Budget>,
}

impl World {
    fn read(table: &Table) -> Result<World, String> {
        let mut world = World::default();
        options("test.rules", table, WORLD, |given| {
            match given.name {
                "classes" => world.classes = classes(&given)?,
                _ => world.budgets = told::budgets(&given)?,
            }
            Ok(())
        })?;
        Ok(world)
    }
}

fn classes(given: &Given<'_>) -> Result<BTreeMap<String, Class>, String> {
    let Value::Table(named) = &given.value else {
        return Err("`classes` is a table: { draft = { models = { … } } }".to_owned());
    };
    let mut all = BTreeMap::new();
    for pair in named.pairs::<String, Table>() {
        let (name, fields) = pair.map_err(|why| why.to_string())?;
        let mut class = Class::default();
        options(&name, &fields, &["models", "max_cost"], |given| {
            match given.name {
                "models" => class.models = given.each(model)?,
                _ => class.max_cost = Some(given.money()?),
            }
            Ok(())
        })?;
        all.insert(name, class);
    }
    Ok(all)
}

fn model(given: &Given<'_>) -> Result<ModelId, String> {
    let text = given.text()?;
    ModelId::parse(&text)
        .ok_or_else(|| format!("`{text}` names no provider: write it like stability/sd3.5-medium"))
}

/// What `test.rules` and `test.config` return.
struct RulesRef {
    trial: Arc<Trial>,
    rules: Ruleset,
}

impl UserData for RulesRef {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method(
            "call",
            |lua, this, (call, answers): (Value, Option<Table>)| {
                this.call(&call, answers.as_ref())
                    .map(Decided)
                    .map_err(|why| raise(lua, why))
            },
        );
        methods.add_method("clock", |lua, this, by: String| {
            let by = span(&by).map_err(|why| raise(lua, why))?;
            let mut clock = this.trial.clock.lock();
            let now = clock.read();
            let then = now.checked_add(SignedDuration::try_from(by).unwrap_or_default());
            clock.0 = Some(then.map_err(|why| raise(lua, why.to_string()))?);
            Ok(())
        });
        methods.add_method("spent", |lua, this, (budget, spent): (String, Value)| {
            let spent = amount(&spent).ok_or_else(|| {
                raise(
                    lua,
                    "rules:spent wants money: rules:spent(\"daily\", usd(19.99))",
                )
            })?;
            let done = this.trial.bench.spent(&this.rules, &budget, spent);
            done.map_err(|why| raise(lua, why))
        });
    }
}

impl RulesRef {
    fn call(&self, call: &Value, answers: Option<&Table>) -> Result<Json, String> {
        let now = || self.trial.clock.lock().read();
        let kept = call.as_userdata();
        let kept = kept.and_then(|data| data.borrow::<KeptCall>().ok());
        let mut call = match (call, kept) {
            (Value::Table(table), _) => told::call(table, now)?,
            (_, Some(kept)) => kept.0.clone(),
            (other, None) => {
                let what = "rules:call wants a table, or what test.request or test.from_log gave";
                return Err(format!("{what}, not {}", show(other)));
            }
        };
        if call.at == Timestamp::UNIX_EPOCH {
            call.at = now();
        }
        if let Some(answers) = answers {
            call.answers = told::answers(answers)?;
        }
        self.trial.clock.lock().0 = Some(call.at);
        self.trial.bench.call(&self.rules, call)
    }
}

/// A call that was read from a file.
struct KeptCall(TestCall);

impl UserData for KeptCall {}

/// Where the test itself is, for a complaint that is about what it expects.
fn here(lua: &Lua, what: &str) -> Error {
    match position(lua) {
        Some(place) => Error::runtime(format!("{place}: {what}")),
        None => Error::runtime(what),
    }
}
