//! When keys are fetched: pure, time is an argument.
//!
//! At most one fetch at a time and one a cooldown, whatever is asked for. In the background ahead
//! of need, after failures with growing pauses. On demand when a token names a key that is not
//! held; what one client can cause of these is bounded on its own, so that a client that sends
//! made-up key names does not use up every cooldown and make the others wait for a true rotation.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::pdp::Peer;

/// Time since the plane began.
pub(super) type Moment = Duration;

/// Pauses after failures do not grow beyond this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Fruitless fetches that one client may cause in a row. Enough for an honest client whose tokens
/// come from a server that rotates badly; after them it has a quarter of the cooldowns.
const BURST: u32 = 10;

/// Cooldowns until one of them is forgiven.
const FORGIVEN_AFTER: u32 = 4;

/// `[issuer.*.jwks]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) cooldown: Duration,
    pub(super) every: Duration,
}

/// What to do for a token whose key is not held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// Start the flight that was just noted, and wait for it.
    Fetch,
    /// One is under way: wait for it.
    Wait,
    /// Answer with the keys that are held: they are fresh enough to say that there is no such key.
    Held,
    /// It cannot be known before so much time passed.
    Later(Duration),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Schedule {
    pace: Pace,
    flying: bool,
    started: Option<Moment>,
    failures: u32,
    due: Moment,
    spent: HashMap<Client, Spent>,
}

#[derive(Debug, Clone, Copy)]
struct Spent {
    fetches: u32,
    last: Moment,
}

/// Whom a fetch on demand is charged to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Client {
    /// Thumbprint of the certificate.
    Certificate(Box<str>),
    /// Address; of IPv6 the first half, which is what one site has.
    Network(IpAddr),
    /// Ourselves, on behalf of nobody in particular.
    Plane,
}

impl Client {
    pub(super) fn of(peer: &Peer) -> Self {
        match &peer.certificate {
            Some(certificate) => Self::Certificate(certificate.thumbprint_text.clone()),
            None => Self::Network(match peer.remote.ip().to_canonical() {
                IpAddr::V6(v6) => {
                    let [a, b, c, d, ..] = v6.segments();
                    IpAddr::from([a, b, c, d, 0, 0, 0, 0])
                }
                v4 @ IpAddr::V4(_) => v4,
            }),
        }
    }
}

impl Schedule {
    /// The first fetch is due at once.
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            flying: false,
            started: None,
            failures: 0,
            due: Moment::ZERO,
            spent: HashMap::new(),
        }
    }

    /// Other settings from now on.
    pub(super) fn set_pace(&mut self, now: Moment, pace: Pace) {
        self.pace = pace;
        self.due = self.due.min(now.saturating_add(pace.every));
    }

    /// Whether the last fetch that ended failed.
    pub(super) const fn is_failing(&self) -> bool {
        self.failures != 0
    }

    /// A token names a key that is not held. `held`: keys are held that may still be used.
    pub(super) fn demand(&mut self, now: Moment, client: &Client, held: bool) -> Demand {
        if self.flying {
            return Demand::Wait;
        }
        if let Some(wait) = self.cooling(now) {
            return if held && !self.is_failing() {
                Demand::Held
            } else {
                Demand::Later(wait)
            };
        }
        // Where the keys held are good and fresh enough, a look for more is a favour, and one
        // client gets a few only. Where nothing is held or the server fails, it is our own need.
        if held && !self.is_failing() && !self.spend(now, client) {
            return Demand::Held;
        }
        self.begin(now);
        Demand::Fetch
    }

    /// When the background should look again; `None` while a fetch is under way.
    pub(super) fn due(&self) -> Option<Moment> {
        (!self.flying).then_some(self.due)
    }

    /// Whether the background starts a fetch now; if so, it is noted as started.
    pub(super) fn take_turn(&mut self, now: Moment) -> bool {
        if self.flying || now < self.due {
            return false;
        }
        if let Some(wait) = self.cooling(now) {
            self.due = now.saturating_add(wait);
            return false;
        }
        self.begin(now);
        true
    }

    /// A fetch ended. `jitter`: any number; spreads replicas that started together.
    pub(super) fn end(&mut self, now: Moment, good: bool, jitter: u32) {
        self.flying = false;
        let part = |of: Duration| of.mul_f64(f64::from(jitter) / f64::from(u32::MAX));
        let pause = if good {
            self.failures = 0;
            // Ahead of need: somewhere in the last fifth of the interval.
            self.pace.every.saturating_sub(part(self.pace.every / 5))
        } else {
            let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
            self.failures = self.failures.saturating_add(1);
            let most = LONGEST_PAUSE.min(self.pace.every).max(self.pace.cooldown);
            let pause = self.pace.cooldown.saturating_mul(doubled).min(most);
            pause.saturating_add(part(pause / 5))
        };
        self.due = now.saturating_add(pause);
    }

    /// The fetch that this client caused found its key after all.
    pub(super) fn refund(&mut self, client: &Client) {
        if let Some(spent) = self.spent.get_mut(client) {
            spent.fetches = spent.fetches.saturating_sub(1);
        }
    }

    fn begin(&mut self, now: Moment) {
        self.flying = true;
        self.started = Some(now);
    }

    /// What is left of the cooldown. It counts from the start of a fetch: what is published while
    /// one is under way may be missed by it, and is found one cooldown later at most.
    fn cooling(&self, now: Moment) -> Option<Duration> {
        let over = self.started?.saturating_add(self.pace.cooldown);
        let left = over.saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }

    fn spend(&mut self, now: Moment, client: &Client) -> bool {
        let forgiven = self.pace.cooldown.saturating_mul(FORGIVEN_AFTER);
        // One fetch a cooldown and all forgiven after a few: this stays small whatever comes.
        self.spent.retain(|_, spent| {
            let all = forgiven.saturating_mul(spent.fetches);
            spent.fetches != 0 && now < spent.last.saturating_add(all)
        });
        let spent = self.spent.entry(client.clone()).or_insert(Spent {
            fetches: 0,
            last: now,
        });
        while spent.fetches > 0 && now >= spent.last.saturating_add(forgiven) {
            spent.fetches -= 1;
            spent.last = spent.last.saturating_add(forgiven);
        }
        if spent.fetches >= BURST {
            return false;
        }
        if spent.fetches == 0 {
            spent.last = now;
        }
        spent.fetches += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        cooldown: Duration::from_secs(5),
        every: Duration::from_secs(300),
    };

    fn secs(secs: u64) -> Moment {
        Duration::from_secs(secs)
    }

    fn client(name: &str) -> Client {
        Client::Certificate(name.into())
    }

    /// A server with its published keys, and a plane that holds what it last saw.
    struct World {
        schedule: Schedule,
        published: u64,
        held: u64,
        fetches: u64,
        down: bool,
    }

    impl World {
        fn started() -> Self {
            let mut world = Self {
                schedule: Schedule::new(PACE),
                published: 1,
                held: 0,
                fetches: 0,
                down: false,
            };
            world.tick(secs(0));
            assert_eq!(world.held, 1);
            world
        }

        fn land(&mut self, now: Moment) {
            self.fetches += 1;
            if !self.down {
                self.held = self.published;
            }
            self.schedule.end(now, !self.down, 7);
        }

        fn tick(&mut self, now: Moment) {
            if self.schedule.take_turn(now) {
                self.land(now);
            }
        }

        /// A token under key number `key`; whether it passes.
        fn token(&mut self, now: Moment, who: &str, key: u64) -> bool {
            if key <= self.held {
                return true;
            }
            if self.schedule.demand(now, &client(who), true) == Demand::Fetch {
                self.land(now);
                if key <= self.held {
                    self.schedule.refund(&client(who));
                }
            }
            key <= self.held
        }
    }

    const MADE_UP: u64 = u64::MAX;

    #[test]
    fn a_storm_of_made_up_keys_is_one_fetch_a_cooldown() {
        // KEY-03
        let mut world = World::started();
        for i in 0..200 {
            assert!(!world.token(secs(10) + Duration::from_millis(i), "storm", MADE_UP));
        }
        assert_eq!(world.fetches, 2, "one of the start, one of the storm");
    }

    #[test]
    fn a_rotation_passes_one_cooldown_later_even_in_a_storm() {
        // KEY-03: an hour of a storm from one client, a rotation in each minute
        let mut world = World::started();
        let mut waited = Vec::new();
        let mut rotated = None;
        for tenth in 0..36_000_u64 {
            let now = Duration::from_millis(tenth * 100);
            world.tick(now);
            for _ in 0..10 {
                world.token(now, "storm", MADE_UP);
            }
            if tenth % 600 == 137 {
                world.published += 1;
                rotated = Some(now);
            }
            if let Some(since) = rotated
                && world.token(now, "honest", world.published)
            {
                waited.push(now - since);
                rotated = None;
            }
        }
        assert_eq!(waited.len(), 60);
        assert!(
            waited.iter().all(|waited| *waited <= PACE.cooldown),
            "{waited:?}"
        );
        let at_once = waited.iter().filter(|waited| waited.is_zero()).count();
        assert!(at_once >= 40, "most do not wait at all: {at_once}");
        let most = 3600 / PACE.cooldown.as_secs();
        assert!(world.fetches < most / 2, "{} of {most}", world.fetches);
    }

    #[test]
    fn the_same_client_sees_its_rotation_after_a_storm() {
        let mut world = World::started();
        for i in 0..200 {
            world.token(secs(10) + Duration::from_millis(i), "one", MADE_UP);
        }
        world.published += 1;
        assert!(!world.token(secs(11), "one", world.published));
        assert!(world.token(secs(15), "one", world.published));
    }

    #[test]
    fn a_client_whose_fetches_find_keys_is_never_held_back() {
        let mut world = World::started();
        for round in 1..100 {
            world.published += 1;
            assert!(
                world.token(secs(round * 5), "one", world.published),
                "{round}"
            );
        }
    }

    #[test]
    fn what_is_remembered_of_clients_stays_small() {
        // OPS-05
        let mut world = World::started();
        for i in 0..10_000 {
            world.token(secs(i), &format!("client {i}"), MADE_UP);
            assert!(world.schedule.spent.len() <= 20);
        }
    }

    #[test]
    fn while_the_server_fails_it_is_later_and_at_once() {
        // KEY-04
        let mut world = World::started();
        world.down = true;
        assert!(!world.token(secs(10), "one", MADE_UP));
        for now in [10, 12, 14] {
            let demand = world.schedule.demand(secs(now), &client("one"), true);
            assert_eq!(demand, Demand::Later(secs(15 - now)));
        }
        assert_eq!(
            world.schedule.demand(secs(15), &client("one"), true),
            Demand::Fetch
        );
        assert_eq!(
            world.schedule.demand(secs(15), &client("two"), true),
            Demand::Wait
        );
    }

    #[test]
    fn without_keys_nobody_is_told_that_a_key_is_unknown() {
        let mut schedule = Schedule::new(PACE);
        assert_eq!(
            schedule.demand(secs(0), &client("one"), false),
            Demand::Fetch
        );
        schedule.end(secs(0), true, 0);
        assert_eq!(
            schedule.demand(secs(1), &client("one"), false),
            Demand::Later(secs(4))
        );
    }

    #[test]
    fn the_background_keeps_ahead_and_backs_off() {
        // KEY-02
        let mut world = World::started();
        for now in 0..3600 {
            world.tick(secs(now));
        }
        assert!((12..=16).contains(&world.fetches), "{}", world.fetches);
        world.down = true;
        let before = world.fetches;
        for now in 3600..7200 {
            world.tick(secs(now));
        }
        let failed = world.fetches - before;
        assert!(
            (100..=125).contains(&failed),
            "5, 10, 20, then 30 s: {failed}"
        );
        world.down = false;
        world.published += 1;
        for now in 7200..7237 {
            world.tick(secs(now));
        }
        assert_eq!(world.held, world.published, "recovers by itself");
    }

    #[test]
    fn jitter_only_moves_a_refresh_ahead() {
        for jitter in [0, 1, u32::MAX / 2, u32::MAX] {
            let mut schedule = Schedule::new(PACE);
            assert!(schedule.take_turn(secs(0)));
            assert_eq!(schedule.due(), None);
            schedule.end(secs(1), true, jitter);
            let due = schedule.due().unwrap();
            assert!(due >= secs(241) && due <= secs(301), "{due:?}");
        }
    }
}
