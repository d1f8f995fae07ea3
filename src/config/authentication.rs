//! How the user must have been authenticated: `acr`, `amr`, `max_age` and `step_up` of a policy.

use std::time::Duration;

use super::document::At;
use super::policies::Chain;
use super::problem::Findings;
use super::raw;
use super::raw_policy::{StepUp, StepUpAmount};
use super::rules;
use super::values::{self, YEAR, duration, secs};
use super::{linking, methods};
use crate::pdp::decimal::Decimal;
use crate::pdp::step_up::{self, Above, Strength};

/// What every request of the policy needs; `None` where a layer of it is missing.
pub(super) fn strength(
    chain: &Chain,
    merged: &raw::Policy,
    out: &mut Findings,
) -> Option<Strength> {
    if let Some(ranks) = &merged.acr_ranks {
        words(&chain.origin(&["acr_ranks"])?, ranks, out);
    }
    let at_least = match &merged.acr_at_least {
        Some(least) => Some(chain.origin(&["acr_at_least"])?).zip(Some(least)),
        None => None,
    };
    let acr = rules::words(chain, "acr", merged.acr.as_deref(), out)?;
    Some(Strength {
        acr: either(acr, at_least, merged, out),
        amr: rules::words(chain, "amr", merged.amr.as_deref(), out)?,
        max_age: rules::time(chain, "max_age", merged.max_age.as_deref(), out)?,
    })
}

/// The list that is written, or the ranks from the least one up: the weakest that will do is
/// preferred in a challenge.
fn either(
    acr: Vec<Box<str>>,
    at_least: Option<(At, &String)>,
    merged: &raw::Policy,
    out: &mut Findings,
) -> Vec<Box<str>> {
    let Some((at, least)) = at_least else {
        return acr;
    };
    if !acr.is_empty() {
        let right = "write acr_at_least with acr_ranks, or acr with the list";
        at.refuse_key(out, "acr says already which contexts will do", right);
    }
    let ranks = merged.acr_ranks.as_deref().unwrap_or_default();
    let from = ranks.iter().position(|rank| rank == least);
    if from.is_none() {
        let right = if ranks.is_empty() {
            "write acr_ranks: the contexts, the weakest first".to_owned()
        } else {
            format!("there are {}", ranks.join(", "))
        };
        at.refuse(out, format!("{least:?} is not among acr_ranks"), right);
    }
    let enough = ranks.iter().skip(from.unwrap_or(ranks.len()));
    enough.map(|rank| rank.as_str().into()).collect()
}

/// What requests of some kinds need in addition.
pub(super) fn step_up(
    chain: &Chain,
    merged: &raw::Policy,
    out: &mut Findings,
) -> Option<Vec<step_up::StepUp>> {
    let Some(written) = &merged.step_up else {
        return Some(Vec::new());
    };
    let at = chain.origin(&["step_up"])?;
    if written.is_empty() {
        let right = "write a rule, or leave the key out";
        at.refuse(out, "this list is empty", right);
    }
    let rules = written.iter().enumerate();
    Some(
        rules
            .map(|(index, rule)| one(&at.item(index), rule, merged, out))
            .collect(),
    )
}

fn one(at: &At, written: &StepUp, merged: &raw::Policy, out: &mut Findings) -> step_up::StepUp {
    let mut list = |key: &str, values: &Option<Vec<String>>| {
        let values = values.as_deref();
        values.map_or_else(Vec::new, |values| words(&at.key(key), values, out))
    };
    let acr = list("acr", &written.acr);
    let amr = list("amr", &written.amr);
    let least = written.acr_at_least.as_ref();
    let at_least = least.map(|least| (at.key("acr_at_least"), least));
    let age = written.max_age.as_deref();
    let strength = Strength {
        acr: either(acr, at_least, merged, out),
        amr,
        max_age: age.map(|text| seconds(at, "max_age", text, out)),
    };
    if written.acr_at_least.is_none() && strength == Strength::default() {
        let right = "write acr, acr_at_least, amr or max_age";
        at.refuse(out, "this rule asks for nothing", right);
    }
    step_up::StepUp {
        methods: methods::read(&at.key("methods"), &written.methods, out),
        above: written
            .amount
            .as_ref()
            .and_then(|amount| above(&at.key("amount"), amount, out)),
        strength,
    }
}

fn above(at: &At, written: &StepUpAmount, out: &mut Findings) -> Option<Above> {
    let limit = Decimal::parse(&written.above);
    if limit.is_none() {
        let right = "write digits, and perhaps a point and more digits, such as \"30.00\"";
        at.key("above")
            .refuse(out, format!("{:?} is no amount", written.above), right);
    }
    let amount = linking::pointer(&at.key("at"), &written.at, out);
    let currency = linking::pointer(&at.key("currency_at"), &written.currency_at, out);
    let name = values::text(&at.key("currency"), &written.currency, out);
    let body_bytes = linking::body_bytes(at, written.body_bytes.as_deref(), out);
    Some(Above {
        amount: amount?,
        limit: limit?,
        currency: (currency?, name),
        body_bytes,
    })
}

/// Values of a challenge: `scope-token` of RFC 6749 s3.3, which `acr_values` must fit too
/// (RFC 9470 s3): printable ASCII without blank, quote and backslash.
pub(super) fn words(at: &At, values: &[String], out: &mut Findings) -> Vec<Box<str>> {
    let words = values::list(at, values, out);
    for (index, word) in words.iter().enumerate() {
        let fits = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if !word.is_empty() && !word.bytes().all(fits) {
            at.item(index).refuse(
                out,
                format!("{word:?} cannot stand in a challenge"),
                "use printable ASCII without blanks, quotes and backslashes (RFC 6750 s3); one value an entry",
            );
        }
    }
    words
}

/// A duration that clients are told in whole seconds.
pub(super) fn seconds(at: &At, key: &str, value: &str, out: &mut Findings) -> Duration {
    let duration = duration(at, key, Some(value), secs(1)..=YEAR, out);
    if duration.subsec_nanos() != 0 {
        at.key(key).refuse(
            out,
            format!("{value:?} has a fraction"),
            "write whole seconds",
        );
    }
    duration
}
