//! The command line: from arguments to a [`Command`], and nothing else. What the commands do is in
//! `app` and `config`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

/// Exit code of a command that did what it was asked for.
pub const EXIT_OK: u8 = 0;
/// Exit code of `explain` for a request that would be refused.
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
  portcullis explain --config portcullis.toml --method GET \\
        --url https://api.bank.example/accounts/1 --certificate client.pem --token-file token.jwt
        decides one request offline and shows each step
  portcullis reasons
        lists why requests are refused, and who must act
  portcullis schema > portcullis.schema.json
        for editors that complete and check TOML

Exit codes:
  0   done; of explain: the request would be authorized
  1   of explain: the request would be refused
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
  portcullis check --config portcullis.toml --online    and are issuers and upstreams there?
  portcullis check --config portcullis.toml --print     what is in force?";

const EXPLAIN: &str = "\
Nothing is sent anywhere. Keys come from --keys, or from jwks_file or the snapshot of the issuer.

Example:
  portcullis explain --config portcullis.toml --method POST --url https://api.bank.example/payments \\
      --certificate tpp.pem --token-file token.jwt --header 'x-fapi-interaction-id: 7d1f…' \\
      --at 2026-11-23T12:00:00Z --keys jwks.json";

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
    /// Decide one request offline, step by step.
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
    /// Also fetch discovery documents and keys, and connect to upstreams.
    #[arg(long)]
    pub online: bool,
    /// Show every value in force, defaults included.
    #[arg(long)]
    pub print: bool,
}

/// Arguments of `explain`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Explain {
    /// The configuration.
    #[command(flatten)]
    pub file: ConfigFile,
    /// The request's method, such as GET.
    #[arg(long, value_name = "M", value_parser = method)]
    pub method: http::Method,
    /// The request's address, as the client writes it.
    #[arg(long, value_name = "U")]
    pub url: http::Uri,
    /// PEM file of the client's certificate, as if it had proved to hold the key.
    #[arg(long, value_name = "PEM")]
    pub certificate: Option<PathBuf>,
    /// File of the access token; sent as `Authorization: Bearer`.
    #[arg(long, value_name = "F")]
    pub token_file: Option<PathBuf>,
    /// File of the DPoP proof.
    #[arg(long, value_name = "F")]
    pub proof_file: Option<PathBuf>,
    /// A header of the request; may come more than once.
    #[arg(long = "header", value_name = "N: V", value_parser = header)]
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// The time of the request, such as 2026-11-23T12:00:00Z or 1795435200. Default: now.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub at: Option<u64>,
    /// JSON Web Key Set of the token's issuer, in place of the configured one.
    #[arg(long, value_name = "JWKS")]
    pub keys: Option<PathBuf>,
    /// Introspection answer of the token's issuer.
    #[arg(long, value_name = "JSON")]
    pub introspection: Option<PathBuf>,
    /// Print the steps and the decision as JSON.
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

fn method(text: &str) -> Result<http::Method, String> {
    let method = http::Method::from_bytes(text.as_bytes());
    method.map_err(|error| error.to_string())
}

fn header(text: &str) -> Result<(http::HeaderName, http::HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("write the name, a colon and the value")?;
    let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
    let value = http::HeaderValue::from_str(value.trim()).map_err(|error| error.to_string())?;
    Ok((name, value))
}

fn time(text: &str) -> Result<u64, String> {
    if let Ok(secs) = text.parse() {
        return Ok(secs);
    }
    let time = humantime::parse_rfc3339(text)
        .map_err(|error| format!("{error}; write it like 2026-11-23T12:00:00Z"))?;
    let since = time
        .duration_since(std::time::UNIX_EPOCH)
        .map_err(|_before| "this is before 1970")?;
    Ok(since.as_secs())
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
            parsed("check --config a.toml --online --print")
                .unwrap()
                .command,
            Command::Check(Check {
                file,
                online: true,
                print: true
            })
        );
        let line = "explain --config a.toml --method GET --url https://a/b --certificate c.pem \
                    --token-file t --proof-file p --header a:b --header c:d --at 1795435200 \
                    --keys k.json --introspection i.json --json";
        let Command::Explain(explain) = parsed(line).unwrap().command else {
            panic!("explain");
        };
        assert_eq!(explain.headers.len(), 2);
        assert_eq!(explain.at, Some(1_795_435_200));
        assert_eq!(time("2026-11-23T12:00:00Z"), Ok(1_795_435_200));
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
            assert!(completions(shell).contains("token-file"));
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
            "explain --config a --method G,T --url https://a",
            "explain --config a --method GET --url https://a --header x",
            "explain --config a --method GET --url https://a --at noon",
            "run --config a --log-level loud",
        ] {
            let exit = parsed(line).unwrap_err();
            assert_eq!(exit.code, EXIT_USAGE, "{line}: {}", exit.text);
            assert!(exit.to_stderr, "{line}");
        }
        for line in [
            "--help",
            "--version",
            "-h",
            "run --help",
            "check --help",
            "explain --help",
        ] {
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
            "explain",
            "SIGHUP",
            "portcullis check",
        ] {
            assert!(help.contains(word), "{word} is missing in\n{help}");
        }
    }
}
