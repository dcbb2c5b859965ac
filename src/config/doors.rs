//! How apps come in: addresses to listen on, names and tokens of apps, and who may do without.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::address::Upstream;
use super::problem::Problem;
use super::raw::{Field, Raw, RawApp, Value};
use super::read::Reader;
use crate::secret::Secret;

pub(super) const LISTEN: &str = "127.0.0.1:8484";
pub(super) const DASHBOARD: &str = "127.0.0.1:8485";

/// An app that the configuration names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct App {
    /// The proxy URL's password, or a base-URL call's `x-pixtoll-token`.
    pub token: Option<Secret>,
}

/// What [`doors`] reads.
pub(super) struct Doors {
    pub(super) listen: Vec<SocketAddr>,
    pub(super) dashboard: Option<SocketAddr>,
    pub(super) open: bool,
    pub(super) apps: BTreeMap<String, App>,
    pub(super) public_url: Option<Upstream>,
}

impl Default for Doors {
    fn default() -> Doors {
        let fixed = |text: &str| text.parse().expect("the defaults are addresses");
        Doors {
            listen: vec![fixed(LISTEN)],
            dashboard: Some(fixed(DASHBOARD)),
            open: false,
            apps: BTreeMap::new(),
            public_url: None,
        }
    }
}

pub(super) fn doors(raw: &Raw<'_>, reader: &mut Reader<'_>) -> Doors {
    let mut doors = Doors::default();
    if let Some(field) = &raw.open {
        doors.open = reader.truth(field).unwrap_or_default();
    }
    if let Some(field) = &raw.apps {
        doors.apps = apps(field, reader);
    }
    if let Some(field) = &raw.listen {
        doors.listen = listen(field, &doors, reader);
    }
    if let Some(field) = &raw.dashboard {
        doors.dashboard = dashboard(field, &doors, reader);
    } else if let Some(address) = doors.dashboard
        && doors.listen.iter().any(|other| clash(*other, address))
        && let Some(field) = &raw.listen
    {
        reader.bad(
            field,
            format!("{address} is the dashboard's address"),
            "choose another port, or give `dashboard` one (`dashboard: off` for none)",
        );
    }
    if let Some(field) = &raw.public_url {
        doors.public_url = reader.server(field, "http://pixtoll.lan:8484");
    }
    doors
}

/// A loopback address or any other, with its port.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some(port) = text.strip_prefix("localhost:")
        && let Ok(port) = port.parse::<u16>()
    {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    match text.parse::<u16>() {
        Ok(_) => Err("is a port without an address".to_owned()),
        Err(_) => Err("is no IP address with a port".to_owned()),
    }
}

fn listen(field: &Field<'_>, doors: &Doors, reader: &mut Reader<'_>) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for item in reader.items(field, LISTEN) {
        let Some(address) = reader.parsed(&item, LISTEN, address) else {
            continue;
        };
        if all.iter().any(|other| clash(*other, address)) {
            reader.bad(
                &item,
                format!("{address} stands here twice"),
                "keep one of the two",
            );
            continue;
        }
        if !address.ip().is_loopback() {
            must_be_guarded(&item, address, doors, reader);
        }
        all.push(address);
    }
    if all.is_empty() && matches!(&field.node.value, Value::List(items) if items.is_empty()) {
        reader.bad(
            field,
            "no address to listen on",
            format!("write `listen: {LISTEN}`"),
        );
    }
    all
}

/// Beyond this machine only apps with a token may spend, unless everybody may.
fn must_be_guarded(field: &Field<'_>, address: SocketAddr, doors: &Doors, reader: &mut Reader<'_>) {
    if doors.open {
        return;
    }
    let lacking: Vec<&str> = doors
        .apps
        .iter()
        .filter(|(_, app)| app.token.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    let why = match (doors.apps.is_empty(), lacking.as_slice()) {
        (false, []) => return,
        (true, _) => "and no app has a token".to_owned(),
        (false, names) => format!("and the app `{}` has no token", names.join("`, `")),
    };
    let message = format!(
        "`{}`: {address} can be reached from other machines, {why}",
        field.path
    );
    reader.problems.push(
        Problem::at(field.place(), "unguarded", message).remedy(format!(
            "listen on {LISTEN}, or give every app a token (`apps: {{catalog: {{token: \"${{CATALOG_TOKEN}}\"}}}}`), or say `open: true`"
        )),
    );
}

fn dashboard(field: &Field<'_>, doors: &Doors, reader: &mut Reader<'_>) -> Option<SocketAddr> {
    let read = reader.parsed(field, DASHBOARD, |text| match text {
        "off" | "false" => Ok(None),
        text => address(text).map(Some),
    })?;
    let address = read?;
    if doors.listen.iter().any(|other| clash(*other, address)) {
        reader.bad(
            field,
            format!("{address} is the proxy's own address"),
            "choose another port, or `dashboard: off`",
        );
    }
    if !address.ip().is_loopback() && !doors.open {
        let message = format!(
            "`dashboard`: {address} can be reached from other machines, and the dashboard asks nobody for a token"
        );
        reader.problems.push(
            Problem::at(field.place(), "unguarded", message).remedy(format!(
                "keep it on {DASHBOARD} and reach it through a tunnel (ssh -L 8485:{DASHBOARD} HOST), or say `open: true`"
            )),
        );
    }
    Some(address)
}

/// Whether two listeners want the same port of the same address. Port 0 is a new one each time.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    one == other && one.port() != 0
}

fn apps(field: &Field<'_>, reader: &mut Reader<'_>) -> BTreeMap<String, App> {
    let mut apps: BTreeMap<String, App> = BTreeMap::new();
    for (name, field) in field.entries(&mut reader.problems) {
        if !is_app_name(name) {
            let message = format!("`{name}` cannot be an app's name");
            reader.problems.push(
                Problem::at(field.key_place, "bad_value", message)
                    .remedy("use letters, digits, `-`, `_` and `.`: it stands in proxy URLs, where `+` and `:` have a meaning"),
            );
            continue;
        }
        let raw = RawApp::read(&field, &mut reader.problems);
        let token = raw.token.as_ref().and_then(|field| {
            let token = reader.secret(field, "\"${CATALOG_TOKEN}\"")?;
            let twin = apps
                .iter()
                .find(|(_, app)| app.token.as_ref() == Some(&token));
            if let Some((twin, _)) = twin {
                reader.bad(
                    field,
                    format!("the token is that of `{twin}`"),
                    "give each app its own, so that calls can be told apart",
                );
            }
            Some(token)
        });
        apps.insert(name.to_owned(), App { token });
    }
    apps
}

fn is_app_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
