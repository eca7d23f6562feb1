//! An allocator that keeps freed blocks for the thread that freed them, in front of the system's.
//!
//! Invariants, of which every `unsafe` below speaks:
//!
//! 1. A layout's class depends on nothing but the layout, so that a block is freed into the class
//!    that it was allocated from.
//! 2. A block of a class was allocated by the system with the *class's* layout, not with that of the request.
//!    So it suits every layout of the class, and the system takes it back with that layout.
//! 3. A kept block is not in use: it is in exactly one list of exactly one thread, and its first bytes
//!    are the list's.
//! 4. Nothing in here allocates, and nothing runs when a thread ends: what an ended thread kept is
//!    lost. So only threads that opt in keep blocks.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ptr::NonNull,
};

use crate::class::Class;

/// The system's allocator, with a cache for each thread that called [`cache_here`].
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: memory::ThreadCache = memory::ThreadCache;
///
/// std::thread::spawn(|| {
///     memory::cache_here();
///     drop(vec![0; 100]);
///     // Takes the same block, without a lock.
///     drop(vec![0; 100]);
/// });
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadCache;

/// From now on this thread keeps blocks that it frees, 3 MiB of them at the most.
///
/// For threads that live as long as the process: what is kept is lost when the thread ends. Without
/// [`ThreadCache`] as the global allocator this has no effect.
pub fn cache_here() {
    CACHE.with(|cache| cache.on.set(true));
}

// SAFETY: what is handed out is the system's, or was kept (invariants 2 and 3); nothing panics.
unsafe impl GlobalAlloc for ThreadCache {
    // Not inlined: there are thousands of places that allocate, and few megabytes to stay in.
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Class::of(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        };
        match CACHE.with(|cache| cache.take(class)) {
            Some(block) => block.as_ptr(),
            // SAFETY: no class has a size of zero.
            None => unsafe { System.alloc(class.layout()) },
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = Class::of(layout) else {
            // SAFETY: the caller's promise; by invariant 1 the system allocated it with this layout.
            return unsafe { System.dealloc(block, layout) };
        };
        // SAFETY: the caller gives up a block of this class (invariant 1).
        let kept =
            NonNull::new(block).is_some_and(|block| CACHE.with(|cache| unsafe { cache.put(class, block) }));
        if !kept {
            // SAFETY: invariant 2.
            unsafe { System.dealloc(block, class.layout()) }
        }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // Fresh pages are zero: the system leaves them untouched, and so they take no memory yet.
        let Some(class) = Class::of(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let Some(block) = CACHE.with(|cache| cache.take(class)) else {
            // SAFETY: no class has a size of zero.
            return unsafe { System.alloc_zeroed(class.layout()) };
        };
        // SAFETY: it has that many bytes, and is the caller's alone.
        unsafe { block.write_bytes(0, layout.size()) };
        block.as_ptr()
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size, rounded up, does not overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (Class::of(layout), Class::of(wanted)) {
            (Some(has), Some(wants)) if has == wants => block,
            // SAFETY: the caller's promise; the system allocated it with this layout.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            _ => {
                // SAFETY: the caller's promise.
                let moved = unsafe { self.alloc(wanted) };
                if !moved.is_null() {
                    // SAFETY: both have that many bytes, one of them is new, and the caller gives up the other.
                    unsafe {
                        moved.copy_from_nonoverlapping(block, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                }
                moved
            }
        }
    }
}

/// What one thread keeps.
struct Cache {
    on: Cell<bool>,
    first: [Cell<Option<NonNull<Kept>>>; Class::COUNT],
    room: [Cell<u16>; Class::COUNT],
    coarse_room: Cell<usize>,
}

/// The beginning of a kept block.
struct Kept {
    next: Option<NonNull<Kept>>,
}

impl Cache {
    const fn new() -> Self {
        let mut room = [const { Cell::new(0) }; Class::COUNT];
        let mut class = 0;
        while class < Class::COUNT {
            room[class] = Cell::new(most(Class::nth(class)));
            class += 1;
        }
        let coarse_room = Cell::new(KEPT_COARSE_IN_ALL);
        Self { on: Cell::new(false), first: [const { Cell::new(None) }; Class::COUNT], room, coarse_room }
    }

    fn take(&self, class: Class) -> Option<NonNull<u8>> {
        let block = self.first[class.number()].get()?;
        // SAFETY: it is in the list, so nobody else's (invariant 3), and was written by `put`.
        let next = unsafe { block.read() }.next;
        self.first[class.number()].set(next);
        self.room[class.number()].update(|room| room + 1);
        if next.is_some() {
            self.coarse_room.update(|room| room + coarse(class));
        }
        Some(block.cast())
    }

    /// False, and the block untouched, when there is no room for it.
    ///
    /// # Safety
    ///
    /// The block is of that class, and is no longer in use.
    unsafe fn put(&self, class: Class, block: NonNull<u8>) -> bool {
        let (first, room) = (&self.first[class.number()], &self.room[class.number()]);
        // The first of each class has its place whatever the others take.
        let taken = first.get().map_or(0, |_| coarse(class));
        if room.get() == 0 || self.coarse_room.get() < taken || !self.on.get() {
            return false;
        }
        let kept = block.cast();
        const { assert!(Class::nth(0).size() >= size_of::<Kept>()) };
        // SAFETY: no class is smaller than a `Kept` or less aligned, and the block is the list's now.
        unsafe { kept.write(Kept { next: first.get() }) };
        first.set(Some(kept));
        room.update(|room| room - 1);
        self.coarse_room.update(|room| room - taken);
        true
    }
}

/// How many blocks of a class a thread keeps; at most 1,024.
const fn most(class: Class) -> u16 {
    let bytes = if class.is_fine() { KEPT_FINE } else { KEPT_COARSE };
    (bytes / class.size()) as u16
}

/// What a block takes of the budget for large ones.
const fn coarse(class: Class) -> usize {
    if class.is_fine() { 0 } else { class.size() }
}

thread_local! {
    // Made at compile time and without `Drop`: neither the first use nor the thread's end runs code.
    static CACHE: Cache = const { Cache::new() };
}

/// Kept of each size up to 1 KiB: what some dozen requests at once take.
const KEPT_FINE: usize = 16 * 1024;

/// Kept of each larger size at the most: what a fast download has in hand, four of the largest blocks.
const KEPT_COARSE: usize = 512 * 1024;

/// Kept of all larger sizes together, beside the first block of each.
const KEPT_COARSE_IN_ALL: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 1).unwrap()
    }

    // Miri takes a thousand times as long.
    const LONGEST: u32 = if cfg!(miri) { 12 } else { 17 };
    const ACTS: usize = if cfg!(miri) { 30 } else { 300 };

    /// As the global allocator would be used.
    struct Owned(*mut u8, usize);

    impl Owned {
        fn new(size: usize) -> Self {
            // SAFETY: no test asks for nothing.
            Self(unsafe { ThreadCache.alloc(layout(size)) }, size)
        }

        fn resize(&mut self, size: usize) {
            // SAFETY: allocated with that layout.
            self.0 = unsafe { ThreadCache.realloc(self.0, layout(self.1), size) };
            self.1 = size;
        }

        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: it has that many, and they are written before they are read.
            unsafe { std::slice::from_raw_parts_mut(self.0, self.1) }
        }
    }

    impl Drop for Owned {
        fn drop(&mut self) {
            // SAFETY: allocated with that layout.
            unsafe { ThreadCache.dealloc(self.0, layout(self.1)) }
        }
    }

    /// On a thread of its own, which keeps blocks.
    fn caching<T: Send>(test: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let test = scope.spawn(|| {
                cache_here();
                let outcome = test();
                release();
                outcome
            });
            test.join().unwrap()
        })
    }

    fn kept(class: Class) -> u16 {
        CACHE.with(|cache| most(class) - cache.room[class.number()].get())
    }

    /// Gives the thread's blocks back, so that no test leaks.
    fn release() {
        for class in (0..Class::COUNT).map(Class::nth) {
            while let Some(block) = CACHE.with(|cache| cache.take(class)) {
                // SAFETY: invariant 2.
                unsafe { System.dealloc(block.as_ptr(), class.layout()) };
            }
            assert_eq!(kept(class), 0);
        }
        assert_eq!(CACHE.with(|cache| cache.coarse_room.get()), KEPT_COARSE_IN_ALL);
    }

    #[test]
    fn a_thread_keeps_no_more_than_is_said() {
        caching(|| {
            // Most of all that could be kept, so that every limit is met.
            for class in (0..Class::COUNT).map(Class::nth) {
                let size = class.size();
                let blocks = usize::from(most(class)) + 3;
                drop((0..blocks).map(|_| Owned::new(size)).collect::<Vec<_>>());
                assert!(kept(class) > 0, "{size}: a large one has its place whatever the others take");
                assert!(!class.is_fine() || kept(class) == most(class), "{size}");
            }
            let bytes = |class: Class| usize::from(kept(class)) * class.size();
            let (fine, coarse): (Vec<_>, Vec<_>) =
                (0..Class::COUNT).map(Class::nth).partition(|class| class.is_fine());
            let firsts: usize = coarse.iter().map(|class| class.size()).sum();
            let fine: usize = fine.into_iter().map(bytes).sum();
            let coarse: usize = coarse.into_iter().map(bytes).sum();
            assert!(coarse <= KEPT_COARSE_IN_ALL + firsts && fine + coarse <= 3 << 20, "{fine} and {coarse}");
            assert!(coarse > KEPT_COARSE_IN_ALL, "the limit was met: {coarse}");
        });
    }

    #[test]
    fn a_freed_block_is_the_next_of_its_class_on_its_thread_and_on_no_other() {
        caching(|| {
            let block = Owned::new(100);
            let place = block.0.addr();
            drop(block);
            let other = caching(|| Owned::new(100).0.addr());
            assert_ne!(other, place);
            assert_eq!(Owned::new(112).0.addr(), place);
            assert_ne!(Owned::new(113).0.addr(), place);
        });
    }

    #[test]
    fn a_thread_that_did_not_ask_keeps_nothing() {
        std::thread::scope(|scope| {
            let kept = scope.spawn(|| {
                drop(Owned::new(100));
                kept(Class::of(layout(100)).unwrap())
            });
            assert_eq!(kept.join().unwrap(), 0);
        });
    }

    #[test]
    fn what_is_to_be_zero_is_zero_though_it_was_used() {
        caching(|| {
            for size in [1, 500, 5000, 128 << 10, 129 << 10] {
                Owned::new(size).bytes().fill(0xff);
                // SAFETY: not nothing.
                let mut block = Owned(unsafe { ThreadCache.alloc_zeroed(layout(size)) }, size);
                assert!(block.bytes().iter().all(|byte| *byte == 0), "{size}");
            }
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 100 }))]

        /// Each block is filled with a byte of its own: one that was handed out twice would show.
        #[test]
        fn blocks_never_overlap_and_keep_what_they_hold_when_they_grow_or_shrink(
            acts in proptest::collection::vec((0..3_u8, 0..20_usize, 0..LONGEST, any::<u32>()), 1..ACTS),
        ) {
            caching(|| {
                let mut blocks: Vec<(u8, Owned)> = Vec::new();
                for (n, (act, which, magnitude, random)) in acts.into_iter().enumerate() {
                    let size = (random as usize % (1 << magnitude)) + (1 << magnitude);
                    let at = which % blocks.len().max(1);
                    match (act, blocks.is_empty()) {
                        (0, _) | (_, true) => {
                            let mark = n as u8;
                            let mut block = Owned::new(size);
                            block.bytes().fill(mark);
                            blocks.push((mark, block));
                        }
                        (1, _) => drop(blocks.swap_remove(at)),
                        _ => {
                            let (mark, block) = &mut blocks[at];
                            let before = block.1;
                            block.resize(size);
                            assert!(block.bytes()[..before.min(size)].iter().all(|byte| byte == mark));
                            block.bytes().fill(*mark);
                        }
                    }
                    for (mark, block) in &mut blocks {
                        assert!(block.bytes().iter().all(|byte| byte == mark));
                    }
                }
            });
        }
    }
}
