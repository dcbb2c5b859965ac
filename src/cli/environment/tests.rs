//! The variables held against each other, and the shell lines against real shells.

use std::process::Command;

use super::*;
use proptest::prelude::*;

const PROXY: &str = "127.0.0.1:8484";

fn trust() -> TrustFiles {
    TrustFiles {
        bundle: PathBuf::from("/state/bundle.pem"),
        additive: PathBuf::from("/state/ca.pem"),
        warnings: Vec::new(),
    }
}

fn variables(pairs: &[(&str, &str)]) -> Variables {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn providers() -> Vec<String> {
    ["api.openai.com", "api.stability.ai"]
        .map(str::to_owned)
        .to_vec()
}

fn planned(current: &Variables) -> Environment {
    planned_for(current, &providers())
}

fn planned_for(current: &Variables, hosts: &[String]) -> Environment {
    let trust = trust();
    plan(
        current,
        &Wanted {
            proxy: PROXY.parse().unwrap(),
            app: None,
            tags: &[],
            token: None,
            trust: &trust,
            shims: None,
            provider_hosts: hosts,
        },
    )
}

/// With the shims.
fn shimmed(current: &Variables) -> Environment {
    let (trust, hosts) = (trust(), providers());
    let shims = Shims {
        python: PathBuf::from("/state/shim/python"),
        node: PathBuf::from("/state/shim/preload.cjs"),
    };
    let wanted = Wanted {
        proxy: PROXY.parse().unwrap(),
        app: None,
        tags: &[],
        token: None,
        trust: &trust,
        shims: Some(&shims),
        provider_hosts: &hosts,
    };
    plan(current, &wanted)
}

fn behind(current: &Variables) -> Variables {
    apply(current, &planned(current).changes)
}

#[test]
fn every_runtime_gets_the_variable_it_reads() {
    let set = behind(&variables(&[
        ("SSL_CERT_DIR", "/etc/certs"),
        ("HOME", "/home/me"),
    ]));
    for name in PROXIES {
        assert_eq!(set[name], "http://127.0.0.1:8484", "{name}");
    }
    for name in EXCEPTIONS {
        assert_eq!(set[name], "localhost,127.0.0.1,::1,.local", "{name}");
    }
    for name in REPLACING {
        assert_eq!(set[name], "/state/bundle.pem", "{name}");
    }
    for name in ADDING {
        assert_eq!(set[name], "/state/ca.pem", "{name}");
    }
    assert_eq!(set["NODE_USE_ENV_PROXY"], "1");
    assert_eq!(set["PIXTOLL_ACTIVE"], "1");
    assert_eq!(set["HOME"], "/home/me");
    assert!(!set.contains_key("SSL_CERT_DIR"));
}

#[test]
fn the_proxy_url_says_who_calls() {
    let trust = trust();
    let tags = ["background".to_owned(), "a/b+c".to_owned()];
    for (proxy, app, tags, token, expected) in [
        (
            "127.0.0.1:8484",
            None,
            &tags[..0],
            None,
            "http://127.0.0.1:8484",
        ),
        (
            "127.0.0.1:1",
            Some("catalog"),
            &tags[..1],
            None,
            "http://catalog+background@127.0.0.1:1",
        ),
        (
            "127.0.0.1:1",
            Some("my app"),
            &tags[1..],
            Some("s:3@/"),
            "http://my%20app+a%2Fb%2Bc:s%3A3%40%2F@127.0.0.1:1",
        ),
        (
            "127.0.0.1:1",
            None,
            &tags[..1],
            None,
            "http://+background@127.0.0.1:1",
        ),
        (
            "0.0.0.0:8484",
            None,
            &tags[..0],
            None,
            "http://127.0.0.1:8484",
        ),
        ("[::]:8484", None, &tags[..0], None, "http://[::1]:8484"),
        (
            "192.168.1.5:8484",
            Some("a"),
            &tags[..0],
            None,
            "http://a@192.168.1.5:8484",
        ),
    ] {
        let proxy = proxy.parse().unwrap();
        let wanted = Wanted {
            proxy,
            app,
            tags,
            token,
            trust: &trust,
            shims: None,
            provider_hosts: &[],
        };
        let set = apply(&Variables::new(), &plan(&Variables::new(), &wanted).changes);
        assert_eq!(set["HTTPS_PROXY"], expected);
    }
}

#[test]
fn a_client_past_every_proxy_gets_a_base_url_unless_it_has_one() {
    let trust = trust();
    let bases = |current: &Variables, app, token| {
        let wanted = Wanted {
            proxy: "0.0.0.0:8484".parse().unwrap(),
            app,
            tags: &[],
            token,
            trust: &trust,
            shims: None,
            provider_hosts: &providers(),
        };
        let set = apply(current, &plan(current, &wanted).changes);
        set.get("REPLICATE_BASE_URL").cloned()
    };
    let none = Variables::new();
    let named = "http://127.0.0.1:8484/@my%20app/replicate";
    assert_eq!(bases(&none, Some("my app"), None).as_deref(), Some(named));
    assert_eq!(
        bases(&none, None, None).as_deref(),
        Some("http://127.0.0.1:8484/replicate")
    );
    assert_eq!(bases(&none, Some("a"), Some("token")), None);
    let own = variables(&[("REPLICATE_BASE_URL", "http://mirror.lan")]);
    assert_eq!(
        bases(&own, None, None).as_deref(),
        Some("http://mirror.lan")
    );
}

#[test]
fn the_users_exceptions_stay_but_for_those_that_hide_a_provider() {
    let own = "localhost,127.0.0.1,::1,.local";
    for (users, kept, said) in [
        ("", "", 0),
        ("intern.corp, 10.0.0.0/8", ",intern.corp,10.0.0.0/8", 0),
        ("db.corp localhost", ",db.corp", 0),
        ("*", "", 1),
        ("api.openai.com,intern.corp", ",intern.corp", 1),
        (".openai.com,*.stability.ai,x.org", ",x.org", 2),
        ("OpenAI.com.", "", 1),
        ("api.openai.com:443", "", 1),
        ("ai.com", "", 1), // requests minds no dots
        ("com,com", "", 1),
        (
            "xapi.openai.com,api.openai.com.evil.org",
            ",xapi.openai.com,api.openai.com.evil.org",
            0,
        ),
        ("fe80::1,[::1]", ",fe80::1,[::1]", 0),
    ] {
        let plan = planned(&variables(&[("NO_PROXY", users)]));
        let set = apply(&Variables::new(), &plan.changes);
        assert_eq!(set["NO_PROXY"], format!("{own}{kept}"), "{users}");
        assert_eq!(set["no_proxy"], set["NO_PROXY"]);
        assert_eq!(plan.warnings.len(), said, "{users}: {:?}", plan.warnings);
    }
}

#[test]
fn both_spellings_of_the_exceptions_are_joined() {
    let set = behind(&variables(&[
        ("NO_PROXY", "a.corp,b.corp"),
        ("no_proxy", "b.corp,c.corp"),
    ]));
    assert_eq!(
        set["NO_PROXY"],
        "localhost,127.0.0.1,::1,.local,a.corp,b.corp,c.corp"
    );
}

#[test]
fn a_provider_on_the_local_network_is_not_excepted() {
    let plan = planned_for(&Variables::new(), &["sd.local".to_owned()]);
    let set = apply(&Variables::new(), &plan.changes);
    assert_eq!(set["NO_PROXY"], "localhost,127.0.0.1,::1");
    assert!(plan.warnings.is_empty(), "it was not the user's entry");
}

#[test]
fn a_proxy_of_the_users_is_handed_on_and_never_shown_with_its_password() {
    let corp = "http://me:hunter2@proxy.corp:3128/";
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "http_proxy"] {
        let plan = planned(&variables(&[(name, corp), ("NO_PROXY", ".corp")]));
        let upstream = plan.upstream.as_ref().unwrap();
        assert_eq!(upstream.url, corp);
        assert_eq!(upstream.exceptions.as_deref(), Some(".corp"));
        assert!(
            plan.warnings[0].contains("http://proxy.corp:3128:"),
            "{:?}",
            plan.warnings
        );
        assert!(!format!("{plan:?}").contains("hunter2"));
    }
    let both = variables(&[("https_proxy", "http://a:1"), ("HTTP_PROXY", "http://b:2")]);
    assert_eq!(planned(&both).upstream.unwrap().url, "http://a:1");
}

#[test]
fn pixtoll_is_never_its_own_upstream() {
    for own in [
        "http://127.0.0.1:8484",
        "http://app@localhost:8484/",
        "127.0.0.1:8484",
        "http://[::1]:8484",
        "",
        " ",
    ] {
        let plan = planned(&variables(&[("HTTPS_PROXY", own)]));
        assert_eq!(plan.upstream, None, "{own}");
    }
    for other in [
        "http://127.0.0.1:8485",
        "http://proxy.corp:8484",
        "http://127.0.0.1",
    ] {
        assert!(
            planned(&variables(&[("HTTPS_PROXY", other)]))
                .upstream
                .is_some(),
            "{other}"
        );
    }
}

#[test]
fn below_another_pixtoll_the_users_own_values_count() {
    let own = variables(&[
        ("HTTPS_PROXY", "http://proxy.corp:3128"),
        ("SSL_CERT_FILE", "/corp/ca.pem"),
        ("NODE_EXTRA_CA_CERTS", "/corp/node.pem"),
        ("NO_PROXY", "*.corp"),
    ]);
    let once = behind(&own);
    assert_eq!(behind(&once), once, "a second time changes nothing");
    assert_eq!(planned(&once).upstream, planned(&own).upstream);
    assert_eq!(previous_trust(&once), previous_trust(&own));
    let previous = previous_trust(&once);
    assert_eq!(previous.replacing, [PathBuf::from("/corp/ca.pem")]);
    assert_eq!(previous.adding, [PathBuf::from("/corp/node.pem")]);
}

#[test]
fn what_the_user_sets_afterwards_is_theirs() {
    let mut shell = behind(&variables(&[
        ("HTTPS_PROXY", "http://old:1"),
        ("SSL_CERT_DIR", "/old"),
    ]));
    shell.insert("HTTPS_PROXY".to_owned(), "http://new:2".to_owned());
    shell.insert("SSL_CERT_DIR".to_owned(), "/new".to_owned());
    let back = apply(&shell, &take_back(&shell));
    assert_eq!(back["HTTPS_PROXY"], "http://new:2");
    assert_eq!(back["SSL_CERT_DIR"], "/new");
    assert_eq!(back.get("HTTP_PROXY"), None);
    assert_eq!(planned(&shell).upstream.unwrap().url, "http://new:2");
}

#[test]
fn a_value_of_ours_under_a_name_that_we_left_alone_is_the_users() {
    // What NODE_USE_ENV_PROXY has from us.
    let own = variables(&[("REPLICATE_BASE_URL", "1")]);
    let inside = behind(&own);
    assert_eq!(inside["REPLICATE_BASE_URL"], "1");
    assert_eq!(apply(&inside, &take_back(&inside)), own);
}

#[test]
fn without_a_pixtoll_there_is_nothing_to_take_back() {
    let own = variables(&[("HTTPS_PROXY", "http://proxy.corp:3128"), ("HOME", "/me")]);
    assert_eq!(take_back(&own), []);
    let damaged = variables(&[("PIXTOLL_SAVED", "rubbish"), ("HTTPS_PROXY", "http://a:1")]);
    let back = apply(&damaged, &take_back(&damaged));
    assert_eq!(back, variables(&[("HTTPS_PROXY", "http://a:1")]));
}

#[test]
fn directories_of_roots_are_merged_when_they_exist() {
    let dir = tempfile::TempDir::new().unwrap();
    let list = format!("{}:/nowhere", dir.path().display());
    let previous = previous_trust(&variables(&[("SSL_CERT_DIR", &list)]));
    assert_eq!(previous.replacing, [dir.path().to_owned()]);
}

const NASTY: &str = "a'b\"c $HOME `id` \\ \\' !x;\n#é ‘q’ *";

#[test]
fn shells_are_quoted_each_in_its_way() {
    let changes = [
        Change {
            name: "A".to_owned(),
            value: Some("it's \\ ‘so’".to_owned()),
        },
        Change {
            name: "B".to_owned(),
            value: None,
        },
    ];
    for (shell, expected) in [
        (Shell::Sh, "export A='it'\\''s \\ ‘so’'\nunset B\n"),
        (Shell::Fish, "set -gx A 'it\\'s \\\\ ‘so’'\nset -e B\n"),
        (
            Shell::Powershell,
            "$env:A = 'it''s \\ ‘‘so’’'\nRemove-Item Env:B -ErrorAction SilentlyContinue\n",
        ),
    ] {
        assert_eq!(shell_lines(shell, &changes), expected);
    }
}

/// Runs `lines` in a real shell by `eval`, as people do, and gives the environment after it.
fn evaluated(shell: &str, lines: &str, environment: &Variables) -> Variables {
    let script = match shell {
        "fish" => "printf %s \"$LINES_TO_EVALUATE\" | source; set -e LINES_TO_EVALUATE; env -0",
        _ => "eval \"$LINES_TO_EVALUATE\"; unset LINES_TO_EVALUATE; env -0",
    };
    let out = Command::new(shell)
        .args(["-c", script])
        .env_clear()
        .envs(environment)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("LINES_TO_EVALUATE", lines)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    assert!(
        out.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let text = String::from_utf8(out.stdout).unwrap();
    let added = [
        "PATH", "PWD", "SHLVL", "_", "OLDPWD", "USER", "LC_CTYPE", "LC_ALL",
    ];
    text.split('\0')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| !added.contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn real_shells_go_in_and_come_back_as_they_were() {
    let home = tempfile::TempDir::new().unwrap();
    let own = variables(&[
        ("HTTPS_PROXY", "http://me:it's@proxy.corp:3128"),
        ("NO_PROXY", NASTY),
        ("SSL_CERT_DIR", "/my certs"),
        ("no_proxy", ""),
        ("HOME", home.path().to_str().unwrap()),
        ("PYTHONPATH", "/mine:/yours"),
    ]);
    for (shell, words) in [
        ("sh", Shell::Sh),
        ("bash", Shell::Bash),
        ("fish", Shell::Fish),
    ] {
        if shell == "fish" && Command::new(shell).arg("--version").output().is_err() {
            eprintln!("there is no fish here, so it was not asked; `tests/run` brings it");
            continue;
        }
        let changes = shimmed(&own).changes;
        let inside = evaluated(shell, &shell_lines(words, &changes), &own);
        assert_eq!(inside, apply(&own, &changes), "{shell}");
        let outside = evaluated(shell, &shell_lines(words, &take_back(&inside)), &inside);
        assert_eq!(outside, own, "{shell}");
    }
}

#[test]
fn shims_come_only_where_they_are_asked_for_and_go_again() {
    let own = variables(&[("PYTHONPATH", "/mine"), ("HOME", "/me")]);
    assert_eq!(behind(&own)["PYTHONPATH"], "/mine");
    let inside = apply(&own, &shimmed(&own).changes);
    assert_eq!(inside["PYTHONPATH"], "/state/shim/python:/mine");
    assert_eq!(
        inside["NODE_OPTIONS"],
        "--require \"/state/shim/preload.cjs\""
    );
    assert_eq!(apply(&inside, &take_back(&inside)), own);
    // Below a pixtoll with shims, one without them has none.
    assert_eq!(behind(&inside), behind(&own));
    // What the user never had from us is not given back.
    let mut without = behind(&own);
    without.remove("PYTHONPATH");
    assert_eq!(
        apply(&without, &take_back(&without)),
        variables(&[("HOME", "/me")])
    );
}

#[test]
fn the_shell_is_known_by_its_name() {
    for (path, shell) in [
        ("/bin/bash", Shell::Bash),
        ("/usr/bin/zsh", Shell::Zsh),
        ("/opt/bin/fish", Shell::Fish),
        ("pwsh.exe", Shell::Powershell),
        ("/bin/dash", Shell::Sh),
        ("", Shell::Sh),
    ] {
        assert_eq!(Shell::of(&variables(&[("SHELL", path)])), shell, "{path}");
    }
}

proptest! {
    #[test]
    fn going_in_and_back_out_changes_nothing(
        values in proptest::collection::btree_map(
            proptest::sample::select(names().collect::<Vec<_>>()),
            "[ -~]{0,12}",
            0..8,
        )
    ) {
        let own: Variables = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let inside = behind(&own);
        prop_assert_eq!(apply(&inside, &take_back(&inside)), own.clone());
        let twice = behind(&inside);
        prop_assert_eq!(apply(&twice, &take_back(&twice)), own);
    }

    #[test]
    fn no_kept_exception_hides_a_provider(list in "[a-z*.,: ]{0,40}") {
        let set = behind(&variables(&[("NO_PROXY", &list)]));
        for entry in set["NO_PROXY"].split(',') {
            for host in providers() {
                prop_assert!(!host.ends_with(entry.trim_start_matches(['*', '.'])), "{}", entry);
            }
        }
    }
}
