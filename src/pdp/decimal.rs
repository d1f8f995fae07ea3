//! Amounts as they are written: compared digit by digit, never through floating point.

use std::cmp::Ordering;

/// Most digits of an amount: beyond any sum of money, and within what a text comparison costs
/// nothing to do.
const DIGITS: usize = 40;

/// A number that is not negative, without exponent: `100`, `100.0` and `100.00` are one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// Without leading zeros: empty for zero.
    whole: Box<str>,
    /// Without zeros at the end.
    fraction: Box<str>,
}

impl Decimal {
    /// Reads digits, and perhaps a point and more digits. A sign, an exponent, a blank, a zero in
    /// front or a point without a digit on both sides is read by some as one number and by others
    /// as another or as none, and so is no amount here.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return None,
            Some((whole, fraction)) => (whole, fraction),
            None => (text, ""),
        };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() > DIGITS || !digits(whole) || !digits(fraction) {
            return None;
        }
        let whole = match whole {
            "" => return None,
            "0" => "",
            _ if whole.starts_with('0') => return None,
            _ => whole,
        };
        Some(Self {
            whole: whole.into(),
            fraction: fraction.trim_end_matches('0').into(),
        })
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let length = self.whole.len().cmp(&other.whole.len());
        length
            .then_with(|| self.whole.cmp(&other.whole))
            // Without zeros at the end, the order of the texts is that of the fractions.
            .then_with(|| self.fraction.cmp(&other.fraction))
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text} is an amount"))
    }

    #[test]
    fn one_amount_however_it_is_written() {
        // AUTHZ-10
        assert_eq!(read("100"), read("100.00"));
        assert_eq!(read("0"), read("0.00"));
        assert_ne!(read("100.01"), read("100.0"));
        assert_ne!(read("100.1"), read("100.01"));
        assert_ne!(
            read("100.00000000000000000000000001"),
            read("100"),
            "no floating point"
        );
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_none() {
        for text in [
            "", ".", "1.", ".5", "+1", "-1", "01", "00", "1e2", "1E2", "1 ", " 1", "1,00", "1.0.0",
            "0x10", "Infinity", "NaN", "1_000", "\u{0661}",
        ] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        assert_eq!(Decimal::parse(&"9".repeat(DIGITS + 1)), None);
        assert!(Decimal::parse(&"9".repeat(DIGITS)).is_some());
    }

    #[test]
    fn amounts_have_an_order() {
        let rising = [
            "0", "0.01", "0.1", "0.11", "1", "9.99", "10", "10.01", "100",
        ];
        for pair in rising.windows(2) {
            assert!(read(pair[0]) < read(pair[1]), "{pair:?}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_whole_cents(a in 0_u64..10_000_000, b in 0_u64..10_000_000) {
            let written = |cents: u64| format!("{}.{:02}", cents / 100, cents % 100);
            prop_assert_eq!(read(&written(a)).cmp(&read(&written(b))), a.cmp(&b));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text: String) {
            drop(Decimal::parse(&text));
        }
    }
}
