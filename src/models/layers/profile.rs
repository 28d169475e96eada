//! Where the time of a drawing goes, by kind of layer: `easel generate --profile`.
//!
//! Off, a layer pays for one look at a flag of its thread. On, each kind's own time is summed up: what
//! another measured layer inside it took is not counted twice.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The network, and the kind of layer in it; no kind: between its layers.
type Key = (&'static str, Option<&'static str>);

/// Calls, and the time in them, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    pub calls: u64,
    pub secs: f64,
}

#[derive(Default)]
struct Profile {
    spent: BTreeMap<Key, Spent>,
    part: &'static str,
    /// What measured work inside the one that runs has taken.
    inside: Duration,
}

thread_local! {
    static PROFILE: RefCell<Option<Profile>> = const { RefCell::new(None) };
}

/// Begins to measure on this thread.
pub fn start() {
    PROFILE.set(Some(Profile::default()));
}

/// Ends it and hands over what was measured, the dearest first.
pub fn finish() -> Vec<(Key, Spent)> {
    let profile = PROFILE.take().unwrap_or_default();
    let mut spent: Vec<_> = profile.spent.into_iter().collect();
    spent.sort_by(|(_, a), (_, b)| b.secs.total_cmp(&a.secs));
    spent
}

/// Does `work` as a network of this name.
pub fn part<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    let swap = |name| {
        PROFILE.with_borrow_mut(|it| it.as_mut().map(|it| std::mem::replace(&mut it.part, name)))
    };
    let Some(outer) = swap(name) else {
        return work();
    };
    let done = measured(None, work);
    swap(outer);
    done
}

/// Does `work` as a layer of this kind.
pub fn layer<T>(kind: &'static str, work: impl FnOnce() -> T) -> T {
    measured(Some(kind), work)
}

fn measured<T>(kind: Option<&'static str>, work: impl FnOnce() -> T) -> T {
    let outer = PROFILE.with_borrow_mut(|it| it.as_mut().map(|it| std::mem::take(&mut it.inside)));
    let Some(outer) = outer else {
        return work();
    };
    let started = Instant::now();
    let done = work();
    if tch::Cuda::is_available() {
        tch::Cuda::synchronize(0);
    }
    let took = started.elapsed();
    PROFILE.with_borrow_mut(|it| {
        if let Some(it) = it {
            let spent = it.spent.entry((it.part, kind)).or_default();
            spent.calls += 1;
            spent.secs += took.saturating_sub(it.inside).as_secs_f64();
            it.inside = outer + took;
        }
    });
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(spent: &[(Key, Spent)], key: Key) -> Option<u64> {
        let found = spent.iter().find(|(known, _)| *known == key)?;
        Some(found.1.calls)
    }

    #[test]
    fn each_kind_counts_for_the_network_that_it_is_in_and_only_its_own_time() {
        assert_eq!(layer("linear", || 3), 3);
        start();
        let whole = Instant::now();
        part("UNet", || {
            layer("linear", || ());
            part("adapter", || layer("linear", || layer("norm", || ())));
            layer("linear", || ());
        });
        let whole = whole.elapsed().as_secs_f64();
        let spent = finish();
        assert_eq!(calls(&spent, ("UNet", Some("linear"))), Some(2));
        assert_eq!(calls(&spent, ("UNet", None)), Some(1));
        assert_eq!(calls(&spent, ("adapter", Some("norm"))), Some(1));
        let sum: f64 = spent.iter().map(|(_, spent)| spent.secs).sum();
        assert!(sum > 0.0 && sum <= whole, "{sum} of {whole}");
        assert!(finish().is_empty());
    }
}
