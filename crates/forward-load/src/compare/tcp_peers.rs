//! The TCP forwarders that `compare tcp` starts, and how each is configured.
