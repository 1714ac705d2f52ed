//! Counts what the calling thread allocates, so that a micro bench can say "none".

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted.
pub struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Allocations of this thread so far (growing counts, freeing does not).
pub fn so_far() -> u64 {
    COUNT.with(Cell::get)
}

fn count() {
    // A thread that is ending has no cell any more, and nobody asks for its count.
    let _ = COUNT.try_with(|c| c.set(c.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_this_threads_allocations_only() {
        let before = super::so_far();
        let v = std::hint::black_box(vec![1u8; 100]);
        std::thread::spawn(|| std::hint::black_box(vec![1u8; 100]))
            .join()
            .expect("ends");
        let own = super::so_far() - before;
        assert!(own >= 1, "{own}");
        let before = super::so_far();
        std::hint::black_box(v.iter().map(|&b| u64::from(b)).sum::<u64>());
        assert_eq!(super::so_far(), before);
    }
}
