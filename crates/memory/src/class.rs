//! Sizes that share blocks: in steps of 16 bytes up to 1 KiB, then in four steps for each doubling,
//! up to 128 KiB.

use std::alloc::Layout;

/// A range of sizes, and the one layout with which its blocks are allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(usize);

impl Class {
    /// How many there are.
    pub(crate) const COUNT: usize = FINE_CLASSES + (LARGEST.ilog2() - FINE.ilog2()) as usize * 4;

    /// `None`: too large, or with more alignment than any allocator's blocks have.
    pub(crate) fn of(layout: Layout) -> Option<Self> {
        if layout.size() > LARGEST || layout.align() > ALIGN {
            return None;
        }
        let last = layout.size().checked_sub(1)?;
        if last < FINE {
            return Some(Self(last / ALIGN));
        }
        let doubling = last.ilog2();
        let quarter = last >> (doubling - 2) & 3;
        Some(Self(FINE_CLASSES + (doubling - FINE.ilog2()) as usize * 4 + quarter))
    }

    /// The `n`th, from the smallest.
    pub(crate) const fn nth(n: usize) -> Self {
        Self(n)
    }

    /// Which one it is, from the smallest.
    pub(crate) const fn number(self) -> usize {
        self.0
    }

    /// Whether it is one of those in steps of 16 bytes.
    pub(crate) const fn is_fine(self) -> bool {
        self.0 < FINE_CLASSES
    }

    /// The largest size in it.
    pub(crate) const fn size(self) -> usize {
        if self.is_fine() {
            return (self.0 + 1) * ALIGN;
        }
        let coarse = self.0 - FINE_CLASSES;
        (5 + coarse % 4) << (coarse / 4 + FINE.ilog2() as usize - 2)
    }

    /// The layout of all of its blocks.
    pub(crate) fn layout(self) -> Layout {
        // SAFETY: a power of two, and a size far from overflow.
        unsafe { Layout::from_size_align_unchecked(self.size(), ALIGN) }
    }
}

/// What every allocator's blocks are aligned to on 64-bit machines, and so the finest step.
const ALIGN: usize = 16;

/// Steps of 16 bytes up to here: heads, tasks, futures.
const FINE: usize = 1024;

/// Buffers are mostly smaller; what is larger is the kernel's work in any case.
const LARGEST: usize = 128 * 1024;

const FINE_CLASSES: usize = FINE / ALIGN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "arithmetic on 131,072 sizes: nothing for Miri to find")]
    fn every_size_has_the_smallest_class_that_holds_it() {
        let layout = |size| Layout::from_size_align(size, 1).unwrap();
        let mut before = None;
        for size in 1..=LARGEST {
            let class = Class::of(layout(size)).unwrap();
            assert!(class.0 < Class::COUNT && class.size() >= size, "{size}: {class:?}");
            assert!(class.0 == 0 || Class(class.0 - 1).size() < size, "{size}: {class:?}");
            assert!(class.size() <= size.next_multiple_of(ALIGN).max(size + size / 4), "{size}: {class:?}");
            assert!(before.is_none_or(|before| class == before || class.0 == before.0 + 1), "{size}");
            before = Some(class);
        }
        assert_eq!(before, Some(Class(Class::COUNT - 1)));
        assert_eq!(Class::of(layout(0)), None);
        assert_eq!(Class::of(layout(LARGEST + 1)), None);
        assert_eq!(Class::of(Layout::from_size_align(64, 32).unwrap()), None);
    }
}
