//! The files: where the last one ends, and how the next one begins. Nothing here ever changes a
//! byte that was written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::chain::{self, Mac};
use super::lines::{After, Torn};

/// No line is longer; what is, is none of ours.
pub(super) const LINE_BYTES: usize = 1024 * 1024;

/// What stands in a line, as far as the chain needs it.
#[derive(Debug, Deserialize)]
struct Head<'a> {
    seq: u64,
    #[serde(borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(default)]
    time_us: u64,
    #[serde(borrow, default)]
    chain: Option<std::borrow::Cow<'a, str>>,
}

/// The last line of a file, and what the file is the continuation of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) chain: Box<str>,
    /// Of the last whole line.
    pub(super) seq: u64,
    /// Of the last whole line.
    pub(super) mac: Mac,
    pub(super) after: After,
    /// What stands after the last line break.
    pub(super) torn: Option<Torn>,
    /// The last line is whole, and only its line break is missing.
    pub(super) unended: bool,
}

/// A file that is written.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    identity: (u64, u64),
    /// Bytes in it, as far as we know.
    pub(super) size: u64,
    /// Of its first line; 0 until there is one.
    pub(super) first_seq: u64,
    /// Of its first line, microseconds since 1970.
    pub(super) first_time_us: u64,
}

impl Segment {
    /// Opens or makes the file and finds where the chain stands: at its end or, where it is empty,
    /// at the end of the newest of the files beside it. `None`: there is no chain yet.
    pub(super) fn open(path: &Path) -> Result<(Self, Option<Found>), String> {
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut segment = Self::append(path).map_err(|error| said(&error))?;
        let found = look(path).map_err(|why| said(&why))?;
        if let Some((found, (first_seq, first_time_us))) = found {
            segment.first_seq = first_seq;
            segment.first_time_us = first_time_us;
            return Ok((segment, Some(found)));
        }
        // Empty, or a line that was torn before it was the first.
        let torn = tail(path, 0).map_err(|why| said(&why))?;
        let mut before = None;
        if let Some(older) = newest_beside(path).map_err(|error| said(&error))? {
            let older_said = |why: String| format!("{}: {why}", older.display());
            before = look(&older).map_err(older_said)?.map(|(found, _)| found);
        }
        let before = match (before, torn) {
            (Some(found), torn) => Some(Found { torn, ..found }),
            (None, Some(_)) => {
                return Err(said(
                    &"it holds the beginning of one line and no whole one: move it away",
                ));
            }
            (None, None) => None,
        };
        Ok((segment, before))
    }

    fn append(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            identity: (meta.dev(), meta.ino()),
            size: meta.len(),
            first_seq: 0,
            first_time_us: 0,
        })
    }

    /// Writes as much as goes; how much that was.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.size = self
            .size
            .saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
        Ok(written)
    }

    /// What was written is kept through a loss of power.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Whether the path still leads to this file, and whether it has the bytes that we wrote.
    pub(super) fn stands(&self) -> Stands {
        match fs::metadata(&self.path) {
            Ok(meta) if (meta.dev(), meta.ino()) != self.identity => Stands::Moved,
            Ok(meta) if meta.len() != self.size => Stands::Altered(meta.len()),
            Ok(_) => Stands::Sound,
            Err(_) => Stands::Moved,
        }
    }

    /// Takes note of bytes that somebody else added or took away.
    pub(super) fn resize(&mut self, size: u64) {
        self.size = size;
    }

    /// Moves the file aside, under a name with the number of its first line in it.
    pub(super) fn retire(&self) -> io::Result<PathBuf> {
        self.sync()?;
        let aside = aside(&self.path, self.first_seq);
        if fs::symlink_metadata(&aside).is_ok() {
            return Err(io::Error::other(format!(
                "{} is there already",
                aside.display()
            )));
        }
        fs::rename(&self.path, &aside)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(aside)
    }

    /// Begins a file where there is none, or an empty one.
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        let segment = Self::append(path)?;
        if segment.size != 0 {
            return Err(io::Error::other("somebody else writes there"));
        }
        Ok(segment)
    }
}

/// See [`Segment::stands`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    Sound,
    /// Another file is there, or none.
    Moved,
    /// It has so many bytes, and should have others.
    Altered(u64),
}

/// `decisions.jsonl` → `decisions-00000000000000000123.jsonl`.
fn aside(path: &Path, first_seq: u64) -> PathBuf {
    let (stem, end) = parts(path);
    path.with_file_name(format!("{stem}-{first_seq:020}{end}"))
}

/// Name without its end, and the end with its dot.
fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| {
        part.map(|part| part.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let end = text(path.extension());
    let end = if end.is_empty() {
        end
    } else {
        format!(".{end}")
    };
    (text(path.file_stem()), end)
}

/// The file with the highest number among those that were moved aside.
fn newest_beside(path: &Path) -> io::Result<Option<PathBuf>> {
    let (stem, end) = parts(path);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name
            .strip_prefix(&stem)
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|rest| rest.strip_suffix(&end))
            .filter(|digits| digits.len() == 20)
            .and_then(|digits| digits.parse().ok());
        if let Some(number) = number
            && newest.as_ref().is_none_or(|(known, _)| number > *known)
        {
            newest = Some((number, entry.path()));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Number and time of a file's first line.
type First = (u64, u64);

/// Where the chain stands at the end of a file, and number and time of the file's first line;
/// `None` for a file without a whole line.
fn look(path: &Path) -> Result<Option<(Found, First)>, String> {
    const NOT_OURS: &str = "is no audit log: move it away, or name another file";
    let text = |error: io::Error| error.to_string();
    let mut file = File::open(path).map_err(text)?;
    let size = file.metadata().map_err(text)?.len();
    let mut first = Vec::new();
    let most = u64::try_from(LINE_BYTES).unwrap_or(u64::MAX);
    BufReader::new((&mut file).take(most))
        .read_until(b'\n', &mut first)
        .map_err(text)?;
    if first.pop() != Some(b'\n') {
        return Ok(None);
    }
    let first = read(&first).ok_or(NOT_OURS)?;
    let chain = first.chain.ok_or(NOT_OURS)?;
    // The end: a torn line and the last whole one, each of which has its bound.
    let from = size.saturating_sub(most.saturating_mul(2));
    file.seek(SeekFrom::Start(from)).map_err(text)?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).map_err(text)?;
    let last_break = end
        .iter()
        .rposition(|byte| *byte == b'\n')
        .ok_or(NOT_OURS)?;
    let (whole, rest) = end.split_at(last_break);
    let rest = rest.get(1..).unwrap_or_default();
    let line_from = whole
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at.saturating_add(1));
    let line = whole.get(line_from..).unwrap_or_default();
    // A crash may have taken the line break alone.
    let unended = read(rest).is_some();
    let (line, rest) = if unended {
        (rest, &[][..])
    } else {
        (line, rest)
    };
    let last = read(line).ok_or("its last line is none of an audit log: move it away")?;
    let (_, mac) = chain::open(line).ok_or(NOT_OURS)?;
    let after = if last.kind == "stop" && rest.is_empty() {
        After::Stop
    } else {
        After::Crash
    };
    let found = Found {
        chain: (*chain).into(),
        seq: last.seq,
        mac,
        after,
        torn: torn(rest),
        unended,
    };
    Ok(Some((found, (first.seq, first.time_us))))
}

fn read(line: &[u8]) -> Option<Head<'_>> {
    chain::open(line)?;
    serde_json::from_slice(line).ok()
}

/// What stands in a file from a place on, as a torn line.
fn tail(path: &Path, from: u64) -> Result<Option<Torn>, String> {
    let text = |error: io::Error| error.to_string();
    let mut file = File::open(path).map_err(text)?;
    file.seek(SeekFrom::Start(from)).map_err(text)?;
    let mut rest = Vec::new();
    let most = u64::try_from(LINE_BYTES).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut rest).map_err(text)?;
    Ok(torn(&rest))
}

/// A torn line, by its length and digest, so that it can be told from one that is put there later.
pub(super) fn torn(bytes: &[u8]) -> Option<Torn> {
    if bytes.is_empty() {
        return None;
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    Some(Torn {
        bytes: bytes.len(),
        sha256: URL_SAFE_NO_PAD.encode(digest.as_ref()),
    })
}
