//! When a server that fails is left alone: pure, time is an argument.
//!
//! Closed, it counts failures in a row. Open, nobody asks for a while. Half open, one request asks
//! and the others are told to come back; what it finds closes or opens it again.

use std::time::Duration;

/// Time since the plane began.
pub(in crate::pip) type Moment = Duration;

/// The longest that a server may ask to be left alone.
const LONGEST: Duration = Duration::from_secs(60);

/// `breaker = { failures, open_for }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerRule {
    /// Failed calls in a row that open it.
    pub failures: u32,
    /// How long it stays open.
    pub open_for: Duration,
}

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Yes.
    Call,
    /// Yes, and all others wait for what comes of it.
    Probe,
    /// No; come back after so long.
    Later(Duration),
}

/// For metrics and `/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls are made.
    Closed,
    /// One call is made, to see.
    HalfOpen,
    /// No calls are made.
    Open,
}

impl BreakerState {
    /// The word in metrics and `/status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Breaker {
    rule: BreakerRule,
    failures: u32,
    open_until: Option<Moment>,
    probing: bool,
}

impl Breaker {
    pub(super) const fn new(rule: BreakerRule) -> Self {
        Self {
            rule,
            failures: 0,
            open_until: None,
            probing: false,
        }
    }

    pub(super) fn state(&self, now: Moment) -> BreakerState {
        match self.open_until {
            None => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// How long nobody may call; `None` where a call may be made or is being made to see.
    pub(super) fn closed_off(&self, now: Moment) -> Option<Duration> {
        let left = self.open_until?.saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }

    /// A call is about to be made. One that is told [`Turn::Probe`] must end with
    /// [`Self::succeeded`], [`Self::failed`] or [`Self::gave_up`].
    pub(super) fn turn(&mut self, now: Moment) -> Turn {
        match self.open_until {
            None => Turn::Call,
            Some(until) if now < until => Turn::Later(until.saturating_sub(now)),
            // The probe is bounded in time like any call; a second is as good a guess as any.
            Some(_) if self.probing => Turn::Later(Duration::from_secs(1)),
            Some(_) => {
                self.probing = true;
                Turn::Probe
            }
        }
    }

    /// The server answered what can be used.
    pub(super) fn succeeded(&mut self) {
        *self = Self::new(self.rule);
    }

    /// The server failed. `retry_after`: what it asked for. `jitter`: any number; spreads replicas
    /// that saw the same failure.
    pub(super) fn failed(&mut self, now: Moment, retry_after: Option<Duration>, jitter: u32) {
        self.probing = false;
        self.failures = self.failures.saturating_add(1);
        let asked = retry_after.map(|asked| asked.min(LONGEST));
        if asked.is_none() && self.failures < self.rule.failures {
            return;
        }
        let part = self
            .rule
            .open_for
            .mul_f64(f64::from(jitter) / f64::from(u32::MAX) / 5.0);
        let pause = self.rule.open_for.saturating_add(part);
        let until = now.saturating_add(asked.unwrap_or_default().max(pause));
        self.open_until = Some(self.open_until.map_or(until, |before| before.max(until)));
    }

    /// A probe ended without a word about the server.
    pub(super) fn gave_up(&mut self) {
        self.probing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: BreakerRule = BreakerRule {
        failures: 3,
        open_for: Duration::from_secs(5),
    };

    fn secs(secs: u64) -> Moment {
        Duration::from_secs(secs)
    }

    #[test]
    fn its_whole_life() {
        let mut breaker = Breaker::new(RULE);
        for _ in 0..2 {
            assert_eq!(breaker.turn(secs(1)), Turn::Call);
            breaker.failed(secs(1), None, 0);
        }
        assert_eq!(breaker.state(secs(1)), BreakerState::Closed, "not yet");
        breaker.failed(secs(1), None, 0);
        assert_eq!(breaker.state(secs(1)), BreakerState::Open);
        assert_eq!(breaker.turn(secs(2)), Turn::Later(secs(4)));
        assert_eq!(breaker.closed_off(secs(2)), Some(secs(4)));
        assert_eq!(breaker.state(secs(6)), BreakerState::HalfOpen);
        assert_eq!(breaker.closed_off(secs(6)), None);
        assert_eq!(breaker.turn(secs(6)), Turn::Probe);
        assert_eq!(breaker.turn(secs(6)), Turn::Later(secs(1)), "one probe");
        breaker.failed(secs(7), None, 0);
        assert_eq!(
            breaker.turn(secs(7)),
            Turn::Later(secs(5)),
            "open again at once"
        );
        assert_eq!(breaker.turn(secs(12)), Turn::Probe);
        breaker.gave_up();
        assert_eq!(breaker.turn(secs(12)), Turn::Probe, "another may look");
        breaker.succeeded();
        assert_eq!(breaker.state(secs(12)), BreakerState::Closed);
        breaker.failed(secs(12), None, 0);
        assert_eq!(breaker.turn(secs(12)), Turn::Call, "counted from zero");
    }

    #[test]
    fn a_success_between_failures_counts_anew() {
        let mut breaker = Breaker::new(RULE);
        for _ in 0..10 {
            breaker.failed(secs(1), None, 0);
            breaker.failed(secs(1), None, 0);
            breaker.succeeded();
        }
        assert_eq!(breaker.state(secs(1)), BreakerState::Closed);
    }

    #[test]
    fn a_server_that_asks_for_peace_gets_it_within_bounds() {
        let mut breaker = Breaker::new(RULE);
        breaker.failed(secs(1), Some(secs(20)), 0);
        assert_eq!(breaker.turn(secs(1)), Turn::Later(secs(20)), "at once");
        let mut breaker = Breaker::new(RULE);
        breaker.failed(secs(1), Some(secs(1_000_000)), 0);
        assert_eq!(breaker.turn(secs(1)), Turn::Later(LONGEST));
    }

    #[test]
    fn an_hour_of_outage_costs_few_calls_and_ends_at_once() {
        // INT-06: a request each tenth of a second
        let mut breaker = Breaker::new(RULE);
        let mut calls = 0;
        for tenth in 0..36_000 {
            let now = Duration::from_millis(tenth * 100);
            if !matches!(breaker.turn(now), Turn::Later(_)) {
                calls += 1;
                breaker.failed(now, None, 0);
            }
        }
        assert!(
            (700..=723).contains(&calls),
            "one each five seconds: {calls}"
        );
        let back = (36_000..).find(|tenth| {
            !matches!(
                breaker.turn(Duration::from_millis(tenth * 100)),
                Turn::Later(_)
            )
        });
        assert!(back.unwrap() <= 36_050, "found to be back within open_for");
        breaker.succeeded();
        assert_eq!(breaker.turn(secs(3606)), Turn::Call);
    }

    #[test]
    fn jitter_only_lengthens() {
        for jitter in [0, 1, u32::MAX] {
            let mut breaker = Breaker::new(RULE);
            for _ in 0..3 {
                breaker.failed(secs(0), None, jitter);
            }
            let left = breaker.closed_off(secs(0)).unwrap();
            assert!(left >= secs(5) && left <= secs(6), "{left:?}");
        }
    }
}
