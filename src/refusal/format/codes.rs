//! The codes that a market has for refusals.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Fault, fault};
use crate::refusal::{Reason, Spec};

/// Bytes of a market's code.
pub const CODE_BYTES: usize = 128;
/// The key of the code of every reason that no other names.
pub const DEFAULT: &str = "default";

/// Which code of the market a refusal has, and whether it has a body at all; each by a reason's
/// code, else the body's `error`, else the status, else [`DEFAULT`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Codes {
    codes: BTreeMap<Box<str>, Box<str>>,
    without_body: Vec<Box<str>>,
}

impl Codes {
    /// Whether something is told by this name.
    ///
    /// # Errors
    /// It is neither a reason's code, nor an `error`, nor a status, nor [`DEFAULT`].
    pub fn selects(name: &str) -> Result<(), Fault> {
        let fits = |reason: &Reason| keys(&reason.spec()).iter().any(|key| key == name);
        if Reason::ALL.iter().any(fits) {
            return Ok(());
        }
        Err(fault(
            format!("no refusal has {name:?}"),
            "write a reason, an error or a status of `portcullis reasons`, such as \"token_missing\", \"invalid_token\" or \"401\", or for all others \"default\"",
        ))
    }

    /// The codes, and which refusals have no body.
    ///
    /// # Errors
    /// They would tell apart what our own body does not tell apart.
    pub fn new(
        codes: BTreeMap<Box<str>, Box<str>>,
        without_body: Vec<Box<str>>,
    ) -> Result<Self, Fault> {
        let codes = Self {
            codes,
            without_body,
        };
        let mut told: BTreeMap<_, (Reason, Said<'_>)> = BTreeMap::new();
        for reason in Reason::ALL {
            let spec = reason.spec();
            let ours = (spec.status.code(), spec.error, spec.description);
            let said = codes.said(&spec);
            let (first, before) = told.entry(ours).or_insert((*reason, said));
            if *before != said {
                return Err(fault(
                    format!(
                        "this would tell clients {} from {}, which is for the log alone",
                        first.spec().code,
                        spec.code
                    ),
                    format!(
                        "name the error ({:?}) or the status, or give both the same",
                        spec.error
                    ),
                ));
            }
        }
        Ok(codes)
    }

    /// The first reason that has a body and no code.
    #[must_use]
    pub fn without_code(&self) -> Option<Reason> {
        let mut all = Reason::ALL.iter().copied();
        all.find(|reason| self.said(&reason.spec()) == Said::NoCode)
    }

    /// Whether there are codes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    pub(super) fn said(&self, spec: &Spec) -> Said<'_> {
        let keys = keys(spec);
        let mut silent = self.without_body.iter();
        if silent.any(|name| keys.iter().any(|key| *key == **name)) {
            return Said::NoBody;
        }
        let code = keys.iter().find_map(|key| self.codes.get(&**key));
        code.map_or(Said::NoCode, |code| Said::Code(code))
    }
}

/// What a market says of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said<'c> {
    /// Nothing: its answer has no body.
    NoBody,
    /// No code.
    NoCode,
    /// This code.
    Code(&'c str),
}

/// What a row is found by, the narrowest first.
fn keys(spec: &Spec) -> [Cow<'static, str>; 4] {
    let status = spec.status.code().to_string();
    [
        spec.code.into(),
        spec.error.into(),
        status.into(),
        DEFAULT.into(),
    ]
}
