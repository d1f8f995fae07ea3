//! The commands of the program, each with its exit code.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use tracing_subscriber::filter::LevelFilter;

use super::gate::{Gate, Running, StartError};
use crate::cli::{
    self, Check, Command, EXIT_CONFIG, EXIT_OK, EXIT_REFUSED, EXIT_START, EXIT_USAGE, Explain,
    LogFormat, LogLevel, TableFormat,
};
use crate::clock;
use crate::config::{self, Checked, Problem};
use crate::refusal::table;
use crate::telemetry::{self, Format, Metrics, Sink};

/// Everything that `main` does.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match cli::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(exit) => {
            say(!exit.to_stderr, &exit.text);
            return ExitCode::from(exit.code);
        }
    };
    let format = match arguments.log_format {
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
    };
    ExitCode::from(match arguments.command {
        Command::Run(file) => run(&file.config, format, arguments.log_level),
        Command::Check(arguments) => check(&arguments),
        Command::Explain(arguments) => explain(&arguments),
        Command::Reasons {
            format: TableFormat::Markdown,
        } => printed(&table::markdown()),
        Command::Reasons {
            format: TableFormat::Json,
        } => printed(&format!("{:#}\n", table::json())),
        Command::Schema { policy: false } => printed(&config::schema()),
        Command::Schema { policy: true } => printed(&config::policy_schema()),
        Command::Audit { command } => super::audit::run(&command),
        Command::Completions { shell } => printed(&cli::completions(shell)),
    })
}

fn printed(text: &str) -> u8 {
    say(true, text);
    EXIT_OK
}

/// Writes to a standard stream. A reader that is gone (`portcullis reasons | head`) is no error.
pub(super) fn say(stdout: bool, text: &str) {
    let written = if stdout {
        std::io::stdout().lock().write_all(text.as_bytes())
    } else {
        std::io::stderr().lock().write_all(text.as_bytes())
    };
    drop(written);
}

/// Loads a configuration for a command that does not serve.
///
/// # Errors
/// The exit code; what is wrong has been said.
pub(super) fn load(path: &Path) -> Result<Checked, u8> {
    config::load(path, clock::now(), None).map_err(|problems| {
        say(false, &listed(&problems));
        EXIT_CONFIG
    })
}

fn listed(problems: &[Problem]) -> String {
    let mut text: String = problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect();
    text.push_str(&match problems.len() {
        1 => "1 problem\n".to_owned(),
        many => format!("{many} problems\n"),
    });
    text
}

fn check(arguments: &Check) -> u8 {
    let path = &arguments.file.config;
    let checked = match load(path) {
        Ok(checked) => checked,
        Err(code) => return code,
    };
    if arguments.print {
        say(true, &checked.print());
    }
    for report in &checked.reports {
        say(false, &format!("{report}\n"));
    }
    say(false, &format!("{}: no problems\n", path.display()));
    if !arguments.online {
        return EXIT_OK;
    }
    match super::online::check(checked) {
        Ok(tried) => {
            let mut good = true;
            for one in tried {
                let line = match one.result {
                    Ok(words) => format!("ok: {}: {words}\n", one.what),
                    Err(why) => {
                        good = false;
                        format!("failed: {}: {why}\n", one.what)
                    }
                };
                say(false, &line);
            }
            if good { EXIT_OK } else { EXIT_CONFIG }
        }
        Err(error) => {
            say(false, &format!("portcullis: {error}\n"));
            EXIT_START
        }
    }
}

fn explain(arguments: &Explain) -> u8 {
    let checked = match load(&arguments.file.config) {
        Ok(checked) => checked,
        Err(code) => return code,
    };
    match super::explain::explain(arguments, checked) {
        Ok(explained) => {
            say(true, &explained.text);
            if explained.authorized {
                EXIT_OK
            } else {
                EXIT_REFUSED
            }
        }
        Err(why) => {
            say(false, &format!("portcullis: {why}\n"));
            EXIT_USAGE
        }
    }
}

/// Has the library of cryptography prepare its random generator beside the reading of the
/// configuration. At its first use it measures the jitter of the processor, for about 33 ms and once
/// a process; whoever needs random bytes before it is done waits for the rest of them.
fn prepare_random() {
    let begun = std::thread::Builder::new()
        .name("random".to_owned())
        .spawn(|| aws_lc_rs::rand::fill(&mut [0; 1]));
    // Nothing waits for it, and without it the first use takes as long as it takes.
    drop(begun);
}

fn run(path: &Path, format: Format, level: LogLevel) -> u8 {
    prepare_random();
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let cannot = |why: &dyn std::fmt::Display| {
        say(false, &format!("portcullis: {why}\n"));
        EXIT_START
    };
    if let Err(why) = telemetry::init(format, level) {
        return cannot(&why);
    }
    let metrics = Metrics::new(clock::now());
    let sink = match Sink::stdout(format, metrics.lines_lost()) {
        Ok(sink) => sink,
        Err(error) => return cannot(&error),
    };
    let running = match (Gate {
        config: path.to_owned(),
        metrics,
        sink,
    })
    .start()
    {
        Ok(running) => running,
        Err(StartError::Configuration(problems)) => {
            say(false, &listed(&problems));
            return EXIT_CONFIG;
        }
        Err(error) => return cannot(&error),
    };
    running.reports().iter().for_each(super::control::tell);
    say(false, &ready_line(&running));
    match running.until_signalled() {
        Ok(()) => EXIT_OK,
        Err(error) => cannot(&error),
    }
}

/// `portcullis 0.1.0 ready generation=1 listener.bank=127.0.0.1:8443 admin=127.0.0.1:9901`
fn ready_line(running: &Running) -> String {
    let mut line = format!(
        "portcullis {} ready generation=1",
        env!("CARGO_PKG_VERSION")
    );
    for (name, address) in running.listeners() {
        line.push_str(&format!(" listener.{name}={address}"));
    }
    if let Some(address) = running.admin() {
        line.push_str(&format!(" admin={address}"));
    }
    if let Some(address) = running.revocation() {
        line.push_str(&format!(" revocation={address}"));
    }
    line.push('\n');
    line
}
