//! What musl's libc takes long for: blocks of memory that come and go, and short copies.
//!
//! Its allocator has one lock and gives what is free back to the kernel at once; its `memcpy` is
//! `rep movsq`, which takes tens of cycles to begin. Together they were a third of what cred-proxy
//! spent on a small request (docs/benchmarks.md). So the threads that carry connections keep some
//! blocks for themselves, and copies are made by vectors. With another libc only the first is of use,
//! and on another architecture than x86-64 musl's own copies are good.
//!
//! This is the one crate with `unsafe` code, and it has nothing else in it: an allocator and a copy
//! cannot be written without. It depends on nothing.
#![allow(unsafe_code)]

mod cache;
mod class;
#[cfg(all(target_arch = "x86_64", any(target_env = "musl", test)))]
mod copy;

pub use cache::{ThreadCache, cache_here};
