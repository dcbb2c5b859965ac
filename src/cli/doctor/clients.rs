//! The clients that `doctor` can ask: which program runs them, and what cures each.
//!
//! Who reads which variable differs by library and not only by language, so the usual libraries of
//! a language are asked one by one, where they are installed.
//!
//! Python, Node and curl are asked by the tests. The others were asked by hand, in November 2026:
//! Ruby 3.1, Go 1.19, Deno 2.9 and Bun 1.4 come through; PHP 8.2's curl and wget 1.21 refuse the
//! certificate, PHP's streams and Java 17 pass by; the cures named here bring wget, PHP's curl and
//! Java through.

use std::ffi::OsStr;
use std::path::Path;

/// A base URL goes past every question of proxies and certificates.
const BASE_URL: &str =
    "give it a base URL of `pixtoll serve`, like OPENAI_BASE_URL=http://127.0.0.1:8484/openai/v1";
const OWN_TRUST: &str = "it trusts a store of its own: add the certificate that `pixtoll ca path` names, or use a base URL";

/// A program that runs apps, or that is a client itself.
#[derive(Debug)]
pub(super) struct Runtime {
    /// Its usual names, the first one first. Version numbers may follow: `python3.12`.
    pub(super) commands: &'static [&'static str],
    pub(super) clients: &'static [Client],
    /// Whether there is a shim for it.
    pub(super) shim: bool,
}

/// A way in which its apps send requests.
#[derive(Debug)]
pub(super) struct Client {
    /// `fetch`, or the runtime's own name where it is the client.
    pub(super) name: &'static str,
    /// Name and text of the program that asks once; `None` where the command itself does.
    pub(super) program: Option<(&'static str, &'static str)>,
    /// `{program}` and `{url}` are filled in.
    pub(super) arguments: &'static [&'static str],
    /// Whether it says that it is about to ask: then silence means that it never came so far.
    pub(super) tells: bool,
    pub(super) bypass: &'static str,
    pub(super) refusal: &'static str,
}

const PYTHON: Option<(&str, &str)> = Some(("probe.py", include_str!("probe.py")));
const NODE: Option<(&str, &str)> = Some(("probe.cjs", include_str!("probe.cjs")));
const WEB: Option<(&str, &str)> = Some(("probe.mjs", include_str!("probe.js")));
const PHP: Option<(&str, &str)> = Some(("probe.php", include_str!("probe.php")));

const USUAL: Client = Client {
    name: "",
    program: None,
    arguments: &[],
    tells: true,
    bypass: BASE_URL,
    refusal: OWN_TRUST,
};

const fn python(name: &'static str, arguments: &'static [&'static str]) -> Client {
    Client {
        name,
        program: PYTHON,
        arguments,
        ..USUAL
    }
}

const fn node(name: &'static str, arguments: &'static [&'static str]) -> Client {
    Client {
        name,
        program: NODE,
        arguments,
        bypass: "this Node reads no proxy variables: take 22.21, 24.5 or later",
        ..USUAL
    }
}

pub(super) const RUNTIMES: &[Runtime] = &[
    Runtime {
        commands: &["python3", "python"],
        clients: &[
            python("urllib", &["{program}", "{url}", "urllib"]),
            python("requests", &["{program}", "{url}", "requests"]),
            python("httpx", &["{program}", "{url}", "httpx"]),
            python("aiohttp", &["{program}", "{url}", "aiohttp"]),
            python("replicate", &["{program}", "{url}", "replicate"]),
        ],
        shim: true,
    },
    Runtime {
        commands: &["node", "nodejs"],
        clients: &[
            node("fetch", &["{program}", "{url}", "fetch"]),
            node("https", &["{program}", "{url}", "https"]),
        ],
        shim: true,
    },
    Runtime {
        commands: &["curl"],
        clients: &[Client {
            name: "curl",
            arguments: &["--silent", "--output", "/dev/null", "{url}"],
            tells: false,
            ..USUAL
        }],
        shim: false,
    },
    Runtime {
        commands: &["wget"],
        clients: &[Client {
            name: "wget",
            arguments: &[
                "--quiet",
                "--tries=1",
                "--output-document=/dev/null",
                "{url}",
            ],
            tells: false,
            refusal: "it reads no variable for trust: give it --ca-certificate=\"$SSL_CERT_FILE\"",
            ..USUAL
        }],
        shim: false,
    },
    Runtime {
        commands: &["ruby"],
        clients: &[Client {
            name: "net/http",
            program: Some(("probe.rb", include_str!("probe.rb"))),
            arguments: &["{program}", "{url}"],
            ..USUAL
        }],
        shim: false,
    },
    Runtime {
        commands: &["go"],
        clients: &[Client {
            name: "net/http",
            program: Some(("probe.go", include_str!("probe.go"))),
            arguments: &["run", "{program}", "{url}"],
            ..USUAL
        }],
        shim: false,
    },
    Runtime {
        commands: &["deno"],
        clients: &[Client {
            name: "fetch",
            program: WEB,
            arguments: &["run", "--quiet", "--allow-all", "{program}", "{url}"],
            ..USUAL
        }],
        shim: false,
    },
    Runtime {
        commands: &["bun"],
        clients: &[Client {
            name: "fetch",
            program: WEB,
            arguments: &["{program}", "{url}"],
            ..USUAL
        }],
        shim: false,
    },
    Runtime {
        commands: &["php"],
        clients: &[
            Client {
                name: "curl",
                program: PHP,
                arguments: &["{program}", "{url}", "curl"],
                refusal: "it reads no variable for trust: start it with -d curl.cainfo=\"$SSL_CERT_FILE\"",
                ..USUAL
            },
            Client {
                name: "streams",
                program: PHP,
                arguments: &["{program}", "{url}", "streams"],
                ..USUAL
            },
        ],
        shim: false,
    },
    Runtime {
        commands: &["java"],
        clients: &[Client {
            name: "HttpClient",
            program: Some(("Probe.java", include_str!("Probe.java"))),
            arguments: &["{program}", "{url}"],
            bypass: "Java reads no proxy variables: give it a base URL, or import the certificate (keytool -importcert -noprompt \
                     -alias pixtoll -file \"$(pixtoll ca path)\" -keystore pixtoll.p12 -storepass changeit) and start it with \
                     -Dhttps.proxyHost, -Dhttps.proxyPort, -Djavax.net.ssl.trustStore=pixtoll.p12 and \
                     -Djavax.net.ssl.trustStorePassword=changeit",
            ..USUAL
        }],
        shim: false,
    },
];

impl Runtime {
    /// The runtime that a command is, by its name: `/opt/node-20/bin/node`, `python3.12`.
    pub(super) fn of(command: &OsStr) -> Option<&'static Runtime> {
        let name = Path::new(command).file_name()?.to_str()?;
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
        RUNTIMES.iter().find(|runtime| {
            let mut commands = runtime.commands.iter();
            commands.any(|known| *known == name || *known == stem)
        })
    }

    /// Its command on `PATH`, if it is there.
    pub(super) fn on_path(&self) -> Option<&'static str> {
        let path = std::env::var_os("PATH")?;
        let there =
            |command: &str| std::env::split_paths(&path).any(|dir| dir.join(command).is_file());
        self.commands.iter().copied().find(|command| there(command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_known_by_its_name_with_or_without_a_version() {
        for (command, known) in [
            ("python", Some("python3")),
            ("python3.12", Some("python3")),
            ("./venv/bin/python3", Some("python3")),
            ("/opt/node-20/bin/node", Some("node")),
            ("node20", Some("node")),
            ("nodejs", Some("node")),
            ("ruby3.1", Some("ruby")),
            ("app.py", None),
            ("nodemon", None),
            ("-c", None),
        ] {
            let found = Runtime::of(OsStr::new(command)).map(|runtime| runtime.commands[0]);
            assert_eq!(found, known, "{command}");
        }
    }
}
