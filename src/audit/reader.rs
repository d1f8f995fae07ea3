//! Decisions out of the files, one at a time, and tables for people.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::Deserialize;

use super::decision::Line;
use super::file::LINE_BYTES;

#[derive(Debug, Deserialize)]
struct Kind<'k> {
    #[serde(borrow)]
    kind: std::borrow::Cow<'k, str>,
}

/// Gives each decision of a file; `None` for a line that cannot be read as one and is no line of
/// the log itself either.
pub(super) fn decisions(path: &Path, mut take: impl FnMut(Option<Line<'_>>)) -> io::Result<()> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut reader = BufReader::with_capacity(256 * 1024, File::open(path).map_err(named)?);
    let most = u64::try_from(LINE_BYTES).unwrap_or(u64::MAX);
    let mut line = Vec::with_capacity(4096);
    loop {
        line.clear();
        let read = (&mut reader)
            .take(most)
            .read_until(b'\n', &mut line)
            .map_err(named)?;
        if read == 0 {
            return Ok(());
        }
        match serde_json::from_slice::<Kind<'_>>(&line) {
            Ok(kind) if kind.kind == "decision" => take(serde_json::from_slice(&line).ok()),
            Ok(_) => {}
            Err(_) => take(None),
        }
    }
}

/// Columns under their heads; numbers stand in the last one.
pub(super) fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut widths = head.map(str::len);
    // Names of strangers' choosing: nothing in them may begin a line or steer a terminal.
    let rows: Vec<[String; N]> = rows
        .into_iter()
        .map(|row| row.map(|cell| cell.chars().map(plain).collect()))
        .collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let heads = head.map(str::to_owned);
    for row in std::iter::once(&heads).chain(&rows) {
        let mut line = String::from("  ");
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn plain(c: char) -> char {
    if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
        '\u{fffd}'
    } else {
        c
    }
}
