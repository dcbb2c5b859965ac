//! Real commands: their ends, their signals, and their sockets.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;

fn words(command: &[&str]) -> Vec<OsString> {
    command.iter().map(OsString::from).collect()
}

async fn end_of(command: &[&str]) -> ChildEnd {
    run(&words(command), &[], None).await.end
}

#[tokio::test]
async fn the_commands_own_end_is_ours() {
    for (script, end, code) in [
        ("exit 0", ChildEnd::Exited(0), 0),
        ("exit 7", ChildEnd::Exited(7), 7),
        ("exit 255", ChildEnd::Exited(255), 255),
        ("kill -KILL $$", ChildEnd::Killed(9), 137),
        ("kill -TERM $$", ChildEnd::Killed(15), 143),
    ] {
        let ended = end_of(&["sh", "-c", script]).await;
        assert_eq!((ended.code(), ended), (code, end), "{script}");
    }
}

#[tokio::test]
async fn a_command_that_cannot_begin_says_why() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "echo no").unwrap();
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o600)).unwrap();
    let dir = dir.path().to_str().unwrap();
    for (name, code) in [
        ("no-such-command-anywhere", 127),
        ("/no/such/path", 127),
        (plain.to_str().unwrap(), 126),
        (dir, 126),
    ] {
        let end = end_of(&[name]).await;
        assert_eq!(end.code(), code, "{end:?}");
        assert!(end.message().unwrap().contains(name), "{end:?}");
    }
    assert_eq!(end_of(&[]).await.code(), 125);
}

#[tokio::test]
async fn the_command_gets_the_changed_environment() {
    let change = |name: &str, value: Option<&str>| Change {
        name: name.to_owned(),
        value: value.map(str::to_owned),
    };
    let changes = [
        change("PIXTOLL_TEST_SET", Some("it's set")),
        change("HOME", None),
    ];
    let script = r#"[ "$PIXTOLL_TEST_SET" = "it's set" ] && [ -z "${HOME+x}" ] && [ -n "$PATH" ]"#;
    let ran = run(&words(&["sh", "-c", script]), &changes, None).await;
    assert_eq!(ran.end, ChildEnd::Exited(0));
}

/// Set for the copy of this test program that stands in for `pixtoll run`: the script to run.
const COPY_SCRIPT: &str = "PIXTOLL_TEST_RUN_SCRIPT";

/// Hears SIGHUP, SIGINT, SIGQUIT and SIGTERM again, then becomes the command that follows. A suite
/// started in the background has the keyboard's signals ignored, and no shell can undo that.
const HEAR_AGAIN: &str = "import os, signal, sys
for number in (1, 2, 3, 15): signal.signal(number, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])";

/// Runs `script` below a copy of this program, in a group of its own as a supervisor would have
/// it, sends that copy alone `signal` once the script says it is ready, and gives what the script
/// said after that, and the copy's exit code.
async fn signalled(
    test: &str,
    before: &str,
    script: &str,
    signal: Signal,
) -> (String, Option<i32>) {
    let start = format!("{before} exec \"$0\" \"$@\"");
    let mut copy = Command::new("python3")
        .args(["-c", HEAR_AGAIN, "sh", "-c", &start])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            &format!("cli::child::tests::{test}"),
        ])
        .env(COPY_SCRIPT, script)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(copy.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert_ne!(
            said.read_line(&mut line).await.unwrap(),
            0,
            "it ended before it was ready"
        );
    }
    let pid = Pid::from_raw(copy.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).await.unwrap();
    (rest, copy.wait().await.unwrap().code())
}

/// In the copy: runs the script and exits as `pixtoll run` would.
async fn stand_in(script: OsString) -> ! {
    let ran = run(
        &[OsString::from("bash"), OsString::from("-c"), script],
        &[],
        None,
    )
    .await;
    std::process::exit(ran.end.code());
}

#[tokio::test]
async fn signals_are_sent_on_once_and_the_command_is_waited_for() {
    if let Some(script) = std::env::var_os(COPY_SCRIPT) {
        stand_in(script).await;
    }
    let test = "signals_are_sent_on_once_and_the_command_is_waited_for";
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
    ] {
        // The trap says that it got the signal, and how often by the time it ends of itself.
        let script = format!(
            "n=0; trap 'n=$((n+1))' {name}; echo ready; while [ $n = 0 ]; do sleep 0.02; done; \
             sleep 0.2; echo got $n; exit 9"
        );
        let (said, code) = signalled(test, "", &script, signal).await;
        assert!(said.contains("got 1"), "{name}: {said}");
        assert_eq!(code, Some(9), "{name}");
    }
}

#[tokio::test]
async fn a_command_that_a_signal_ends_gives_128_and_its_number() {
    if let Some(script) = std::env::var_os(COPY_SCRIPT) {
        stand_in(script).await;
    }
    let test = "a_command_that_a_signal_ends_gives_128_and_its_number";
    let (_, code) = signalled(test, "", "echo ready; exec sleep 60", Signal::TERM).await;
    assert_eq!(code, Some(143));
}

#[tokio::test]
async fn a_signal_that_we_were_to_ignore_stays_ignored_below_us() {
    if let Some(script) = std::env::var_os(COPY_SCRIPT) {
        stand_in(script).await;
    }
    let test = "a_signal_that_we_were_to_ignore_stays_ignored_below_us";
    let script = "echo ready; kill -HUP $$; echo alive; exit 3";
    let (said, code) = signalled(test, "trap '' HUP;", script, Signal::HUP).await;
    assert!(said.contains("alive"), "{said}");
    assert_eq!(code, Some(3));
}

/// A client that ignores every proxy: connects, and stays until the other side closes.
const CLIENT: &str =
    "import socket,sys; s=socket.create_connection((sys.argv[1],int(sys.argv[2]))); s.recv(1)";

fn client(address: SocketAddr) -> Vec<String> {
    [
        "python3",
        "-c",
        CLIENT,
        &address.ip().to_string(),
        &address.port().to_string(),
    ]
    .map(str::to_owned)
    .to_vec()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_past_the_proxy_is_found_with_its_process() {
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(listen).await else {
            assert_ne!(listen, "127.0.0.1:0", "loopback is there");
            continue; // a machine without IPv6
        };
        let provider = listener.local_addr().unwrap();
        let watch = Watch {
            proxy: "127.0.0.1:9".parse().unwrap(),
            providers: HashSet::from([provider]),
            told: None,
        };
        let arguments = client(provider);
        let mut direct = Command::new(&arguments[0])
            .args(&arguments[1..])
            .spawn()
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let found = bypasses(direct.id().unwrap(), &watch);
        let expected = Bypass {
            pid: direct.id().unwrap(),
            command: "python3".to_owned(),
            remote: provider,
            provider: true,
        };
        assert_eq!(found, HashSet::from([expected]));
        // The same connection to the proxy is as it should be.
        let ours = Watch {
            proxy: provider,
            ..watch
        };
        assert_eq!(bypasses(direct.id().unwrap(), &ours), HashSet::new());
        // And it is not ours to report below another process.
        assert_eq!(bypasses(std::process::id(), &ours), HashSet::new());
        drop(stream);
        direct.wait().await.unwrap();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn run_finds_what_a_grandchild_sends_past_the_proxy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = listener.local_addr().unwrap();
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let watch = Watch {
        proxy: proxy.local_addr().unwrap(),
        providers: HashSet::from([provider]),
        told: Some(told),
    };
    let script = r#"python3 -c "$0" "$1" "$2"; exit 4"#;
    let command = words(&[
        "bash",
        "-c",
        script,
        CLIENT,
        &provider.ip().to_string(),
        &provider.port().to_string(),
    ]);
    let running = run(&command, &[], Some(watch));
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let heard = hears.recv().await.unwrap();
        stream.write_all(b"!").await.unwrap(); // lets the client go
        heard
    };
    let (ran, heard) = tokio::join!(running, serve);
    assert_eq!(ran.end, ChildEnd::Exited(4));
    let [bypass] = &ran.bypasses[..] else {
        panic!("once, however often it was looked at: {:?}", ran.bypasses);
    };
    assert_eq!(*bypass, heard);
    assert_eq!(
        (bypass.remote, bypass.command.as_str()),
        (provider, "python3")
    );
}
