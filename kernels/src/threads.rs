//! Work shared out to threads: those that libtorch works with, so that the two never wait for each
//! other's.
//!
//! libtorch's threads on Linux are those of GCC's OpenMP. `GOMP_parallel` is what a compiler calls for
//! `#pragma omp parallel`; looked up in the program as it runs, it is the one that libtorch uses, and
//! its threads are the same. Where it is not there, threads are started for the piece of work.

use std::any::Any;
use std::ffi::{c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// How many threads work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(usize);

/// `void GOMP_parallel(void (*work)(void *), void *data, unsigned threads, unsigned flags)`: every
/// thread calls `work(data)`; returns when all have.
type GompParallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

impl Threads {
    /// At least one.
    pub fn new(count: usize) -> Self {
        Self(count.max(1))
    }

    pub fn count(self) -> usize {
        self.0
    }

    /// Calls `work` with every number below `tasks`, on all threads; who is done takes the next.
    pub(crate) fn for_each(self, tasks: usize, work: impl Fn(usize) + Sync) {
        let threads = self.0.min(tasks);
        if threads <= 1 {
            (0..tasks).for_each(work);
            return;
        }
        let next = AtomicUsize::new(0);
        on_all(threads, &|| {
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    return;
                }
                work(task);
            }
        });
    }
}

/// Calls `work` once on each thread. A panic of one of them goes on here when all are done.
fn on_all(threads: usize, work: &(dyn Fn() + Sync)) {
    let team = Team {
        work,
        panic: Mutex::new(None),
    };
    match gomp_parallel() {
        Some(parallel) => {
            let count = c_uint::try_from(threads).unwrap_or(1);
            // SAFETY: the function has the signature that GCC's OpenMP has had since version 4.9.
            // `run` reads the team only, which is `Sync` and lives until the call returns, when no
            // thread works on it any more; `run` does not unwind.
            unsafe { parallel(run, (&raw const team).cast_mut().cast(), count, 0) };
        }
        None => std::thread::scope(|scope| {
            for _ in 1..threads {
                // Where no thread can be started, the others do its work.
                let _ = std::thread::Builder::new()
                    .name("arithmetic".to_owned())
                    .spawn_scoped(scope, || team.run());
            }
            team.run();
        }),
    }
    if let Some(panic) = team
        .panic
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
    {
        resume_unwind(panic);
    }
}

/// What the threads do, and the first panic among them.
struct Team<'a> {
    work: &'a (dyn Fn() + Sync),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Team<'_> {
    fn run(&self) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(self.work)) {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }
}

extern "C" fn run(team: *mut c_void) {
    // SAFETY: `on_all` hands over its own team, shared by all threads and changed by none.
    let team = unsafe { &*team.cast::<Team<'_>>() };
    team.run();
}

/// The function, if the program has it loaded.
#[cfg(unix)]
fn gomp_parallel() -> Option<GompParallel> {
    static FOUND: OnceLock<Option<GompParallel>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let program = libloading::os::unix::Library::this();
        // SAFETY: the name has one meaning, GCC's, and the type is that of its declaration. The
        // library is one that the program is linked with and is never closed.
        unsafe { program.get::<GompParallel>(b"GOMP_parallel\0") }
            .ok()
            .map(|symbol| *symbol)
    })
}

#[cfg(not(unix))]
fn gomp_parallel() -> Option<GompParallel> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_done_once_whatever_the_threads() {
        for threads in [0, 1, 2, 7] {
            let done: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
            Threads::new(threads).for_each(done.len(), |task| {
                done[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn a_panic_of_one_thread_reaches_the_caller() {
        let broken = || Threads::new(2).for_each(8, |task| assert!(task != 5, "task five"));
        let panic = catch_unwind(broken).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"task five"));
    }
}
