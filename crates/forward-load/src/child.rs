//! Our own executable as a backend, in a process of its own.
//!
//! It says one line of JSON when it is ready, and ends when its stdin does, so that it cannot
//! outlive us.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Why there is no backend.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("could not start the backend")]
    Start(#[source] io::Error),
    /// It ended, or said something else, before it was ready.
    #[error("the backend did not become ready (it said {said:?})")]
    NotReady {
        /// What it said.
        said: String,
    },
}

/// A backend that runs until this is dropped.
#[derive(Debug)]
pub struct Backend {
    child: Child,
    lifeline: Option<ChildStdin>,
    hello: serde_json::Value,
}

impl Backend {
    /// Starts `program`, which is our executable, with `arguments`, and waits for its line.
    ///
    /// # Errors
    ///
    /// It could not be started, or did not become ready.
    pub fn start(program: &Path, arguments: &[&str]) -> Result<Self, ChildError> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(ChildError::Start)?;
        let lifeline = child.stdin.take();
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            // A backend that hangs before its line is one of our own making; 64 KiB bounds the line.
            let _ = BufReader::new(stdout.take(65_536)).read_line(&mut said);
        }
        let mut backend = Self { child, lifeline, hello: serde_json::Value::Null };
        match serde_json::from_str(&said) {
            Ok(hello) => backend.hello = hello,
            Err(_) => return Err(ChildError::NotReady { said }),
        }
        Ok(backend)
    }

    /// Its line.
    pub fn hello(&self) -> &serde_json::Value {
        &self.hello
    }

    /// A text of its line, e.g. `listening`.
    ///
    /// # Errors
    ///
    /// The line has none of this name.
    pub fn said(&self, name: &str) -> Result<&str, ChildError> {
        let text = self.hello.get(name).and_then(serde_json::Value::as_str);
        text.ok_or_else(|| ChildError::NotReady { said: self.hello.to_string() })
    }

    /// Writes a line to its stdin: what no command line should show.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn tell(&mut self, line: &str) -> io::Result<()> {
        self.lifeline.as_mut().map_or(Ok(()), |stdin| writeln!(stdin, "{line}"))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // It may be in a write to a forwarder that no longer reads.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The backend's side: says that it is ready, then waits for the end of stdin.
///
/// # Errors
///
/// The process that started this one is already gone.
pub fn ready_until_stdin_ends(hello: &serde_json::Value) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{hello}")?;
    stdout.flush()?;
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}
