//! A slice that several threads write into at once, each its own part.

use std::marker::PhantomData;

/// A mutable slice, lent to all threads of one piece of work.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    lent: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for a `&mut [T]`, which may go to another thread where `T` may; that no two
// threads touch the same part is the condition of `part`.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            lent: PhantomData,
        }
    }

    /// `len` values from `from`. Panics where they are not all inside.
    ///
    /// # Safety
    /// Nobody else holds any of them at the same time.
    pub unsafe fn part(self, from: usize, len: usize) -> &'a mut [T] {
        assert!(
            from <= self.len && len <= self.len - from,
            "a part beyond the slice"
        );
        // SAFETY: inside the slice that `new` borrowed for `'a`, and nobody else's by the caller's
        // promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }
}
