//! One thread's connections to all upstreams.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::balance::Order;
use super::local::Local;
use super::shared::Shared;
use crate::http::fields::FieldRules;
use crate::pdp::Route;

/// One thread's connections to all upstreams. It must live on a thread that runs a
/// [`tokio::task::LocalSet`].
#[derive(Default)]
pub struct Pool {
    upstreams: RefCell<HashMap<Arc<str>, Rc<Upstream>>>,
    /// What each route does to fields, worked out at its first request. The key is the address of
    /// the route, which is held so that it stays its own.
    rules: RefCell<HashMap<usize, RulesOf>>,
}

type RulesOf = (Arc<Route>, Rc<FieldRules>);

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.upstreams.borrow().keys())
            .finish()
    }
}

/// One thread's connections to one upstream.
pub(super) struct Upstream {
    pub(super) shared: Arc<Shared>,
    locals: Vec<Rc<Local>>,
    /// Where the round stands.
    next: Cell<usize>,
}

impl Upstream {
    fn new(shared: Arc<Shared>) -> Rc<Self> {
        let locals = shared
            .servers
            .iter()
            .map(|state| Local::new(Arc::clone(&shared), Arc::clone(state)))
            .collect();
        Rc::new(Self {
            next: Cell::new(shared.start()),
            locals,
            shared,
        })
    }

    /// The order in which a request tries the servers.
    pub(super) fn order(&self) -> Order {
        let start = self.next.get();
        self.next.set(start.wrapping_add(1));
        Order::new(start)
    }

    /// The next server that a request should try.
    pub(super) fn next(&self, order: &mut Order) -> Option<usize> {
        order.next(self.locals.len(), |index| {
            self.local(index)
                .is_some_and(|local| local.state.is_available() && local.has_room())
        })
    }

    pub(super) fn local(&self, index: usize) -> Option<&Rc<Local>> {
        self.locals.get(index)
    }

    fn retire(&self) {
        for local in &self.locals {
            local.retire();
        }
    }
}

impl Pool {
    /// An empty one.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::new(Self::default())
    }

    /// At load and reload. Where the [`Shared`] is the same as before, the connections stay; those
    /// to others are closed, the idle ones at once and the rest when their exchange is over.
    pub fn replace(&self, upstreams: &HashMap<Arc<str>, Arc<Shared>>) {
        let mut held = self.upstreams.borrow_mut();
        let mut before = std::mem::take(&mut *held);
        for (name, shared) in upstreams {
            let same = before
                .get(name)
                .is_some_and(|upstream| Arc::ptr_eq(&upstream.shared, shared));
            let kept = if same { before.remove(name) } else { None };
            let upstream = kept.unwrap_or_else(|| Upstream::new(Arc::clone(shared)));
            held.insert(Arc::clone(name), upstream);
        }
        drop(held);
        for upstream in before.values() {
            upstream.retire();
        }
        self.rules.borrow_mut().clear();
    }

    pub(super) fn upstream(&self, name: &str) -> Option<Rc<Upstream>> {
        self.upstreams.borrow().get(name).map(Rc::clone)
    }

    /// The field rules of a route.
    pub(super) fn rules(&self, route: &Arc<Route>) -> Rc<FieldRules> {
        let mut held = self.rules.borrow_mut();
        let (_, rules) = held
            .entry(Arc::as_ptr(route).addr())
            .or_insert_with(|| (Arc::clone(route), Rc::new(FieldRules::of(route))));
        Rc::clone(rules)
    }
}
