//! Dynamic linking: what the customer approved is what is paid, to whom they approved it
//! (Commission Delegated Regulation (EU) 2018/389, article 5).
//!
//! A value of the request's body is compared with one of the `authorization_details` entry that
//! the customer approved (RFC 9396 s6.1 warns of comparing whole objects: here each value is
//! compared by itself, and each must be there on both sides).

use http::Method;
use serde_json::Value;

use super::content::{Content, Pointer, Scalar};
use super::policy::{DetailsRule, MethodSet};
use super::rights;
use super::token::VerifiedToken;
use crate::refusal::{Reason, Refusal};

/// `dynamic_linking` of a policy.
#[derive(Debug, Clone)]
pub struct Linking {
    /// Requests that it is about; `None`: of every method but GET, HEAD and OPTIONS.
    pub methods: Option<MethodSet>,
    /// Bytes of a body that is looked at; a longer one is refused.
    pub body_bytes: usize,
    /// `type` of the entry.
    pub kind: Box<str>,
    /// The pairs; at least one.
    pub links: Vec<Link>,
}

/// Two values that must be the same.
#[derive(Debug, Clone)]
pub struct Link {
    /// In the body.
    pub requested: Pointer,
    /// In the entry.
    pub approved: Pointer,
    /// How they are compared.
    pub compared: Compared,
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// As amounts: `100` and `"100.00"` are the same.
    Amount,
    /// As text: byte by byte, and a string is no number.
    Text,
}

impl Linking {
    /// Whether a request of this method is one that it is about.
    #[must_use]
    pub fn is_about(&self, method: &Method) -> bool {
        match &self.methods {
            Some(methods) => methods.has(method),
            None => !method.is_safe(),
        }
    }
}

/// Judges what is requested by what was approved. One entry of the type, which must fit the
/// policy's `authorization_details` too, must agree in every pair.
///
/// # Errors
/// `not_as_approved`; `body_unfit`.
pub(super) fn judge(
    token: &VerifiedToken,
    (linking, details): (&Linking, Option<&DetailsRule>),
    content: &Content,
) -> Result<(), Refusal> {
    let mut requested = Vec::new();
    for link in &linking.links {
        let Some(value) = content.at(&link.requested)? else {
            return Err(differs(link, "is no single value of the body"));
        };
        requested.push((link, value));
    }
    let details = details.filter(|rule| rule.kind == linking.kind);
    let entries = rights::entries(token, &linking.kind)
        .filter(|entry| details.is_none_or(|rule| rights::covered(entry, rule)));
    let mut first = None;
    for entry in entries {
        let wrong = requested
            .iter()
            .find(|(link, value)| !same(link, value, entry));
        match wrong {
            None => return Ok(()),
            Some((link, _)) => first = first.or(Some(*link)),
        }
    }
    Err(match first {
        Some(link) => differs(link, "is not what was approved"),
        None => Refusal::because(
            Reason::NotAsApproved,
            format!("the token approves nothing of type {:?}", linking.kind),
        ),
    })
}

fn same(link: &Link, requested: &Scalar, entry: &Value) -> bool {
    let Some(approved) = link.approved.of(entry).and_then(Scalar::of) else {
        return false;
    };
    match link.compared {
        Compared::Amount => match (requested.amount(), approved.amount()) {
            (Some(requested), Some(approved)) => requested == approved,
            (None, _) | (_, None) => false,
        },
        Compared::Text => *requested == approved,
    }
}

/// Names the place, never the value.
fn differs(link: &Link, how: &str) -> Refusal {
    Refusal::because(Reason::NotAsApproved, format!("{} {how}", link.requested))
}
