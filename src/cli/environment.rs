//! The environment that brings a client behind the proxy, and the way back out of it.
//!
//! No two runtimes read the same variables: Node ignores proxies unless told otherwise, Ruby reads
//! `HTTP_PROXY` even for https, requests has its own name for a trust file, and most names for one
//! replace the client's roots instead of adding to them. The lists here are the whole of it; which
//! client reads which was measured.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::bundle::{Previous, TrustFiles};
use super::shim::Shims;

/// Where to send requests. `HTTP_PROXY` in capitals is what Ruby reads, for https too.
const PROXIES: [&str; 6] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
];
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// Trust files that a client adds to its roots.
const ADDING: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];
/// Trust files that a client takes instead of its roots.
const REPLACING: [&str; 11] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "PIP_CERT",
    "HTTPLIB2_CA_CERTS",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "PERL_LWP_SSL_CA_FILE",
];
/// Directories of roots: beside a trust file they bring nothing but surprises.
const DIRECTORIES: [&str; 1] = ["SSL_CERT_DIR"];
/// Without it Node's own clients pass the proxy by.
const NODE_SWITCH: &str = "NODE_USE_ENV_PROXY";
/// Base URLs of clients that go past every proxy, with the provider that each leads to.
const BASE_URLS: [(&str, &str); 1] = [("REPLICATE_BASE_URL", "replicate")];
/// By which shims are found.
const PYTHON_PATH: &str = "PYTHONPATH";
const NODE_OPTIONS: &str = "NODE_OPTIONS";
/// Says that a process runs behind pixtoll.
pub const ACTIVE: &str = "PIXTOLL_ACTIVE";
/// What the user had before, for the way back and for one pixtoll below another.
const SAVED: &str = "PIXTOLL_SAVED";

/// Never through any proxy: this machine and the local network's names. Without these a base URL
/// that names pixtoll would go through pixtoll to itself.
const ALWAYS_DIRECT: [&str; 4] = ["localhost", "127.0.0.1", "::1", ".local"];

/// An environment, name to value.
pub type Variables = BTreeMap<String, String>;

/// This process's environment; what is not UTF-8 is none of our variables.
pub fn current() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// What the environment shall bring about.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Where the proxy listens. An unspecified address is reached over loopback.
    pub proxy: SocketAddr,
    /// Name and tags of the app, which travel in the proxy's URL: `http://app+tag@…`.
    pub app: Option<&'a str>,
    pub tags: &'a [String],
    /// The app's token, the password in the proxy's URL. Node's clients send a name only where
    /// there is a password too.
    pub token: Option<&'a str>,
    pub trust: &'a TrustFiles,
    /// For clients that read no variables; only where they were asked for.
    pub shims: Option<&'a Shims>,
    /// Hosts that must come through the proxy.
    pub provider_hosts: &'a [String],
}

/// One variable: its new value, or `None` to take it away.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    pub name: String,
    pub value: Option<String>,
}

impl std::fmt::Debug for Change {
    /// Without the value, which may hold a password.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.value.is_some() { '+' } else { '-' };
        write!(out, "{sign}{}", self.name)
    }
}

/// A proxy that the user's environment already names: pixtoll goes on through it.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamProxy {
    /// As the user wrote it, password and all.
    pub url: String,
    /// The user's own `NO_PROXY`: hosts to reach without it.
    pub exceptions: Option<String>,
}

impl std::fmt::Debug for UpstreamProxy {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("UpstreamProxy")
            .field("url", &without_credentials(&self.url))
            .field("exceptions", &self.exceptions)
            .finish()
    }
}

/// What to change, and what to know about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    pub changes: Vec<Change>,
    /// For people, in full sentences.
    pub warnings: Vec<String>,
    pub upstream: Option<UpstreamProxy>,
}

/// Held in [`SAVED`]: enough to tell our values from those that the user sets afterwards.
#[derive(Default, Serialize, Deserialize)]
struct Saved {
    /// The names that we set.
    names: BTreeSet<String>,
    /// The values that any of them has from us.
    ours: BTreeSet<String>,
    before: Variables,
}

fn names() -> impl Iterator<Item = &'static str> {
    PROXIES
        .into_iter()
        .chain(EXCEPTIONS)
        .chain([NODE_SWITCH])
        .chain(ADDING)
        .chain(REPLACING)
        .chain(DIRECTORIES)
        .chain(BASE_URLS.map(|(name, _)| name))
        .chain([PYTHON_PATH, NODE_OPTIONS])
}

/// The environment as it was before any pixtoll changed it. What the user has set since stays.
fn before(current: &Variables) -> Variables {
    let mut original = current.clone();
    original.remove(ACTIVE);
    let Some(saved) = original.remove(SAVED) else {
        return original;
    };
    // Somebody else's text under our name tells nothing; then the environment is taken as it is.
    let saved: Saved = serde_json::from_str(&saved).unwrap_or_default();
    for name in names() {
        let ours = match current.get(name) {
            Some(value) => saved.names.contains(name) && saved.ours.contains(value),
            None => saved.before.contains_key(name),
        };
        if !ours {
            continue;
        }
        original.remove(name);
        if let Some(value) = saved.before.get(name) {
            original.insert(name.to_owned(), value.clone());
        }
    }
    original
}

/// The user's own trust files, to be merged into those that [`plan`] points clients at.
pub fn previous_trust(current: &Variables) -> Previous {
    let original = before(current);
    let files = |names: &[&str]| {
        let mut seen = BTreeSet::new();
        let paths = names.iter().filter_map(|name| set(&original, name));
        paths
            .map(PathBuf::from)
            .filter(|path| seen.insert(path.clone()))
            .collect::<Vec<_>>()
    };
    let mut replacing = files(&REPLACING);
    for dirs in DIRECTORIES.iter().filter_map(|name| set(&original, name)) {
        replacing.extend(std::env::split_paths(dirs).filter(|dir| dir.is_dir()));
    }
    Previous {
        replacing,
        adding: files(&ADDING),
    }
}

/// What to change in `current` so that what runs in it comes through the proxy. Below another
/// pixtoll, that one's changes are replaced and not built upon.
pub fn plan(current: &Variables, wanted: &Wanted<'_>) -> Environment {
    let original = before(current);
    let mut warnings = Vec::new();
    let proxy = proxy_url(wanted);
    let exceptions = exceptions(&original, wanted.provider_hosts, &mut warnings);
    let bundle = wanted.trust.bundle.display().to_string();
    let additive = wanted.trust.additive.display().to_string();

    let mut values: Vec<(&str, Option<&str>)> = Vec::new();
    values.extend(PROXIES.map(|name| (name, Some(proxy.as_str()))));
    values.extend(EXCEPTIONS.map(|name| (name, Some(exceptions.as_str()))));
    values.push((NODE_SWITCH, Some("1")));
    values.extend(ADDING.map(|name| (name, Some(additive.as_str()))));
    values.extend(REPLACING.map(|name| (name, Some(bundle.as_str()))));
    values.extend(DIRECTORIES.map(|name| (name, None)));
    let bases = base_urls(&original, wanted);
    values.extend(bases.iter().map(|(name, url)| (*name, Some(url.as_str()))));
    let shims = shims(&original, wanted);
    values.extend(
        shims
            .iter()
            .map(|(name, text)| (*name, Some(text.as_str()))),
    );

    let saved = Saved {
        names: values
            .iter()
            .filter(|(_, value)| value.is_some())
            .map(|(name, _)| (*name).to_owned())
            .collect(),
        ours: values
            .iter()
            .filter_map(|(_, value)| value.map(str::to_owned))
            .collect(),
        before: values
            .iter()
            .filter_map(|(name, _)| Some(((*name).to_owned(), original.get(*name)?.clone())))
            .collect(),
    };
    let saved = serde_json::to_string(&saved).unwrap_or_default();
    values.push((ACTIVE, Some("1")));
    values.push((SAVED, Some(&saved)));

    let upstream = upstream(&original, wanted.proxy);
    if let Some(upstream) = &upstream {
        warnings.push(format!(
            "your environment names the proxy {}: pixtoll goes on through it",
            without_credentials(&upstream.url)
        ));
    }
    // What another pixtoll set and this one does not goes back to what it was.
    for name in names().filter(|name| original.get(*name) != current.get(*name)) {
        if !values.iter().any(|(named, _)| *named == name) {
            values.push((name, original.get(name).map(String::as_str)));
        }
    }
    let change = |(name, value): (&str, Option<&str>)| Change {
        name: name.to_owned(),
        value: value.map(str::to_owned),
    };
    Environment {
        changes: values.into_iter().map(change).collect(),
        warnings,
        upstream,
    }
}

/// The proxy that `current` names without us: known before ours has an address.
pub fn upstream_proxy(current: &Variables) -> Option<UpstreamProxy> {
    upstream(&before(current), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

/// What to change in `current` to be as before [`plan`]; nothing where no pixtoll is active.
pub fn take_back(current: &Variables) -> Vec<Change> {
    let original = before(current);
    names()
        .chain([ACTIVE, SAVED])
        .filter(|name| original.get(*name) != current.get(*name))
        .map(|name| Change {
            name: name.to_owned(),
            value: original.get(name).cloned(),
        })
        .collect()
}

/// `current` with `changes` made.
pub fn apply(current: &Variables, changes: &[Change]) -> Variables {
    let mut changed = current.clone();
    for change in changes {
        match &change.value {
            Some(value) => changed.insert(change.name.clone(), value.clone()),
            None => changed.remove(&change.name),
        };
    }
    changed
}

/// A variable's value; set to nothing counts as not set.
fn set<'a>(variables: &'a Variables, name: &str) -> Option<&'a str> {
    variables
        .get(name)
        .map(|value| value.trim())
        .filter(|value| !value.is_empty())
}

/// The base URLs that lead to the gateway: none that the user has set already, and none at all
/// where a token is asked for, since a base URL has no place for it.
fn base_urls(original: &Variables, wanted: &Wanted<'_>) -> Vec<(&'static str, String)> {
    if wanted.token.is_some() {
        return Vec::new();
    }
    let app = wanted.app.map(percent_encoded);
    let app = app.map_or(String::new(), |app| format!("/@{app}"));
    let address = reachable(wanted.proxy);
    BASE_URLS
        .iter()
        .filter(|(name, _)| set(original, name).is_none())
        .map(|(name, provider)| (*name, format!("http://{address}{app}/{provider}")))
        .collect()
}

/// The variables by which runtimes load our shims.
fn shims(original: &Variables, wanted: &Wanted<'_>) -> Vec<(&'static str, String)> {
    let Some(shims) = wanted.shims else {
        return Vec::new();
    };
    vec![
        (PYTHON_PATH, shims.python_path(set(original, PYTHON_PATH))),
        (
            NODE_OPTIONS,
            shims.node_options(set(original, NODE_OPTIONS)),
        ),
    ]
}

/// An unspecified address is reached over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => {
            SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
        }
        IpAddr::V6(ip) if ip.is_unspecified() => {
            SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()))
        }
        _ => address,
    }
}

fn proxy_url(wanted: &Wanted<'_>) -> String {
    let address = reachable(wanted.proxy);
    let mut who = String::new();
    if wanted.app.is_some() || !wanted.tags.is_empty() {
        let words = std::iter::once(wanted.app.unwrap_or_default())
            .chain(wanted.tags.iter().map(String::as_str));
        who = words.map(percent_encoded).collect::<Vec<_>>().join("+");
    }
    if let Some(token) = wanted.token {
        who.push(':');
        who.push_str(&percent_encoded(token));
    }
    if !who.is_empty() {
        who.push('@');
    }
    format!("http://{who}{address}")
}

/// Everything but what a URL's user name may hold plainly (RFC 3986, unreserved).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}"); // writing to a String does not fail
        }
    }
    encoded
}

/// Our exceptions and the user's, without those that would let a provider's host pass us by.
fn exceptions(
    original: &Variables,
    provider_hosts: &[String],
    warnings: &mut Vec<String>,
) -> String {
    let users = EXCEPTIONS.iter().filter_map(|name| set(original, name));
    let users = users.flat_map(|list| list.split([',', ' ', '\t']));
    let mut kept: Vec<&str> = Vec::new();
    let mut dropped = BTreeSet::new();
    for entry in ALWAYS_DIRECT.into_iter().chain(users).map(str::trim) {
        if entry.is_empty() || kept.contains(&entry) {
            continue;
        }
        match provider_hosts.iter().find(|host| passes_by(entry, host)) {
            None => kept.push(entry),
            Some(_) if ALWAYS_DIRECT.contains(&entry) => {}
            Some(host) if dropped.insert(entry) => warnings.push(format!(
                "your NO_PROXY has `{entry}`, with which {host} would pass pixtoll by: it is left out here, \
                 and what it covers comes through pixtoll too"
            )),
            Some(_) => {}
        }
    }
    kept.join(",")
}

/// Whether any client would read `entry` as an exception for `host`. Some match the end of a name
/// without minding the dots (`ai.com` for `openai.com`), so that is what counts.
fn passes_by(entry: &str, host: &str) -> bool {
    let entry = entry.to_ascii_lowercase();
    let name = match entry.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.parse::<u16>().is_ok() => name,
        _ => &entry,
    };
    let name = name.trim_start_matches(['*', '.']).trim_end_matches('.');
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    // Nothing is left of `*`, which excepts every host.
    host.ends_with(name)
}

/// The user's own proxy, unless it is pixtoll itself.
fn upstream(original: &Variables, ours: SocketAddr) -> Option<UpstreamProxy> {
    const ORDER: [&str; 6] = [
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "http_proxy",
        "HTTP_PROXY",
    ];
    let url = ORDER.iter().find_map(|name| set(original, name))?;
    if leads_to(url, ours) {
        return None;
    }
    let exceptions = ["no_proxy", "NO_PROXY"]
        .iter()
        .find_map(|name| set(original, name));
    Some(UpstreamProxy {
        url: url.to_owned(),
        exceptions: exceptions.map(str::to_owned),
    })
}

fn leads_to(url: &str, ours: SocketAddr) -> bool {
    let Some((host, port)) = authority(url).rsplit_once(':') else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let this_machine = host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified() || ip == ours.ip());
    this_machine && port.parse() == Ok(ours.port())
}

/// Host and port of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let whole = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    whole.rsplit_once('@').map_or(whole, |(_, host)| host)
}

/// The URL fit for a message: scheme, host and port.
fn without_credentials(url: &str) -> String {
    let scheme = url.split_once("://").map_or("http", |(scheme, _)| scheme);
    format!("{scheme}://{}", authority(url))
}

/// A family of shells with one way to quote and to set a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    Sh,
    Bash,
    Zsh,
    Fish,
    #[value(alias = "pwsh")]
    Powershell,
}

impl Shell {
    /// The shell that `$SHELL` names; `Sh`, which most others read, where it names none of these.
    pub fn of(variables: &Variables) -> Shell {
        let path = set(variables, "SHELL").unwrap_or_default();
        let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
        match name.trim_end_matches(".exe") {
            "bash" => Shell::Bash,
            "zsh" => Shell::Zsh,
            "fish" => Shell::Fish,
            "pwsh" | "powershell" => Shell::Powershell,
            _ => Shell::Sh,
        }
    }

    fn set(self, name: &str, value: &str) -> String {
        match self {
            Shell::Sh | Shell::Bash | Shell::Zsh => {
                format!("export {name}='{}'", value.replace('\'', r"'\''"))
            }
            Shell::Fish => {
                let quoted = value.replace('\\', r"\\").replace('\'', r"\'");
                format!("set -gx {name} '{quoted}'")
            }
            Shell::Powershell => format!("$env:{name} = '{}'", doubled_quotes(value)),
        }
    }

    fn unset(self, name: &str) -> String {
        match self {
            Shell::Sh | Shell::Bash | Shell::Zsh => format!("unset {name}"),
            Shell::Fish => format!("set -e {name}"),
            Shell::Powershell => {
                format!("Remove-Item Env:{name} -ErrorAction SilentlyContinue")
            }
        }
    }
}

/// PowerShell ends a quoted text at typographic quotes too.
fn doubled_quotes(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, '\'' | '\u{2018}'..='\u{201B}') {
            quoted.push(letter);
        }
        quoted.push(letter);
    }
    quoted
}

/// The lines with which `shell` makes `changes`: for `eval "$(pixtoll env)"`, fish's
/// `pixtoll env | source`, PowerShell's `pixtoll env | Out-String | Invoke-Expression`.
pub fn shell_lines(shell: Shell, changes: &[Change]) -> String {
    let mut lines = String::new();
    for change in changes {
        lines.push_str(&match &change.value {
            Some(value) => shell.set(&change.name, value),
            None => shell.unset(&change.name),
        });
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests;
