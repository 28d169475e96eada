//! What the drawing thread leaves to others: where a window lies beside it, the window comes first.
//!
//! Drawing keeps every core busy. The window's thread, and those that paint where there is no graphics
//! card, need a moment only, but soon after a key: at the same priority they wait for each other's turns
//! (`peer smooth` in `benches/`).

/// Of the drawing thread, and of those that it starts (libtorch's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    Usual,
    /// On Linux; elsewhere as usual. Alone, it draws as fast; beside any busy program it waits for that too.
    BelowWindow,
}

impl Priority {
    /// Gives it to the thread that calls.
    pub(super) fn take(self) {
        match self {
            Self::Usual => {}
            Self::BelowWindow => lower(),
        }
    }
}

#[cfg(target_os = "linux")]
fn lower() {
    /// A tenth of the processor where others want all of it. The half of that, 5, leaves a third.
    const NICER: libc::c_int = 10;
    // SAFETY: takes a number; on Linux it concerns the calling thread alone.
    if unsafe { libc::nice(NICER) } == -1 {
        log::debug!(
            "drawing keeps its priority: {}",
            std::io::Error::last_os_error()
        );
    }
}

#[cfg(not(target_os = "linux"))]
fn lower() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Of a thread, by Linux's account; the nineteenth field.
    fn niceness() -> Option<i32> {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        after_name.split_whitespace().nth(16)?.parse().ok()
    }

    #[test]
    fn a_thread_below_the_window_and_what_it_starts_wait_for_the_others() {
        let before = niceness();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                Priority::Usual.take();
                assert_eq!(niceness(), before);
                Priority::BelowWindow.take();
                let lower = niceness();
                assert!(lower > before || before == Some(19), "{lower:?}");
                scope.spawn(move || assert_eq!(niceness(), lower));
            });
        });
        assert_eq!(niceness(), before);
    }
}
