//! `error_format` of a policy: refusals in the words of a market (ERR-06).

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;

use super::document::At;
use super::policies::Chain;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::values;
use crate::pdp::json;
use crate::refusal::format::{CODE_BYTES, Codes, DEFAULT, Fault, Format, Template};

const CONTENT_TYPE: &str = "application/json";

/// Compiles the table; `None` where a layer of the policy is missing.
pub(super) fn compile(
    chain: &Chain,
    merged: &raw::Policy,
    out: &mut Findings,
) -> Option<Option<Arc<Format>>> {
    let Some(written) = &merged.error_format else {
        return Some(None);
    };
    let key = |key: &str| chain.origin(&["error_format", key]);
    let content_type = match &written.content_type {
        Some(text) => content_type(&key("content_type")?, text, out),
        None => Some(HeaderValue::from_static(CONTENT_TYPE)),
    };
    let template = match &written.body {
        Some(text) => template(&key("body")?, text, out),
        None => {
            let right = "write the JSON object of a refusal, such as '{\"code\":\"{error}\",\"id\":\"{interaction_id}\"}'";
            chain
                .origin(&["error_format"])?
                .refuse(out, "`body` is missing", right);
            None
        }
    };
    let codes = codes(chain, written, out)?;
    let (Some(content_type), Some(template), Some(codes)) = (content_type, template, codes) else {
        return Some(None);
    };
    match (template.has_code(), codes.is_empty(), codes.without_code()) {
        (true, _, Some(reason)) => {
            let wrong = format!("{{code}} has no value for {}", reason.spec().code);
            let right = "write codes = { default = \"…\" }, which is for all that no other names";
            key("body")?.refuse(out, wrong, right);
        }
        (false, false, _) => {
            let text = "this has no effect: body has no {code}";
            key("codes")?.report(out, ReportKind::Note, text);
        }
        (true, _, None) | (false, true, _) => {}
    }
    Some(Some(Arc::new(Format {
        content_type,
        template,
        codes,
    })))
}

/// JSON of some kind: clients read the body as what is said here.
fn content_type(at: &At, text: &str, out: &mut Findings) -> Option<HeaderValue> {
    let (kind, parameters) = match text.split_once(';') {
        Some((kind, parameters)) => (kind, Some(parameters.trim_start())),
        None => (text, None),
    };
    let utf8 = parameters.is_none_or(|text| text.eq_ignore_ascii_case("charset=utf-8"));
    let word = |text: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c);
        !text.is_empty() && text.chars().all(fits)
    };
    let json = kind.strip_prefix("application/").is_some_and(|subtype| {
        subtype == "json" || subtype.strip_suffix("+json").is_some_and(word)
    });
    let value = HeaderValue::from_str(text).ok();
    let value = value.filter(|_| json && utf8 && text.len() <= 128);
    if value.is_none() {
        let right = "write \"application/json\" or a type such as \"application/problem+json\", lower case, with \"; charset=utf-8\" behind it or nothing";
        at.refuse(out, format!("{text:?} is no JSON in UTF-8"), right);
    }
    value
}

fn template(at: &At, text: &str, out: &mut Findings) -> Option<Template> {
    match Template::parse(text) {
        Ok(template) => {
            // What JSON leaves open: readers would take one of two members.
            if let Err(wrong) = json::object(text.as_bytes()) {
                at.refuse(
                    out,
                    wrong,
                    "write each member once, and nest no deeper than 16",
                );
                return None;
            }
            Some(template)
        }
        Err(fault) => refuse(at, fault, out),
    }
}

fn codes(chain: &Chain, written: &raw::ErrorFormat, out: &mut Findings) -> Option<Option<Codes>> {
    let mut good = true;
    let mut codes = BTreeMap::new();
    for (name, code) in written.codes.iter().flatten() {
        let at = chain.origin(&["error_format", "codes", name])?;
        if let Err(fault) = Codes::selects(name) {
            at.refuse_key(out, fault.wrong, fault.right);
            good = false;
        }
        if code.len() > CODE_BYTES {
            let right = format!("write at most {CODE_BYTES} bytes");
            at.refuse(out, format!("this has {} bytes", code.len()), right);
        }
        codes.insert(name.as_str().into(), values::text(&at, code, out));
    }
    let mut without_body = Vec::new();
    if let Some(names) = &written.without_body {
        let at = chain.origin(&["error_format", "without_body"])?;
        without_body = values::list(&at, names, out);
        for (index, name) in names.iter().enumerate() {
            let selected = match name.as_str() {
                DEFAULT => Err(Fault {
                    wrong: "this would leave no refusal a body".into(),
                    right: "name reasons, errors or statuses, such as \"401\"".into(),
                }),
                name => Codes::selects(name),
            };
            if let Err(fault) = selected {
                refuse::<()>(&at.item(index), fault, out);
                good = false;
            }
        }
    }
    if !good {
        return Some(None);
    }
    Some(match Codes::new(codes, without_body) {
        Ok(codes) => Some(codes),
        Err(fault) => refuse(&chain.origin(&["error_format"])?, fault, out),
    })
}

fn refuse<T>(at: &At, fault: Fault, out: &mut Findings) -> Option<T> {
    at.refuse(out, fault.wrong, fault.right);
    None
}
