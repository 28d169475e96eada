//! The worker: threads that load, draw and keep files, behind a handle of plain messages.

pub mod message;
