//! `stop`: bottles end and are removed.

use crate::bottle::removal;
use crate::cli::console::{report, say};
use crate::cli::failure::Failure;
use crate::cli::options::Global;
use crate::text::line;

/// Carries out `stop` and returns the exit code.
///
/// # Errors
/// The engine's.
pub(crate) async fn stop(global: &Global, bottles: &[String]) -> Result<u8, Failure> {
    let engine = global.engine()?;
    let (mut code, mut failure) = (0, None);
    for name in bottles {
        match removal::stop(&engine, name).await {
            Ok(Some(swept)) => code = code.max(report(&swept)),
            Ok(None) if global.quiet => {}
            Ok(None) => say(&line(format_args!("warning: no bottle is called {name:?}"))),
            // The others are stopped all the same.
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    failure.map_or(Ok(code), |error| Err(error.into()))
}
