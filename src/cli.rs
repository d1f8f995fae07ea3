//! The command line: from arguments to a [`Command`], and nothing else. What the commands do is in
//! `app` and `config`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

/// Exit code of a command that did what it was asked for.
pub const EXIT_OK: u8 = 0;
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

Exit codes:
  0   done
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
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
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
