//! Sidecar images that need no registry. (to be written)
