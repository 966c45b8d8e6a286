//! The emitter over a scripted network and a virtual clock.
//!
//! In every test, after every poll: sampled = acknowledged + refused + dropped + in the outbox, and nothing
//! is acknowledged that no peer said success for.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod acknowledgements;
mod connections;
mod faults;
mod sampling;
mod stopping;
mod storing;
mod support;
mod two_tasks;
