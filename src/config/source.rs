//! The files of a configuration as written: the main one, those that `include` names, and the
//! policies.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::document::{At, Document, Parsed};
use super::files::{Content, Files, Given};
use super::policies::BUILT_IN;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::shape;

/// Everything read, and where it stands.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) files: Files,
    pub(super) at: At,
    pub(super) file: raw::File,
    /// Place of each route in `file.route`, those of included files among them.
    pub(super) routes: Vec<At>,
    pub(super) policies: BTreeMap<String, PolicySource>,
}

/// A named policy as written.
#[derive(Debug, Clone)]
pub(super) struct PolicySource {
    pub(super) at: At,
    pub(super) policy: Arc<raw::Policy>,
    pub(super) built_in: bool,
}

/// Reads everything; `None` where something could not be understood at all.
pub(super) fn read(path: &Path, given: Option<Given>, out: &mut Findings) -> Option<Source> {
    let base = path.parent().map(Path::to_owned).unwrap_or_default();
    let mut files = Files::new(base, given);
    let main = match files.take(path) {
        Ok(content) => content,
        Err(error) => {
            let document = Document::unparsed(path.display().to_string(), String::new());
            At::root(document).refuse(
                out,
                format!("cannot read the configuration: {error}"),
                "name a readable file after --config",
            );
            return None;
        }
    };
    let (at, file) = MAIN.parse(&main, out)?;
    let mut source = Source {
        routes: (0..file.route.len())
            .map(|index| at.key("route").item(index))
            .collect(),
        files,
        at,
        file,
        policies: built_in(out),
    };
    let included = source.include(out);
    let policies = source.policies(out);
    (included && policies).then_some(source)
}

/// A kind of file, with the schema that all of it are held against: that is made once, since making it takes
/// longer than reading such a file.
struct Kind<T> {
    schema: LazyLock<schemars::Schema>,
    of: PhantomData<fn() -> T>,
}

static MAIN: Kind<raw::File> = Kind::new();
static ROUTES: Kind<raw::RouteFile> = Kind::new();
static POLICY: Kind<raw::Policy> = Kind::new();

impl<T: DeserializeOwned + JsonSchema> Kind<T> {
    const fn new() -> Self {
        Self {
            schema: LazyLock::new(|| schemars::schema_for!(T)),
            of: PhantomData,
        }
    }

    /// A file by its schema.
    fn parse(&self, content: &Content, out: &mut Findings) -> Option<(At, T)> {
        let text = match std::str::from_utf8(&content.bytes) {
            Ok(text) => text.to_owned(),
            Err(error) => {
                let lossy = String::from_utf8_lossy(&content.bytes).into_owned();
                let document = Document::unparsed(content.name.clone(), lossy);
                At::root(document).refuse(
                    out,
                    format!("byte {} is no UTF-8", error.valid_up_to()),
                    "save the file as UTF-8",
                );
                return None;
            }
        };
        self.parse_text(content.name.clone(), text, out)
    }

    /// The same of a text.
    fn parse_text(&self, name: String, text: String, out: &mut Findings) -> Option<(At, T)> {
        let Parsed {
            document,
            problems,
            read,
        } = Document::parse(name, text);
        if !problems.is_empty() {
            out.problems.extend(problems);
            return None;
        }
        let at = At::root(Arc::clone(&document));
        let before = out.problems.len();
        shape::check(&document.root, &at, self.schema.as_value(), out);
        match read {
            Ok(value) => Some((at, value)),
            Err(error) => {
                // The shape check saw it in most cases, and said it better.
                if out.problems.len() == before {
                    out.problems.push(document.unread(&error));
                }
                None
            }
        }
    }
}

fn built_in(out: &mut Findings) -> BTreeMap<String, PolicySource> {
    let mut policies = BTreeMap::new();
    for (name, text) in BUILT_IN {
        let shown = format!("(built-in) {name}.toml");
        if let Some((at, policy)) = POLICY.parse_text(shown, (*text).to_owned(), out) {
            let source = PolicySource {
                at,
                policy: Arc::new(policy),
                built_in: true,
            };
            policies.insert((*name).to_owned(), source);
        }
    }
    policies
}

impl Source {
    /// Adds the routes of included files. False where one could not be understood.
    fn include(&mut self, out: &mut Findings) -> bool {
        let at = self.at.key("include");
        let Some(patterns) = self.file.include.clone() else {
            return true;
        };
        super::values::list(&at, &patterns, out);
        let mut whole = true;
        for (index, pattern) in patterns.iter().enumerate() {
            let here = at.item(index);
            let Some(paths) = self.glob(&here, pattern, out) else {
                whole = false;
                continue;
            };
            for path in paths {
                let name = path.display().to_string();
                let content = match self.files.take(&path) {
                    Ok(content) => content,
                    Err(error) => {
                        here.refuse(
                            out,
                            format!("cannot read {name}: {error}"),
                            "make it readable, or move it away",
                        );
                        whole = false;
                        continue;
                    }
                };
                match ROUTES.parse(&content, out) {
                    Some((at, file)) => {
                        let at = at.key("route");
                        self.routes
                            .extend((0..file.route.len()).map(|nth| at.item(nth)));
                        self.file.route.extend(file.route);
                    }
                    None => whole = false,
                }
            }
        }
        whole
    }

    /// The files that a pattern names, sorted.
    fn glob(&mut self, at: &At, pattern: &str, out: &mut Findings) -> Option<Vec<PathBuf>> {
        let path = self.files.resolve(pattern);
        let last = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let (Some(folder), Some(last)) = (path.parent(), last) else {
            at.refuse(
                out,
                "this names no file",
                "write something like \"routes.d/*.toml\"",
            );
            return None;
        };
        if folder.to_string_lossy().contains('*') {
            at.refuse(
                out,
                "`*` stands in the name of a folder",
                "use it in the last part only, as in \"routes.d/*.toml\"",
            );
            return None;
        }
        if !last.contains('*') {
            return Some(vec![path]);
        }
        let names = match self.files.folder(folder) {
            Ok(names) => names,
            Err(error) => {
                at.refuse(
                    out,
                    format!("cannot read the folder {}: {error}", folder.display()),
                    "make the folder, or correct its name",
                );
                return None;
            }
        };
        let found: Vec<PathBuf> = names
            .iter()
            .filter(|name| !name.starts_with('.') && star(&last, name))
            .map(|name| folder.join(name))
            .collect();
        if found.is_empty() {
            at.report(out, ReportKind::Note, "no file has such a name");
        }
        Some(found)
    }

    /// Reads the policies folder. False where a file could not be understood.
    fn policies(&mut self, out: &mut Findings) -> bool {
        let at = self.at.key("policies");
        let Some(name) = self.file.policies.clone() else {
            return true;
        };
        let folder = self.files.resolve(&name);
        let names = match self.files.folder(&folder) {
            Ok(names) if !name.is_empty() => names,
            Ok(_) => {
                at.refuse(
                    out,
                    "this is empty",
                    "write the path of a folder, or leave the key out",
                );
                return false;
            }
            Err(error) => {
                at.refuse(
                    out,
                    format!("cannot read the folder {}: {error}", folder.display()),
                    "make the folder, or correct its name",
                );
                return false;
            }
        };
        let mut whole = true;
        for file in names {
            let Some(name) = file
                .strip_suffix(".toml")
                .filter(|name| !name.starts_with('.'))
            else {
                continue;
            };
            let content = match self.files.take(&folder.join(&file)) {
                Ok(content) => content,
                Err(error) => {
                    at.refuse(
                        out,
                        format!("cannot read {}: {error}", folder.join(&file).display()),
                        "make it readable, or move it away",
                    );
                    whole = false;
                    continue;
                }
            };
            let Some((here, policy)) = POLICY.parse(&content, out) else {
                whole = false;
                continue;
            };
            super::values::name(&here, name, out);
            if BUILT_IN.iter().any(|(built_in, _)| *built_in == name) {
                here.refuse(
                    out,
                    format!("{name} is the name of a built-in policy"),
                    "give the file another name, and let it extend the built-in one",
                );
                continue;
            }
            let source = PolicySource {
                at: here,
                policy: Arc::new(policy),
                built_in: false,
            };
            self.policies.insert(name.to_owned(), source);
        }
        whole
    }
}

/// Whether a name fits a pattern in which `*` stands for anything.
fn star(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::star;

    #[test]
    fn a_star_stands_for_anything() {
        assert!(star("*.toml", "a.toml"));
        assert!(star("*.toml", ".toml"));
        assert!(star("a*b*c", "a1b2c"));
        assert!(star("a*", "a"));
        assert!(!star("*.toml", "a.toml.bak"));
        assert!(!star("a*b*c", "a1c"));
        assert!(!star("a*a", "a"));
        assert!(!star("x", "xy"));
    }
}
