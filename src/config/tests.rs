//! Whole configurations, right and wrong.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::raw::{Node, Value};
use super::*;
use crate::action::CacheScope;
use crate::image::ModelId;

const SAMPLE: &str = include_str!("../../examples/pixtoll.yaml");

fn env(name: &str) -> Option<String> {
    match name {
        "HOME" => Some("/home/anna".to_owned()),
        "KEY" => Some("sk-very-secret".to_owned()),
        "ODD" => Some("odd secret".to_owned()),
        _ => None,
    }
}

fn load_in(folder: &Path, text: &str, set: &[(&str, &str)]) -> Result<Loaded, Vec<Problem>> {
    let source = Source::Text {
        name: "pixtoll.yaml".to_owned(),
        text: text.to_owned(),
        folder: folder.to_owned(),
    };
    let set: Vec<(String, String)> = set
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Settings::load(&source, &set, &env)
}

fn load(text: &str) -> Result<Loaded, Vec<Problem>> {
    load_in(Path::new("/etc/pixtoll"), text, &[])
}

#[track_caller]
fn good(text: &str) -> Settings {
    let loaded = load(text).unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"));
    assert_eq!(loaded.warnings, [], "{text}");
    loaded.settings
}

/// Line, column, a part of the message, a part of the remedy.
type Expected<'a> = (u32, u32, &'a str, &'a str);

#[track_caller]
fn expect(text: &str, got: &[Problem], expected: &[Expected<'_>]) {
    assert_eq!(got.len(), expected.len(), "{text}\n{got:#?}");
    for (problem, (line, column, message, remedy)) in got.iter().zip(expected) {
        assert_eq!(
            (problem.line, problem.column),
            (Some(*line), Some(*column)),
            "{text}\n{problem:#?}"
        );
        assert!(problem.message.contains(message), "{text}\n{problem:#?}");
        let said = problem.remedy.as_deref().unwrap_or_default();
        assert!(said.contains(remedy), "{text}\n{problem:#?}");
        assert_eq!(problem.file.as_deref(), Some("pixtoll.yaml"));
    }
}

#[track_caller]
fn wrong(text: &str, expected: &[Expected<'_>]) {
    match load(text) {
        Ok(_) => panic!("nothing was found wrong with\n{text}"),
        Err(problems) => expect(text, &problems, expected),
    }
}

#[track_caller]
fn odd(text: &str, expected: &[Expected<'_>]) {
    let loaded = load(text).unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"));
    expect(text, &loaded.warnings, expected);
}

#[test]
fn an_empty_file_means_the_defaults() {
    let defaults = Settings::defaults("/home/anna/.local/state/pixtoll".into());
    for text in [
        "",
        "# nothing\n",
        "---\n",
        "cache:\n",
        "{}",
        "listen: ~\n",
        "budgets: []\nplugins: []\n",
    ] {
        assert_eq!(good(text), defaults, "{text}");
    }
    let loaded = Settings::load(&Source::Defaults, &[], &env).unwrap();
    assert_eq!(loaded.settings, defaults);
    assert_eq!(
        defaults.log,
        Some("/home/anna/.local/state/pixtoll/decisions.jsonl".into())
    );
    assert_eq!(
        defaults.ca_dir(),
        Path::new("/home/anna/.local/state/pixtoll/ca")
    );
    assert!(
        defaults
            .listen
            .iter()
            .all(|address| address.ip().is_loopback())
    );
}

#[test]
fn the_network_is_read() {
    let settings = good(
        "listen: [127.0.0.1:0, \"[::1]:9000\", localhost:9001]\ndashboard: off\nmode: observe\n\
         public_url: http://pixtoll.lan:8484\nupstream_proxy: http://me:pa%20ss@proxy.corp:3128\n\
         apps: {catalog: {token: \"${KEY}\"}, other: }\n",
    );
    let listen: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:0", "[::1]:9000", "127.0.0.1:9001"]);
    assert_eq!((settings.dashboard, settings.mode), (None, Mode::Observe));
    assert!(
        settings.apps["catalog"]
            .token
            .as_ref()
            .is_some_and(|token| token.is("sk-very-secret"))
    );
    assert_eq!(settings.apps["other"].token, None);
    let proxy = settings.upstream_proxy.unwrap();
    assert_eq!(proxy.server.to_string(), "http://proxy.corp:3128");
    assert_eq!(proxy.userinfo.unwrap().expose(), "me:pa%20ss");
}

#[test]
fn a_wider_listener_is_taken_with_tokens_or_when_it_is_open() {
    good("listen: 0.0.0.0:8484\napps: {catalog: {token: \"${KEY}\"}}");
    let open = good("listen: 0.0.0.0:8484\ndashboard: 0.0.0.0:8485\nopen: true");
    assert!(open.open);
}

#[test]
fn providers_are_laid_over_the_table() {
    let settings = good(
        "providers:\n  openai: {api_key: \"${KEY}\", limits: {concurrent: 20}}\n  \
         azure: {hosts: [Mine.openai.azure.com], dialect: openai}\n  \
         studio: {dialect: openai, hosts: [sd.studio.lan], upstream: \"http://10.0.0.7:7860\"}\n  \
         relay: {dialect: [imagen, gemini], hosts: [vertex.studio.lan]}\n  \
         stability: {upstream: \"https://stability.corp\"}\n",
    );
    let relay = settings.provider("relay").unwrap();
    assert_eq!(relay.dialects, ["imagen", "gemini"]);
    let openai = settings.provider("openai").unwrap();
    assert_eq!(openai.upstream, None);
    assert_eq!(
        openai.key_upstream(),
        Some(&Upstream::https("api.openai.com"))
    );
    assert_eq!(
        openai.limits,
        Limits {
            concurrent: Some(20),
            per_minute: None
        }
    );
    let azure = settings.provider_of_host("mine.OPENAI.azure.com").unwrap();
    assert_eq!(
        (azure.name.as_str(), azure.dialects.as_slice()),
        ("azure", ["openai"].as_slice())
    );
    assert_eq!(
        azure.target(),
        Some(&Upstream::https("mine.openai.azure.com"))
    );
    let studio = settings.provider_of_host("sd.studio.lan").unwrap();
    assert_eq!(studio.target().unwrap().to_string(), "http://10.0.0.7:7860");
    let stability = settings.provider("stability").unwrap();
    assert_eq!(stability.target(), Some(&Upstream::https("stability.corp")));
    assert_eq!(stability.key_upstream(), None);
    let hosts = settings.intercepted_hosts();
    assert!(
        hosts.contains(&"sd.studio.lan".to_owned())
            && hosts.contains(&"api.stability.ai".to_owned())
    );
}

#[test]
fn keys_come_from_the_usual_variables() {
    let env = |name: &str| match name {
        "GEMINI_API_KEY" => Some("g".to_owned()),
        "OPENAI_API_KEY" => Some(" o\n".to_owned()),
        "FAL_KEY" => Some(String::new()),
        "BFL_API_KEY" => Some("two words".to_owned()),
        other => env(other),
    };
    let loaded = Settings::load(&Source::Defaults, &[], &env).unwrap();
    let key = |name: &str| {
        let provider = loaded.settings.provider(name).unwrap();
        provider.api_key.as_ref().map(|key| key.expose().to_owned())
    };
    assert_eq!(key("google").as_deref(), Some("g"));
    assert_eq!(key("openai").as_deref(), Some("o"));
    assert_eq!((key("fal"), key("bfl")), (None, None));
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].message.contains("BFL_API_KEY"));
    assert!(!loaded.warnings[0].message.contains("two words"));
}

#[test]
fn money_is_read_exactly() {
    let settings = good(
        "classes: {draft: {models: [openai/gpt-image-2, stability/sd3.5-medium], max_cost: 0.04}}\n\
         budgets:\n  - {name: daily, limit: 25.00, per: day, zone: Europe/Berlin, by: app}\n  \
         - {name: none, limit: 0, per: total, for: {model: openai/gpt-image-2, tag: [a, b]}, over: alert}\n\
         unpriced_hold: \"$0.10\"\nattempts: 6\n",
    );
    let draft = &settings.classes["draft"];
    assert_eq!(draft.max_cost, Some(Usd::from_nano(40_000_000)));
    assert_eq!(draft.models[1], ModelId::new("stability", "sd3.5-medium"));
    let [daily, none] = settings.budgets.as_slice() else {
        panic!("two budgets were expected");
    };
    assert_eq!(
        (daily.limit, daily.per, daily.over),
        (Usd::from_nano(25_000_000_000), Per::Day, Over::Refuse)
    );
    assert_eq!(
        (daily.by, daily.zone.iana_name()),
        (Some(Dimension::App), Some("Europe/Berlin"))
    );
    assert!(daily.only.is_empty() && none.limit.is_zero());
    assert_eq!(none.only["tag"], ["a", "b"]);
    assert_eq!(none.only["model"], ["openai/gpt-image-2"]);
    assert_eq!(
        (settings.unpriced_hold, settings.attempts),
        (Usd::from_nano(100_000_000), 6)
    );
}

#[test]
fn storage_is_read() {
    let settings = good(
        "state_dir: ~/px\nledger: sqlite:book.db\nlog: off\nlog_prompts: hash\nlog_rotate: {size: 0, keep: 3}\n\
         ledger_sync: power\nledger_down: closed\njob_ttl: 2d\n\
         cache: {memory: off, ttl: 5m, disk: 1GiB, scope: everyone, variants: 3, fan_out: [], shared: \"redis://:${KEY}@r:1\"}\n",
    );
    assert_eq!(settings.state_dir, Path::new("/home/anna/px"));
    assert_eq!(settings.cache_dir(), Path::new("/home/anna/px/cache"));
    assert_eq!(
        settings.ledger,
        Ledger::Sqlite("/etc/pixtoll/book.db".into())
    );
    assert_eq!(
        (settings.log, settings.log_prompts),
        (None, LogPrompts::Hash)
    );
    assert_eq!(settings.log_rotate, LogRotate { size: 0, keep: 3 });
    assert_eq!(
        (settings.ledger_sync, settings.ledger_down),
        (LedgerSync::Power, LedgerDown::Closed)
    );
    assert_eq!(settings.job_ttl, Duration::from_secs(172_800));
    let cache = settings.cache;
    assert_eq!(
        (cache.memory, cache.disk, cache.variants),
        (0, Some(1 << 30), 3)
    );
    // What is given up sooner is given up sooner for the unseeded too.
    assert_eq!(
        (cache.ttl, cache.unseeded_ttl),
        (Duration::from_secs(300), Duration::from_secs(300))
    );
    assert_eq!(
        (cache.scope, cache.fan_out.len()),
        (CacheScope::Everyone, 0)
    );
    assert_eq!(
        cache.shared.unwrap().expose(),
        "redis://:sk-very-secret@r:1"
    );
    let shared = good("ledger: postgres://me:${KEY}@db/px");
    assert_eq!(
        shared.ledger,
        Ledger::Postgres(Secret::new("postgres://me:sk-very-secret@db/px"))
    );
}

#[test]
fn plugins_are_files_or_shipped_names() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rules")).unwrap();
    std::fs::write(dir.path().join("rules/icons.lua"), "return {}").unwrap();
    let text = "plugins:\n  - rules/icons.lua\n  - {use: retry_chain, with: {chain: [a/b], n: 2}, on_error: refuse}\n";
    let loaded = load_in(dir.path(), text, &[]).unwrap();
    let [icons, chain] = loaded.settings.plugins.as_slice() else {
        panic!("two plugins were expected");
    };
    assert_eq!(
        icons.source,
        PluginSource::File(dir.path().join("rules/icons.lua"))
    );
    assert_eq!(icons.place.as_ref().and_then(Place::line), Some(2));
    assert_eq!(
        chain.source,
        PluginSource::Shipped("retry_chain".to_owned())
    );
    assert_eq!(chain.on_error, OnError::Refuse);
    assert_eq!(
        serde_json::Value::Object(chain.with.clone()),
        serde_json::json!({"chain": ["a/b"], "n": 2})
    );
}

#[test]
fn shape_mistakes_are_named() {
    wrong(
        "- a\n",
        &[(
            1,
            1,
            "the configuration should be a map, not a list",
            "listen: 127",
        )],
    );
    wrong(
        "cache: 5\n",
        &[(
            1,
            8,
            "`cache` should be a map, not a single value",
            "cache: {ttl: 1h}",
        )],
    );
    wrong(
        "mode: [observe]\n",
        &[(
            1,
            7,
            "`mode` should be a single value, not a list",
            "`mode: enforce`",
        )],
    );
    wrong(
        "classes: {a: {models: {x: y}}}\n",
        &[(
            1,
            23,
            "`classes.a.models` should be a list, not a map",
            "openai/gpt-image-1",
        )],
    );
    wrong(
        "cache: {ttl: 1h\n",
        &[(2, 1, "this is not valid YAML", "indentation")],
    );
    wrong(
        "mode: enforce\nmode: observe\n",
        &[(
            2,
            1,
            "`mode` stands here a second time, after line 1",
            "keep one",
        )],
    );
}

#[test]
fn an_unknown_key_suggests_the_nearest() {
    wrong(
        "cache:\n  tll: 1h\nlisen: 127.0.0.1:1\n",
        &[
            (2, 3, "unknown key `cache.tll`", "did you mean `cache.ttl`?"),
            (3, 1, "unknown key `lisen`", "did you mean `listen`?"),
        ],
    );
    wrong(
        "unseeded_ttl: 1h\n",
        &[(
            1,
            1,
            "unknown key `unseeded_ttl`",
            "did you mean `cache.unseeded_ttl`?",
        )],
    );
    wrong(
        "cache: {budgets: []}\n",
        &[(
            1,
            9,
            "unknown key `cache.budgets`",
            "`budgets` stands at the top of the file",
        )],
    );
    wrong(
        "alerts: {telephone: 1}\n",
        &[(
            1,
            10,
            "unknown key `alerts.telephone`",
            "the keys here are webhook",
        )],
    );
    wrong(
        "budgets: [{name: a, limit: 1, per: day, for: {ap: x}}]\n",
        &[(
            1,
            47,
            "unknown key `budgets[0].for.ap`",
            "did you mean `budgets[0].for.app`?",
        )],
    );
}

#[test]
fn variables_that_are_not_set_are_named_once() {
    wrong(
        "providers:\n  openai:\n    api_key: ${NOPE}\nbudgets:\n  - {name: a, limit: \"${LIMIT}\", per: day}\n",
        &[
            (
                3,
                14,
                "the environment variable NOPE is not set",
                "${NOPE:-}",
            ),
            (
                5,
                22,
                "the environment variable LIMIT is not set",
                "set LIMIT",
            ),
        ],
    );
    assert_eq!(
        good("providers: {openai: {api_key: \"${NOPE:-}\"}}")
            .provider("openai")
            .unwrap()
            .api_key,
        None
    );
}

#[test]
fn wrong_doors_are_named() {
    wrong(
        "listen: 8484\n",
        &[(
            1,
            9,
            "`8484` is a port without an address",
            "`listen: 127.0.0.1:8484`",
        )],
    );
    wrong(
        "listen: example.com:80\n",
        &[(1, 9, "is no IP address with a port", "127.0.0.1:8484")],
    );
    wrong(
        "listen: []\n",
        &[(1, 9, "no address to listen on", "127.0.0.1:8484")],
    );
    wrong(
        "listen: 0.0.0.0:8484\n",
        &[(
            1,
            9,
            "can be reached from other machines, and no app has a token",
            "`open: true`",
        )],
    );
    wrong(
        "listen: [127.0.0.1:1, 10.0.0.1:1]\napps: {a: {token: t1}, b: {}}\n",
        &[(
            1,
            23,
            "and the app `b` has no token",
            "give every app a token",
        )],
    );
    wrong(
        "dashboard: 0.0.0.0:8485\n",
        &[(1, 12, "the dashboard asks nobody for a token", "ssh -L")],
    );
    wrong(
        "dashboard: 127.0.0.1:8484\n",
        &[(1, 12, "is the proxy's own address", "another port")],
    );
    wrong(
        "listen: 127.0.0.1:8485\n",
        &[(1, 9, "is the dashboard's address", "`dashboard: off`")],
    );
    wrong(
        "listen: [127.0.0.1:1, 127.0.0.1:1]\n",
        &[(1, 23, "stands here twice", "keep one")],
    );
    wrong(
        "apps: {a+b: {token: x}}\n",
        &[(
            1,
            8,
            "`a+b` cannot be an app's name",
            "`+` and `:` have a meaning",
        )],
    );
    wrong(
        "apps: {a: {token: x}, b: {token: x}}\n",
        &[(1, 34, "the token is that of `a`", "its own")],
    );
    wrong(
        "open: maybe\n",
        &[(1, 7, "`maybe` is neither true nor false", "`open: true`")],
    );
    wrong(
        "public_url: pixtoll.lan\n",
        &[(
            1,
            13,
            "has no http:// or https://",
            "http://pixtoll.lan:8484",
        )],
    );
    wrong(
        "mode: observed\n",
        &[(
            1,
            7,
            "`observed` is none of enforce, observe",
            "did you mean `observe`?",
        )],
    );
}

#[test]
fn wrong_providers_are_named() {
    wrong(
        "providers: {opnai: {api_key: x}}\n",
        &[(
            1,
            13,
            "`opnai` is no provider that this release knows",
            "did you mean `openai`?",
        )],
    );
    wrong(
        "providers: {studio: {hosts: [a.b]}}\n",
        &[(1, 13, "`studio` is no provider", "`dialect: openai`")],
    );
    wrong(
        "providers: {studio: {dialect: opena, hosts: [a.b]}}\n",
        &[(1, 31, "does not speak `opena`", "did you mean `openai`?")],
    );
    wrong(
        "providers: {studio: {dialect: openai}}\n",
        &[(
            1,
            13,
            "`providers.studio` has no `hosts`",
            "upstream: http://",
        )],
    );
    wrong(
        "providers: {v1: {dialect: openai, hosts: [a.b]}}\n",
        &[(1, 13, "`v1` cannot be a provider's name", "`v1` is taken")],
    );
    wrong(
        "providers: {openai: {upstream: \"https://x.y/v1\"}}\n",
        &[(1, 32, "has a path", "https://api.openai.com")],
    );
    wrong(
        "providers: {azure: {hosts: [\"*.openai.azure.com\"]}}\n",
        &[(1, 29, "hosts are named one by one", "sd.studio.lan")],
    );
    wrong(
        "providers: {azure: {hosts: api.openai.com}}\n",
        &[(1, 28, "is a host of `openai` already", "providers.openai")],
    );
    wrong(
        "providers: {openai: {limits: {concurrent: 0, per_minute: many}}}\n",
        &[
            (1, 43, "`0` is less than 1", "concurrent: 4"),
            (1, 58, "`many` is not a whole number", "per_minute: 4"),
        ],
    );
}

#[test]
fn wrong_classes_and_budgets_are_named() {
    wrong(
        "classes:\n  a: {models: [dalle]}\n  b: {models: [opnai/x], max_cost: 0}\n  c: {}\n  d: {models: []}\n  e: {models: [leonardo/phoenix-1.0]}\n  f: {models: [openai/x, openai/x]}\n",
        &[
            (2, 16, "`dalle` names no provider", "stability/sd3.5-medium"),
            (
                3,
                16,
                "there is no provider `opnai`",
                "did you mean `openai`?",
            ),
            (3, 36, "`0` leaves nothing to spend", "max_cost: 0.04"),
            (
                4,
                3,
                "`classes.c` has no `models`",
                "models: [openai/gpt-image-1]",
            ),
            (5, 15, "a class without a model", "models: "),
            (
                6,
                16,
                "does not speak with `leonardo` yet",
                "dialect: openai",
            ),
            (7, 26, "`openai/x` stands here twice", "keep one"),
        ],
    );
    wrong(
        "budgets:\n  - {limit: 1, per: day}\n  - {name: a, limit: -1, per: dya}\n  - {name: b, limit: 1e3, per: day, zone: Mars/Base}\n  - {name: c, limit: 1, per: day}\n  - {name: c, limit: 1, per: day, over: panic, by: team}\n  - daily\n",
        &[
            (2, 5, "`budgets[0]` has no `name`", "name: daily"),
            (3, 22, "`-1` is negative", "limit: 25.00"),
            (
                3,
                31,
                "`dya` is none of hour, day, week, month, total",
                "did you mean `day`?",
            ),
            (4, 22, "`1e3` is not an amount of US dollars", "25.00"),
            (4, 43, "`Mars/Base` is no time zone", "Europe/Berlin"),
            (6, 12, "there is a budget `c` already", "a name of its own"),
            (
                6,
                41,
                "`panic` is none of refuse, alert, plugin",
                "over: refuse",
            ),
            (6, 52, "`team` is none of app, tag", "by: app"),
            (
                7,
                5,
                "`budgets[5]` should be a map, not a single value",
                "budgets: [{name: daily",
            ),
        ],
    );
    wrong(
        "classes: {draft: {models: [openai/x]}}\nbudgets:\n  - {name: a, limit: 1, per: day, for: {class: drafd, provider: x, model: y, credential: sk-live, tag: []}}\n",
        &[
            (3, 48, "there is no class `drafd`", "did you mean `draft`?"),
            (3, 65, "there is no provider `x`", "under `providers`"),
            (3, 75, "`y` names no provider", "stability/"),
            (3, 90, "named by eight hex digits", "never write a key"),
            (3, 104, "an empty list fits no call", "take the key out"),
        ],
    );
    wrong(
        "unpriced_hold: 0\n",
        &[(1, 16, "leaves nothing to spend", "1.00")],
    );
}

#[test]
fn wrong_storage_and_limits_are_named() {
    wrong(
        "cache:\n  memory: 512\n  ttl: -5m\n  unseeded_ttl: soon\n  variants: 0\n  scope: all\n  disk: 1.5GiB\n  shared: memcached://x\n",
        &[
            (2, 11, "`512` has no unit", "512MiB"),
            (3, 8, "`-5m` is negative", "ttl: 10m"),
            (4, 17, "`soon` does not begin with a number", "10m"),
            (5, 13, "`0` is less than 1", ""),
            (
                6,
                10,
                "`all` is none of credential, everyone",
                "scope: credential",
            ),
            (7, 9, "unknown unit", "1GiB"),
            (
                8,
                11,
                "begins with neither redis://",
                "redis://127.0.0.1:6379",
            ),
        ],
    );
    wrong(
        "ledger: mysql://x\nledger_sync: fsync\nledger_down: shut\nlog_prompts: headd\nattempts: 99\njob_ttl: 0\nlog_rotate: {size: big, keep: 0}\nalerts: {webhook: hooks}\nupstream_proxy: socks5://x\nca: {cert: gone.pem}\nupstream_ca: gone.pem\nprices: gone.yaml\nplugins: [gone.lua, {with: {}}, {use: x, on_error: refus}]\n",
        &[
            (1, 9, "neither sqlite: nor postgres://", "sqlite:~/"),
            (
                2,
                14,
                "`fsync` is none of crash, power",
                "ledger_sync: crash",
            ),
            (3, 14, "`shut` is none of auto, open, closed", "auto"),
            (4, 14, "`headd` is none of head", "did you mean `head`?"),
            (5, 11, "`99` is more than 20", "attempts: 4"),
            (6, 10, "must be remembered for some time", "24h"),
            (7, 20, "`big` does not begin", "64MiB"),
            (7, 31, "`0` is less than 1", "keep: "),
            (8, 19, "has no http:// or https://", "https://hooks.example"),
            (
                9,
                17,
                "begins with neither http:// nor https://",
                "proxy.corp",
            ),
            (10, 1, "`ca` has no `key`", "key: my-ca.key"),
            (
                10,
                12,
                "there is no file /etc/pixtoll/gone.pem",
                "check the path",
            ),
            (
                11,
                14,
                "there is no file /etc/pixtoll/gone.pem",
                "check the path",
            ),
            (
                12,
                9,
                "there is no file /etc/pixtoll/gone.yaml",
                "check the path",
            ),
            (
                13,
                11,
                "there is no file /etc/pixtoll/gone.lua",
                "check the path",
            ),
            (13, 21, "`plugins[1]` has no `use`", "use: rules/icons.lua"),
            (
                13,
                52,
                "`refus` is none of skip, refuse",
                "did you mean `refuse`?",
            ),
        ],
    );
}

#[test]
fn oddities_are_warned_of() {
    odd(
        "providers: {studio: {dialect: openai, hosts: [10.0.0.7], upstream: \"http://10.0.0.7:1\", api_key: k}}\n",
        &[
            (
                1,
                47,
                "no certificate is made for the IP address",
                "base URL",
            ),
            (
                1,
                98,
                "the key goes to http://10.0.0.7:1 unencrypted",
                "https",
            ),
        ],
    );
    odd(
        "apps: {catalog: }\nbudgets: [{name: a, limit: 1, per: day, for: {app: catlog}, over: plugin}]\n",
        &[
            (
                2,
                10,
                "asks plugins when it is spent, and there are none",
                "over: refuse",
            ),
            (
                2,
                52,
                "no app `catlog` stands under `apps`",
                "did you mean `catalog`?",
            ),
        ],
    );
}

#[cfg(unix)]
#[test]
fn a_ca_key_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("k");
    std::fs::write(dir.path().join("c"), "").unwrap();
    std::fs::write(&key, "").unwrap();
    let warned = |mode: u32| {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let loaded = load_in(dir.path(), "ca: {cert: c, key: k}", &[]).unwrap();
        loaded
            .warnings
            .iter()
            .any(|warning| warning.code == "loose_key")
    };
    assert!(warned(0o644));
    assert!(!warned(0o600));
}

#[test]
fn overrides_win_and_their_mistakes_name_the_option() {
    let folder = Path::new("/etc/pixtoll");
    let loaded = load_in(
        folder,
        "cache: {ttl: 1h}\n",
        &[
            ("cache.ttl", "10m"),
            ("providers.openai.api_key", "${KEY}"),
            ("state_dir", "here"),
        ],
    );
    let settings = loaded.unwrap().settings;
    assert_eq!(settings.cache.ttl, Duration::from_secs(600));
    assert!(settings.provider("openai").unwrap().api_key.is_some());
    // Relative to where the command was given, not to the file.
    assert_eq!(settings.state_dir, Path::new("here"));
    let problems = load_in(
        folder,
        "mode: nope\n",
        &[
            ("cache.tll", "10m"),
            ("cache.ttl", "soon"),
            ("plugins", "[gone.lua]"),
        ],
    )
    .unwrap_err();
    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(said[0].starts_with("pixtoll.yaml:1:7: "), "{said:?}");
    assert!(
        said[2]
            .starts_with("--set cache.tll: unknown key `cache.tll`\n  did you mean `cache.ttl`?"),
        "{said:?}"
    );
    assert!(
        said[1].starts_with("--set plugins: `plugins[0]`: there is no file gone.lua"),
        "{said:?}"
    );
    assert!(
        said[3].starts_with("--set cache.ttl: `cache.ttl`: `soon` does not begin"),
        "{said:?}"
    );
}

#[test]
fn no_message_gives_a_secret_away() {
    let text = "apps: {a: {token: \"${ODD}\"}}\nledger: ${KEY}\nalerts: {webhook: \"${KEY}\"}\nmode: ${KEY}\n\
                cache: {shared: \"${KEY}\"}\nupstream_proxy: ftp://me:sk-very-secret@x\n\
                providers: {openai: {api_key: \"${ODD}\", upstream: \"https://sk-very-secret@x\"}}\n";
    let problems = load(text).unwrap_err();
    assert_eq!(problems.len(), 8, "{problems:#?}");
    let said = format!("{problems:?}");
    assert!(!said.contains("secret"), "{said}");
    assert!(said.contains("`${KEY}` is none of"), "{said}");
    let settings =
        good("ledger: postgres://u:${KEY}@h/d\nproviders: {openai: {api_key: \"${KEY}\"}}");
    assert!(!format!("{settings:?}").contains("sk-very-secret"));
}

#[test]
fn a_file_that_is_not_there_is_said() {
    let problems = Settings::load(&Source::File("/nowhere/px.yaml".into()), &[], &env).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0]
            .to_string()
            .starts_with("/nowhere/px.yaml: cannot be read: ")
    );
}

#[test]
fn without_a_home_somebody_must_say_where_to_keep_things() {
    let nothing = |_: &str| None;
    let problems = Settings::load(&Source::Defaults, &[], &nothing).unwrap_err();
    assert_eq!(problems[0].code, "no_home");
    let set = [("state_dir".to_owned(), "/var/lib/pixtoll".to_owned())];
    let settings = Settings::load(&Source::Defaults, &set, &nothing)
        .unwrap()
        .settings;
    assert_eq!(
        settings.ledger,
        Ledger::Sqlite("/var/lib/pixtoll/ledger.db".into())
    );
}

#[test]
fn a_problem_is_written_as_every_command_writes_it() {
    let problems = load("cache: {tll: 1h}").unwrap_err();
    assert_eq!(
        serde_json::to_value(&problems).unwrap(),
        serde_json::json!([{
            "file": "pixtoll.yaml", "line": 1, "column": 9, "code": "unknown_key",
            "message": "unknown key `cache.tll`", "remedy": "did you mean `cache.ttl`?",
        }])
    );
}

proptest::proptest! {
    /// Whatever stands in the place of a value, it is read or reported.
    #[test]
    fn no_value_makes_it_panic(line in 0usize..120, value in "(\\PC{0,12}|[-0-9.$:a-z{}\\[\\]]{0,8})") {
        let spoilt = |(at, text): (usize, &str)| match text.split_once(": ") {
            Some((key, _)) if at == line => format!("{key}: {value}"),
            _ => text.to_owned(),
        };
        let text: Vec<String> = whole_sample().lines().enumerate().map(spoilt).collect();
        let found = load(&text.join("\n"));
        // The sample's files are not here, so something is always wrong.
        proptest::prop_assert!(found.is_err_and(|problems| problems.iter().all(|p| p.remedy.is_some())));
    }
}

/// The sample with its examples switched on: prose has one space behind its `#`, examples have
/// none, or the two and more of their indentation.
fn whole_sample() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with("  ") || !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    SAMPLE.lines().map(on).collect::<Vec<_>>().join("\n")
}

/// Every key below `node` as the sections name them: `providers.NAME.limits.concurrent`.
fn keys_of(node: &Node, path: &str, found: &mut BTreeSet<String>) {
    match &node.value {
        Value::List(items) => items
            .iter()
            .for_each(|item| keys_of(item, &format!("{path}[]"), found)),
        Value::Map(entries) => {
            for entry in entries {
                let named = ["apps", "providers", "classes"].contains(&path);
                let key = if named { "NAME" } else { &entry.key };
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{key}");
                keys_of(&entry.node, &path, found);
                found.insert(path);
            }
        }
        Value::Null | Value::Scalar(_) | Value::Broken => {}
    }
}

#[test]
fn the_sample_shows_the_defaults() {
    assert_eq!(
        good(SAMPLE),
        Settings::defaults("/home/anna/.local/state/pixtoll".into())
    );
}

#[test]
fn the_sample_has_every_key_and_its_examples_are_right() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rules")).unwrap();
    for file in [
        "corp.pem",
        "my-ca.pem",
        "my-ca.key",
        "rules/icons.lua",
        "my-prices.yaml",
    ] {
        std::fs::write(dir.path().join(file), "").unwrap();
    }
    let env = |name: &str| match name {
        "CATALOG_TOKEN" | "OPENAI_API_KEY" => Some("x".to_owned()),
        other => env(other),
    };
    let text = whole_sample();
    let source = Source::Text {
        name: "pixtoll.yaml".to_owned(),
        text: text.clone(),
        folder: dir.path().to_owned(),
    };
    let loaded = Settings::load(&source, &[], &env);
    let loaded = loaded.unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
    assert_eq!(loaded.settings.budgets.len(), 3);
    let mut problems = Vec::new();
    let tree = raw::parse(&text, &Origin::File("f".into()), &mut problems).unwrap();
    let mut found = BTreeSet::new();
    keys_of(&tree, "", &mut found);
    for (section, key) in raw::every_key() {
        let dot = if section.is_empty() { "" } else { "." };
        let whole = format!("{section}{dot}{key}");
        assert!(found.contains(&whole), "the sample lacks {whole}");
    }
}

#[test]
fn an_address_of_ones_own_is_read_where_its_tools_read_it() {
    let told = |address: &'static str| {
        let env = |name: &str| match name {
            "AZURE_OPENAI_ENDPOINT" => Some(address.to_owned()),
            other => env(other),
        };
        let loaded = Settings::load(&Source::Defaults, &[], &env).unwrap();
        loaded.settings.providers.get("azure").unwrap().clone()
    };
    let azure = told("https://Contoso-Img.openai.azure.com/");
    assert_eq!(azure.hosts, ["contoso-img.openai.azure.com"]);
    assert_eq!(azure.target().unwrap().host, "contoso-img.openai.azure.com");
    // Somebody else's host, and what is none.
    assert!(told("https://api.openai.com/v1").hosts.is_empty());
    assert!(told("https://a b/").hosts.is_empty());
    assert!(told("nowhere").target().is_none());
}
