//! What checks, hooks and the HTTP listener need of the director itself: files of certificates and tokens, accounts, programs. Looked at
//! when a file is loaded, so that a slip of the pen is an error there, and not the failure of every server later.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use nix::unistd::{Group, User};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use weir_config::Loaded;
use weir_config::model::health::{Account, Health, TlsIdentity};
use weir_config::model::{Control, VrrpTrack, VrrpTracked};
use weir_config::report::{Need, Problem, Report};
use weir_config::tokens::{self, Token};

/// Who runs nothing and owns nothing: the kernel's overflow ids.
pub(crate) const NOBODY: Account = Account { user: 65_534, group: 65_534 };
/// Where systems keep the authorities they trust: Debian, Fedora, Alpine.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// A file of certificates or keys is no larger.
const PEM_BYTES_MAX: u64 = 16 << 20;

/// Looks whether this host has what a file needs, and notes the numbers of the account that programs run as.
///
/// # Errors
/// The report holds what is missing.
pub fn examine(loaded: Loaded) -> Result<Loaded, Report> {
    let account = account(&loaded.config.health);
    let runner = runner(account.as_ref().ok());
    let mut loaded = loaded.examine(|need| has(need, runner))?;
    loaded.config.health.account = account.ok();
    loaded.config.control.account = own_account(&loaded.config.control);
    loaded.config.vrrp.iter_mut().flat_map(|vrrp| &mut vrrp.track).for_each(look_up);
    Ok(loaded)
}

/// The same for edits of a file.
///
/// # Errors
/// The sentence for the first thing that is missing.
pub fn examine_edits(needs: Vec<Problem>, health: &Health) -> Result<(), String> {
    let runner = runner(account(health).as_ref().ok());
    weir_config::edit::examine(needs, |need| has(need, runner))
}

/// Whether programs can be run as another user: this process was root when it was first asked, which is before it became somebody else.
pub(crate) fn began_as_root() -> bool {
    static BEGAN_AS_ROOT: LazyLock<bool> = LazyLock::new(|| rustix::process::geteuid().is_root());
    *BEGAN_AS_ROOT
}

/// Who runs programs. Who was never root runs them as himself.
fn runner(account: Option<&Account>) -> Option<Account> {
    if began_as_root() {
        return account.copied();
    }
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    Some(Account { user: user.as_raw(), group: group.as_raw() })
}

fn has(need: &Need, runner: Option<Account>) -> Result<(), String> {
    let is_root = began_as_root();
    match need {
        Need::Certificates(path) => certificates(path).map(drop),
        Need::SystemAuthorities => system_authorities().and_then(certificates).map(drop),
        // A certificate that is not good is said at its own place.
        Need::Key(pair) => {
            certificates(&pair.certificate).map_or(Ok(()), |chain| key(&chain, pair).map(drop))
        }
        Need::Tokens(path) => bearers(path).map(drop),
        Need::Program(path) => program(path, runner),
        Need::Fifo(path) => fifo(path),
        Need::ProgramOf(path, ..) if !is_root => program(path, runner),
        // Who is not there is said at its own place.
        Need::ProgramOf(path, user, group) => match account_of(user, group.as_deref()) {
            Some(account) => program(path, Some(account)),
            None if group.is_none() && self::user(user).is_ok() => {
                Err("the user's own group is not known, or it is root's: write `group`".to_owned())
            }
            None => Ok(()),
        },
        Need::User(_) | Need::Group(_) | Need::OwnUser(_) | Need::OwnGroup(_) if !is_root => Ok(()),
        Need::User(name) | Need::OwnUser(name) => user(name).map(drop),
        Need::Group(name) | Need::OwnGroup(name) => group(name).map(drop),
    }
}

/// The numbers of the account that programs run as.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn account(health: &Health) -> Result<Account, String> {
    Ok(Account { user: user(&health.script_user)?.0, group: group(&health.script_group)? })
}

/// The numbers of a user, and of a group or that user's own.
fn account_of(name: &str, group_name: Option<&str>) -> Option<Account> {
    let (number, own) = user(name).ok()?;
    let group = match group_name {
        Some(name) => group(name).ok(),
        None => own.filter(|own| *own != 0),
    };
    Some(Account { user: number, group: group? })
}

/// Notes the numbers of the account that a tracked script runs as.
fn look_up(track: &mut VrrpTrack) {
    if let VrrpTracked::Script(script) = &mut track.what
        && let Some(user) = &script.user
    {
        let account = account_of(user, script.group.as_deref());
        Arc::make_mut(script).account = account;
    }
}

/// The numbers of who weir becomes. Names that are none are errors of the file before that.
fn own_account(control: &Control) -> Option<Account> {
    account_of(control.user.as_deref()?, control.group.as_deref())
}

/// The number of a user, and its own group if it is known.
fn user(name: &str) -> Result<(u32, Option<u32>), String> {
    let known = match name.parse::<u32>() {
        Ok(number) => (number, None),
        Err(_) => match User::from_name(name) {
            Ok(Some(user)) => (user.uid.as_raw(), Some(user.gid.as_raw())),
            Ok(None) => return Err("there is no such user".to_owned()),
            Err(problem) => return Err(format!("it can't be looked up: {problem}")),
        },
    };
    if known.0 == 0 { Err("it is root".to_owned()) } else { Ok(known) }
}

fn group(name: &str) -> Result<u32, String> {
    let known = match name.parse::<u32>() {
        Ok(number) => number,
        Err(_) => match Group::from_name(name) {
            Ok(Some(group)) => group.gid.as_raw(),
            Ok(None) => return Err("there is no such group".to_owned()),
            Err(problem) => return Err(format!("it can't be looked up: {problem}")),
        },
    };
    if known == 0 { Err("it is root's".to_owned()) } else { Ok(known) }
}

/// Whether there is a FIFO, or a folder for one.
fn fifo(path: &Path) -> Result<(), String> {
    match path.symlink_metadata() {
        Ok(found) if found.file_type().is_fifo() => Ok(()),
        Ok(_) => Err("it is there and no FIFO".to_owned()),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
            match path.parent().map(Path::metadata) {
                Some(Ok(folder)) if folder.is_dir() => Ok(()),
                _ => Err("there is no such folder".to_owned()),
            }
        }
        Err(problem) => Err(says(&problem)),
    }
}

/// Whether the account may run a program. Lists of access rights (ACL) say more than modes do, so a file or folder that has one
/// is left to the attempt.
fn program(path: &Path, account: Option<Account>) -> Result<(), String> {
    let found = path.metadata().map_err(|problem| says(&problem))?;
    if !found.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if found.mode() & 0o111 == 0 {
        return Err("it is not executable".to_owned());
    }
    let Some(account) = account else { return Ok(()) };
    let real = path.canonicalize().map_err(|problem| says(&problem))?;
    for place in real.ancestors() {
        let known = place.metadata().map_err(|problem| says(&problem))?;
        if !may_execute(&known, account) && !has_acl(place) {
            let Account { user, group } = account;
            return Err(format!("user {user}, group {group} may not execute or enter {}", place.display()));
        }
    }
    Ok(())
}

fn may_execute(file: &Metadata, account: Account) -> bool {
    let bit = match (file.uid() == account.user, file.gid() == account.group) {
        _ if account.user == 0 => 0o111,
        (true, _) => 0o100,
        (false, true) => 0o010,
        (false, false) => 0o001,
    };
    file.mode() & bit != 0
}

fn has_acl(path: &Path) -> bool {
    rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0u8; 0][..]).is_ok_and(|bytes| bytes > 0)
}

/// Where this system keeps the authorities that it trusts.
pub(crate) fn system_authorities() -> Result<&'static Path, String> {
    let known = SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.exists());
    known.ok_or_else(|| format!("there is none of {}", SYSTEM_AUTHORITIES.join(", ")))
}

/// The certificates in a file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err("there is no certificate in PEM in it".to_owned()),
        Ok(found) => Ok(found),
        Err(problem) => Err(format!("it is not PEM: {problem}")),
    }
}

/// A certificate with what goes along with it, and its key.
///
/// # Errors
/// What is wrong with which file, in words.
pub fn identity(
    files: &TlsIdentity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let of = |path: &PathBuf, problem: String| format!("{}: {problem}", path.display());
    let chain = certificates(&files.certificate).map_err(|problem| of(&files.certificate, problem))?;
    let key = key(&chain, files).map_err(|problem| of(&files.key, problem))?;
    Ok((chain, key))
}

/// The key of a certificate that was read.
fn key(chain: &[CertificateDer<'static>], files: &TlsIdentity) -> Result<PrivateKeyDer<'static>, String> {
    let text = read(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|problem| format!("there is no private key in PEM in it: {problem}"))?;
    let provider = rustls::crypto::ring::default_provider();
    let pair = rustls::sign::CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider);
    pair.map_err(|problem| format!("this is not the key of the certificate: {problem}"))?;
    Ok(key)
}

/// Why a file with a private key is not as private as it should be, if so: many give keys to a group that may read them, and none to
/// everybody.
pub fn exposed(key: &Path) -> Option<String> {
    let mode = key.metadata().ok()?.mode() & 0o777;
    (mode & 0o027 != 0).then(|| {
        let path = key.display();
        format!("others may read or write the private key {path} (its mode is {mode:04o}): chmod 600 {path}")
    })
}

/// The tokens in a file that nobody but its owner and group can read.
///
/// # Errors
/// What is wrong with it, in words; no token is repeated.
pub fn bearers(path: &Path) -> Result<Vec<Token>, String> {
    let mode = path.metadata().map_err(|problem| says(&problem))?.mode() & 0o777;
    if mode & 0o027 != 0 {
        return Err(format!(
            "others may read or write it (its mode is {mode:04o}): chmod 600 {}",
            path.display()
        ));
    }
    let text = weir_config::read_file(path, tokens::FILE_BYTES_MAX).map_err(|problem| says(&problem))?;
    tokens::parse(&text)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    weir_config::read_file(path, PEM_BYTES_MAX).map_err(|problem| says(&problem))
}

fn says(problem: &io::Error) -> String {
    crate::probe::system_says(problem)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn names_of_root_are_root_however_they_are_written() {
        assert!(user("root").is_err() && group("root").is_err());
        for zero in ["0", "00", "000"] {
            assert!(user(zero).is_err() && group(zero).is_err(), "{zero}");
        }
        assert_eq!(user("1234").unwrap().0, 1234);
        assert_eq!(user("no-such-user").unwrap_err(), "there is no such user");
        assert_eq!(group("no-such-group").unwrap_err(), "there is no such group");
    }

    #[test]
    fn tokens_that_others_can_read_are_refused() {
        let path = std::env::temp_dir().join(format!("weir-tokens-{}", std::process::id()));
        assert!(bearers(&path).unwrap_err().contains("no such file"));
        std::fs::write(&path, "read 0123456789abcdef\n").unwrap();
        for (mode, is_good) in
            [(0o600, true), (0o400, true), (0o640, true), (0o644, false), (0o604, false), (0o660, false)]
        {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let read = bearers(&path);
            assert_eq!(read.is_ok(), is_good, "{mode:o}: {read:?}");
            assert!(is_good || read.unwrap_err().contains(&format!("its mode is {mode:04o}): chmod 600 /")));
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_key_that_others_can_read_is_told() {
        let path = std::env::temp_dir().join(format!("weir-key-{}", std::process::id()));
        assert_eq!(exposed(&path), None);
        std::fs::write(&path, "").unwrap();
        for (mode, is_good) in [(0o600, true), (0o640, true), (0o644, false), (0o660, false)] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(exposed(&path).is_none(), is_good, "{mode:o}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_program_that_the_account_can_not_run_is_told() {
        let folder = std::env::temp_dir().join(format!("weir-local-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("check");
        let mode =
            |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        let other = Some(Account { user: 4_000_001, group: 4_000_001 });
        assert!(program(&path, other).unwrap_err().contains("no such file"));
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        mode(&path, 0o644);
        assert_eq!(program(&path, other).unwrap_err(), "it is not executable");
        mode(&path, 0o700);
        assert!(program(&path, other).unwrap_err().contains("user 4000001, group 4000001 may not execute"));
        let owner = path.metadata().unwrap();
        assert_eq!(program(&path, Some(Account { user: owner.uid(), group: owner.gid() })), Ok(()));
        mode(&path, 0o755);
        mode(&folder, 0o755);
        assert_eq!(program(&path, other), Ok(()));
        mode(&folder, 0o700);
        assert!(program(&path, other).unwrap_err().ends_with(&folder.display().to_string()));
        assert_eq!(program(&folder, other).unwrap_err(), "it is not a regular file");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
