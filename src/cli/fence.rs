//! `pixtoll fence -- CMD`: a command that cannot connect to port 443 of anybody. Used by `doctor`,
//! which may not let a call slip past its proxy to a provider that would charge for it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;

/// As shells have them.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
const OURS: u8 = 125;

#[derive(Debug, Args)]
pub(crate) struct FenceArgs {
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

/// Fences this process off and becomes the command; returns only where that fails.
pub(super) fn run(args: &FenceArgs) -> u8 {
    if let Err(why) = close() {
        eprintln!("error: {why}");
        return OURS;
    }
    let Some((name, arguments)) = args.command.split_first() else {
        return OURS;
    };
    let error = Command::new(name).args(arguments).exec();
    eprintln!("error: {}: {error}", name.display());
    match error.kind() {
        std::io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    }
}

/// Whether this system can do it.
///
/// # Errors
/// Why it cannot, for people.
pub(super) fn possible() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    return open().map(drop);
    #[cfg(not(target_os = "linux"))]
    Err("it takes Linux 6.7 or later".to_owned())
}

#[cfg(target_os = "linux")]
const HTTPS: u16 = 443;

#[cfg(target_os = "linux")]
fn told(error: impl std::fmt::Display) -> String {
    format!("this system has no Landlock for the network, which takes Linux 6.7 or later: {error}")
}

/// Rules about whom to connect to, none yet.
#[cfg(target_os = "linux")]
fn open() -> Result<landlock::RulesetCreated, String> {
    use landlock::{AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr};
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessNet::ConnectTcp)
        .and_then(Ruleset::create)
        .map_err(told)
}

/// Landlock knows only what is allowed, so every other port is.
#[cfg(target_os = "linux")]
fn close() -> Result<(), String> {
    use landlock::{AccessNet, NetPort, RulesetCreatedAttr, RulesetError};
    let others = (0..=u16::MAX).filter(|port| *port != HTTPS);
    let rules = others.map(|port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp)));
    open()?
        .add_rules(rules)
        .and_then(|rules| rules.restrict_self())
        .map(drop)
        .map_err(told)
}

#[cfg(not(target_os = "linux"))]
fn close() -> Result<(), String> {
    possible()
}
