//! Asking the system's resolver for a name, each family on its own.
//!
//! Asked for both at once, musl fails a name, after seconds, when one family's answer is SERVFAIL or
//! REFUSED, however good the other's (some resolvers answer AAAA so). Asked apart, a family that has no
//! answer is only a family that has no answer.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use dns_lookup::{AddrFamily, AddrInfoHints, SockType};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The addresses of a name, IPv4 first: where sidecars run, IPv6 is often there in name only.
///
/// # Errors
/// The resolver's for IPv4 when neither family has an address.
pub(super) async fn lookup(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let four = ask(name, AddrFamily::Inet, &FOUR);
    let six = ask(name, AddrFamily::Inet6, &SIX);
    let addresses = merge(four, six).await?;
    Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

/// Both answers; once one family has an address, the other is waited for only a moment more.
async fn merge(
    four: impl Future<Output = io::Result<Vec<IpAddr>>>,
    six: impl Future<Output = io::Result<Vec<IpAddr>>>,
) -> io::Result<Vec<IpAddr>> {
    let (mut four, mut six) = (pin!(four), pin!(six));
    let (first_is_four, first) = tokio::select! {
        biased;
        first = &mut four => (true, first),
        first = &mut six => (false, first),
    };
    let has_some = first.as_ref().is_ok_and(|addresses| !addresses.is_empty());
    let patience = if has_some { A_MOMENT } else { Duration::MAX };
    let second = if first_is_four { timeout(patience, six).await } else { timeout(patience, four).await };
    let second = second.unwrap_or_else(|_| Ok(Vec::new()));
    let (four, six) = if first_is_four { (first, second) } else { (second, first) };
    match (four, six) {
        (Ok(mut four), six) => {
            four.extend(six.unwrap_or_default());
            Ok(four)
        }
        (Err(_), Ok(six)) if !six.is_empty() => Ok(six),
        (Err(error), _) => Err(error),
    }
}

async fn ask(name: &str, family: AddrFamily, places: &'static Semaphore) -> io::Result<Vec<IpAddr>> {
    let place = places.acquire().await.map_err(io::Error::other)?;
    let name = name.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let _place = place;
        let hints = AddrInfoHints {
            socktype: SockType::Stream.into(),
            address: family.into(),
            ..AddrInfoHints::default()
        };
        #[expect(clippy::disallowed_methods, reason = "this is the one place that resolves")]
        let found = dns_lookup::getaddrinfo(Some(&name), None, Some(hints))?;
        found.map(|entry| entry.map(|entry| entry.sockaddr.ip())).collect()
    });
    asked.await.map_err(io::Error::other)?
}

/// RFC 8305 section 3: the delay after which one family's answer is used without the other's.
const A_MOMENT: Duration = Duration::from_millis(50);

/// Each waiting question holds a thread. The families apart: one that never answers must not take
/// the other's places.
static FOUR: Semaphore = Semaphore::const_new(MAX_QUESTIONS);
static SIX: Semaphore = Semaphore::const_new(MAX_QUESTIONS);

/// More names at once wait for their turn; a sidecar in a bottle may have 64 threads.
const MAX_QUESTIONS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|address| address.parse().unwrap()).collect()
    }

    async fn after(millis: u64, answer: Result<&str, &str>) -> io::Result<Vec<IpAddr>> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        answer.map(addresses).map_err(io::Error::other)
    }

    #[tokio::test(start_paused = true)]
    async fn one_familys_failure_or_silence_is_not_the_others() {
        for (four, six, expected, took) in [
            ((10, Ok("192.0.2.1")), (20, Ok("2001:db8::1")), Ok("192.0.2.1 2001:db8::1"), 20),
            ((20, Ok("192.0.2.1")), (10, Ok("2001:db8::1")), Ok("192.0.2.1 2001:db8::1"), 20),
            ((10, Ok("192.0.2.1")), (5, Err("SERVFAIL")), Ok("192.0.2.1"), 10),
            ((10, Ok("192.0.2.1")), (5000, Err("SERVFAIL")), Ok("192.0.2.1"), 60),
            ((5000, Err("SERVFAIL")), (10, Ok("2001:db8::1")), Ok("2001:db8::1"), 60),
            ((10, Err("NXDOMAIN")), (700, Ok("2001:db8::1")), Ok("2001:db8::1"), 700),
            ((700, Ok("192.0.2.1")), (10, Err("none")), Ok("192.0.2.1"), 700),
            ((10, Err("NXDOMAIN")), (20, Err("none")), Err("NXDOMAIN"), 20),
            ((10, Ok("")), (20, Err("none")), Ok(""), 20),
        ] {
            let started = tokio::time::Instant::now();
            let merged = merge(after(four.0, four.1), after(six.0, six.1)).await;
            let merged = merged.map_err(|error| error.to_string());
            assert_eq!(merged, expected.map(addresses).map_err(str::to_owned), "{four:?} {six:?}");
            assert_eq!(started.elapsed().as_millis(), took, "{four:?} {six:?}");
        }
    }

    #[tokio::test]
    async fn a_name_of_this_machine_has_an_address() {
        assert!(lookup("localhost", 1).await.unwrap().contains(&"127.0.0.1:1".parse().unwrap()));
        assert!(lookup("nowhere.invalid", 1).await.map_or(true, |found| found.is_empty()));
    }
}
