//! The way out: trust, a proxy on the way, and where alerts go.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::{Upstream, Url};
use super::raw::{Field, RawAlerts, RawCa, RawRetries};
use super::read::Reader;
use crate::pipeline::RetryBudget;
use crate::secret::Secret;

/// A fifth of the calls, as the usual clients and meshes have it, and enough to try a rule out.
pub(super) const RETRY_BUDGET: RetryBudget = RetryBudget {
    percent: 20,
    floor: 10,
};

/// A proxy that all upstream connections go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamProxy {
    pub server: Upstream,
    /// `user:password` as its URL has them, still percent-encoded.
    pub userinfo: Option<Secret>,
}

/// A CA that the user brings, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Reads `upstream_proxy`.
pub(super) fn proxy(field: &Field<'_>, reader: &mut Reader<'_>) -> Option<UpstreamProxy> {
    reader.hidden(field, "http://proxy.corp:3128", |text| {
        let url = Url::parse(text)?;
        if !url.path.is_empty() {
            return Err("has a path, and a proxy has none".to_owned());
        }
        Ok(UpstreamProxy {
            server: url.server,
            userinfo: url.userinfo.map(Secret::new),
        })
    })
}

/// Reads `ca`.
pub(super) fn ca(field: &Field<'_>, reader: &mut Reader<'_>) -> Option<CaFiles> {
    let raw = RawCa::read(field, &mut reader.problems);
    let mut file = |part: &Option<Field<'_>>, key: &str, example: &str| match part {
        Some(part) => reader.file(part, example),
        None => {
            reader.missing(field, key, format!("name its PEM file: `{key}: {example}`"));
            None
        }
    };
    let cert = file(&raw.cert, "cert", "my-ca.pem");
    let key = file(&raw.key, "key", "my-ca.key");
    if let (Some(field), Some(path)) = (&raw.key, &key)
        && is_loose(path)
    {
        reader.warn(
            field,
            "loose_key",
            format!("{} can be read by others", path.display()),
            format!("chmod 600 {}", path.display()),
        );
    }
    Some(CaFiles {
        cert: cert?,
        key: key?,
    })
}

/// Whether others than its owner may touch a file.
#[cfg(unix)]
fn is_loose(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

/// Whether others may touch a file: not asked where permissions are of another kind.
#[cfg(not(unix))]
fn is_loose(_path: &Path) -> bool {
    false
}

/// Reads `retry_budget`.
pub(super) fn retry_budget(field: &Field<'_>, reader: &mut Reader<'_>) -> RetryBudget {
    let raw = RawRetries::read(field, &mut reader.problems);
    let mut number = |field: &Option<Field<'_>>, most: u32, usual: u32| {
        let field = field.as_ref();
        let given = field.and_then(|field| {
            reader.parsed(field, &usual.to_string(), |text| match text.parse() {
                Ok(number) if number <= most => Ok(number),
                _ => Err(format!("is no whole number from 0 to {most}")),
            })
        });
        given.unwrap_or(usual)
    };
    RetryBudget {
        percent: number(&raw.percent, 1000, RETRY_BUDGET.percent),
        floor: number(&raw.floor, 1_000_000, RETRY_BUDGET.floor),
    }
}

/// Reads `job_ttl`, which is never nothing: a job's answer would find its call forgotten.
pub(super) fn job_ttl(field: &Field<'_>, reader: &mut Reader<'_>) -> Option<Duration> {
    reader.duration(field, "24h").filter(|ttl| {
        if ttl.is_zero() {
            reader.bad(
                field,
                "a job must be remembered for some time",
                "write `job_ttl: 24h`",
            );
        }
        !ttl.is_zero()
    })
}

/// Reads `alerts`.
pub(super) fn webhook(field: &Field<'_>, reader: &mut Reader<'_>) -> Option<Secret> {
    let raw = RawAlerts::read(field, &mut reader.problems);
    let field = raw.webhook?;
    reader.hidden(&field, "https://hooks.example/alerts", |text| {
        Url::parse(text).map(|_| Secret::new(text))
    })
}
