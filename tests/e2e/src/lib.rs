//! The scene that the demo and the end-to-end tests play on: a git host, an API, and an agent's image.
//!
//! - [`mod@environment`]: what `cargo xtask test` built and hands to the tests.
//! - [`bottle`]: the launcher as a user runs it, and the leak assertion.
//! - [`images`]: the images of the scene, made without a registry.
//! - [`lone`]: a bottle with nobody behind its sidecars; a sidecar with no bottle.
//! - [`raw`]: what the engine shows to anyone who asks it.
//! - [`scene`]: the hosts on a network of their own, and a manifest for a bottle that may use them.
//! - [`stage`]: a scene with bottles on it, for a test to begin and end with.
//!
//! Everything that a scene creates carries the label [`scene::LABEL`], and [`Scene::remove`] removes
//! it; what a killed run left, [`sweep`] removes.

#![forbid(unsafe_code)]

pub mod bottle;
pub mod debian;
pub mod environment;
pub mod images;
pub mod lone;
pub mod raw;
pub mod scene;
pub mod stage;

pub use environment::{Environment, environment};
pub use scene::{Scene, sweep};
pub use stage::Stage;
