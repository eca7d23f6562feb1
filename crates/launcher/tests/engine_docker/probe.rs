//! The program in the test's image: does what its first argument says.

use std::io::{BufRead, Read, Write};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        // As a sidecar does: one line in, ready, then wait for the end of stdin.
        Some("sidecar") => {
            let mut line = String::new();
            let mut stdin = std::io::stdin().lock();
            stdin.read_line(&mut line).unwrap();
            println!("ready after {}", line.trim_end());
            let mut rest = String::new();
            stdin.read_to_string(&mut rest).unwrap();
            println!("rest {rest:?}");
            eprintln!("a word on stderr");
            std::process::exit(7);
        }
        Some("cat") => {
            let mut all = Vec::new();
            std::io::stdin().read_to_end(&mut all).unwrap();
            std::io::stdout().write_all(&all).unwrap();
            std::process::exit(3);
        }
        Some("status") => {
            for path in ["/proc/self/status", "/proc/sys/net/ipv4/ip_forward", "/etc/resolv.conf", "/etc/hosts"] {
                println!("{}", std::fs::read_to_string(path).unwrap_or_else(|error| format!("{path}: {error}")));
            }
            println!("read-only {}", std::fs::write("/scratch", "x").is_err());
            println!("variable {:?}", std::env::var("GREETING"));
        }
        _ => loop {
            std::thread::park();
        },
    }
}
