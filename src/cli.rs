//! The command line: from arguments to a [`Command`], and nothing else. What the commands do is in
//! `app` and `config`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

/// Exit code of a command that did what it was asked for.
pub const EXIT_OK: u8 = 0;
/// Exit code of `audit verify` where the log is not as it was written.
pub const EXIT_BROKEN: u8 = 1;
/// Exit code of `explain` for a request that is refused.
pub const EXIT_REFUSED: u8 = 1;
/// Exit code of wrong usage (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;
/// Exit code of a process that cannot start (`EX_SOFTWARE`).
pub const EXIT_START: u8 = 70;
/// Exit code of a configuration that cannot be loaded (`EX_CONFIG`).
pub const EXIT_CONFIG: u8 = 78;

const LONG: &str = "\
Portcullis stands before an API and lets through what a policy allows: clients come with mutual TLS
and a certificate-bound access token, the token is verified on every request, and only authorized
requests are forwarded. Routes and policies are TOML files.";

const AFTER: &str = "\
Examples:
  portcullis check --config /etc/portcullis/portcullis.toml
        says all that is wrong with a configuration, with line, key and remedy
  portcullis run --config /etc/portcullis/portcullis.toml
        serves; SIGHUP reloads, SIGTERM drains
  portcullis explain --config portcullis.toml --method GET --url https://api.bank.example/accounts
        decides one request, and says what it looked at
  portcullis reasons
        lists why requests are refused, and who must act
  portcullis schema > portcullis.schema.json
        for editors that complete and check TOML
  portcullis audit replay --config stricter.toml audit/decisions.jsonl
        says whom a stricter rule would refuse, before it does

Exit codes:
  0   done
  1   audit verify: the log is not as it was written
  64  wrong usage
  70  cannot start
  78  the configuration has problems";

const RUN: &str = "\
Signals:
  SIGHUP           checks the configuration anew; takes it whole, or keeps the old one and says why
  SIGTERM, SIGINT  stops taking connections, lets what is under way end, exits 0; a second one
                   exits at once

Example:
  portcullis run --config /etc/portcullis/portcullis.toml --log-format text";

const CHECK: &str = "\
Also lists what loads and deserves a look: open routes, plaintext upstreams, patterns of which one
hides another's methods, every rule weaker than the profile it stands on, certificates and CRLs
that run out.

Examples:
  portcullis check --config portcullis.toml
  portcullis check --config portcullis.toml --print     what is in force?
  portcullis check --config portcullis.toml --online    do issuers and upstreams answer as they must?";

const VERIFY: &str = "\
That whole lines were cut off at the end, or that everything was made anew with both keys, shows
only against checkpoints that were kept elsewhere: keep standard output on another machine, and
name it with --checkpoint.

Exit codes: 0 intact, 1 not, 78 a key or file cannot be read.

Example:
  portcullis audit verify --key keys/audit --public-key audit-sign.pub.pem \\
      --checkpoint stdout.log audit/decisions*.jsonl";

const REPLAY: &str = "\
Each decision is judged as of its own time, by the same functions as requests are. Certificates,
signatures and what issuers said are as they were. What a new rule would look at and the line does
not hold is said as `cannot tell`, never guessed.

Example:
  portcullis audit replay --config stricter.toml audit/decisions*.jsonl";
const EXPLAIN: &str = "\
Nobody is asked: keys come from --keys, jwks_file or the snapshot, the issuer's word from
--introspection, and a DPoP proof is taken as never used. Tokens are not shown.

Examples:
  portcullis explain --config portcullis.toml --method GET --url https://api.bank.example/accounts/1
        which route and policy is it, and what is asked for?
  portcullis explain --config portcullis.toml --method POST --url https://api.bank.example/payments \\
      --certificate tpp.pem --token-file token.txt --proof-file proof.txt --at 2026-11-23T18:00:00Z \\
      --keys main=jwks.json --json

Exit codes:
  0   authorized
  1   refused
  64  an argument cannot be used
  78  the configuration has problems";

/// The program's arguments.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(
    name = "portcullis", version, about = "A FAPI policy enforcement point", long_about = LONG,
    after_long_help = AFTER, disable_help_subcommand = true, arg_required_else_help = true
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How lines are written: requests to standard output, all else to standard error.
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "json",
        env = "PORTCULLIS_LOG_FORMAT"
    )]
    pub log_format: LogFormat,
    /// How much is said on standard error: error, warn, info, debug or trace.
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        default_value = "info",
        env = "PORTCULLIS_LOG"
    )]
    pub log_level: LogLevel,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Check the configuration, bind, and serve.
    #[command(after_long_help = RUN)]
    Run(ConfigFile),
    /// Say everything that is wrong with a configuration, and what deserves a look.
    #[command(after_long_help = CHECK)]
    Check(Check),
    /// Decide one request offline, and show what each step looked at.
    #[command(after_long_help = EXPLAIN)]
    Explain(Box<Explain>),
    /// List every reason for which a request is refused.
    Reasons {
        /// How it is printed.
        #[arg(long, value_name = "FORMAT", default_value = "markdown")]
        format: TableFormat,
    },
    /// Print the JSON Schema of the configuration file, for editors.
    Schema {
        /// That of a policy file instead.
        #[arg(long)]
        policy: bool,
    },
    /// Look at the audit log: is it as it was written, and what would other rules make of it?
    #[command(arg_required_else_help = true)]
    Audit {
        /// What to look for.
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What to look for in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum AuditCommand {
    /// Say whether anything was edited, removed, inserted, moved, cut off or made anew.
    #[command(after_long_help = VERIFY)]
    Verify(AuditVerify),
    /// Judge recorded decisions by another configuration: which clients and routes would change?
    #[command(after_long_help = REPLAY)]
    Replay(AuditReplay),
    /// Say what shadow policies and observed routes would have refused, by route, client and reason.
    Report(AuditReport),
}

/// Arguments of `audit verify`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct AuditVerify {
    /// File of the key of the HMACs, as audit.key names it; also older ones, where it was changed.
    #[arg(long, value_name = "FILE", required = true)]
    pub key: Vec<PathBuf>,
    /// PEM file of the public half of audit.signing_key (openssl pkey -pubout).
    #[arg(long, value_name = "PEM")]
    pub public_key: PathBuf,
    /// A signed line that was kept elsewhere, or a file that has some among other lines, such as
    /// one of standard output: what was cut off or made anew shows by it.
    #[arg(long, value_name = "LINE-OR-FILE")]
    pub checkpoint: Vec<String>,
    /// Ask for the log from its very first line.
    #[arg(long)]
    pub from_start: bool,
    /// The files, in any order.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// Arguments of `audit replay`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct AuditReplay {
    /// The other configuration.
    #[command(flatten)]
    pub file: ConfigFile,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// The files, in any order.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// Arguments of `audit report`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct AuditReport {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// The files, in any order.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// Where the configuration is.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct ConfigFile {
    /// The configuration file; paths in it are relative to it.
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    pub config: PathBuf,
}

/// Arguments of `check`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Check {
    /// The configuration.
    #[command(flatten)]
    pub file: ConfigFile,
    /// Show every value in force, defaults included.
    #[arg(long)]
    pub print: bool,
    /// Also fetch discovery and keys, ask introspection endpoints, and try upstreams.
    #[arg(long)]
    pub online: bool,
}

/// Arguments of `explain`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Explain {
    /// The configuration.
    #[command(flatten)]
    pub file: ConfigFile,
    /// Method of the request.
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub method: String,
    /// The URL as the client calls it.
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// The listener that it comes to, where the URL's host does not say.
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// The client's certificate chain, PEM, the leaf first.
    #[arg(long, value_name = "PEM")]
    pub certificate: Option<PathBuf>,
    /// A file with the access token.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A file with the DPoP proof.
    #[arg(long, value_name = "FILE")]
    pub proof_file: Option<PathBuf>,
    /// A header of the request; as often as there are.
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// A file with the body, for policies that compare it.
    #[arg(long, value_name = "FILE")]
    pub body_file: Option<PathBuf>,
    /// When it is decided: 2026-11-23T18:00:00Z, or seconds since 1970. Default: now.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// A key set of every issuer, or of the one that is named.
    #[arg(long, value_name = "[ISSUER=]JWKS")]
    pub keys: Vec<String>,
    /// What the issuer says of the token: JSON, or a file with it.
    #[arg(long, value_name = "JSON")]
    pub introspection: Option<String>,
    /// One JSON object in place of text.
    #[arg(long)]
    pub json: bool,
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// `--log-level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What needs somebody now.
    Error,
    /// What needs somebody.
    Warn,
    /// Starts, reloads, what the operator must know of.
    Info,
    /// What happens inside.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    /// The word, lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `--format` of `reasons`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// A table for people.
    Markdown,
    /// A list for programs.
    Json,
}

/// What to print in place of doing anything, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Help, version, or what was wrong.
    pub text: String,
    /// Whether it belongs on standard error.
    pub to_stderr: bool,
    /// 0 for help and version, 64 for wrong usage.
    pub code: u8,
}

/// Reads the arguments; the first is the program's own name.
///
/// # Errors
/// Help and version, which were asked for, and wrong usage.
pub fn parse<I>(arguments: I) -> Result<Arguments, Exit>
where
    I: IntoIterator<Item = OsString>,
{
    Arguments::try_parse_from(arguments).map_err(|error| Exit {
        text: error.render().to_string(),
        to_stderr: error.use_stderr(),
        code: if error.use_stderr() {
            EXIT_USAGE
        } else {
            EXIT_OK
        },
    })
}

/// The completion script of a shell.
#[must_use]
pub fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "portcullis", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, Exit> {
        let words = std::iter::once("portcullis").chain(line.split(' '));
        parse(words.filter(|word| !word.is_empty()).map(OsString::from))
    }

    #[test]
    fn clap_agrees_with_itself() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn commands_of_the_contract() {
        let run = parsed("run --config a.toml --log-format text").unwrap();
        assert_eq!(run.log_format, LogFormat::Text);
        assert_eq!(run.log_level, LogLevel::Info);
        let file = ConfigFile {
            config: "a.toml".into(),
        };
        assert_eq!(run.command, Command::Run(file.clone()));
        assert_eq!(
            parsed("check --config a.toml --print").unwrap().command,
            Command::Check(Check {
                file,
                print: true,
                online: false
            })
        );
        assert_eq!(
            parsed("reasons --format json").unwrap().command,
            Command::Reasons {
                format: TableFormat::Json
            }
        );
        assert!(parsed("schema").is_ok());
        let verify = parsed("audit verify --key k --key old --public-key p --checkpoint c a b");
        let Command::Audit {
            command: AuditCommand::Verify(verify),
        } = verify.unwrap().command
        else {
            panic!("audit verify");
        };
        assert_eq!((verify.key.len(), verify.files.len()), (2, 2));
        assert!(parsed("audit replay --config a.toml --json b").is_ok());
        assert!(parsed("audit report b").is_ok());
        for shell in ["bash", "zsh", "fish"] {
            let arguments = parsed(&format!("completions {shell}")).unwrap();
            let Command::Completions { shell } = arguments.command else {
                panic!("completions");
            };
            assert!(completions(shell).contains("log-level"));
        }
    }

    #[test]
    fn wrong_usage_is_64_and_help_is_0() {
        for line in [
            "",
            "walk",
            "run",
            "run a.toml",
            "run --config",
            "check --confg a",
            "reasons --format x",
            "completions",
            "audit",
            "audit verify --key k a",
            "audit replay a",
            "run --config a --log-level loud",
        ] {
            let exit = parsed(line).unwrap_err();
            assert_eq!(exit.code, EXIT_USAGE, "{line}: {}", exit.text);
            assert!(exit.to_stderr, "{line}");
        }
        for line in ["--help", "--version", "-h", "run --help", "check --help"] {
            let exit = parsed(line).unwrap_err();
            assert_eq!((exit.code, exit.to_stderr), (EXIT_OK, false), "{line}");
        }
    }

    #[test]
    fn help_teaches() {
        let help = parsed("--help").unwrap_err().text;
        for word in [
            "Examples:",
            "Exit codes:",
            "78",
            "SIGHUP",
            "portcullis check",
        ] {
            assert!(help.contains(word), "{word} is missing in\n{help}");
        }
    }
}
