//! `dynamic_linking` of a policy.

use super::document::At;
use super::methods;
use super::policies::Chain;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::values;
use crate::pdp::content::Pointer;
use crate::pdp::linking::{Compared, Link, Linking};

/// Bytes of a body that is looked at, unless the file says otherwise.
const BODY_BYTES: &str = "64KiB";

/// Compiles the table; `None` where a layer of the policy is missing.
pub(super) fn compile(
    chain: &Chain,
    merged: &raw::Policy,
    out: &mut Findings,
) -> Option<Option<Linking>> {
    let Some(written) = &merged.dynamic_linking else {
        return Some(None);
    };
    let whole = chain.origin(&["dynamic_linking"])?;
    let details = merged.authorization_details.as_ref();
    let inherited = details.and_then(|details| details.get("type"));
    let kind = match (&written.kind, inherited.and_then(|kind| kind.as_str())) {
        (Some(kind), _) => {
            let at = chain.origin(&["dynamic_linking", "type"])?;
            values::text(&at, kind, out)
        }
        (None, Some(kind)) => kind.into(),
        (None, None) => {
            let right =
                "say which type of authorization detail the customer approves (RFC 9396 s2)";
            whole.refuse(out, "`type` is missing", right);
            return None;
        }
    };
    let mut links = Vec::new();
    for (key, pairs, compared) in [
        ("amounts", &written.amounts, Compared::Amount),
        ("values", &written.values, Compared::Text),
    ] {
        for (requested, approved) in pairs.iter().flatten() {
            let at = chain.origin(&["dynamic_linking", key, requested])?;
            let of_body = Pointer::parse(requested);
            if let Err(why) = of_body {
                let right = "write the place in the body, such as \"/instructedAmount/amount\"";
                at.refuse_key(out, format!("{requested:?}: {why}"), right);
            }
            let of_entry = pointer(&at, approved, out);
            if let (Ok(requested), Some(approved)) = (of_body, of_entry) {
                links.push(Link {
                    requested,
                    approved,
                    compared,
                });
            }
        }
    }
    if written
        .amounts
        .iter()
        .chain(&written.values)
        .all(|pairs| pairs.is_empty())
    {
        let right = "write under amounts and values what must be as approved";
        whole.refuse(out, "nothing is compared", right);
    } else if written.amounts.is_none() || written.values.is_none() {
        let text = "compares no amount, or no other value: article 5 of the RTS links the amount and the payee";
        whole.report(out, ReportKind::Note, text);
    }
    let methods = match &written.methods {
        Some(methods) => {
            let at = chain.origin(&["dynamic_linking", "methods"])?;
            Some(methods::read(&at, methods, out))
        }
        None => None,
    };
    let at = match &written.body_bytes {
        Some(_) => chain
            .layers
            .iter()
            .map(|(at, _)| at.key("dynamic_linking"))
            .find(|at| at.key("body_bytes").written())?,
        None => whole,
    };
    Some(Some(Linking {
        methods,
        body_bytes: body_bytes(&at, written.body_bytes.as_deref(), out),
        kind,
        links,
    }))
}

/// A place in a JSON document.
pub(super) fn pointer(at: &At, text: &str, out: &mut Findings) -> Option<Pointer> {
    match Pointer::parse(text) {
        Ok(pointer) => Some(pointer),
        Err(why) => {
            let right = "write it like \"/instructedAmount/amount\"";
            at.refuse(out, format!("{text:?}: {why}"), right);
            None
        }
    }
}

/// How much of a body is held for a decision.
pub(super) fn body_bytes(at: &At, text: Option<&str>, out: &mut Findings) -> usize {
    values::memory(
        at,
        "body_bytes",
        Some(text.unwrap_or(BODY_BYTES)),
        1..=1 << 20,
        out,
    )
}
