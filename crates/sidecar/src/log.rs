//! Logs on stderr: one line an event, as text for people or as flat JSON for machines.
//!
//! JSON holds `timestamp` (RFC 3339, UTC), `level`, `event`, then the fields; what is absent is
//! left out. Control characters are escaped in both forms.

use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use crate::exit::{escape, steers};

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One flat object per line.
    Json,
}

impl Format {
    /// Text on a terminal, JSON elsewhere.
    pub fn detect() -> Self {
        if std::io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Sends logs to stderr from now on. `RUST_LOG` names targets and levels (`info`, `ssh_gate=debug,hyper=warn`);
/// without it, or when it does not parse, everything from `info` up is written.
pub fn init(format: Option<Format>) {
    let asked = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let parsed = asked.as_deref().map(str::parse::<Targets>);
    let wrong = matches!(parsed, Some(Err(_)));
    let targets =
        parsed.and_then(Result::ok).unwrap_or_else(|| Targets::new().with_default(tracing::Level::INFO));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .event_format(Lines(format.unwrap_or_else(Format::detect)));
    let subscriber = tracing_subscriber::registry().with(targets).with(lines);
    // A second call, as in tests, keeps the first one's.
    let _ = tracing::subscriber::set_global_default(subscriber);
    if wrong {
        tracing::warn!(event = "log_filter", "RUST_LOG does not parse: writing info and above");
    }
}

struct Lines(Format);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let now = humantime::format_rfc3339_millis(SystemTime::now());
        let level = event.metadata().level();
        let name = fields.event.as_deref().unwrap_or(event.metadata().target());
        match self.0 {
            Format::Json => {
                let line = fields.json(&now.to_string(), level.as_str(), name);
                writeln!(writer, "{line}")
            }
            Format::Text => {
                write!(writer, "{now} {level:>5} {}", escape(name))?;
                for span in context.event_scope().into_iter().flatten() {
                    if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                        write!(writer, " {}", escape(fields))?;
                    }
                }
                for (key, value) in &fields.rest {
                    match value {
                        Value::Text(text) if text.is_empty() || text.contains([' ', '"', '=']) => {
                            write!(writer, " {key}={text:?}")?;
                        }
                        Value::Text(text) => write!(writer, " {key}={}", escape(text))?,
                        Value::Plain(text) => write!(writer, " {key}={text}")?,
                    }
                }
                writeln!(writer)
            }
        }
    }
}

/// The fields of one event, in the order they were given.
#[derive(Default)]
struct Fields {
    event: Option<String>,
    rest: Vec<(&'static str, Value)>,
}

enum Value {
    /// A string: quoted in JSON.
    Text(String),
    /// A number or a boolean: as it stands.
    Plain(String),
}

impl Fields {
    fn json(&self, now: &str, level: &str, event: &str) -> String {
        let mut line = String::with_capacity(256);
        let quote = |line: &mut String, text: &str| {
            // Serializing a string cannot fail.
            let quoted = serde_json::to_string(text).unwrap_or_default();
            // JSON lets DEL and all behind ASCII stand as it is.
            if quoted.bytes().all(|byte| byte < 0x7f) {
                return line.push_str(&quoted);
            }
            for c in quoted.chars() {
                if steers(c) {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(line, "\\u{unit:04x}");
                    }
                } else {
                    line.push(c);
                }
            }
        };
        let _ =
            write!(line, "{{\"timestamp\":\"{now}\",\"level\":\"{}\",\"event\":", level.to_ascii_lowercase());
        quote(&mut line, event);
        for (key, value) in &self.rest {
            line.push(',');
            quote(&mut line, key);
            line.push(':');
            match value {
                Value::Text(text) => quote(&mut line, text),
                Value::Plain(text) => line.push_str(text),
            }
        }
        line.push('}');
        line
    }

    fn push(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("event", Value::Text(name)) => self.event = Some(name),
            // These three are the line's own.
            ("timestamp" | "level", _) => {}
            (name, value) => self.rest.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, Value::Text(value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::Plain(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::Plain(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::Plain(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let value =
            if value.is_finite() { Value::Plain(value.to_string()) } else { Value::Text(value.to_string()) };
        self.push(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, Value::Text(format!("{value:?}")));
    }
}

/// Counts what repeats, so that a flood of refusals is a line now and then, with its count.
///
/// The counts of its lines add up to what happened: what no line told is told a second later.
#[derive(Debug)]
pub struct Coalesced {
    total: AtomicU64,
    /// Lines of their own in each second, before the others are put together.
    burst: u32,
    window: Mutex<Window>,
}

/// The current second.
#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    lines: u32,
    untold: u64,
}

/// How long a window is.
const COALESCE: Duration = Duration::from_secs(1);

impl Default for Coalesced {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Coalesced {
    /// `burst` lines a second tell of one each; one more tells of the rest.
    pub fn new(burst: u32) -> Self {
        Self { total: AtomicU64::new(0), burst, window: Mutex::default() }
    }

    /// Counts one. `line` is given a number and writes a line that tells of so many: now, or within a
    /// second, or never when another one's line tells of this one too.
    pub fn count(self: &Arc<Self>, line: impl FnOnce(u64) + Send + 'static) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let Ok(mut window) = self.window.lock() else { return };
        let now = Instant::now();
        if window.since.is_none_or(|since| COALESCE <= now.duration_since(since)) {
            *window = Window { since: Some(now), lines: 0, untold: window.untold };
        }
        if window.lines < self.burst {
            window.lines += 1;
            let told = std::mem::take(&mut window.untold) + 1;
            drop(window);
            return line(told);
        }
        window.untold += 1;
        if window.untold > 1 {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let this = self.clone();
        runtime.spawn(async move {
            tokio::time::sleep(COALESCE).await;
            let Ok(mut window) = this.window.lock() else { return };
            let told = std::mem::take(&mut window.untold);
            drop(window);
            if told > 0 {
                line(told);
            }
        });
    }

    /// How many there were in all.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .event_format(Lines(format));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let absent: Option<u64> = None;
            let alias = "git\x1bhub é\x7f\u{9b}\u{202e}";
            tracing::info!(event = "closed", alias, up_bytes = 5_u64, absent, side = %"gate");
        });
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_is_flat_and_leaves_out_what_is_absent() {
        let line = logged(Format::Json);
        let rest = line.split_once(r#""level":"info","#).unwrap().1;
        assert_eq!(
            rest,
            "\"event\":\"closed\",\"alias\":\"git\\u001bhub é\\u007f\\u009b\\u202e\",\"up_bytes\":5,\"side\":\"gate\"}\n"
        );
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["alias"], "git\x1bhub é\x7f\u{9b}\u{202e}");
        assert!(value["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_text_line_escapes_what_a_peer_sent() {
        let line = logged(Format::Text);
        assert!(
            line.ends_with(
                "INFO closed alias=\"git\\u{1b}hub é\\u{7f}\\u{9b}\\u{202e}\" up_bytes=5 side=gate\n"
            ),
            "{line}"
        );
    }

    #[tokio::test]
    async fn a_flood_is_a_line_now_and_then_and_their_counts_add_up() {
        for burst in [1, 3] {
            let flood = Arc::new(Coalesced::new(burst));
            let told = Arc::new(Mutex::new(Vec::new()));
            for _ in 0..100 {
                let told = told.clone();
                flood.count(move |count| told.lock().unwrap().push(count));
            }
            assert_eq!(*told.lock().unwrap(), vec![1; burst as usize]);
            tokio::time::sleep(COALESCE + Duration::from_millis(200)).await;
            assert_eq!(told.lock().unwrap().last(), Some(&(100 - u64::from(burst))));
            assert_eq!(told.lock().unwrap().iter().sum::<u64>(), flood.total());
        }
    }
}
