//! The files that a configuration names: each is read once, and what was read is remembered so
//! that a reload knows what to watch.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::At;
use super::problem::{Findings, ReportKind};

/// No file of a configuration is larger; a device file has no end at all.
const LARGEST: u64 = 16 * 1024 * 1024;

/// SHA-256 of a file's content, or of the names in a folder.
pub type Digest = [u8; 32];

/// Digest of some bytes.
pub(super) fn digest(bytes: &[u8]) -> Digest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut array = [0; 32];
    for (to, from) in array.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    array
}

/// What a path holds now: the digest of a file or of the names in a folder, through symbolic
/// links; `None` where it cannot be read.
#[must_use]
pub fn look(path: &Path) -> Option<Digest> {
    if path.is_dir() {
        return names(path)
            .ok()
            .map(|names| digest(names.join("\n").as_bytes()));
    }
    read(path).ok().map(|bytes| digest(&bytes))
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| plain(&error))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| plain(&error))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let kind = std::fs::metadata(path).map_err(|error| plain(&error))?;
    if !kind.is_file() {
        return Err("it is no file".to_owned());
    }
    let file = std::fs::File::open(path).map_err(|error| plain(&error))?;
    // Room for all of it and one more, in which the end is seen: without, it comes in dozens of pieces.
    let length = usize::try_from(kind.len().min(LARGEST)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(length.saturating_add(1));
    file.take(LARGEST.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| plain(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
        return Err("it is larger than 16 MiB".to_owned());
    }
    Ok(bytes)
}

/// The system's word for an error, the same on every system where it matters.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "this process may not read it".to_owned(),
        _ => error.to_string(),
    }
}

/// A file that was read.
#[derive(Debug, Clone)]
pub(super) struct Content {
    /// Its path, for messages.
    pub(super) name: String,
    /// Where it is.
    pub(super) path: PathBuf,
    /// What is in it.
    pub(super) bytes: Arc<[u8]>,
}

/// Files in place of those of the system, by path.
pub(super) type Given = BTreeMap<PathBuf, Arc<[u8]>>;

/// Everything read so far.
#[derive(Debug)]
pub(super) struct Files {
    base: PathBuf,
    /// Where files are; `None`: in the system's folders.
    given: Option<Given>,
    read: BTreeMap<PathBuf, Result<Arc<[u8]>, String>>,
    folders: BTreeMap<PathBuf, Digest>,
}

impl Files {
    /// `base` is the folder of the main file: all paths are relative to the file they stand in, and
    /// only the main file names any.
    pub(super) const fn new(base: PathBuf, given: Option<Given>) -> Self {
        Self {
            base,
            given,
            read: BTreeMap::new(),
            folders: BTreeMap::new(),
        }
    }

    /// Where a name of the configuration leads.
    pub(super) fn resolve(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// A file by its path.
    pub(super) fn take(&mut self, path: &Path) -> Result<Content, String> {
        let entry = self.read.entry(path.to_owned());
        let result = entry.or_insert_with(|| match &self.given {
            None => read(path).map(Arc::from),
            Some(given) => {
                let found = given.get(path).map(Arc::clone);
                found.ok_or_else(|| plain(&std::io::ErrorKind::NotFound.into()))
            }
        });
        result.clone().map(|bytes| Content {
            name: path.display().to_string(),
            path: path.to_owned(),
            bytes,
        })
    }

    /// A file that the configuration names, or a problem.
    pub(super) fn named(&mut self, at: &At, name: &str, out: &mut Findings) -> Option<Content> {
        if name.trim().is_empty() {
            at.refuse(out, "this is empty", "write the path of a file");
            return None;
        }
        let path = self.resolve(name);
        match self.take(&path) {
            Ok(content) => Some(content),
            Err(error) => {
                at.refuse(
                    out,
                    format!("cannot read {}: {error}", path.display()),
                    "write the path of a readable file; paths are relative to the file they stand in",
                );
                None
            }
        }
    }

    /// Several files, all or none.
    pub(super) fn all(
        &mut self,
        at: &At,
        names: &[String],
        out: &mut Findings,
    ) -> Option<Vec<(String, Vec<u8>)>> {
        super::values::list(at, names, out);
        let contents: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(index, name)| self.named(&at.item(index), name, out))
            .collect();
        let contents: Option<Vec<Content>> = contents.into_iter().collect();
        let contents = contents.filter(|contents| !contents.is_empty())?;
        Some(
            contents
                .into_iter()
                .map(|content| (content.name, content.bytes.to_vec()))
                .collect(),
        )
    }

    /// A private key: reported where everybody may read it (OPS-07).
    pub(super) fn secret(&mut self, at: &At, name: &str, out: &mut Findings) -> Option<Content> {
        use std::os::unix::fs::PermissionsExt as _;
        let content = self.named(at, name, out)?;
        if self.given.is_some() {
            return Some(content);
        }
        let mode = std::fs::metadata(&content.path).map_or(0, |meta| meta.permissions().mode());
        if mode & 0o004 != 0 {
            at.report(
                out,
                ReportKind::Material,
                format!(
                    "every user of this machine may read {}: chmod o-r it",
                    content.name
                ),
            );
        }
        Some(content)
    }

    /// Names in a folder, which from now on is watched.
    pub(super) fn folder(&mut self, path: &Path) -> Result<Vec<String>, String> {
        let names = match &self.given {
            None => names(path)?,
            Some(given) => {
                let inside = given.keys().filter(|file| file.parent() == Some(path));
                let names = inside.filter_map(|file| file.file_name());
                names
                    .map(|name| name.to_string_lossy().into_owned())
                    .collect()
            }
        };
        self.folders
            .insert(path.to_owned(), digest(names.join("\n").as_bytes()));
        Ok(names)
    }

    /// What to watch.
    pub(super) fn watched(&self) -> Vec<(PathBuf, Digest)> {
        let files = self.read.iter().filter_map(|(path, content)| {
            let content = content.as_ref().ok()?;
            Some((path.clone(), digest(content)))
        });
        let folders = self
            .folders
            .iter()
            .map(|(path, digest)| (path.clone(), *digest));
        files.chain(folders).collect()
    }
}
