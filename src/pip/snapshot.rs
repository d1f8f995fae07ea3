//! The last good key set on disk, for a start while the authorization server is down.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::pdp::UnixTime;

/// Nothing larger is read: a key set has at most one MiB, and is escaped in here.
const LARGEST: u64 = 8 * 1024 * 1024;

/// How far ahead of our clock a snapshot may be from, in seconds. One that is from further ahead
/// would outlive its time.
const AHEAD: u64 = 300;

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Snapshot {
    /// Whose keys: a file that was put in the place of another is not taken (TOK-23).
    issuer: String,
    /// Seconds since the epoch.
    fetched: u64,
    /// As it was fetched.
    jwks: String,
}

/// Reads a snapshot: the key set, and when it was fetched. `None` where there is none yet.
pub(super) fn read(
    path: &Path,
    issuer: &str,
    now: UnixTime,
) -> Result<Option<(Vec<u8>, UnixTime)>, String> {
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(said(&error)),
    };
    let mode = file
        .metadata()
        .map_err(|error| said(&error))?
        .permissions()
        .mode();
    if mode & 0o022 != 0 {
        return Err(said(
            &"others may write it, so its keys cannot be believed (chmod 600)",
        ));
    }
    let mut text = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut text)
        .map_err(|error| said(&error))?;
    let snapshot: Snapshot = serde_json::from_slice(&text).map_err(|error| said(&error))?;
    if snapshot.issuer != issuer {
        return Err(said(&format!("it is of issuer {:?}", snapshot.issuer)));
    }
    if snapshot.fetched > now.as_secs().saturating_add(AHEAD) {
        return Err(said(&"it is from the future"));
    }
    Ok(Some((
        snapshot.jwks.into_bytes(),
        UnixTime::from_secs(snapshot.fetched),
    )))
}

/// Writes a snapshot: beside the old one, then in its place, so that no reader ever sees half.
pub(super) fn write(path: &Path, issuer: &str, jwks: &[u8], now: UnixTime) -> Result<(), String> {
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let snapshot = Snapshot {
        issuer: issuer.to_owned(),
        fetched: now.as_secs(),
        jwks: String::from_utf8(jwks.to_vec()).map_err(|error| said(&error))?,
    };
    let text = serde_json::to_vec(&snapshot).map_err(|error| said(&error))?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(name);
    let written = write_beside(&beside, &text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // It may not even exist; what counts is the first error.
        let _gone: io::Result<()> = fs::remove_file(&beside);
    }
    written.map_err(|error| said(&error))
}

fn write_beside(beside: &Path, text: &[u8]) -> io::Result<()> {
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(beside)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    #[test]
    fn what_was_written_is_read_and_only_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("main.json");
        assert_eq!(read(&path, "https://as", NOW), Ok(None));
        for round in 0..2 {
            let jwks = format!("{{\"keys\":[{round}]}}");
            write(&path, "https://as", jwks.as_bytes(), NOW).unwrap();
            assert_eq!(
                read(&path, "https://as", NOW),
                Ok(Some((jwks.into_bytes(), NOW)))
            );
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left beside"
        );
        assert!(read(&path, "https://other", NOW).is_err(), "TOK-23");
        assert!(read(&path, "https://as", UnixTime::from_secs(999_000)).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
        assert!(
            read(&path, "https://as", NOW).is_err(),
            "others may write it"
        );
    }

    #[test]
    fn half_a_file_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("main.json");
        write(&path, "https://as", b"{}", NOW).unwrap();
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            assert!(read(&path, "https://as", NOW).is_err(), "{end}");
        }
    }
}
