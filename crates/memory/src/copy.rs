//! memcpy(3) and memmove(3), by vectors of 16 bytes, which every x86-64 has.
//!
//! One function is both: up to 128 bytes all is read before anything is written, and longer copies
//! go in the direction in which nothing is overwritten before it was read. No memory is touched but
//! `length` bytes on either side. What a compiler could make a call to memcpy of would call itself
//! for ever: the sidecar would not survive its first line.

use std::{
    arch::{
        asm,
        x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128},
    },
    array,
};

/// Copies `length` bytes; they may overlap.
///
/// # Safety
///
/// As for memmove: so many bytes can be read at `from` and written at `to`.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: every access ends within `length`, by the bounds of its arm.
    unsafe {
        match length {
            0 => {}
            1..4 => {
                let middle = length / 2;
                let bytes = [from.read(), from.add(middle).read(), from.add(length - 1).read()];
                to.write(bytes[0]);
                to.add(middle).write(bytes[1]);
                to.add(length - 1).write(bytes[2]);
            }
            4..8 => both_words::<u32>(to, from, length),
            8..16 => both_words::<u64>(to, from, length),
            16..=32 => both_ends::<1>(to, from, length),
            33..=64 => both_ends::<2>(to, from, length),
            65..=128 => both_ends::<4>(to, from, length),
            // Where `to` is below `from` the difference wraps, and is large.
            _ if to.addr().wrapping_sub(from.addr()) < length => backward(to, from, length),
            _ if length < LONG => forward(to, from, length),
            // From here on what it takes to begin does not count, and it moves whole cache lines.
            _ => asm!(
                "rep movsb",
                inout("rcx") length => _,
                inout("rdi") to => _,
                inout("rsi") from => _,
                options(nostack, preserves_flags),
            ),
        }
    }
}

/// The first and the last `T`, which may share bytes.
///
/// # Safety
///
/// As for [`copy`], and `length` is from one to two `T`.
#[inline(always)]
unsafe fn both_words<T>(to: *mut u8, from: *const u8, length: usize) {
    let last = length - size_of::<T>();
    // SAFETY: by the length.
    unsafe {
        let (first, second) =
            (from.cast::<T>().read_unaligned(), from.add(last).cast::<T>().read_unaligned());
        to.cast::<T>().write_unaligned(first);
        to.add(last).cast::<T>().write_unaligned(second);
    }
}

/// The first and the last `N` vectors, which may share bytes.
///
/// # Safety
///
/// As for [`copy`], and `length` is from `N` to twice `N` vectors.
#[inline(always)]
unsafe fn both_ends<const N: usize>(to: *mut u8, from: *const u8, length: usize) {
    let last = length - N * VECTOR;
    // SAFETY: by the length.
    unsafe {
        let ends = [load::<N>(from), load::<N>(from.add(last))];
        store(to, ends[0]);
        store(to.add(last), ends[1]);
    }
}

/// # Safety
///
/// As for [`copy`], `length` is over [`STEP`], and `to` is not above `from` and below its end.
#[inline(always)]
unsafe fn forward(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: a step begins before the last one, which was read before it could be overwritten.
    unsafe {
        let end = load::<4>(from.add(length - STEP));
        let mut at = 0;
        while at < length - STEP {
            store(to.add(at), load::<4>(from.add(at)));
            at += STEP;
        }
        store(to.add(length - STEP), end);
    }
}

/// # Safety
///
/// As for [`copy`], `length` is over [`STEP`], and `to` is not below `from`.
#[inline(always)]
unsafe fn backward(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: a step ends behind the first one, which was read before it could be overwritten.
    unsafe {
        let begin = load::<4>(from);
        let mut left = length;
        while left > STEP {
            left -= STEP;
            store(to.add(left), load::<4>(from.add(left)));
        }
        store(to, begin);
    }
}

/// # Safety
///
/// So many vectors can be read there.
#[inline(always)]
unsafe fn load<const N: usize>(from: *const u8) -> [__m128i; N] {
    // SAFETY: the caller's promise; unaligned.
    array::from_fn(|n| unsafe { _mm_loadu_si128(from.add(n * VECTOR).cast()) })
}

/// # Safety
///
/// So many vectors can be written there.
#[inline(always)]
unsafe fn store<const N: usize>(to: *mut u8, vectors: [__m128i; N]) {
    for (n, vector) in vectors.into_iter().enumerate() {
        // SAFETY: the caller's promise; unaligned.
        unsafe { _mm_storeu_si128(to.add(n * VECTOR).cast(), vector) };
    }
}

const VECTOR: usize = size_of::<__m128i>();

/// Four vectors: a cache line.
const STEP: usize = 4 * VECTOR;

/// A page; measured, anything from 2 to 8 KiB is the same.
const LONG: usize = 4096;

/// In place of musl's: the linker takes the first that it finds.
#[cfg(target_env = "musl")]
mod symbols {
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        // SAFETY: the caller's promise is the same.
        unsafe { super::copy(to, from, length) };
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        // SAFETY: the caller's promise is the same.
        unsafe { super::copy(to, from, length) };
        to
    }
}

#[cfg(test)]
mod tests {
    /// Compares with the copy of the library that the tests are linked with.
    fn check(from: usize, to: usize, length: usize) {
        let mut bytes: Vec<u8> = (0..from.max(to) + length + 16).map(|n| (n * 7 + n / 256) as u8).collect();
        let mut expected = bytes.clone();
        expected.copy_within(from..from + length, to);
        let start = bytes.as_mut_ptr();
        // SAFETY: both lie within, with room behind them that must not change.
        unsafe { super::copy(start.add(to), start.add(from).cast_const(), length) };
        assert!(bytes == expected, "{length} bytes from {from} to {to}");
    }

    #[test]
    fn every_short_length_is_copied_at_every_distance() {
        // Miri takes a thousand times as long.
        let step = if cfg!(miri) { 29 } else { 1 };
        let edges = [0, 1, 3, 4, 7, 8, 15, 16, 32, 33, 64, 65, 128, 129, 192, 300];
        for length in (0..=300).filter(|length| step == 1 || edges.contains(length)) {
            for to in (0..=700).step_by(step) {
                check(350, to, length);
            }
        }
    }

    #[test]
    fn long_ones_are_copied_up_down_and_apart() {
        // Miri has no assembler, and little time.
        let longest = if cfg!(miri) { 600 } else { 20_000 };
        for length in (301..longest).step_by(263).chain([4095, 4096, 4097]).filter(|n| *n < longest) {
            for distance in [0, 1, 15, 16, 17, 63, 64, 65, 1000, length - 1, length, length + 1] {
                check(distance, 0, length);
                check(0, distance, length);
                check(distance + 3, 3, length);
            }
        }
    }
}
