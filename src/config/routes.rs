//! `[[route]]`: what is where, for whom; and the table of each listener.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::document::At;
use super::listeners::Listener;
use super::policies::Policies;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::route::{One, World};
use super::values;
use crate::pdp::policy::Route;
use crate::pdp::{Pattern, RouteTable};

type Entries = BTreeMap<String, Vec<(Pattern, Arc<Route>)>>;

/// Checks every route and makes the table of each listener.
pub(super) fn check(
    file: &raw::File,
    places: &[At],
    world: &World<'_>,
    policies: &mut Policies<'_>,
    out: &mut Findings,
) -> Vec<RouteTable> {
    let mut entries = Entries::new();
    let mut taken: HashMap<&str, &At> = HashMap::new();
    for (index, (raw, at)) in file.route.iter().zip(places).enumerate() {
        values::name(&at.key("name"), &raw.name, out);
        if let Some(other) = taken.insert(&raw.name, at) {
            let other = other.place();
            at.key("name").refuse(
                out,
                format!("{}:{} has a route of this name", other.file, other.line),
                "give each route a name of its own: logs and metrics tell them apart by it",
            );
        }
        let mut one = One {
            raw,
            at,
            world,
            policies,
            out,
        };
        if let Some((pattern, route)) = one.check(index) {
            for name in one.listeners() {
                entries
                    .entry(name)
                    .or_default()
                    .push((pattern.clone(), Arc::clone(&route)));
            }
        }
    }
    tables(entries, world.listeners, &taken, out)
}

fn tables(
    mut entries: Entries,
    listeners: &BTreeMap<String, Listener>,
    places: &HashMap<&str, &At>,
    out: &mut Findings,
) -> Vec<RouteTable> {
    let mut tables = Vec::new();
    for (name, listener) in listeners {
        let routes = entries.remove(name).unwrap_or_default();
        let paths: Vec<(String, Arc<str>)> = routes
            .iter()
            .map(|(pattern, route)| (pattern.as_str().to_owned(), Arc::clone(&route.name)))
            .collect();
        let place = |route: &str| places.get(route).map(|at| at.key("path"));
        let built = RouteTable::build(
            Arc::clone(&listener.name),
            &listener.hosts,
            &listener.ports,
            listener.token_bytes,
            routes,
        );
        match built {
            Ok(table) => {
                for hidden in table.hidden() {
                    let route = paths.iter().find(|(path, _)| **path == *hidden.hidden);
                    let Some(at) = route.and_then(|(_, route)| place(route)) else {
                        continue;
                    };
                    let text = format!(
                        "{} of {} is 405 where {} matches too, which has no such method and is more specific (listener {name})",
                        hidden.methods.join(", "),
                        hidden.hidden,
                        hidden.chosen,
                    );
                    at.report(out, ReportKind::HiddenMethods, text);
                }
                tables.push(match &listener.origins {
                    Some(origins) => table.with_origins(origins.clone()),
                    None => table,
                });
            }
            Err(conflicts) => {
                for conflict in conflicts {
                    let Some(at) = place(&conflict.second) else {
                        continue;
                    };
                    let wrong = if conflict.methods.is_empty() {
                        format!(
                            "route {} has the same paths but for letter case, and an upstream that ignores case",
                            conflict.first
                        )
                    } else {
                        format!(
                            "route {} has the same paths and {} too, on listener {name}",
                            conflict.first,
                            conflict.methods.join(", ")
                        )
                    };
                    at.refuse(out, wrong, "let each method of a path belong to one route");
                }
            }
        }
    }
    tables
}
