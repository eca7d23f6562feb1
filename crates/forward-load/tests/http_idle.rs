//! What a proxy leaks shows with silent client connections. Alone in its process, which is the
//! forwarder that is looked at.

mod http_support;

use forward_load::interrupt::Interrupt;
use http_support::{Wrong, idle};

#[test]
fn what_a_proxy_leaks_shows_in_memory_and_descriptors_and_of_a_right_one_nothing_does() {
    for (wrong, leaks) in [(Wrong::Nothing, false), (Wrong::Leaks(4_000_000), true)] {
        let idle = idle(wrong, "/json");
        let sample = idle.measure(&Interrupt::deaf());
        assert_eq!((sample.errors.total(), &sample.failure), (0, &None), "{sample:?}");
        assert_eq!(sample.figures[0].name, "after one each");
        let [none, one_each, burst] =
            ["none asked", "after one each", "after burst"].map(|name| sample.value(name).unwrap());
        assert!(none > 100_000.0, "{sample:?}");
        // Half of what so many leak: the load side, which comes and goes, is of this process, too.
        for grown in [one_each - none, burst - one_each] {
            assert_eq!(grown > 40_000_000.0, leaks, "{sample:?}");
        }
        let used = sample.costs.unwrap().forwarder.unwrap();
        let left = used.descriptors_after.saturating_sub(used.descriptors_before);
        assert_eq!(left > idle.connections as u64 / 2, leaks, "{used:?}");
    }
}
