//! Numbers of the manifest: ports and limits.

use std::str::FromStr;

use sidecar::upstream::parse_port;

use super::Limits;
use super::at::At;
use super::fault::Fault;
use super::json::Value;

/// A number of bytes, written `4GiB`, `512MiB`, `64KiB` or as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let factor: Option<u64> = match unit.trim() {
            "" | "B" => Some(1),
            "KiB" | "k" | "K" => Some(1 << 10),
            "MiB" | "m" | "M" => Some(1 << 20),
            "GiB" | "g" | "G" => Some(1 << 30),
            "KB" | "kB" => Some(1_000),
            "MB" => Some(1_000_000),
            "GB" => Some(1_000_000_000),
            _ => None,
        };
        factor
            .and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor))
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .map(Self)
            .ok_or_else(|| "expected a size such as 4GiB or 512MiB".to_owned())
    }
}

/// The engine takes no less than 6 MiB.
const MIN_MEMORY: u64 = 6 << 20;

/// The guest, ssh-agent and its relay run in the container too.
const MIN_PIDS: u32 = 16;

/// A port, as a number or as a string of digits.
pub(super) fn port(at: &At<'_>) -> Result<u16, Fault> {
    let port = match at.value() {
        Value::Number(text) | Value::Text(text) => parse_port(text),
        _ => None,
    };
    port.filter(|port| *port != 0).ok_or_else(|| at.unfit("a port between 1 and 65535"))
}

/// Limits of the agent's container.
pub(super) fn limits(at: &At<'_>) -> Result<Limits, Fault> {
    let fields = at.fields(&["memory", "cpus", "pids"], &[])?;
    Ok(Limits {
        memory: fields.read("memory", memory)?,
        nano_cpus: fields.read("cpus", cpus)?,
        pids: fields.read("pids", pids)?,
    })
}

fn memory(at: &At<'_>) -> Result<Size, Fault> {
    let size = match at.value() {
        Value::Number(text) | Value::Text(text) => text.parse::<Size>().ok(),
        _ => None,
    };
    match size {
        None => Err(at.unfit("a size such as 4GiB or 512MiB")),
        Some(size) if size.0 < MIN_MEMORY => Err(at.unfit("a size of at least 6MiB")),
        Some(size) => Ok(size),
    }
}

fn cpus(at: &At<'_>) -> Result<i64, Fault> {
    let cpus = match at.value() {
        Value::Number(text) => text.parse::<f64>().ok(),
        _ => None,
    };
    let what = "a number of CPUs between 0.01 and 4096, such as 2 or 1.5";
    let cpus = cpus.filter(|cpus| (0.01..=4096.0).contains(cpus)).ok_or_else(|| at.unfit(what))?;
    #[expect(clippy::cast_possible_truncation, reason = "between 10^7 and 4.1 * 10^12")]
    Ok((cpus * 1e9).round() as i64)
}

fn pids(at: &At<'_>) -> Result<i64, Fault> {
    let pids = match at.value() {
        Value::Number(text) => text.parse::<u32>().ok(),
        _ => None,
    };
    let pids = pids.filter(|pids| *pids >= MIN_PIDS);
    pids.map(i64::from).ok_or_else(|| at.unfit("a number of processes, at least 16"))
}
