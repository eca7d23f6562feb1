use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ptr::{self, NonNull},
};

pub struct ThreadCache;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Class(usize);

impl Class {
    #[inline]
    fn of(layout: Layout) -> Option<Self> {
        let size = layout.size();
        if layout.align() > ALIGN || size > LARGEST || size == 0 {
            return None;
        }
        if size <= FINE {
            return Some(Self((size - 1) / ALIGN));
        }
        let last = size - 1;
        let doubling = last.ilog2() as usize; // >= 10
        let quarter = (last >> (doubling - 2)) & 3;
        Some(Self(FINE / ALIGN + (doubling - FINE.ilog2() as usize) * 4 + quarter))
    }

    #[inline]
    const fn size(self) -> usize {
        if self.0 < FINE / ALIGN {
            return (self.0 + 1) * ALIGN;
        }
        let coarse = self.0 - FINE / ALIGN;
        (5 + coarse % 4) << (FINE.ilog2() as usize + coarse / 4 - 2)
    }

    #[inline]
    fn layout(self) -> Layout {
        unsafe { Layout::from_size_align_unchecked(self.size(), ALIGN) }
    }
}

const ALIGN: usize = 16;
const FINE: usize = 1024;
const LARGEST: usize = 128 * 1024;
const CLASSES: usize = FINE / ALIGN + (LARGEST.ilog2() - FINE.ilog2()) as usize * 4;

struct Block {
    next: Option<NonNull<Block>>,
}

struct Cache {
    on: Cell<bool>,
    first: [Cell<Option<NonNull<Block>>>; CLASSES],
    room: [Cell<u16>; CLASSES],
}

const fn room(class: usize) -> u16 {
    let size = Class(class).size();
    let kept = if size <= FINE { 16 * 1024 / size } else { 96 * 1024 / size };
    if kept < 2 { 2 } else { kept as u16 }
}

thread_local! {
    static CACHE: Cache = const {
        let mut room_ = [const { Cell::new(0) }; CLASSES];
        let mut class = 0;
        while class < CLASSES {
            room_[class] = Cell::new(room(class));
            class += 1;
        }
        Cache { on: Cell::new(false), first: [const { Cell::new(None) }; CLASSES], room: room_ }
    };
}

pub fn cache_here() {
    CACHE.with(|cache| cache.on.set(true));
}

impl Cache {
    #[inline]
    fn take(&self, class: Class) -> Option<NonNull<u8>> {
        let block = self.first[class.0].get()?;
        self.first[class.0].set(unsafe { block.as_ref() }.next);
        let room = &self.room[class.0];
        room.set(room.get() + 1);
        Some(block.cast())
    }

    #[inline]
    fn put(&self, class: Class, block: NonNull<u8>) -> bool {
        let (first, room) = (&self.first[class.0], &self.room[class.0]);
        let left = room.get();
        if left == 0 || !self.on.get() {
            return false;
        }
        let block = block.cast::<Block>();
        unsafe { block.write(Block { next: first.get() }) };
        first.set(Some(block));
        room.set(left - 1);
        true
    }
}

unsafe impl GlobalAlloc for ThreadCache {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Class::of(layout) else { return unsafe { System.alloc(layout) } };
        match CACHE.with(|cache| cache.take(class)) {
            Some(block) => block.as_ptr(),
            None => unsafe { System.alloc(class.layout()) },
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = Class::of(layout) else { return unsafe { System.dealloc(block, layout) } };
        if !CACHE.with(|cache| cache.put(class, unsafe { NonNull::new_unchecked(block) })) {
            unsafe { System.dealloc(block, class.layout()) }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if Class::of(layout).is_none() {
            return unsafe { System.alloc_zeroed(layout) };
        }
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (Class::of(layout), Class::of(new)) {
            (Some(old), Some(new)) if old == new => block,
            (None, None) => unsafe { System.realloc(block, layout, size) },
            _ => unsafe {
                let moved = self.alloc(new);
                if !moved.is_null() {
                    ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}
