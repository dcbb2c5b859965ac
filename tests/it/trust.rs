//! Whom we trust, and who does not trust us.

use std::process::Command;

use crate::harness::{Rig, connector};

#[tokio::test]
async fn a_client_that_does_not_trust_us_leaves_a_notice() {
    let rig = Rig::start().await;
    let tcp = rig.tunnel("api.openai.com:443").await;
    let stranger = rcgen::generate_simple_self_signed(["x.example".to_owned()]).unwrap();
    let refused = connector(&stranger.cert.pem(), &[])
        .connect("api.openai.com".try_into().unwrap(), tcp)
        .await;
    assert!(refused.is_err());
    let path = rig.app.pipeline.log.path().to_owned();
    for _ in 0..1000 {
        rig.app.pipeline.log.flush().await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        if text.contains("certificate_refused") {
            assert!(text.contains("did not accept pixtoll's certificate for api.openai.com"));
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("no notice");
}

#[tokio::test]
async fn what_a_client_is_shown_passes_strict_verification() {
    let rig = Rig::start().await;
    let tls = rig.tls("api.openai.com", 443).await;
    let chain = tls.get_ref().1.peer_certificates().unwrap().to_vec();
    let pem = |der: &[u8]| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .map(|c| std::str::from_utf8(c).unwrap())
            .collect();
        format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            lines.join("\n")
        )
    };
    let (leaf, middle) = (
        rig.dir.path().join("leaf.pem"),
        rig.dir.path().join("middle.pem"),
    );
    std::fs::write(&leaf, pem(&chain[0])).unwrap();
    std::fs::write(&middle, pem(&chain[1])).unwrap();
    let done = Command::new("openssl")
        .args([
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-verify_hostname",
            "api.openai.com",
            "-CAfile",
        ])
        .arg(rig.app.authority.ca_pem_path())
        .arg("-untrusted")
        .args([&middle, &leaf])
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[tokio::test]
async fn no_secret_is_in_any_file_we_write() {
    let rig = Rig::start().await;
    rig.generate(&crate::harness::cat("a cat")).await;
    rig.script("openai", &["auth"]);
    rig.generate(&crate::harness::cat("another cat")).await;
    rig.decisions(2).await;
    rig.app.pipeline.ledger.flush().await.unwrap();
    let mut dirs = vec![rig.dir.path().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                assert!(
                    memchr::memmem::find(&bytes, b"sk-canary").is_none(),
                    "{}",
                    path.display()
                );
            }
        }
    }
}
