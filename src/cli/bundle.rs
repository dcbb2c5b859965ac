//! The trust files that clients behind the proxy are given.
//!
//! Most variables that name a CA file *replace* a client's roots. Pointed at our CA alone they
//! would break every host that is tunnelled untouched, so they get the system's roots, what the
//! user had set before, and our CA. The few that *add* get our CA, with what the user had added.

use std::collections::HashSet;
use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::proxy::authority::pem;

/// Where distributions keep their roots in one file.
const SYSTEM_FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Arch, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",   // older Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",             // openSUSE
    "/usr/local/share/certs/ca-root-nss.crt", // FreeBSD
    "/etc/ssl/cert.pem",                  // macOS, OpenBSD
];

/// Why no trust file could be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "could not {doing} {path}: {source}. Clients need this file to trust pixtoll's certificates",
    path = path.display()
)]
pub struct BundleError {
    path: PathBuf,
    doing: &'static str,
    source: io::Error,
}

/// The trust files and directories that the user's own environment names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Previous {
    /// From variables that replace a client's roots.
    pub replacing: Vec<PathBuf>,
    /// From variables that add to them.
    pub adding: Vec<PathBuf>,
}

/// The files to point clients at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustFiles {
    /// For variables that replace: system's roots, user's, our CA.
    pub bundle: PathBuf,
    /// For variables that add: our CA, and what the user had added.
    pub additive: PathBuf,
    /// What a person should know, in full sentences.
    pub warnings: Vec<String>,
}

/// Writes the trust files into `dir`, unless they are there and say the same.
///
/// `ca_pem` are our roots, which stand alone in the file `ca_path`. Files that the user's
/// environment names and that cannot be read become warnings. Blocks on the disk.
///
/// # Errors
/// [`BundleError`] when a file cannot be written.
pub fn write(
    dir: &Path,
    ca_pem: &str,
    ca_path: &Path,
    previous: &Previous,
) -> Result<TrustFiles, BundleError> {
    write_with(dir, ca_pem, ca_path, previous, system_roots())
}

fn write_with(
    dir: &Path,
    ca_pem: &str,
    ca_path: &Path,
    previous: &Previous,
    system: Vec<CertificateDer<'static>>,
) -> Result<TrustFiles, BundleError> {
    let mut warnings = Vec::new();
    let ours = certificates(ca_pem.as_bytes());
    let mut all = system;
    all.extend(users(&previous.replacing, &mut warnings));
    all.extend(ours.iter().cloned());
    let bundle = dir.join(name_for("bundle", &previous.replacing));
    write_if_changed(&bundle, &pem::encode(&once_each(all)))?;

    let mut additive = ca_path.to_owned();
    if !previous.adding.is_empty() {
        let mut all = users(&previous.adding, &mut warnings);
        all.extend(ours);
        additive = dir.join(name_for("extra", &previous.adding));
        write_if_changed(&additive, &pem::encode(&once_each(all)))?;
    }
    Ok(TrustFiles {
        bundle,
        additive,
        warnings,
    })
}

/// Named after the files that are merged into it: two shells with different ones of their own do
/// not overwrite each other's, and a shell that stays open sees its file renewed.
fn name_for(stem: &str, merged: &[PathBuf]) -> String {
    if merged.is_empty() {
        return format!("{stem}.pem");
    }
    let mut hasher = blake3::Hasher::new();
    for path in merged {
        hasher.update(path.as_os_str().as_encoded_bytes());
        hasher.update(&[0]);
    }
    let name = hasher.finalize().to_hex();
    format!("{stem}-{}.pem", &name[..12])
}

fn users(paths: &[PathBuf], warnings: &mut Vec<String>) -> Vec<CertificateDer<'static>> {
    let mut all = Vec::new();
    for path in paths {
        let found = read(path);
        if found.is_empty() {
            warnings.push(format!(
                "your environment names {} as a file of certificates to trust, but none could be read from it",
                path.display()
            ));
        }
        all.extend(found);
    }
    all
}

/// The certificates in a file, or in the files of a directory.
fn read(path: &Path) -> Vec<CertificateDer<'static>> {
    if path.is_dir() {
        return rustls_native_certs::load_certs_from_paths(None, Some(path)).certs;
    }
    std::fs::read(path)
        .map(|text| certificates(&text))
        .unwrap_or_default()
}

fn certificates(text: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(text)
        .filter_map(Result::ok)
        .collect()
}

/// The roots that this machine trusts; Mozilla's where it says nothing.
///
/// Our own `SSL_CERT_FILE` is not asked on systems that keep a file: below another pixtoll it
/// names that one's bundle.
fn system_roots() -> Vec<CertificateDer<'static>> {
    if !cfg!(target_os = "linux") {
        let native = rustls_native_certs::load_native_certs().certs;
        if !native.is_empty() {
            return native;
        }
    }
    SYSTEM_FILES
        .iter()
        .map(|path| read(Path::new(path)))
        .find(|certs| !certs.is_empty())
        .unwrap_or_else(|| webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec())
}

fn once_each(certs: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    let mut seen = HashSet::new();
    certs
        .into_iter()
        .filter(|cert| seen.insert(cert.clone()))
        .collect()
}

fn write_if_changed(path: &Path, text: &str) -> Result<(), BundleError> {
    let present = std::fs::read(path).is_ok_and(|present| present == text.as_bytes());
    if present {
        return Ok(());
    }
    write_whole(path, text).map_err(|source| BundleError {
        path: path.to_owned(),
        doing: "write",
        source,
    })
}

/// A client that reads the file meanwhile sees the old one or the new one, never a half.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = path.with_extension(format!("{}-{number}.new", std::process::id()));
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let _ = std::fs::remove_file(&draft); // left by a process of the same id that was killed
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        std::fs::rename(&draft, path)
    };
    written().inspect_err(|_| {
        let _ = std::fs::remove_file(&draft);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::os::unix::fs::MetadataExt;
    use tempfile::TempDir;

    fn cert() -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::default().self_signed(&key).unwrap();
        cert.der().clone()
    }

    struct Place {
        home: TempDir,
        system: CertificateDer<'static>,
        ours: CertificateDer<'static>,
        ca_path: PathBuf,
    }

    impl Place {
        fn new() -> Place {
            let home = TempDir::new().unwrap();
            let ca_path = home.path().join("ca.pem");
            let ours = cert();
            std::fs::write(&ca_path, pem::encode(std::slice::from_ref(&ours))).unwrap();
            Place {
                home,
                system: cert(),
                ours,
                ca_path,
            }
        }

        fn file(&self, name: &str, certs: &[CertificateDer<'_>]) -> PathBuf {
            let path = self.home.path().join(name);
            std::fs::write(&path, pem::encode(certs)).unwrap();
            path
        }

        fn write(&self, previous: &Previous) -> TrustFiles {
            let ca_pem = pem::encode(std::slice::from_ref(&self.ours));
            let dir = self.home.path().join("state");
            write_with(
                &dir,
                &ca_pem,
                &self.ca_path,
                previous,
                vec![self.system.clone()],
            )
            .unwrap()
        }
    }

    #[test]
    fn the_bundle_has_the_systems_roots_the_users_and_ours_in_this_order() {
        let place = Place::new();
        let [one, two] = [cert(), cert()];
        let previous = Previous {
            replacing: vec![
                place.file("corp.pem", &[one.clone(), place.system.clone()]),
                place.file("more.pem", &[two.clone(), one.clone()]),
            ],
            adding: Vec::new(),
        };
        let files = place.write(&previous);
        let expected = [place.system.clone(), one, two, place.ours.clone()];
        assert_eq!(read(&files.bundle), expected);
        assert_eq!(
            files.additive, place.ca_path,
            "nothing to merge: the CA's own file"
        );
        assert!(files.warnings.is_empty());
        let mode = std::fs::metadata(&files.bundle)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o644);
    }

    #[test]
    fn what_the_user_adds_for_node_is_kept_beside_ours() {
        let place = Place::new();
        let corp = cert();
        let previous = Previous {
            adding: vec![place.file("corp.pem", std::slice::from_ref(&corp))],
            ..Previous::default()
        };
        let files = place.write(&previous);
        assert_eq!(read(&files.additive), [corp, place.ours.clone()]);
        assert_eq!(
            read(&files.bundle),
            [place.system.clone(), place.ours.clone()]
        );
    }

    #[test]
    fn a_directory_of_certificates_is_merged_too() {
        let place = Place::new();
        let corp = cert();
        let dir = place.home.path().join("certs");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("a.pem"), pem::encode(std::slice::from_ref(&corp))).unwrap();
        let previous = Previous {
            replacing: vec![dir],
            ..Previous::default()
        };
        let files = place.write(&previous);
        assert!(read(&files.bundle).contains(&corp));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_said_and_passed_over() {
        let place = Place::new();
        let previous = Previous {
            replacing: vec![place.home.path().join("gone.pem")],
            ..Previous::default()
        };
        let files = place.write(&previous);
        assert!(
            files.warnings[0].contains("gone.pem"),
            "{:?}",
            files.warnings
        );
        assert_eq!(
            read(&files.bundle),
            [place.system.clone(), place.ours.clone()]
        );
    }

    #[test]
    fn the_file_is_written_again_only_when_it_would_differ() {
        let mut place = Place::new();
        let inode = |files: &TrustFiles| std::fs::metadata(&files.bundle).unwrap().ino();
        let first = place.write(&Previous::default());
        let before = inode(&first);
        assert_eq!(inode(&place.write(&Previous::default())), before);
        place.ours = cert();
        let second = place.write(&Previous::default());
        assert_eq!(second.bundle, first.bundle);
        assert_eq!(read(&second.bundle).last(), Some(&place.ours));
        std::fs::write(&second.bundle, "damaged").unwrap();
        place.write(&Previous::default());
        assert_eq!(read(&second.bundle).last(), Some(&place.ours));
        let names: Vec<_> = std::fs::read_dir(place.home.path().join("state"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["bundle.pem"], "no draft is left");
    }

    #[test]
    fn shells_with_different_files_of_their_own_get_different_bundles() {
        let place = Place::new();
        let one = Previous {
            replacing: vec![place.file("one.pem", &[cert()])],
            ..Previous::default()
        };
        let two = Previous {
            replacing: vec![place.file("two.pem", &[cert()])],
            ..Previous::default()
        };
        assert_ne!(place.write(&one).bundle, place.write(&two).bundle);
        assert_eq!(place.write(&one).bundle, place.write(&one).bundle);
    }

    #[test]
    fn there_are_always_roots_of_some_kind() {
        assert!(system_roots().len() > 20);
    }

    #[test]
    fn openssl_reads_the_bundle() {
        let place = Place::new();
        let files = write(
            &place.home.path().join("state"),
            &pem::encode(std::slice::from_ref(&place.ours)),
            &place.ca_path,
            &Previous::default(),
        )
        .unwrap();
        let out = std::process::Command::new("openssl")
            .args(["verify", "-CAfile"])
            .args([&files.bundle, &place.ca_path])
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
}
