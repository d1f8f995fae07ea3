//! `[audit]`: where decisions are recorded, and under which keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::At;
use super::files::{self, Files};
use super::introspection;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::values::{YEAR, count, duration, hours, list, secs, size};
use crate::audit::{Key, OnFailure, Rotate, Settings, SigningKey, Subject, Sync};

/// `Some(None)` where there is none; `None` where it has a problem.
pub(super) fn check(
    file: &raw::File,
    at: &At,
    files: &mut Files,
    out: &mut Findings,
) -> Option<Option<Settings>> {
    let at = at.key("audit");
    let Some(raw) = &file.audit else {
        let text = "there is no audit log: what was decided stands in the access log alone";
        at.report(out, ReportKind::Note, text);
        return Some(None);
    };
    let key = key(raw, &at, files, out);
    let (signing_key, signing_digest) = match signing_key(raw, &at, files, out) {
        Some((key, digest)) => (Some(key), digest),
        None => (None, [0; 32]),
    };
    let every = raw.checkpoint_every.as_deref();
    let checkpoint_every = duration(&at, "checkpoint_every", every, secs(1)..=hours(1), out);
    let queue = count(&at, "queue", raw.queue, 1..=1_000_000, out);
    let here = at.key("rotate");
    let rotate = Rotate {
        size: size(
            &here,
            "size",
            raw.rotate.size.as_deref(),
            1024 * 1024..=1 << 40,
            out,
        ),
        every: duration(
            &here,
            "every",
            raw.rotate.every.as_deref(),
            secs(60)..=YEAR,
            out,
        ),
    };
    let claims = raw.claims.clone().unwrap_or_default();
    if !claims.is_empty() || at.key("claims").written() {
        list(&at.key("claims"), &claims, out);
    }
    let subject = match raw.subject {
        Some(raw::AuditSubject::Plain) => {
            let text = "the audit log holds subjects as they are: it is personal data";
            at.key("subject").report(out, ReportKind::Weaker, text);
            Subject::Plain
        }
        Some(raw::AuditSubject::Digest) | None => Subject::Digest,
    };
    let on_failure = match raw.on_failure {
        Some(raw::AuditFailure::Continue) => {
            let text =
                "requests pass that leave no line in the audit log, while it cannot be written";
            at.key("on_failure").report(out, ReportKind::Weaker, text);
            OnFailure::Continue
        }
        Some(raw::AuditFailure::Refuse) | None => OnFailure::Refuse,
    };
    let sync = match raw.sync {
        Some(raw::AuditSync::Write) => Sync::Write,
        Some(raw::AuditSync::Checkpoint) | None => Sync::Checkpoint,
    };
    let path = place(raw, &at, files, out);
    let (path, key, signing_key) = (path?, key?, signing_key?);
    let fixed = format!(
        "{path:?} {} {signing_digest:?} {:?} {checkpoint_every:?} {queue} {rotate:?} {sync:?} {on_failure:?}",
        key.fingerprint(),
        raw.key_id
    );
    Some(Some(Settings {
        file: path,
        key,
        signing_key: Arc::new(signing_key),
        checkpoint_every,
        subject,
        queue: usize::try_from(queue).unwrap_or(usize::MAX),
        rotate,
        sync,
        on_failure,
        claims: claims.into_iter().map(Box::from).collect(),
        fingerprint: files::digest(fixed.as_bytes()),
    }))
}

const MAKE: &str = "make one with openssl rand -hex 32, readable for this process alone";

/// The key of the HMACs.
fn key(raw: &raw::Audit, at: &At, files: &mut Files, out: &mut Findings) -> Option<Key> {
    let here = at.key("key");
    let content = introspection::secret(&raw.key, &here, files, out)?;
    if let Some(name) = &raw.key.file {
        exposed(&here.key("file"), &files.resolve(name), out)?;
    }
    match Key::new(content.as_bytes()) {
        Ok(key) => Some(key),
        Err(wrong) => {
            here.refuse(out, wrong, MAKE);
            None
        }
    }
}

/// Whoever can read a key can make the chain anew: not a report, as for other keys, but a problem.
fn exposed(at: &At, path: &Path, out: &mut Findings) -> Option<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
    if mode & 0o004 == 0 {
        return Some(());
    }
    let wrong = format!(
        "every user of this machine may read {}, and could make the log anew",
        path.display()
    );
    at.refuse(out, wrong, "chmod o-r it");
    None
}

fn signing_key(
    raw: &raw::Audit,
    at: &At,
    files: &mut Files,
    out: &mut Findings,
) -> Option<(SigningKey, files::Digest)> {
    let here = at.key("signing_key");
    let content = files.secret(&here, &raw.signing_key, out)?;
    exposed(&here, &content.path, out)?;
    if let Some(id) = &raw.key_id {
        super::values::text(&at.key("key_id"), id, out);
    }
    match SigningKey::from_pem(&content.bytes, raw.key_id.as_deref()) {
        Ok(key) => Some((key, files::digest(&content.bytes))),
        Err(wrong) => {
            let wrong = format!("{} {wrong}", content.name);
            let right = "make one with openssl genpkey -algorithm ed25519, or -algorithm EC -pkeyopt ec_paramgen_curve:P-256";
            here.refuse(out, wrong, right);
            None
        }
    }
}

/// The file: its folder must be there and take it, and it must be nothing else.
fn place(raw: &raw::Audit, at: &At, files: &Files, out: &mut Findings) -> Option<PathBuf> {
    let at = at.key("file");
    if raw.file.trim().is_empty() {
        at.refuse(out, "this is empty", "write the path of a file");
        return None;
    }
    let path = files.resolve(&raw.file);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    if !folder.is_dir() {
        let wrong = format!("there is no folder {}", folder.display());
        at.refuse(out, wrong, "make the folder, writable for this process");
        return None;
    }
    let real = std::fs::canonicalize(&path).ok();
    let taken = files.watched().into_iter().find(|(other, _)| {
        *other == path || (real.is_some() && std::fs::canonicalize(other).ok() == real)
    });
    if taken.is_some() {
        let wrong = format!(
            "{} is read as something else of this configuration",
            path.display()
        );
        at.refuse(out, wrong, "name a file of its own");
        return None;
    }
    let tried = if path.exists() {
        if !path.is_file() {
            let wrong = format!("{} is no regular file", path.display());
            at.refuse(out, wrong, "name a file");
            return None;
        }
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .map(drop)
    } else {
        Ok(())
    };
    // Files are moved aside in the folder, so it must take names as well.
    let probe = folder.join(format!(".portcullis-audit-{}", std::process::id()));
    let tried = tried.and_then(|()| {
        let made = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&probe);
        made.and_then(|_file| std::fs::remove_file(&probe))
    });
    if let Err(error) = tried {
        let wrong = format!("cannot write {}: {error}", path.display());
        at.refuse(out, wrong, "make folder and file writable for this process");
        return None;
    }
    Some(path)
}
