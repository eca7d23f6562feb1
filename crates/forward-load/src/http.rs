//! `forward-load http`: requests, bodies and events through an HTTP reverse proxy.
