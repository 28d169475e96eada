//! Weights that were made what a network computes in, kept for as long as several calls of it follow each
//! other: a text encoder's while a picture's prompts are encoded.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use tch::Tensor;

/// Tells a layer's weight from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WeightId(u64);

impl WeightId {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

struct Kept {
    /// Bytes.
    room: usize,
    weights: HashMap<WeightId, Tensor>,
}

thread_local! {
    static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

/// While it lives, this thread's layers convert a weight once, as far as there is room.
#[must_use = "it lasts as long as it is held"]
pub struct KeepConverted(());

impl KeepConverted {
    /// `room`: in bytes.
    pub fn within(room: usize) -> Self {
        let weights = HashMap::new();
        KEPT.set(Some(Kept { room, weights }));
        Self(())
    }
}

impl Drop for KeepConverted {
    fn drop(&mut self) {
        KEPT.set(None);
    }
}

/// The weight that `convert` makes, or made before and is kept.
pub(super) fn converted(id: WeightId, bytes: usize, convert: impl FnOnce() -> Tensor) -> Tensor {
    let find = |kept: &Kept| kept.weights.get(&id).map(Tensor::shallow_clone);
    if let Some(known) = KEPT.with_borrow(|kept| kept.as_ref().and_then(find)) {
        return known;
    }
    let weight = convert();
    KEPT.with_borrow_mut(|kept| {
        if let Some(kept) = kept
            && let Some(left) = kept.room.checked_sub(bytes)
        {
            kept.room = left;
            kept.weights.insert(id, weight.shallow_clone());
        }
    });
    weight
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn a_weight_is_converted_once_while_it_is_kept_and_there_is_room() {
        let [first, second] = [WeightId::new(), WeightId::new()];
        let times = |id| {
            let mut times = 0;
            for _ in 0..2 {
                let weight = converted(id, 60, || {
                    times += 1;
                    Tensor::ones([1], (Kind::Float, Device::Cpu))
                });
                assert_eq!(weight.double_value(&[0]), 1.0);
            }
            times
        };
        assert_eq!(times(first), 2);
        let keep = KeepConverted::within(100);
        assert_eq!([first, second].map(times), [1, 2]);
        drop(keep);
        assert_eq!(times(first), 2);
    }
}
