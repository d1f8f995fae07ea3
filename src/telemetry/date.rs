//! Dates for the log: RFC 3339 in UTC, with milliseconds.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

/// A moment, as time since 1970-01-01T00:00:00Z without leap seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub Duration);

impl From<crate::pdp::UnixTime> for Timestamp {
    fn from(time: crate::pdp::UnixTime) -> Self {
        Self(Duration::from_secs(time.as_secs()))
    }
}

impl Timestamp {
    /// `2026-11-22T08:15:30Z`: what markets ask for in bodies.
    #[must_use]
    pub fn seconds(self) -> String {
        let mut text = Self(Duration::from_secs(self.0.as_secs())).to_string();
        text.truncate("2026-11-22T08:15:30".len());
        text.push('Z');
        text
    }

    /// `2026-11-22T08:15:30.042Z` (RFC 3339 s5.6). All but the milliseconds is made once a second a
    /// thread.
    pub(super) fn text(self) -> [u8; LENGTH] {
        thread_local! {
            static LAST: Cell<Option<(u64, [u8; LENGTH])>> = const { Cell::new(None) };
        }
        let secs = self.0.as_secs();
        let mut text = match LAST.get() {
            Some((at, text)) if at == secs => text,
            _ => {
                let text = whole_second(secs);
                LAST.set(Some((secs, text)));
                text
            }
        };
        digits(&mut text, (23, 3), self.0.subsec_millis().into());
        text
    }
}

impl fmt::Display for Timestamp {
    /// See `Timestamp::text`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.text()).unwrap_or_default())
    }
}

const LENGTH: usize = "2026-11-22T08:15:30.042Z".len();

/// The text of a moment that is so many seconds after 1970-01-01T00:00:00Z.
fn whole_second(secs: u64) -> [u8; LENGTH] {
    let (year, month, day) = date(secs / 86_400);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (place, number) in [
        ((4, 4), year),
        ((7, 2), month),
        ((10, 2), day),
        ((13, 2), secs / 3600 % 24),
        ((16, 2), secs / 60 % 60),
        ((19, 2), secs % 60),
    ] {
        digits(&mut text, place, number);
    }
    text
}

/// Writes the last `count` digits of a number before `end`: each request writes a date, and the
/// formatter pads by detours.
fn digits(text: &mut [u8; LENGTH], (end, count): (usize, usize), number: u64) {
    let mut left = number;
    for place in text.iter_mut().take(end).rev().take(count) {
        *place = b'0' | u8::try_from(left % 10).unwrap_or_default();
        left /= 10;
    }
}

/// Year, month and day of the day that lies so many days after 1970-01-01, in the Gregorian
/// calendar. Counted in years that begin in March, so that the leap day comes last.
const fn date(days: u64) -> (u64, u64, u64) {
    /// Days from 0000-03-01 to 1970-01-01.
    const TO_1970: u64 = 719_468;
    /// Days in 400 years.
    const ERA: u64 = 146_097;
    // Beyond the year 9999 RFC 3339 has no form; a clock that says so is broken anyway.
    const LAST: u64 = 2_932_896;
    let days = if days > LAST { LAST } else { days } + TO_1970;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + later, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64, millis: u64) -> String {
        Timestamp(Duration::from_millis(secs * 1000 + millis)).to_string()
    }

    #[test]
    fn known_moments() {
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400, 7), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(951_868_799, 999), "2000-02-29T23:59:59.999Z");
        assert_eq!(at(1_000_000_000, 0), "2001-09-09T01:46:40.000Z");
        assert_eq!(at(1_709_164_800, 0), "2024-02-29T00:00:00.000Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
        assert_eq!(
            at(u64::MAX / 1000, 0).len(),
            "9999-12-31T00:00:00.000Z".len()
        );
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..200_000 {
            assert_eq!(date(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
