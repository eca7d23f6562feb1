//! Server-sent events as the origin sends them: a number and the clock when each was sent.

use std::time::Duration;

use super::{clock, fault::Fault};

/// A stream of events that is being read.
#[derive(Debug, Default)]
pub struct Events {
    text: Vec<u8>,
    next: u64,
}

impl Events {
    /// Takes content as it came and hands over the delay of each event that it completes.
    ///
    /// # Errors
    ///
    /// [`Fault::EventLost`] when a number is missing, [`Fault::Corrupt`] for anything that is not an event.
    pub fn take(&mut self, content: &[u8], mut delay: impl FnMut(Duration)) -> Result<(), Fault> {
        let now = clock::now_nanos();
        self.text.extend_from_slice(content);
        while let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
            let (number, sent) = read(&self.text[..end]).ok_or(Fault::Corrupt)?;
            if number != self.next {
                return Err(Fault::EventLost);
            }
            // An event from the future: the origin's clock is another machine's.
            delay(Duration::from_nanos(now.checked_sub(sent).ok_or(Fault::Corrupt)?));
            self.next += 1;
            self.text.drain(..end + 2);
        }
        if self.text.len() > EVENT_MAX { Err(Fault::Corrupt) } else { Ok(()) }
    }
}

fn read(event: &[u8]) -> Option<(u64, u64)> {
    let (number, sent) = std::str::from_utf8(event).ok()?.split_once('\n')?;
    Some((number.strip_prefix("id: ")?.parse().ok()?, sent.strip_prefix("data: ")?.parse().ok()?))
}

/// Two numbers and their names.
const EVENT_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(pieces: &[&[u8]]) -> Result<usize, Fault> {
        let (mut events, mut count) = (Events::default(), 0);
        for piece in pieces {
            events.take(piece, |_| count += 1)?;
        }
        Ok(count)
    }

    #[test]
    fn events_are_counted_wherever_they_are_split() {
        let text = b"id: 0\ndata: 5\n\nid: 1\ndata: 17\n\n";
        for at in 0..=text.len() {
            assert_eq!(delays(&[&text[..at], &text[at..]]), Ok(2), "split at {at}");
        }
    }

    #[test]
    fn a_lost_a_doubled_and_a_damaged_event_are_told() {
        for (text, fault) in [
            ("id: 0\ndata: 5\n\nid: 2\ndata: 5\n\n", Fault::EventLost),
            ("id: 0\ndata: 5\n\nid: 0\ndata: 5\n\n", Fault::EventLost),
            ("id: 0\ndata: x\n\n", Fault::Corrupt),
            ("id: 0\ndata: 18446744073709551615\n\n", Fault::Corrupt),
        ] {
            assert_eq!(delays(&[text.as_bytes()]), Err(fault), "{text}");
        }
    }
}
