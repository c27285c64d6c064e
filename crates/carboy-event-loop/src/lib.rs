//! Decides when a callback runs.
