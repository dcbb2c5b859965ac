//! Makes the calls of rule tests: a whole pixtoll with simulated providers for each set of rules.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::runtime::Handle;
use ulid::Ulid;

use super::{App, Extras};
use crate::action::Via;
use crate::bill::ChargeFrom;
use crate::budget::{Facts, Place};
use crate::config::{self, Class, PluginEntry, Settings};
use crate::dialect;
use crate::image::{Billed, ImageRequest, ModelId, Operation};
use crate::ledger::{Claim, Hold, Ledger, LedgerError, Outcome, Settlement};
use crate::money::Usd;
use crate::near::nearest;
use crate::pipeline::own_headers::Told;
use crate::pipeline::{Arrived, Caller, CallerFrom, Pipeline, Policy, Provider, Recognised};
use crate::plugin::trial::{Bench, Ruleset, TestCall};
use crate::sim::Behaviour;
use crate::task::Tasks;
use crate::wire::RequestHead;

/// So long a call may take: simulated providers answer at once, and waits are not waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// A credential that opens nothing.
const KEY: &str = "sk-rule-test";
/// Who calls where a test does not say.
const APP: &str = "test";

/// Makes each call of a rule test in a pixtoll that has these rules alone.
pub struct SimBench {
    settings: Settings,
    runtime: Handle,
    dir: PathBuf,
    running: Mutex<HashMap<u64, App>>,
    /// What is to be spent, by the rules that it is told of.
    spent: Mutex<HashMap<u64, Vec<(String, Usd)>>>,
    /// Lines of hooks by file, where they are noted.
    coverage: Option<Mutex<Coverage>>,
}

/// Each line of a rule's hooks and whether it has run, by file.
pub type Coverage = BTreeMap<PathBuf, BTreeMap<u32, bool>>;

impl SimBench {
    /// With the providers, classes and prices of `settings`. To be used within a runtime, on a
    /// thread that may block.
    pub fn new(settings: Settings) -> SimBench {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("pixtoll-test-{}-{number}", std::process::id());
        SimBench {
            settings,
            runtime: Handle::current(),
            dir: std::env::temp_dir().join(name),
            running: Mutex::default(),
            spent: Mutex::default(),
            coverage: None,
        }
    }

    /// Notes which lines of hooks run.
    #[must_use]
    pub fn with_coverage(mut self) -> SimBench {
        self.coverage = Some(Mutex::default());
        self
    }

    /// The lines that were noted, of all that has ended.
    pub fn coverage(&self) -> Coverage {
        let lines = self.coverage.as_ref().map(|lines| lines.lock().clone());
        lines.unwrap_or_default()
    }

    fn note_lines(&self, app: &App) {
        let Some(noted) = &self.coverage else { return };
        let mut noted = noted.lock();
        for plugin in app.pipeline.plugins.iter() {
            let file = plugin.files().into_iter().next();
            if let (Some(file), Some(lines)) = (file, plugin.coverage()) {
                let of_file = noted.entry(file).or_default();
                for (line, ran) in lines {
                    *of_file.entry(line).or_default() |= ran;
                }
            }
        }
    }

    /// Takes everything down again.
    pub fn close(&self) {
        self.begin();
        let _ = std::fs::remove_dir_all(&self.dir);
    }

    /// The settings with these rules, and with nothing in them that outlives the test.
    fn settings(&self, rules: &Ruleset) -> Settings {
        let state = self.dir.join(rules.id.to_string());
        let fresh = Settings::defaults(state);
        let mut settings = Settings {
            listen: vec![([127, 0, 0, 1], 0).into()],
            dashboard: None,
            apps: fresh.apps,
            ca: None,
            ledger: fresh.ledger,
            ledger_sync: fresh.ledger_sync,
            log: None,
            log_prompts: fresh.log_prompts,
            state_dir: fresh.state_dir,
            webhook: None,
            upstream_proxy: None,
            ..self.settings.clone()
        };
        settings.mode = config::Mode::Enforce;
        settings.cache.disk = None;
        settings.cache.shared = None;
        for (name, class) in &rules.classes {
            let class = Class {
                models: class.models.clone(),
                max_cost: class.max_cost,
            };
            settings.classes.insert(name.clone(), class);
        }
        for budget in &rules.budgets {
            settings.budgets.retain(|own| own.name != budget.name);
            settings.budgets.push(budget.clone());
        }
        if let Some((path, options)) = &rules.one {
            let mut entry = PluginEntry::named(&path.display().to_string());
            entry.with = options.as_object().cloned().unwrap_or_default();
            settings.plugins = vec![entry];
        }
        for plugin in &mut settings.plugins {
            plugin.coverage = self.coverage.is_some();
        }
        settings
    }

    async fn start(&self, rules: &Ruleset) -> Result<App, String> {
        let extras = Extras {
            sim: true,
            app: None,
        };
        App::start(self.settings(rules), extras)
            .await
            .map_err(|error| error.to_string())
    }

    async fn travel(app: &App, call: TestCall) -> Result<Value, String> {
        let answers = call.answers.iter();
        let answers: Vec<Behaviour> = answers
            .map(|words| words.parse().map_err(|error| format!("{error}")))
            .collect::<Result<_, String>>()?;
        if let Some(sim) = app.sim() {
            sim.reset();
            sim.script_any(answers);
        }
        let pipeline = Arc::new(Pipeline {
            policy: Policy {
                staged: Some(call.at),
                ..app.pipeline.policy.clone()
            },
            tasks: Tasks::new(),
            ..Pipeline::clone(&app.pipeline)
        });
        let arrived = arrive(&pipeline, &call)?;
        let mut log = pipeline.log.subscribe();
        let answer = Arc::clone(&pipeline).handle(arrived).await;
        // The record is written once the answer is through, and rules are told of it after that.
        let _ = answer.into_body().collect().await;
        pipeline.tasks.drain(PATIENCE).await;
        let (mut decision, mut alerts) = (None, Vec::new());
        while let Ok(line) = log.try_recv() {
            let line: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
            match line["type"].as_str() {
                Some("call") => decision = Some(line),
                Some("notice") if line["kind"] == "alert" => alerts.push(line),
                _ => {}
            }
        }
        let mut decision = decision.ok_or("the call left no record")?;
        decision["alerts"] = alerts.into();
        Ok(decision)
    }
}

impl Bench for SimBench {
    fn spent(&self, rules: &Ruleset, budget: &str, amount: Usd) -> Result<(), String> {
        let settings = self.settings(rules);
        let names = settings.budgets.iter().map(|budget| budget.name.as_str());
        if !names.clone().any(|name| name == budget) {
            let cure = match nearest(budget, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "give it to test.rules: { budgets = { { name = …, limit = usd(20) } } }"
                    .to_owned(),
            };
            return Err(format!(
                "rules:spent: there is no budget `{budget}`; {cure}"
            ));
        }
        let mut spent = self.spent.lock();
        let told = spent.entry(rules.id).or_default();
        told.retain(|(name, _)| name != budget);
        told.push((budget.to_owned(), amount));
        Ok(())
    }

    fn read(
        &self,
        dialect: &str,
        model: Option<&ModelId>,
        body: Vec<u8>,
    ) -> Result<ImageRequest, String> {
        let found = dialect::by_name(dialect).ok_or_else(|| {
            let names: Vec<&str> = dialect::ALL.iter().map(|known| known.name()).collect();
            format!("`{dialect}` is no dialect; there is {}", names.join(", "))
        })?;
        let speaks = |provider: &&config::Provider| provider.dialects.contains(&found.name());
        let mut providers = self.settings.providers.iter().filter(speaks);
        let provider = match model {
            Some(model) => model.provider().to_owned(),
            None => providers
                .next()
                .map(|provider| provider.name.clone())
                .ok_or_else(|| format!("no provider speaks `{dialect}`"))?,
        };
        // The path and the headers are those of any request of the dialect.
        let any = model
            .cloned()
            .unwrap_or_else(|| ModelId::new(&provider, "unnamed"));
        let message = found
            .write_request(&ImageRequest::new(any, "any"))
            .map_err(|error| error.to_string())?;
        let head = RequestHead {
            method: message.method,
            host: String::new(),
            target: message.target,
            headers: message.headers,
        };
        let operation = found.claims(&head).unwrap_or(Operation::Generate);
        let request = found.read_request(&provider, operation, &head, &body.into());
        let mut request = request.map_err(|error| error.to_string())?;
        if let Some(model) = model {
            request.model = model.clone();
        }
        match request.model.model() {
            "" | "unnamed" => Err("the model stands in the path: name it with model =".to_owned()),
            _ => Ok(request),
        }
    }

    fn begin(&self) {
        self.spent.lock().clear();
        for (_, app) in self.running.lock().drain() {
            self.note_lines(&app);
            self.runtime.block_on(app.stop());
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }

    fn call(&self, rules: &Ruleset, call: TestCall) -> Result<Value, String> {
        let mut running = self.running.lock();
        let app = match running.remove(&rules.id) {
            Some(app) => app,
            None => self.runtime.block_on(self.start(rules))?,
        };
        let told = self.spent.lock().remove(&rules.id).unwrap_or_default();
        let travel = async {
            let left = spend(&app, &call, told).await?;
            self.spent.lock().insert(rules.id, left);
            tokio::time::timeout(PATIENCE, SimBench::travel(&app, call))
                .await
                .unwrap_or_else(|_| {
                    let seconds = PATIENCE.as_secs();
                    Err(format!("the call did not end within {seconds} s"))
                })
        };
        let decision = self.runtime.block_on(travel);
        running.insert(rules.id, app);
        decision
    }
}

/// Lets budgets stand at what a test told, in the buckets that a call counts in. Returns what was
/// told of budgets that do not apply to it.
async fn spend(
    app: &App,
    call: &TestCall,
    told: Vec<(String, Usd)>,
) -> Result<Vec<(String, Usd)>, String> {
    let (ledger, budgets) = (&app.pipeline.ledger, &app.pipeline.budgeting.budgets);
    ledger.flush().await.map_err(|error| error.to_string())?;
    let model = &call.request.model;
    let facts = Facts {
        app: call.app.as_deref().unwrap_or(APP),
        tags: call.tags.iter().map(String::as_str).collect(),
        provider: model.provider(),
        model: model.as_str(),
        classes: budgets.classes_of(model.as_str()),
        ..Facts::default()
    };
    let mut left = Vec::new();
    for (name, amount) in told {
        let places = budgets
            .named(&name)
            .map(|kept| kept.places(&facts, call.at));
        let places = places.unwrap_or_default();
        if places.is_empty() {
            left.push((name, amount));
        }
        for place in places {
            let more = amount - ledger.standing(&place).spent;
            book(ledger, call, &place, more)
                .await
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(left)
}

/// Books so much more in one bucket, as an attempt of somebody else's would.
async fn book(
    ledger: &Ledger,
    call: &TestCall,
    place: &Place,
    more: Usd,
) -> Result<(), LedgerError> {
    let hold = Hold {
        call: Ulid::generate(),
        attempt: 0,
        at: call.at,
        app: "rules:spent".into(),
        model: call.request.model.clone(),
        tier: call.request.tier,
        credential: None,
        user: None,
        tags: None,
        held: Some(more),
        quote: Some(more),
        claims: Arc::default(),
    };
    let claim = Claim {
        budget: Arc::clone(&place.budget.key),
        bucket: Arc::clone(&place.bucket),
        since: place.period.start,
        amount: more,
    };
    let settlement = Settlement {
        at: call.at,
        outcome: Outcome::Ok,
        billed: Billed::Yes,
        charge: Some(more),
        from: ChargeFrom::List,
        images: 0,
        request_id: None,
    };
    let ticket = ledger.hold_anyway(hold, vec![claim])?;
    ledger.settle(ticket, settlement)?.durable().await?;
    ledger.flush().await
}

/// The call as an app would have sent it to the model's own provider.
fn arrive(pipeline: &Pipeline, call: &TestCall) -> Result<Arrived, String> {
    let model = &call.request.model;
    let name = model.provider();
    let provider: Arc<Provider> = pipeline
        .provider(name)
        .ok_or_else(|| format!("no provider `{name}` is configured"))?;
    let dialect = provider
        .dialect_for(model)
        .ok_or_else(|| format!("{model}: this version cannot speak to `{name}` yet"))?;
    let mut message = dialect
        .write_request(&call.request)
        .map_err(|error| format!("{model}: {error}"))?;
    dialect.authorize(&mut message.headers, KEY);
    let destination = provider
        .home()
        .cloned()
        .ok_or_else(|| format!("`{name}` has no address"))?;
    let head = RequestHead {
        method: message.method,
        host: provider.hosts.first().cloned().unwrap_or_default(),
        target: message.target,
        headers: message.headers,
    };
    let recognised: Recognised = pipeline
        .recognise(&provider, &head)
        .ok_or_else(|| format!("{model}: no app can ask for this"))?;
    let app = call.app.as_deref().unwrap_or(APP);
    Ok(Arrived {
        head: Arc::new(head),
        body: message.body.to_bytes(),
        room: Arc::new(pipeline.memory.room()),
        provider,
        destination,
        via: Via::Gateway,
        caller: Caller {
            app: Some(app.into()),
            from: CallerFrom::Header,
            tags: call.tags.iter().map(|tag| tag.as_str().into()).collect(),
        },
        told: Told {
            deadline: call.deadline,
            max_cost: call.max_cost,
            ..Told::default()
        },
        recognised,
    })
}
