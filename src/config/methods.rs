//! Lists of methods.

use http::Method;

use super::document::At;
use super::problem::Findings;
use super::values;
use crate::pdp::policy::MethodSet;

/// Reads `["GET", "POST"]`, or `["*"]` for all but TRACE and CONNECT.
pub(super) fn read(at: &At, written: &[String], out: &mut Findings) -> MethodSet {
    values::list(at, written, out);
    if let [only] = written
        && only == "*"
    {
        return MethodSet::Any;
    }
    let mut methods = Vec::new();
    for (index, name) in written.iter().enumerate() {
        let here = at.item(index);
        let upper = name.to_ascii_uppercase();
        match Method::from_bytes(name.as_bytes()) {
            _ if name == "*" => here.refuse(
                out,
                "\"*\" stands beside other methods",
                "write [\"*\"] alone, or the methods one by one",
            ),
            Ok(Method::TRACE | Method::CONNECT) => here.refuse(
                out,
                format!("{name} is never passed on"),
                "remove it: both let a client reach around the gate",
            ),
            Ok(_) if *name != upper => here.refuse(
                out,
                format!("{name:?}: methods are compared with their case (RFC 9110 s9.1)"),
                format!("write {upper:?}"),
            ),
            Ok(method) => methods.push(method),
            Err(_) => here.refuse(
                out,
                format!("{name:?} is no method"),
                "write methods such as \"GET\" or \"POST\"",
            ),
        }
    }
    MethodSet::These(methods)
}
