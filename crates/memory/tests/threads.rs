//! The whole of a program's blocks come from the cache, also those that end on another thread.
// Set-up that fails is a failed test: here a panic is the message.
#![allow(clippy::unwrap_used)]

use std::{sync::mpsc::channel, thread};

#[global_allocator]
static ALLOCATOR: memory::ThreadCache = memory::ThreadCache;

#[test]
fn blocks_go_from_thread_to_thread_and_stay_whole() {
    let (mut senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| channel::<Vec<u8>>()).unzip();
    // Each sends to the next.
    senders.rotate_left(1);
    let threads: Vec<_> = senders
        .into_iter()
        .zip(receivers)
        .enumerate()
        .map(|(number, (next, mine))| {
            thread::spawn(move || {
                // One that does not keep is among them.
                if number > 0 {
                    memory::cache_here();
                }
                let mut random = number + 1;
                for _ in 0..ROUNDS {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let length = (random >> 33) % (1 << (random >> 60));
                    // The last byte tells what all are.
                    let mut sent = vec![length as u8; length];
                    sent.extend_from_slice(&[length as u8; 3]);
                    next.send(sent).unwrap();
                    let got = mine.recv().unwrap();
                    let mark = got[got.len() - 1];
                    assert!(got.iter().all(|byte| *byte == mark));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

const THREADS: usize = 4;
const ROUNDS: usize = if cfg!(miri) { 20 } else { 20_000 };
