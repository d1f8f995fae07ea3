//! In which order a request tries the servers of its upstream.

/// Servers that one request looks at, at most; the round's start moves, so each gets its turn.
const WINDOW: usize = 128;

/// The order of one request: round robin, those that are well first, each once.
#[derive(Debug)]
pub(super) struct Order {
    start: usize,
    tried: u128,
}

impl Order {
    /// Begins at this place of the round.
    pub(super) const fn new(start: usize) -> Self {
        Self { start, tried: 0 }
    }

    /// The next of `count` servers to try; `None` once all were. Where none is `well`, the others
    /// are tried: a wrong guess about health must not be an outage, and a server whose connections
    /// are all in use may have one again.
    pub(super) fn next(&mut self, count: usize, well: impl Fn(usize) -> bool) -> Option<usize> {
        let mut reserve = None;
        for step in 0..count.min(WINDOW) {
            if self.tried & (1 << step) != 0 {
                continue;
            }
            let index = self.start.wrapping_add(step).checked_rem(count)?;
            if well(index) {
                self.tried |= 1 << step;
                return Some(index);
            }
            reserve = reserve.or(Some((step, index)));
        }
        let (step, index) = reserve?;
        self.tried |= 1 << step;
        Some(index)
    }
}
