//! The HTTP proxies that `compare http` starts, and how each is configured.
