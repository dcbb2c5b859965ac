//! Memory is bounded by configuration, whatever the clients do.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::crash::address;
use crate::harness::{Process, Rig, cat, post, read_answer, read_head};
use crate::stub::send;

const MIB: usize = 1 << 20;

/// The real binary, before a provider of OpenAI's at `upstream`.
fn serve(dir: &std::path::Path, upstream: &str, more: &serde_json::Value) -> Process {
    let mut config = json!({
        "listen": "127.0.0.1:0", "dashboard": "off", "state_dir": dir.join("state"),
        "providers": {"openai": {"upstream": upstream}},
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    let path = dir.join("pixtoll.yaml");
    std::fs::write(&path, config.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixtoll"));
    command
        .args(["serve", "--config"])
        .arg(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    Process::spawn(&mut command)
}

/// The most that a process ever took, in bytes.
fn peak(child: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// A provider that reads whatever comes and answers with a picture of `size` bytes of base64.
async fn generous(size: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = Arc::new(format!(
        "{{\"created\":1,\"data\":[{{\"b64_json\":\"{}\"}}],\"usage\":{{\"input_tokens\":9,\"output_tokens\":196,\"total_tokens\":205,\"input_tokens_details\":{{\"text_tokens\":9,\"image_tokens\":0}}}}}}",
        "QUJD".repeat(size / 4)
    ));
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let body = Arc::clone(&body);
            tokio::spawn(async move {
                loop {
                    let head = read_head(&mut tcp).await;
                    let length = head.lines().find_map(|line| {
                        let (name, value) = line.split_once(": ")?;
                        name.eq_ignore_ascii_case("content-length")
                            .then(|| value.parse::<u64>().ok())?
                    });
                    let Some(length) = length else { return };
                    let mut request = (&mut tcp).take(length);
                    let read = tokio::io::copy(&mut request, &mut tokio::io::sink()).await;
                    if read.is_err() {
                        return;
                    }
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    let sent = async {
                        tcp.write_all(head.as_bytes()).await?;
                        tcp.write_all(body.as_bytes()).await
                    };
                    if sent.await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

/// An edit with a picture of 30 MB, sent again as a client library does while there is no room for
/// it. Returns the answer's length and how often it was declined.
async fn edit(address: &str, number: usize, picture: &[u8]) -> (usize, usize) {
    let before = format!(
        "--b\r\ncontent-disposition: form-data; name=\"prompt\"\r\n\r\nboat {number}\r\n--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\ngpt-image-2\r\n--b\r\ncontent-disposition: form-data; name=\"image\"; filename=\"a.png\"\r\ncontent-type: image/png\r\n\r\n"
    );
    let after = "\r\n--b--\r\n";
    let head = format!(
        "POST /v1/images/edits HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer sk-canary\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n",
        before.len() + picture.len() + after.len()
    );
    for declined in 0.. {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        for piece in [
            head.as_bytes(),
            before.as_bytes(),
            picture,
            after.as_bytes(),
        ] {
            tcp.write_all(piece).await.unwrap();
        }
        let answer = read_answer(&mut tcp).await;
        match answer.status() {
            200 => return (answer.body.len(), declined),
            503 => assert!(answer.header("retry-after").is_some(), "{}", answer.head),
            other => panic!("{other}: {}", answer.text()),
        }
    }
    unreachable!("it returns or goes on")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_of_30_mb_and_answers_of_20_mb_pass_in_bounded_memory() {
    const AT_ONCE: usize = 12;
    let dir = tempfile::TempDir::new().unwrap();
    let upstream = generous(20 * MIB).await;
    let bounds = json!({"in_flight": "128MiB", "cache": {"memory": "24MiB"}});
    let mut child = serve(dir.path(), &upstream, &bounds);
    let address = address(&mut child).await;
    let alone = {
        let body = cat("a small one").to_string();
        let request = post(
            &address,
            "/v1/images/generations",
            &[],
            "application/json",
            &body,
        );
        let mut tcp = TcpStream::connect(&address).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_answer(&mut tcp).await.status(), 200);
        peak(&child)
    };
    let picture: Arc<Vec<u8>> = Arc::new((0..30 * MIB).map(|n| (n % 251) as u8).collect());
    let lanes: Vec<_> = (0..AT_ONCE)
        .map(|number| {
            let (address, picture) = (address.clone(), Arc::clone(&picture));
            tokio::spawn(async move { edit(&address, number, &picture).await })
        })
        .collect();
    let mut length = 0;
    for lane in lanes {
        length = lane.await.unwrap().0;
        assert!(length > 20 * MIB);
    }
    let most = peak(&child);
    child.kill().unwrap();
    child.wait().unwrap();
    // What is under way, what is kept (an eighth more for those who ask again), and a quarter for
    // the allocator. All calls at once take four times as much.
    let allowed = (128 + 24 + 3) * MIB * 5 / 4;
    assert!(AT_ONCE * (picture.len() + length) > 3 * allowed);
    assert!(
        most <= alone + allowed,
        "{} MiB with one small call, {} MiB at most; {} MiB more are allowed",
        alone / MIB,
        most / MIB,
        allowed / MIB
    );
}

/// A full cache takes what it may, and what is let go of is really gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_is_full_takes_no_more_than_it_may() {
    let dir = tempfile::TempDir::new().unwrap();
    let upstream = generous(3 * MIB / 2).await;
    let bounds = json!({"in_flight": "16MiB", "cache": {"memory": "64MiB"}});
    let mut child = serve(dir.path(), &upstream, &bounds);
    let address = address(&mut child).await;
    let ask = |address: String, number: usize| async move {
        let body = cat(&format!("boat {number}")).to_string();
        let request = post(
            &address,
            "/v1/images/generations",
            &[],
            "application/json",
            &body,
        );
        let mut tcp = TcpStream::connect(&address).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_answer(&mut tcp).await.status(), 200);
    };
    ask(address.clone(), 0).await;
    let alone = peak(&child);
    // Four times what it holds.
    let lanes: Vec<_> = (0..4)
        .map(|lane| {
            let address = address.clone();
            tokio::spawn(async move {
                for number in 0..40 {
                    ask(address.clone(), 1 + lane * 40 + number).await;
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
    let most = peak(&child);
    child.kill().unwrap();
    child.wait().unwrap();
    // Half of it for the allocator: its blocks are of few sizes, and seldom full to the last byte.
    let allowed = (16 + 64 + 8) * MIB * 3 / 2;
    assert!(
        most <= alone + allowed,
        "{} MiB with one call, {} MiB at most; {} MiB more are allowed",
        alone / MIB,
        most / MIB,
        allowed / MIB
    );
}

#[tokio::test]
async fn a_call_for_which_there_is_no_room_is_declined_in_its_own_words_and_costs_nothing() {
    let rig = Rig::with(|settings| {
        settings.in_flight = 16 << 20;
        settings.cache.memory = 0;
    })
    .await;
    let memory = &rig.app.pipeline.memory;
    let all = memory.room();
    assert!(all.try_grow(memory.free()));
    let host = rig.address().to_string();
    let ask = async |path: &str, kind: &str, body: &str| {
        let request = post(&host, path, &[], kind, body);
        send(&rig, request.as_bytes()).await
    };
    let form = "--b\r\ncontent-disposition: form-data; name=\"prompt\"\r\n\r\na boat\r\n--b--\r\n";
    let openai = cat("a boat").to_string();
    let (openai, stability, gemini) = tokio::join!(
        ask("/v1/images/generations", "application/json", &openai),
        ask(
            "/stability/v2beta/stable-image/generate/core",
            "multipart/form-data; boundary=b",
            form
        ),
        ask(
            "/google/v1beta/models/gemini-2.5-flash-image:generateContent",
            "application/json",
            r#"{"contents":[{"parts":[{"text":"a boat"}]}]}"#
        ),
    );
    for answer in [&openai, &stability, &gemini] {
        assert_eq!(answer.status(), 503, "{}", answer.text());
        assert!(answer.header("retry-after").is_some(), "{}", answer.head);
        assert_eq!(
            answer.header("x-should-retry"),
            None,
            "it may be sent again"
        );
        assert!(answer.text().contains("in_flight"), "{}", answer.text());
    }
    assert!(openai.json()["error"]["message"].is_string());
    assert!(stability.json()["errors"][0].is_string());
    assert_eq!(gemini.json()["error"]["status"], "UNAVAILABLE");
    assert!(rig.sim().bills().is_empty());
    for decision in rig.decisions(3).await {
        assert_eq!(decision["error"]["status"], 503);
        assert_eq!(decision["error"]["by"], "pixtoll");
    }
    drop(all);
    let answer = rig.generate(&cat("a boat")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

/// Room is given back on every end: answered, hit, refused, failed, and when nobody waits.
#[tokio::test]
async fn room_is_given_back_however_a_call_ends() {
    let rig = Rig::with(|settings| settings.cache.memory = 0).await;
    let memory = &rig.app.pipeline.memory;
    let free = memory.free();
    rig.script(
        "openai",
        &["ok", "safety", "cut", "no_image", "server", "hold"],
    );
    for number in 0..5 {
        let _ = rig.generate(&cat(&format!("boat {number}"))).await;
    }
    let _ = rig
        .generate(&json!({"model": "gpt-image-2", "prompt": 5}))
        .await;
    let gone = rig.begin(&cat("nobody waits")).await;
    rig.sim().wait_for_requests(6).await;
    drop(gone);
    rig.sim().release();
    rig.decisions(7).await;
    for _ in 0..400 {
        if memory.free() == free {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{} of {free} bytes are free again", memory.free());
}

#[tokio::test]
async fn a_request_beyond_its_share_is_refused_with_what_is_allowed() {
    let rig = Rig::with(|settings| settings.in_flight = 16 << 20).await;
    let host = rig.address().to_string();
    let body = "x".repeat(5 * MIB);
    let request = post(
        &host,
        "/v1/images/edits",
        &[],
        "multipart/form-data; boundary=b",
        &body,
    );
    let answer = send(&rig, request.as_bytes()).await;
    assert_eq!(answer.status(), 413, "{}", answer.text());
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains("4 MiB"), "{message}");
}
