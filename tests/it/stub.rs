//! A provider that sends exactly the bytes it is told to, and what a caller makes of an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pixtoll::config::{Settings, Upstream};
use pixtoll::ledger::Filter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Answer, Rig, read_answer, read_head};

/// What the provider does with one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Act {
    /// Sent after so many bytes of the request's body, or all of it.
    pub(crate) after: Option<usize>,
    pub(crate) bytes: Vec<u8>,
    /// Sent one by one.
    pub(crate) drip: bool,
    /// The sending side is shut and the connection stays open a while.
    pub(crate) half_close: bool,
    /// The request is not even read.
    pub(crate) at_once: bool,
}

impl Act {
    pub(crate) fn send(bytes: impl Into<Vec<u8>>) -> Act {
        Act {
            bytes: bytes.into(),
            ..Act::default()
        }
    }

    /// An answer with its length told.
    pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Act {
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        Act::send([head.as_bytes(), body].concat())
    }
}

/// A provider that does `acts` in turn, the last one again and again.
pub(crate) async fn provider(acts: Vec<Act>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for turn in 0.. {
            let Ok((tcp, _)) = listener.accept().await else {
                return;
            };
            let act = acts[turn.min(acts.len() - 1)].clone();
            tokio::spawn(perform(tcp, act));
        }
    });
    address
}

async fn perform(mut tcp: TcpStream, act: Act) {
    if !act.at_once {
        let head = read_head(&mut tcp).await;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse::<usize>().ok())?
        });
        let read = act.after.unwrap_or(usize::MAX).min(length.unwrap_or(0));
        let mut body = vec![0; read];
        if tcp.read_exact(&mut body).await.is_err() {
            return;
        }
    }
    for piece in act.bytes.chunks(if act.drip { 1 } else { usize::MAX }) {
        if tcp.write_all(piece).await.is_err() {
            return;
        }
        if act.drip {
            tokio::task::yield_now().await;
        }
    }
    let _ = tcp.shutdown().await;
    if act.half_close {
        let _ = tokio::time::timeout(Duration::from_secs(5), tcp.read_u8()).await;
    }
}

/// Everything that is configured goes to `address`.
pub(crate) fn all_at(settings: &mut Settings, address: SocketAddr) {
    let all: Vec<_> = settings.providers.iter().cloned().collect();
    for mut provider in all {
        provider.upstream = Some(Upstream {
            tls: false,
            host: address.ip().to_string(),
            port: address.port(),
        });
        settings.providers.put(provider);
    }
}

/// A pixtoll whose providers are all at `address`.
pub(crate) async fn rig_at(address: SocketAddr) -> Rig {
    Rig::plain(|settings| all_at(settings, address)).await
}

/// One request as it stands, to the proxy's own address.
pub(crate) async fn send(rig: &Rig, request: &[u8]) -> Answer {
    let mut tcp = TcpStream::connect(rig.address()).await.unwrap();
    tcp.write_all(request).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(60), read_answer(&mut tcp));
    read.await.expect("an answer, or its end")
}

/// No hold is left, whatever happened.
pub(crate) async fn nothing_is_held(rig: &Rig) {
    let ledger = &rig.app.pipeline.ledger;
    let totals = Arc::new(ledger.clone()).totals(&Filter::default()).await;
    assert_eq!(totals.unwrap().open, 0, "a hold stays open");
}

/// Whether an answer that promised a length, or chunks, did not keep it.
pub(crate) fn is_cut(answer: &Answer) -> bool {
    match answer.header("content-length") {
        Some(length) => length.parse() != Ok(answer.body.len()),
        None => answer.head.is_empty() || answer.header("transfer-encoding").is_some(),
    }
}
