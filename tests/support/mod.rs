//! What several tests need.

pub mod lying;
