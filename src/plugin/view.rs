//! What a hook sees: read-only, strict, and made only when it is looked at.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mlua::{
    Error, Lua, LuaSerdeExt, MetaMethod, Table, UserData, UserDataFields, UserDataMethods,
    UserDataRegistry, Value, Variadic,
};

use super::actions;
use super::args::show;
use super::fault::raise;
use super::money::Money;
use super::near::no_such;
use super::stage::Stage;
use super::subject::{FailureView, ResponseView, Subject};
use crate::action::{BudgetView, CallView};
use crate::bill::Quote;
use crate::dialect::picture;
use crate::image::{Image, ImageRequest, Input, InputSource};
use crate::money::Usd;
use crate::wire::Rope;

pub(super) type Got = mlua::Result<Value>;
pub(super) type Getter<T> = fn(&Lua, &T) -> Got;
/// The fields of an object: the one list that reads, complaints and type declarations go by.
pub(super) type Fields<T> = &'static [(&'static str, Getter<T>)];

/// `call`.
#[derive(Clone)]
pub(super) struct CallRef {
    pub(super) stage: Arc<Stage>,
    pub(super) run: u64,
}

impl CallRef {
    pub(super) fn view(&self) -> Result<Arc<CallView>, Error> {
        self.stage.call(self.run).map_err(Error::runtime)
    }

    fn request(&self, asked: bool) -> RequestRef {
        RequestRef {
            call: self.clone(),
            asked,
        }
    }
}

pub(super) const CALL_FIELDS: Fields<CallRef> = &[
    ("app", |lua, call| text(lua, &call.view()?.app)),
    ("tags", |lua, call| list(lua, &call.view()?.tags)),
    ("user", |lua, call| {
        opt_text(lua, call.view()?.user.as_deref())
    }),
    ("credential", |lua, call| {
        opt_text(lua, call.view()?.credential.as_deref())
    }),
    ("headers", |lua, call| {
        let view = call.view()?;
        let table = lua.create_table_from(view.headers.iter())?;
        Ok(frozen(table))
    }),
    ("at", |_, call| Ok(unix_seconds(call.view()?.at))),
    ("deadline", |_, call| Ok(seconds(call.view()?.deadline))),
    ("max_cost", |lua, call| {
        opt_money(lua, call.view()?.max_cost)
    }),
    ("via", |lua, call| text(lua, call.view()?.via.as_str())),
    ("dialect", |lua, call| text(lua, call.view()?.dialect)),
    ("sdk_retry", |_, call| Ok(count(call.view()?.sdk_retry))),
    ("asked", |lua, call| data(lua, call.request(true))),
    ("request", |lua, call| data(lua, call.request(false))),
    ("quote", |lua, call| quote(lua, call.view()?.quote.clone())),
    ("attempts", |_, call| Ok(count(call.view()?.attempts))),
    ("spent", |lua, call| money(lua, call.view()?.spent)),
];

/// Methods of `call` that are no actions.
pub(super) const CALL_METHODS: &[&str] = &["tagged", "mentions", "budget", "share", "key_present"];

/// Names of all methods of `call`.
pub(super) fn call_methods() -> Vec<&'static str> {
    let actions = actions::ACTIONS.iter().map(|(name, ..)| *name);
    CALL_METHODS.iter().copied().chain(actions).collect()
}

impl UserData for CallRef {
    /// Method calls go straight to the method: the way over `__index` costs more than most of them.
    fn register(registry: &mut UserDataRegistry<Self>) {
        registry.enable_namecall();
        Self::add_fields(registry);
        Self::add_methods(registry);
    }

    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "call");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("tagged", |_, call, tag: String| {
            Ok(call.view()?.tags.iter().any(|own| **own == *tag))
        });
        methods.add_method("mentions", mentions);
        methods.add_method("budget", |lua, call, name: String| {
            let view = call.view()?;
            let Some(funds) = &view.world.funds else {
                return Ok(Value::Nil);
            };
            let found = funds.budget(&name, &view).map_err(|names| {
                let path = format!("call:budget(\"{name}\")");
                raise(
                    lua,
                    match names.is_empty() {
                        true => format!("`{path}`: no such budget; none stands under `budgets`"),
                        false => no_such(&path, "budget", &name, names.iter().map(|name| &**name)),
                    },
                )
            });
            budget(lua, found?)
        });
        methods.add_method("share", |lua, call, (part, salt): (f64, Option<String>)| {
            if !(0.0..=1.0).contains(&part) {
                return Err(raise(
                    lua,
                    format!("call:share takes a part from 0 to 1, it is {part}"),
                ));
            }
            Ok(falls_in(
                &*call.view()?,
                part,
                salt.as_deref().unwrap_or_default(),
            ))
        });
        methods.add_method("key_present", |_, call, provider: String| {
            let call = call.view()?;
            // A call to its own provider takes the app's own key along.
            Ok(call.asked.model.provider() == provider || call.world.keys.contains(&provider))
        });
        actions::add(methods);
        strict(methods, "call", &[CALL_FIELDS], call_methods);
    }
}

/// Whether a word stands in the prompt as a whole word, in any case. The first word is an argument of
/// its own: mlua takes that from the stack as it is, and a list of any length over a detour that costs
/// more than the search.
fn mentions(
    lua: &Lua,
    call: &CallRef,
    (first, more): (Option<String>, Variadic<String>),
) -> Result<bool, Error> {
    let words = || first.iter().chain(more.iter());
    if first.is_none() || words().any(|word| word.trim_ascii().is_empty()) {
        return Err(raise(
            lua,
            "call:mentions wants at least one word, like call:mentions(\"icon\")",
        ));
    }
    call.stage
        .in_prompt(call.run, |prompt| {
            words().any(|word| {
                // Most rules write their words in small ASCII letters already.
                let small = |b: u8| b.is_ascii() && !b.is_ascii_uppercase();
                match word.bytes().all(small) {
                    true => prompt.has(word),
                    false => prompt.has(&word.to_lowercase()),
                }
            })
        })
        .map_err(Error::runtime)
}

/// The same for equal calls: where the digest of call and salt falls between 0 and 1.
fn falls_in(call: &CallView, part: f64, salt: &str) -> bool {
    let place = xxhash_rust::xxh3::xxh3_64_with_seed(salt.as_bytes(), call.share_seed);
    // The upper 53 bits are what a number can hold exactly.
    ((place >> 11) as f64 / (1u64 << 53) as f64) < part
}

/// `call.request` and `call.asked`.
#[derive(Clone)]
pub(super) struct RequestRef {
    call: CallRef,
    asked: bool,
}

impl RequestRef {
    /// The request itself, for helpers that price it.
    pub(super) fn clone_request(&self) -> Result<ImageRequest, Error> {
        self.with(|request, _| Ok(request.clone()))
    }

    fn with<T>(
        &self,
        read: impl FnOnce(&ImageRequest, (u32, u32)) -> Result<T, Error>,
    ) -> mlua::Result<T> {
        let call = self.call.view()?;
        if self.asked {
            read(
                &call.asked,
                call.asked.pixels().unwrap_or(call.asked_pixels),
            )
        } else {
            read(&call.request, call.request.pixels().unwrap_or(call.pixels))
        }
    }

    fn text(&self, lua: &Lua, read: impl FnOnce(&ImageRequest) -> &str) -> Got {
        self.with(|request, _| text(lua, read(request)))
    }

    fn maybe(&self, lua: &Lua, read: impl FnOnce(&ImageRequest) -> Option<&str>) -> Got {
        self.with(|request, _| opt_text(lua, read(request)))
    }

    fn number(&self, read: impl FnOnce(&ImageRequest) -> Option<f64>) -> Got {
        self.with(|request, _| Ok(read(request).map_or(Value::Nil, Value::Number)))
    }
}

pub(super) const REQUEST_FIELDS: Fields<RequestRef> = &[
    ("operation", |lua, r| r.text(lua, |q| q.operation.as_str())),
    ("prompt", |lua, r| r.text(lua, |q| &q.prompt)),
    ("negative_prompt", |lua, r| {
        r.maybe(lua, |q| q.negative_prompt.as_deref())
    }),
    ("model", |lua, r| r.text(lua, |q| q.model.as_str())),
    ("provider", |lua, r| r.text(lua, |q| q.model.provider())),
    ("size", |lua, r| {
        r.with(|q, _| text(lua, &q.size.to_string()))
    }),
    ("width", |_, r| r.with(|_, (width, _)| Ok(count(width)))),
    ("height", |_, r| r.with(|_, (_, height)| Ok(count(height)))),
    ("pixels", |_, r| {
        r.with(|_, (width, height)| Ok(Value::Number(f64::from(width) * f64::from(height))))
    }),
    ("aspect", |lua, r| {
        r.with(|q, (width, height)| {
            let aspect = q
                .aspect()
                .unwrap_or_else(|| crate::image::Aspect::of(width, height));
            text(lua, &aspect.to_string())
        })
    }),
    ("quality", |lua, r| {
        r.maybe(lua, |q| q.quality.map(|w| w.as_str()))
    }),
    ("style", |lua, r| r.maybe(lua, |q| q.style.as_deref())),
    ("background", |lua, r| {
        r.maybe(lua, |q| q.background.as_deref())
    }),
    ("n", |_, r| r.number(|q| Some(f64::from(q.n)))),
    ("seed", |_, r| r.number(|q| q.seed.map(|seed| seed as f64))),
    ("steps", |_, r| r.number(|q| q.steps.map(f64::from))),
    ("guidance", |_, r| {
        r.number(|q| q.guidance.as_ref()?.as_f64())
    }),
    ("strength", |_, r| {
        r.number(|q| q.strength.as_ref()?.as_f64())
    }),
    ("safety", |lua, r| {
        r.maybe(lua, |q| q.safety.map(|w| w.as_str()))
    }),
    ("tier", |lua, r| r.text(lua, |q| q.tier.as_str())),
    ("format", |lua, r| {
        r.maybe(lua, |q| q.format.map(|w| w.as_str()))
    }),
    ("compression", |_, r| {
        r.number(|q| q.compression.map(f64::from))
    }),
    ("delivery", |lua, r| r.text(lua, |q| q.delivery.as_str())),
    ("stream", |_, r| r.with(|q, _| Ok(Value::Boolean(q.stream)))),
    ("user", |lua, r| r.maybe(lua, |q| q.user.as_deref())),
    ("inputs", |lua, r| r.with(|q, _| inputs(lua, &q.inputs))),
    ("extra", |lua, r| {
        r.with(|q, _| {
            let plain = mlua::serde::ser::Options::new()
                .set_array_metatable(false)
                .serialize_none_to_null(false)
                .serialize_unit_to_null(false);
            let value = lua.to_value_with(&q.extra, plain)?;
            freeze(&value)?;
            Ok(value)
        })
    }),
];

/// What `call.asked` has besides the fields of a request.
pub(super) const ASKED_FIELDS: Fields<RequestRef> = &[("quote", |lua, request| {
    if !request.asked {
        return Err(Error::runtime(
            "`request.quote`: no such field; the price of the request as it stands is `call.quote`",
        ));
    }
    quote(lua, request.call.view()?.asked_quote.clone())
})];

impl UserData for RequestRef {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "request");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        strict(methods, "request", &[REQUEST_FIELDS, ASKED_FIELDS], none);
    }
}

fn inputs(lua: &Lua, inputs: &[Input]) -> Got {
    let all = lua.create_table_with_capacity(inputs.len(), 0)?;
    for input in inputs {
        let one = lua.create_table()?;
        one.raw_set("role", input.role.as_str())?;
        one.raw_set("format", input.format.as_str())?;
        one.raw_set("name", input.name.as_deref())?;
        match &input.source {
            InputSource::Bytes(bytes) => {
                one.raw_set("from", "upload")?;
                one.raw_set("bytes", bytes.len())?;
            }
            InputSource::Url(_) => one.raw_set("from", "url")?,
            InputSource::FileId(_) => one.raw_set("from", "file")?,
        }
        one.set_readonly(true);
        all.raw_push(one)?;
    }
    Ok(frozen(all))
}

/// A price that Lua holds.
pub(super) struct QuoteRef(Arc<Quote>);

pub(super) const QUOTE_FIELDS: Fields<QuoteRef> = &[
    ("low", |lua, q| money(lua, q.0.low)),
    ("expected", |lua, q| money(lua, q.0.expected)),
    ("high", |lua, q| money(lua, q.0.high)),
    ("lines", |lua, q| {
        let all = lua.create_table_with_capacity(q.0.lines.len(), 0)?;
        for line in &q.0.lines {
            let one = lua.create_table()?;
            one.raw_set("what", line.what)?;
            one.raw_set("count", line.count as f64)?;
            one.raw_set("amount", Money(line.amount))?;
            one.set_readonly(true);
            all.raw_push(one)?;
        }
        Ok(frozen(all))
    }),
];

impl UserData for QuoteRef {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "quote");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        strict(methods, "quote", &[QUOTE_FIELDS], none);
    }
}

/// A budget as values: what `call:budget` returns, and what `on_budget` is called with.
#[derive(Clone)]
pub(super) struct Budget(Arc<BudgetView>);

pub(super) const BUDGET_FIELDS: Fields<Budget> = &[
    ("name", |lua, b| text(lua, &b.0.name)),
    ("limit", |lua, b| money(lua, b.0.limit)),
    ("spent", |lua, b| money(lua, b.0.spent)),
    ("held", |lua, b| money(lua, b.0.held)),
    ("left", |lua, b| money(lua, b.0.left())),
    ("used", |_, b| Ok(Value::Number(b.0.used()))),
    ("resets_at", |_, b| {
        Ok(b.0.resets_at.map_or(Value::Nil, unix_seconds))
    }),
];

impl UserData for Budget {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "budget");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        strict(methods, "budget", &[BUDGET_FIELDS], none);
    }
}

/// A budget for Lua.
pub(super) fn budget(lua: &Lua, view: Option<Arc<BudgetView>>) -> Got {
    view.map_or(Ok(Value::Nil), |view| data(lua, Budget(view)))
}

/// `failure`.
pub(super) struct FailureRef(pub(super) Arc<Stage>, pub(super) u64);

impl FailureRef {
    fn view(&self) -> Result<Arc<FailureView>, Error> {
        let found = self.0.of_run(self.1, |subject| match subject {
            Subject::Failure(_, failure) => Some(Arc::clone(failure)),
            _ => None,
        });
        found.map_err(Error::runtime)
    }
}

pub(super) const FAILURE_FIELDS: Fields<FailureRef> = &[
    ("kind", |lua, f| text(lua, f.view()?.failure.kind.as_str())),
    ("sent", |lua, f| text(lua, f.view()?.failure.sent.as_str())),
    ("billed", |lua, f| {
        text(lua, f.view()?.failure.billed.as_str())
    }),
    ("charge", |lua, f| opt_money(lua, f.view()?.failure.charge)),
    ("model", |lua, f| text(lua, f.view()?.model.as_str())),
    ("tier", |lua, f| text(lua, f.view()?.tier.as_str())),
    ("status", |_, f| {
        Ok(f.view()?.failure.status.map_or(Value::Nil, count))
    }),
    ("code", |lua, f| {
        opt_text(lua, f.view()?.failure.code.as_deref())
    }),
    ("message", |lua, f| text(lua, &f.view()?.failure.message)),
    ("retry_after", |_, f| {
        Ok(seconds(f.view()?.failure.retry_after))
    }),
    ("attempt", |_, f| Ok(count(f.view()?.attempt))),
    ("times", |_, f| Ok(count(f.view()?.times))),
    ("ms", |_, f| Ok(Value::Number(f.view()?.ms as f64))),
    ("images", |_, f| Ok(count(f.view()?.failure.images))),
    ("safety", |lua, f| {
        let view = f.view()?;
        let Some(block) = &view.failure.safety else {
            return Ok(Value::Nil);
        };
        let table = lua.create_table()?;
        table.raw_set("at", block.at.map(|stage| stage.as_str()))?;
        table.raw_set("categories", list(lua, &block.categories)?)?;
        Ok(frozen(table))
    }),
];

impl UserData for FailureRef {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "failure");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        strict(methods, "failure", &[FAILURE_FIELDS], none);
    }
}

/// `response`.
pub(super) struct ResponseRef(pub(super) Arc<Stage>, pub(super) u64);

impl ResponseRef {
    fn view(&self) -> Result<Arc<ResponseView>, Error> {
        let found = self.0.of_run(self.1, |subject| match subject {
            Subject::Response(_, response) => Some(Arc::clone(response)),
            _ => None,
        });
        found.map_err(Error::runtime)
    }
}

pub(super) const RESPONSE_FIELDS: Fields<ResponseRef> = &[
    ("model", |lua, r| text(lua, r.view()?.model.as_str())),
    ("cached", |_, r| Ok(Value::Boolean(r.view()?.cached))),
    ("images", |lua, r| {
        let view = r.view()?;
        let all = lua.create_table_with_capacity(view.images.len(), 0)?;
        for image in &view.images {
            all.raw_push(lua.create_userdata(ImageRef(image.clone()))?)?;
        }
        Ok(frozen(all))
    }),
    ("quote", |lua, r| quote(lua, r.view()?.quote.clone())),
    ("charge", |lua, r| opt_money(lua, r.view()?.charge)),
    ("charge_from", |lua, r| {
        text(lua, r.view()?.charge_from.as_str())
    }),
    ("discrepancy", |lua, r| {
        opt_money(lua, r.view()?.discrepancy)
    }),
    ("lost", |lua, r| list(lua, &r.view()?.lost)),
    ("ms", |_, r| Ok(Value::Number(r.view()?.ms as f64))),
];

impl UserData for ResponseRef {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "response");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        strict(methods, "response", &[RESPONSE_FIELDS], none);
    }
}

/// One of `response.images`: facts, worked out only when they are looked at.
pub(super) struct ImageRef(Image);

pub(super) const IMAGE_FIELDS: Fields<ImageRef> = &[
    ("width", |_, i| Ok(i.0.width.map_or(Value::Nil, count))),
    ("height", |_, i| Ok(i.0.height.map_or(Value::Nil, count))),
    ("format", |lua, i| text(lua, i.0.format.as_str())),
    ("bytes", |_, i| {
        let raw = picture::raw(&i.0.picture).ok();
        Ok(raw.map_or(Value::Nil, |raw| Value::Number(raw.len() as f64)))
    }),
    ("digest", |lua, i| {
        let raw = picture::raw(&i.0.picture).ok();
        opt_text(lua, raw.map(|raw| digest(&raw)).as_deref())
    }),
];

impl UserData for ImageRef {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "image");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        strict(methods, "image", &[IMAGE_FIELDS], none);
    }
}

/// Sixteen hex digits that equal pictures have in common.
fn digest(raw: &Rope) -> String {
    let mut hasher = blake3::Hasher::new();
    for piece in raw.pieces() {
        hasher.update(piece);
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Answers for every field by name; whatever else is asked for is a mistake.
pub(super) fn strict<T: 'static, M: UserDataMethods<T>>(
    methods: &mut M,
    object: &'static str,
    fields: &'static [Fields<T>],
    methods_too: fn() -> Vec<&'static str>,
) {
    let all = move || fields.iter().flat_map(|fields| fields.iter());
    methods.add_meta_method(MetaMethod::Index, move |lua, this, key: String| -> Got {
        if let Some((_, get)) = all().find(|(name, _)| *name == key) {
            // An error of a getter is a sentence; where it stands is added here.
            return get(lua, this).map_err(|error| match error {
                Error::RuntimeError(why) => raise(lua, why),
                other => other,
            });
        }
        let names: Vec<&str> = all().map(|(name, _)| *name).chain(methods_too()).collect();
        let path = format!("{object}.{key}");
        Err(raise(lua, no_such(&path, "field", &key, names)))
    });
    methods.add_meta_method(
        MetaMethod::NewIndex,
        move |lua, _, (key, _): (Value, Value)| -> mlua::Result<()> {
            let what = format!(
                "`{object}` is read-only: {} cannot be set, return call:change{{…}} instead",
                show(&key)
            );
            Err(raise(lua, what))
        },
    );
}

/// An object without methods.
pub(super) fn none() -> Vec<&'static str> {
    Vec::new()
}

pub(super) fn text(lua: &Lua, text: &str) -> Got {
    lua.create_string(text).map(Value::String)
}

fn opt_text(lua: &Lua, maybe: Option<&str>) -> Got {
    maybe.map_or(Ok(Value::Nil), |some| text(lua, some))
}

pub(super) fn count(number: impl Into<f64>) -> Value {
    Value::Number(number.into())
}

fn seconds(duration: Option<Duration>) -> Value {
    duration.map_or(Value::Nil, |d| Value::Number(d.as_secs_f64()))
}

fn data(lua: &Lua, object: impl UserData + Send + Sync + 'static) -> Got {
    lua.create_userdata(object).map(Value::UserData)
}

fn money(lua: &Lua, usd: Usd) -> Got {
    data(lua, Money(usd))
}

fn opt_money(lua: &Lua, usd: Option<Usd>) -> Got {
    usd.map_or(Ok(Value::Nil), |usd| money(lua, usd))
}

pub(super) fn quote(lua: &Lua, quote: Option<Arc<Quote>>) -> Got {
    quote.map_or(Ok(Value::Nil), |quote| data(lua, QuoteRef(quote)))
}

fn list(lua: &Lua, items: &[impl AsRef<str>]) -> Got {
    lua.create_sequence_from(items.iter().map(AsRef::as_ref))
        .map(frozen)
}

fn frozen(table: Table) -> Value {
    table.set_readonly(true);
    Value::Table(table)
}

/// Freezes a table and all that is in it.
pub(super) fn freeze(value: &Value) -> Result<(), Error> {
    let Value::Table(table) = value else {
        return Ok(());
    };
    for pair in table.pairs::<Value, Value>() {
        freeze(&pair?.1)?;
    }
    table.set_readonly(true);
    Ok(())
}

/// Unix time in seconds, to the millisecond.
fn unix_seconds(at: Timestamp) -> Value {
    Value::Number(at.as_millisecond() as f64 / 1000.0)
}
