//! The configuration as people write it: every key there is, and nothing about what it means.
//!
//! This is the one place that knows YAML and the keys' names. A section is read from a map of the
//! tree; keys it does not know are reported with the nearest that it does.

mod expand;
mod set;
mod tree;

pub(super) use expand::{Surroundings, expand};
pub(super) use set::set;
pub(super) use tree::{Entry, Node, Origin, Scalar, Value, parse};

use super::problem::{Place, Problem, nearest};

/// A key that was given, with its value.
#[derive(Clone)]
pub(super) struct Field<'a> {
    /// The whole key: `cache.ttl`, `budgets[0].for`.
    pub(super) path: String,
    /// Where the key itself stands; an item of a list has none of its own.
    pub(super) key_place: &'a Place,
    pub(super) node: &'a Node,
}

impl<'a> Field<'a> {
    pub(super) fn root(node: &'a Node) -> Field<'a> {
        Field {
            path: String::new(),
            key_place: &node.place,
            node,
        }
    }

    /// The value under `entry`'s key.
    pub(super) fn child(&self, entry: &'a Entry) -> Field<'a> {
        let dot = if self.path.is_empty() { "" } else { "." };
        Field {
            path: format!("{}{dot}{}", self.path, entry.key),
            key_place: &entry.place,
            node: &entry.node,
        }
    }

    /// The list's item of that index.
    pub(super) fn item(&self, index: usize, node: &'a Node) -> Field<'a> {
        Field {
            path: format!("{}[{index}]", self.path),
            key_place: &node.place,
            node,
        }
    }

    /// The key's last part.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or(&self.path)
    }

    /// Where the value stands.
    pub(super) fn place(&self) -> &'a Place {
        &self.node.place
    }

    /// The map's entries that were given a value; none when it is no map, which is reported.
    pub(super) fn entries(&self, problems: &mut Vec<Problem>) -> Vec<(&'a str, Field<'a>)> {
        match &self.node.value {
            Value::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.as_str(), self.child(entry)))
                .collect(),
            Value::Null | Value::Broken => Vec::new(),
            Value::Scalar(_) | Value::List(_) => {
                problems.push(self.not_a_map());
                Vec::new()
            }
        }
    }

    fn not_a_map(&self) -> Problem {
        let what = if self.path.is_empty() {
            "the configuration".to_owned()
        } else {
            format!("`{}`", self.path)
        };
        let message = format!("{what} should be a map, not {}", self.node.kind());
        Problem::at(self.place(), "wrong_type", message).remedy(format!(
            "write keys with their values, like {}",
            example(&self.path)
        ))
    }
}

/// What a map of that key looks like.
fn example(path: &str) -> &'static str {
    let head = path.split(['.', '[']).next().unwrap_or(path);
    MAPS.iter()
        .find(|(key, _)| *key == head)
        .map_or("listen: 127.0.0.1:8484", |(_, example)| example)
}

const MAPS: &[(&str, &str)] = &[
    ("apps", "apps: {catalog: {token: \"${CATALOG_TOKEN}\"}}"),
    (
        "providers",
        "providers: {openai: {limits: {concurrent: 20}}}",
    ),
    ("ca", "ca: {cert: my-ca.pem, key: my-ca.key}"),
    (
        "plugins",
        "plugins: [{use: retry_chain, with: {chain: [openai/gpt-image-1]}}]",
    ),
    (
        "classes",
        "classes: {draft: {models: [openai/gpt-image-1]}}",
    ),
    ("cache", "cache: {ttl: 1h}"),
    (
        "budgets",
        "budgets: [{name: daily, limit: 25.00, per: day}]",
    ),
    ("alerts", "alerts: {webhook: \"https://hooks.example/…\"}"),
    ("retry_budget", "retry_budget: {percent: 20, floor: 10}"),
    ("log_rotate", "log_rotate: {size: 64MiB, keep: 30}"),
];

/// Declares a section: a field for every key, and the list of the keys.
macro_rules! section {
    ($(#[$meta:meta])* $name:ident { $($field:ident = $key:literal,)+ }) => {
        $(#[$meta])*
        pub(super) struct $name<'a> {
            $(pub(super) $field: Option<Field<'a>>,)+
        }

        impl<'a> $name<'a> {
            pub(super) const KEYS: &'static [&'static str] = &[$($key,)+];

            /// Takes the keys out of a map; unknown ones are reported.
            pub(super) fn read(of: &Field<'a>, problems: &mut Vec<Problem>) -> $name<'a> {
                let entries = known(of, Self::KEYS, problems);
                $name {
                    $($field: take(&entries, $key),)+
                }
            }
        }
    };
}

section! {
    /// The whole file.
    Raw {
        listen = "listen",
        dashboard = "dashboard",
        open = "open",
        apps = "apps",
        public_url = "public_url",
        mode = "mode",
        providers = "providers",
        upstream_ca = "upstream_ca",
        upstream_proxy = "upstream_proxy",
        ca = "ca",
        plugins = "plugins",
        classes = "classes",
        cache = "cache",
        in_flight = "in_flight",
        budgets = "budgets",
        unpriced_hold = "unpriced_hold",
        attempts = "attempts",
        retry_budget = "retry_budget",
        job_ttl = "job_ttl",
        ledger = "ledger",
        ledger_sync = "ledger_sync",
        ledger_down = "ledger_down",
        alerts = "alerts",
        prices = "prices",
        log = "log",
        log_prompts = "log_prompts",
        log_rotate = "log_rotate",
        state_dir = "state_dir",
    }
}

section! {
    /// One of `apps`.
    RawApp { token = "token", }
}

section! {
    /// One of `providers`.
    RawProvider {
        dialect = "dialect",
        hosts = "hosts",
        upstream = "upstream",
        api_key = "api_key",
        limits = "limits",
        deployments = "deployments",
        ask_quote = "ask_quote",
        region = "region",
        licence = "licence",
        volume = "volume",
    }
}

section! {
    /// `providers.NAME.limits`.
    RawLimits {
        concurrent = "concurrent",
        per_minute = "per_minute",
    }
}

section! {
    /// `ca`.
    RawCa {
        cert = "cert",
        key = "key",
    }
}

section! {
    /// One of `plugins`, where it is more than a name.
    RawPlugin {
        plugin = "use",
        with = "with",
        on_error = "on_error",
        observe = "observe",
    }
}

section! {
    /// One of `classes`.
    RawClass {
        models = "models",
        max_cost = "max_cost",
    }
}

section! {
    /// `cache`.
    RawCache {
        memory = "memory",
        ttl = "ttl",
        unseeded_ttl = "unseeded_ttl",
        variants = "variants",
        fan_out = "fan_out",
        scope = "scope",
        disk = "disk",
        shared = "shared",
    }
}

section! {
    /// One of `budgets`.
    RawBudget {
        name = "name",
        limit = "limit",
        per = "per",
        zone = "zone",
        by = "by",
        only = "for",
        over = "over",
    }
}

section! {
    /// `budgets[].for`.
    RawFilter {
        app = "app",
        tag = "tag",
        user = "user",
        provider = "provider",
        model = "model",
        class = "class",
        credential = "credential",
    }
}

section! {
    /// `retry_budget`.
    RawRetries {
        percent = "percent",
        floor = "floor",
    }
}

section! {
    /// `alerts`.
    RawAlerts { webhook = "webhook", }
}

section! {
    /// `log_rotate`.
    RawRotate {
        size = "size",
        keep = "keep",
    }
}

/// Every section with where its keys stand: for a key that was written in the wrong one.
const SECTIONS: &[(&str, &[&str])] = &[
    ("", Raw::KEYS),
    ("apps.NAME", RawApp::KEYS),
    ("providers.NAME", RawProvider::KEYS),
    ("providers.NAME.limits", RawLimits::KEYS),
    ("ca", RawCa::KEYS),
    ("plugins[]", RawPlugin::KEYS),
    ("classes.NAME", RawClass::KEYS),
    ("cache", RawCache::KEYS),
    ("budgets[]", RawBudget::KEYS),
    ("budgets[].for", RawFilter::KEYS),
    ("retry_budget", RawRetries::KEYS),
    ("alerts", RawAlerts::KEYS),
    ("log_rotate", RawRotate::KEYS),
];

/// The map's entries with a value, after reporting keys that `keys` does not have.
fn known<'a>(
    of: &Field<'a>,
    keys: &[&str],
    problems: &mut Vec<Problem>,
) -> Vec<(&'a str, Field<'a>)> {
    let (known, unknown): (Vec<_>, Vec<_>) = of
        .entries(problems)
        .into_iter()
        .partition(|(key, _)| keys.contains(key));
    for (key, field) in unknown {
        let message = format!("unknown key `{}`", field.path);
        problems.push(
            Problem::at(field.key_place, "unknown_key", message)
                .remedy(instead(key, &of.path, keys)),
        );
    }
    known
}

/// What was probably meant by an unknown key.
fn instead(key: &str, path: &str, keys: &[&str]) -> String {
    let whole = |name: &str| match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    if let Some(near) = nearest(key, keys.iter().copied()) {
        return format!("did you mean `{}`?", whole(near));
    }
    let elsewhere = SECTIONS.iter().find(|(_, keys)| keys.contains(&key));
    if let Some((section, _)) = elsewhere {
        return match *section {
            "" => format!("`{key}` stands at the top of the file, not in `{path}`"),
            section => format!("did you mean `{section}.{key}`?"),
        };
    }
    format!("the keys here are {}", keys.join(", "))
}

fn take<'a>(entries: &[(&'a str, Field<'a>)], key: &str) -> Option<Field<'a>> {
    entries
        .iter()
        .find(|(name, field)| *name == key && !matches!(field.node.value, Value::Null))
        .map(|(_, field)| field.clone())
}

#[cfg(test)]
pub(super) fn every_key() -> impl Iterator<Item = (&'static str, &'static str)> {
    SECTIONS
        .iter()
        .flat_map(|(section, keys)| keys.iter().map(|key| (*section, *key)))
}
