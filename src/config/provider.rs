//! Who makes images, where, and with which key: the table of the release with what the
//! configuration says laid over it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::address::{Upstream, host_name};
use super::problem::{Place, Problem, nearest};
use super::providers::{self, KNOWN, Known};
use super::raw::{Field, RawLimits, RawProvider};
use super::read::Reader;
use crate::image::{ImageRequest, ModelId};
use crate::secret::Secret;

/// A company or server that makes images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    pub name: String,
    /// The wire formats that it speaks; none: this release cannot read its messages, and its calls
    /// pass through. The first that claims a message reads it, the first that serves a model words
    /// its requests.
    pub dialects: Vec<&'static str>,
    /// Hosts to intercept, lower case; none for a server that is reached by base URL only.
    pub hosts: Vec<String>,
    /// Configured: everything for this provider goes there.
    pub upstream: Option<Upstream>,
    /// Where a call goes that a rule sends here, unless `upstream` says otherwise. An app's own
    /// call goes where the app addressed it.
    pub default_upstream: Option<Upstream>,
    /// For calls that a rule sends here; an app's own key passes through.
    pub api_key: Option<Secret>,
    pub limits: Limits,
    /// The model behind each deployment, where models go by names of the account's own (Azure).
    pub deployments: BTreeMap<String, String>,
    /// Before anything is sent, the provider is asked what it will cost.
    pub ask_quote: bool,
    /// The region and the licence that its prices are read for.
    pub region: Option<Named>,
    pub licence: Option<Named>,
    /// Where its prices depend on how much was bought in the month: who counts.
    pub volume: Option<Volume>,
}

/// A name that the price book must know, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub place: Place,
}

/// Pictures bought from a provider in the calendar month, UTC: those of the ledger, and so many
/// besides that others buy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub besides: u64,
    pub place: Place,
}

/// Bounds on what is sent to a provider, an instance of pixtoll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests at the same time.
    pub concurrent: Option<u32>,
    pub per_minute: Option<u32>,
}

impl Provider {
    /// Where a routed call goes; `None` when the configuration must say so first.
    pub fn target(&self) -> Option<&Upstream> {
        self.upstream.as_ref().or(self.default_upstream.as_ref())
    }

    /// The one server that `api_key` may be sent to.
    pub fn key_upstream(&self) -> Option<&Upstream> {
        self.api_key.as_ref().and_then(|_| self.target())
    }

    fn known(known: &Known) -> Provider {
        Provider {
            name: known.name.to_owned(),
            dialects: known.dialects.to_vec(),
            hosts: known.all_hosts().collect(),
            upstream: None,
            default_upstream: known.upstream.map(Upstream::https),
            api_key: None,
            limits: Limits::default(),
            deployments: BTreeMap::new(),
            ask_quote: false,
            region: None,
            licence: None,
            volume: None,
        }
    }
}

/// All providers, found by name and by host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Providers {
    by_name: BTreeMap<String, Provider>,
    /// Host, lower case, to provider's name.
    by_host: HashMap<String, String>,
}

impl Default for Providers {
    /// Those that the release knows, without any key.
    fn default() -> Providers {
        let mut providers = Providers {
            by_name: BTreeMap::new(),
            by_host: HashMap::new(),
        };
        for known in KNOWN {
            providers.put(Provider::known(known));
        }
        providers
    }
}

impl Providers {
    /// The provider of that name.
    pub fn get(&self, name: &str) -> Option<&Provider> {
        self.by_name.get(name)
    }

    /// The provider that has that very host, any case, with or without a final dot.
    pub fn of_host(&self, host: &str) -> Option<&Provider> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let host = match host.bytes().any(|b| b.is_ascii_uppercase()) {
            true => Cow::Owned(host.to_ascii_lowercase()),
            false => Cow::Borrowed(host),
        };
        self.by_host
            .get(&*host)
            .and_then(|name| self.by_name.get(name))
    }

    /// Every provider, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.by_name.values()
    }

    /// Adds a provider, in place of the one that had its name. Its hosts become its own.
    pub fn put(&mut self, provider: Provider) {
        self.by_host.retain(|_, name| *name != provider.name);
        for host in &provider.hosts {
            self.by_host
                .insert(host.to_ascii_lowercase(), provider.name.clone());
        }
        self.by_name.insert(provider.name.clone(), provider);
    }

    /// Hosts that TLS can be ended for, sorted: names, no IP addresses.
    pub fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<String> = self
            .by_host
            .keys()
            .filter(|host| host.parse::<std::net::IpAddr>().is_err())
            .cloned()
            .collect();
        hosts.sort_unstable();
        hosts
    }
}

/// Reads `providers`, and the usual variables of those it does not give a key.
pub(super) fn providers(field: Option<&Field<'_>>, reader: &mut Reader<'_>) -> Providers {
    let mut providers = Providers::default();
    let mut problems = Vec::new();
    let entries = field.map_or_else(Vec::new, |field| field.entries(&mut problems));
    reader.problems.append(&mut problems);
    for (name, field) in entries {
        if let Some(provider) = provider(name, &field, &providers, reader) {
            providers.put(provider);
        }
    }
    usual_keys(&mut providers, reader);
    usual_addresses(&mut providers, reader);
    providers
}

/// Hosts from the variables that the providers' own tools read an address from. What cannot be an
/// address is theirs to complain about, and a host that the configuration gives to somebody stays
/// theirs.
fn usual_addresses(providers: &mut Providers, reader: &Reader<'_>) {
    for known in KNOWN {
        let told = known.address_from.iter().find_map(|variable| {
            let told = (reader.around.env)(variable)?;
            let (_, rest) = told.trim().split_once("://")?;
            let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
            host_name(host).ok()
        });
        let Some(host) = told.filter(|host| providers.of_host(host).is_none()) else {
            continue;
        };
        let Some(mut provider) = providers.get(known.name).cloned() else {
            continue;
        };
        provider
            .default_upstream
            .get_or_insert_with(|| Upstream::https(&host));
        provider.hosts.push(host);
        providers.put(provider);
    }
}

fn provider(
    name: &str,
    field: &Field<'_>,
    all: &Providers,
    reader: &mut Reader<'_>,
) -> Option<Provider> {
    let raw = RawProvider::read(field, &mut reader.problems);
    let known = all.get(name).cloned();
    let is_known = known.is_some();
    if !is_known && !is_new_name(name, field, &raw, all, reader) {
        return None;
    }
    let mut provider = known.unwrap_or_else(|| Provider::known(&Known::NOTHING));
    provider.name = name.to_owned();
    if let Some(field) = &raw.dialect {
        let named = dialects(field, reader);
        if !named.is_empty() {
            provider.dialects = named;
        }
    }
    if let Some(field) = &raw.hosts {
        hosts(field, &mut provider, all, reader);
    }
    if let Some(field) = &raw.upstream {
        provider.upstream = reader.server(field, "https://api.openai.com");
    }
    if let Some(field) = &raw.api_key {
        provider.api_key = reader.secret(field, "${OPENAI_API_KEY}");
        key_over_plain_http(field, &provider, reader);
    }
    if let Some(field) = &raw.limits {
        provider.limits = limits(field, reader);
    }
    if let Some(field) = &raw.deployments {
        deployments(field, &mut provider, reader);
    }
    prices(&raw, &mut provider, reader);
    if provider.default_upstream.is_none() {
        provider.default_upstream = provider.hosts.first().map(|host| Upstream::https(host));
    }
    if !is_known && raw.hosts.is_none() && raw.upstream.is_none() {
        reader.missing(
            field,
            "hosts",
            "name the hosts to intercept (`hosts: [sd.studio.lan]`), or where it is (`upstream: http://10.0.0.7:7860`), or both",
        );
    }
    Some(provider)
}

/// What its prices depend on.
fn prices(raw: &RawProvider<'_>, provider: &mut Provider, reader: &mut Reader<'_>) {
    if let Some(field) = &raw.ask_quote {
        provider.ask_quote = reader.truth(field).unwrap_or(false);
        if provider.ask_quote && !provider.dialects.iter().any(|name| quotes(name)) {
            let why = format!("`{}` gives no quote for nothing", provider.name);
            let givers = providers::dialects().filter(|name| quotes(name));
            let givers: Vec<&str> = givers.collect();
            let remedy = format!("take it out; who speaks {} can be asked", givers.join(", "));
            reader.bad(field, why, remedy);
        }
    }
    let mut named = |field: Option<&Field<'_>>, example| {
        let field = field?;
        Some(Named {
            name: reader.text(field, example)?,
            place: field.place().clone(),
        })
    };
    provider.region = named(raw.region.as_ref(), "europe-west4");
    provider.licence = named(raw.licence.as_ref(), "extended");
    provider.volume = raw.volume.as_ref().and_then(|field| {
        let besides = reader.parsed(field, "ledger", |text| match text.trim() {
            "ledger" => Ok(0),
            text => text
                .parse()
                .map_err(|_| "is neither `ledger` nor a number of pictures".to_owned()),
        })?;
        Some(Volume {
            besides,
            place: field.place().clone(),
        })
    });
}

/// Whether a dialect has a way to ask for a price.
fn quotes(dialect: &str) -> bool {
    let any = ImageRequest::new(ModelId::new(dialect, "any"), "any");
    let dialect = crate::dialect::by_name(dialect);
    dialect.is_some_and(|dialect| dialect.write_question(&any).is_some())
}

/// Whether an unknown name is a provider of the user's own, and not a slip.
fn is_new_name(
    name: &str,
    field: &Field<'_>,
    raw: &RawProvider<'_>,
    all: &Providers,
    reader: &mut Reader<'_>,
) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    // The unprefixed path of the gateway is OpenAI's: no provider may take its first part.
    if name.is_empty() || name == "v1" || !name.bytes().all(is_word) {
        let message = format!("`{name}` cannot be a provider's name");
        reader.problems.push(
            Problem::at(field.key_place, "bad_value", message).remedy(
                "use small letters, digits, `-` and `_`: it stands in model names and in base URLs; `v1` is taken",
            ),
        );
        return false;
    }
    if raw.dialect.is_some() {
        return true;
    }
    let message = format!("`{name}` is no provider that this release knows");
    let own = format!(
        "a provider of your own says what it speaks: `dialect: {}`",
        spoken("` or `dialect: ")
    );
    let remedy = match nearest(name, all.iter().map(|provider| provider.name.as_str())) {
        Some(near) => format!("did you mean `{near}`? If not, {own}"),
        None => own,
    };
    reader
        .problems
        .push(Problem::at(field.key_place, "unknown_provider", message).remedy(remedy));
    false
}

/// One dialect by name, or a list of them.
fn dialects(field: &Field<'_>, reader: &mut Reader<'_>) -> Vec<&'static str> {
    let items = reader.items(field, "openai");
    items
        .iter()
        .filter_map(|item| dialect(item, reader))
        .collect()
}

/// The names of all dialects, with `between` between them.
fn spoken(between: &str) -> String {
    providers::dialects().collect::<Vec<_>>().join(between)
}

fn dialect(field: &Field<'_>, reader: &mut Reader<'_>) -> Option<&'static str> {
    let written = reader.text(field, "openai")?;
    let found = providers::dialects().find(|name| *name == written);
    if found.is_none() {
        let all = spoken(", ");
        let why = format!("this release does not speak `{written}`");
        let remedy = match nearest(&written, providers::dialects()) {
            Some(near) => format!("did you mean `{near}`? It speaks {all}"),
            None => format!("it speaks {all}"),
        };
        reader.bad(field, why, remedy);
    }
    found
}

/// Adds the configured hosts to those that are known.
fn hosts(field: &Field<'_>, provider: &mut Provider, all: &Providers, reader: &mut Reader<'_>) {
    for item in reader.items(field, "[sd.studio.lan]") {
        let Some(host) = reader.parsed(&item, "[sd.studio.lan]", host_name) else {
            continue;
        };
        if let Some(owner) = all
            .of_host(&host)
            .filter(|owner| owner.name != provider.name)
        {
            let why = format!("`{host}` is a host of `{}` already", owner.name);
            let remedy = format!(
                "configure `providers.{}` instead, or take the host out",
                owner.name
            );
            reader.bad(&item, why, remedy);
            continue;
        }
        if host.parse::<std::net::IpAddr>().is_ok() {
            reader.warn(
                &item,
                "address_as_host",
                format!("no certificate is made for the IP address {host}"),
                "plain HTTP works; for TLS reach it by base URL, or give it a name",
            );
        }
        if !provider.hosts.contains(&host) {
            provider.hosts.push(host);
        }
    }
}

/// The dialects of providers whose models are deployed under names of one's own.
const DEPLOYED: &str = "azure";

/// Reads `deployments`: the model behind each name.
fn deployments(field: &Field<'_>, provider: &mut Provider, reader: &mut Reader<'_>) {
    if !provider.dialects.contains(&DEPLOYED) {
        let why = format!(
            "`{}` has no deployments: its models go by their own names",
            provider.name
        );
        let remedy = format!("take it out; only providers with `dialect: {DEPLOYED}` have them");
        return reader.bad(field, why, remedy);
    }
    let mut problems = Vec::new();
    let entries = field.entries(&mut problems);
    reader.problems.append(&mut problems);
    for (deployment, field) in entries {
        let Some(model) = reader.text(&field, "gpt-image-2") else {
            continue;
        };
        let prefix = format!("{}/", provider.name);
        let model = model.strip_prefix(&prefix).unwrap_or(&model);
        if model.is_empty() || model.contains('/') {
            let why = format!("`{model}` is no model of `{}`", provider.name);
            reader.bad(
                &field,
                why,
                "write the model's own name, like `gpt-image-2`",
            );
            continue;
        }
        provider
            .deployments
            .insert(deployment.to_owned(), model.to_owned());
    }
}

fn limits(field: &Field<'_>, reader: &mut Reader<'_>) -> Limits {
    let raw = RawLimits::read(field, &mut reader.problems);
    let mut bound = |field: Option<&Field<'_>>| field.and_then(|f| reader.count(f, 1_000_000));
    Limits {
        concurrent: bound(raw.concurrent.as_ref()),
        per_minute: bound(raw.per_minute.as_ref()),
    }
}

fn key_over_plain_http(field: &Field<'_>, provider: &Provider, reader: &mut Reader<'_>) {
    if let Some(upstream) = &provider.upstream
        && provider.api_key.is_some()
        && !upstream.tls
        && !upstream.is_loopback()
    {
        reader.warn(
            field,
            "key_in_the_clear",
            format!("the key goes to {upstream} unencrypted"),
            "use an https upstream, or be sure of the network between",
        );
    }
}

/// The variables to give a key in for a try: those that are set, since an app may choose its provider
/// by them; where none is, the first of every provider.
pub fn key_variables(is_set: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let all = KNOWN.iter().flat_map(|known| known.key_from).copied();
    let set: Vec<_> = all.filter(|name| is_set(name)).collect();
    if !set.is_empty() {
        return set;
    }
    let firsts = KNOWN.iter().filter_map(|known| known.key_from.first());
    firsts.copied().collect()
}

/// Keys from the variables that the providers' own tools read.
fn usual_keys(providers: &mut Providers, reader: &mut Reader<'_>) {
    for known in KNOWN {
        let Some(provider) = providers.by_name.get_mut(known.name) else {
            continue;
        };
        if provider.api_key.is_some() {
            continue;
        }
        let found = known.key_from.iter().find_map(|variable| {
            let key = (reader.around.env)(variable)?.trim().to_owned();
            (!key.is_empty()).then_some((variable, key))
        });
        match found {
            Some((_, key)) if key.bytes().all(|b| b.is_ascii_graphic()) => {
                provider.api_key = Some(Secret::new(key));
            }
            Some((variable, _)) => reader.warnings.push(
                Problem::anywhere(
                    "bad_value",
                    format!("the environment variable {variable} holds something that no header can carry; it is left out"),
                )
                .remedy(format!("set {variable} to the key and nothing else")),
            ),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_exactly_and_in_any_case() {
        let providers = Providers::default();
        let of = |host: &str| {
            providers
                .of_host(host)
                .map(|provider| provider.name.clone())
        };
        assert_eq!(of("api.openai.com").as_deref(), Some("openai"));
        assert_eq!(of("API.OpenAI.com.").as_deref(), Some("openai"));
        assert_eq!(
            of("us-central1-aiplatform.googleapis.com").as_deref(),
            Some("google")
        );
        for other in [
            "openai.com",
            "evil-api.openai.com",
            "api.openai.com.evil.example",
            "api.openai.com..",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_provider_that_is_put_again_gives_up_its_old_hosts() {
        let mut providers = Providers::default();
        let mut moved = providers.get("stability").unwrap().clone();
        moved.hosts = vec!["stability.test".to_owned(), "10.0.0.7".to_owned()];
        providers.put(moved);
        assert!(providers.of_host("api.stability.ai").is_none());
        assert!(providers.of_host("stability.test").is_some());
        let hosts = providers.hosts();
        assert!(hosts.contains(&"stability.test".to_owned()));
        assert!(!hosts.contains(&"10.0.0.7".to_owned()));
        assert!(hosts.is_sorted());
    }
}
