//! A data-plane thread: a runtime of its own on one core, with its own listening sockets, its own
//! connections to the upstreams, and no lock that it shares on a request's way.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::serve;
use crate::listener::{self, Drain};
use crate::pipeline::{Shared, UnderWay};
use crate::telemetry::Metrics;
use crate::upstream::{self, Pool};

/// What the control side tells a worker.
#[derive(Debug)]
pub(super) enum Command {
    /// Accept on this socket, which is this worker's own.
    Listen {
        socket: std::net::TcpListener,
        /// Among the workers that accept at this address.
        place: listener::Place<listener::Accepted>,
        shared: Arc<listener::Shared>,
        /// Ends this address alone, when no listener of the new configuration has it.
        drain: Drain,
    },
    /// Send requests to these from now on.
    Upstreams(HashMap<Arc<str>, Arc<upstream::Shared>>),
}

/// What the connections of one thread share.
#[derive(Debug)]
pub(super) struct Plane {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Rc<Pool>,
    pub(super) under_way: Rc<UnderWay>,
    pub(super) metrics: Arc<Metrics>,
}

/// A started worker.
#[derive(Debug)]
pub(super) struct Worker {
    commands: mpsc::UnboundedSender<Command>,
    thread: std::thread::JoinHandle<()>,
}

impl Worker {
    /// Starts the thread of this number.
    pub(super) fn start(
        number: usize,
        shared: Arc<Shared>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name(format!("data-{number}"))
            .spawn(move || run(shared, metrics, inbox))?;
        Ok(Self { commands, thread })
    }

    /// Tells the worker something. Nothing is lost but on a thread that has ended.
    pub(super) fn tell(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!("a data-plane thread has ended before its time");
        }
    }

    /// Lets the thread end, with whatever is still open there, and waits for it.
    pub(super) fn join(self) {
        drop(self.commands);
        if self.thread.join().is_err() {
            tracing::error!("a data-plane thread panicked");
        }
    }
}

fn run(shared: Arc<Shared>, metrics: Arc<Metrics>, inbox: mpsc::UnboundedReceiver<Command>) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime for a data-plane thread");
            return;
        }
    };
    LocalSet::new().block_on(&runtime, obey(shared, metrics, inbox));
}

/// Carries out commands until the control side drops the channel, which it does once every
/// connection is finished or the drain's time is over.
async fn obey(
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    mut inbox: mpsc::UnboundedReceiver<Command>,
) {
    let plane = Rc::new(Plane {
        shared,
        pool: Pool::new(),
        under_way: Rc::default(),
        metrics,
    });
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Upstreams(upstreams) => plane.pool.replace(&upstreams),
            Command::Listen {
                socket,
                place,
                shared,
                drain,
            } => {
                let plane = Rc::clone(&plane);
                let ends = drain.clone();
                tokio::task::spawn_local(listener::accept_loop(
                    socket,
                    place,
                    shared,
                    drain,
                    move |secured, live, permit| {
                        serve::connection(&plane, ends.clone(), secured, &live, permit)
                    },
                ));
            }
        }
    }
}
