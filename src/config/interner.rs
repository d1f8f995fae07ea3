//! Numbers of issuers that outlast reloads.

use super::files::Digest;
use crate::pdp::IssuerId;

/// Numbers of issuers over the life of the process. An issuer keeps its number as long as nothing
/// about it changes, the content of its files included; a changed one gets a number that was never
/// used, so that nothing remembered under the old settings can be found under the new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interner {
    known: Vec<(Digest, IssuerId)>,
    next: u32,
}

impl Interner {
    /// The number of these settings, and the next interner that has it.
    pub(super) fn number(&self, settings: Digest, next: &mut Self) -> IssuerId {
        let known = self.known.iter().find(|(known, _)| *known == settings);
        let id = known.map_or(IssuerId(next.next), |(_, id)| *id);
        if known.is_none() {
            next.next = next.next.saturating_add(1);
        }
        next.known.push((settings, id));
        id
    }

    /// An interner that has no number yet, and gives none that was ever used.
    pub(super) const fn successor(&self) -> Self {
        Self {
            known: Vec::new(),
            next: self.next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_keeps_its_number_until_it_changes() {
        let start = Interner::default();
        let mut first = start.successor();
        let a = start.number([1; 32], &mut first);
        let b = start.number([2; 32], &mut first);
        assert_ne!(a, b);
        let mut second = first.successor();
        let c = first.number([3; 32], &mut second);
        assert_eq!(first.number([2; 32], &mut second), b);
        assert!(c != a && c != b);
        // Gone once, a number never comes back: what was remembered under it may be stale.
        let mut third = second.successor();
        let again = second.number([1; 32], &mut third);
        assert!(again != a && again != b && again != c);
    }
}
