//! The commands of the audit log: `verify`, `replay`, `report`. Offline, and nothing is changed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;

use super::commands::{load, say};
use crate::audit::replay::replay;
use crate::audit::report::report;
use crate::audit::verify::{Given, Verification, verify};
use crate::audit::{Key, PublicKey};
use crate::cli::{
    AuditCommand, AuditReplay, AuditReport, AuditVerify, EXIT_BROKEN, EXIT_CONFIG, EXIT_OK,
};

pub(super) fn run(command: &AuditCommand) -> u8 {
    let done = match command {
        AuditCommand::Verify(arguments) => verified(arguments),
        AuditCommand::Replay(arguments) => replayed(arguments),
        AuditCommand::Report(arguments) => reported(arguments),
    };
    done.unwrap_or_else(|why| {
        say(false, &format!("portcullis: {why}\n"));
        EXIT_CONFIG
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn verified(arguments: &AuditVerify) -> Result<u8, String> {
    let named = |path: &Path, why: String| format!("{}: {why}", path.display());
    let keys = arguments
        .key
        .iter()
        .map(|path| Key::new(&read(path)?).map_err(|why| named(path, why)))
        .collect::<Result<Vec<_>, _>>()?;
    let path = &arguments.public_key;
    let public = PublicKey::from_pem(&read(path)?).map_err(|why| named(path, why))?;
    let mut given = Vec::new();
    for one in &arguments.checkpoint {
        given.extend(checkpoints(one, &public)?);
    }
    let found = verify(&arguments.files, &keys, &public, &given).map_err(|e| e.to_string())?;
    let whole = !arguments.from_start || found.range.is_none_or(|(first, _)| first == 1);
    say(true, &said(&found, given.len(), whole));
    Ok(if found.intact() && whole {
        EXIT_OK
    } else {
        EXIT_BROKEN
    })
}

/// The signed lines of an argument: a line itself, or a file such as one of standard output, in
/// which they stand among others.
fn checkpoints(argument: &str, public: &PublicKey) -> Result<Vec<Given>, String> {
    if argument.trim_start().starts_with('{') {
        let given = Given::read(argument, public)?;
        return given
            .map(|given| vec![given])
            .ok_or_else(|| "--checkpoint: this is no signed line of an audit log".to_owned());
    }
    let said = |why: &dyn std::fmt::Display| format!("--checkpoint {argument}: {why}");
    let file = std::fs::File::open(argument).map_err(|error| said(&error))?;
    let mut given = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(|error| said(&error))?;
        // What is no text is no line of ours.
        let Ok(line) = std::str::from_utf8(&line) else {
            continue;
        };
        given.extend(Given::read(line, public).map_err(|why| said(&why))?);
    }
    if given.is_empty() {
        return Err(said(&"there is no signed line of an audit log in it"));
    }
    Ok(given)
}

fn said(found: &Verification, given: usize, whole: bool) -> String {
    let mut text: String = found
        .problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect();
    let kept = u64::try_from(found.problems.len()).unwrap_or(u64::MAX);
    if found.found > kept {
        text.push_str(&format!("and {} more\n", found.found.saturating_sub(kept)));
    }
    if !whole {
        text.push_str("the log is not given from its start\n");
    }
    for note in &found.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    if found.lost > 0 {
        text.push_str(&format!(
            "note: the log itself says that {} lines found no room\n",
            found.lost
        ));
    }
    if found.after_signed > 0 {
        text.push_str(&format!(
            "note: {} lines stand after the last checkpoint; that none was cut off behind them, only a later checkpoint can show\n",
            found.after_signed
        ));
    }
    let (first, last) = found.range.unwrap_or_default();
    text.push_str(&format!(
        "{}: {} lines, number {first} to {last}, {} decisions, {} signed lines, {given} checkpoints from elsewhere\n",
        if found.intact() && whole { "intact" } else { "NOT intact" },
        found.lines,
        found.decisions,
        found.signed,
    ));
    text
}

fn replayed(arguments: &AuditReplay) -> Result<u8, String> {
    let checked = match load(&arguments.file.config) {
        Ok(checked) => checked,
        Err(code) => return Ok(code),
    };
    let snapshot = Arc::new(checked.snapshot);
    let found = replay(&arguments.files, &snapshot).map_err(|error| error.to_string())?;
    say(
        true,
        &printed(arguments.json, || found.table(), || found.json()),
    );
    Ok(EXIT_OK)
}

fn reported(arguments: &AuditReport) -> Result<u8, String> {
    let found = report(&arguments.files).map_err(|error| error.to_string())?;
    say(
        true,
        &printed(arguments.json, || found.table(), || found.json()),
    );
    Ok(EXIT_OK)
}

fn printed(
    json: bool,
    table: impl FnOnce() -> String,
    value: impl FnOnce() -> serde_json::Value,
) -> String {
    if json {
        format!("{:#}\n", value())
    } else {
        table()
    }
}
