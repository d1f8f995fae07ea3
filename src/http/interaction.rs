//! Interaction ids of our own making: unique, not secret.

use std::cell::RefCell;

use crate::pdp::InteractionId;

const BLOCK: usize = 4096;

thread_local! {
    /// Random bytes of this thread, made a block at a time: one id takes sixteen of them.
    static RANDOM: RefCell<(usize, [u8; BLOCK])> = const { RefCell::new((BLOCK, [0; BLOCK])) };
}

/// A version 4 UUID that nobody had before.
#[must_use]
pub fn fresh() -> InteractionId {
    RANDOM.with_borrow_mut(|(used, block)| {
        let mut taken = block
            .get(*used..)
            .and_then(|rest| rest.first_chunk::<16>())
            .copied();
        if taken.is_none() {
            // Should the system have no randomness, ids repeat within a block's time; that is no
            // reason to refuse a request.
            aws_lc_rs::rand::fill(block).unwrap_or_default();
            *used = 0;
            taken = block.first_chunk::<16>().copied();
        }
        *used = used.saturating_add(16);
        InteractionId::from_random(taken.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_uuids_and_never_repeat() {
        // FAPIH-05
        let ids: HashSet<String> = (0..2000).map(|_| fresh().as_str().to_owned()).collect();
        assert_eq!(ids.len(), 2000);
        for id in ids {
            assert!(InteractionId::parse(id.as_bytes()).is_some());
            assert_eq!(id.as_bytes()[14], b'4');
            assert!(b"89ab".contains(&id.as_bytes()[19]));
        }
    }
}
