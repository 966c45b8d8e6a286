//! RabbitMQ (and mosquitto) → ingest → MongoDB → API, with real servers that are killed, stopped and taken away under load:
//! afterwards everything that was acknowledged is counted, and nothing twice.
//!
//! `ROLLCALL_SEED` repeats a run. `ROLLCALL_AWAY_S` says for how long ingest and MongoDB are away (CI: 30 and 60
//! seconds).

mod doctor;
mod faults;
mod frozen;
mod importing;
mod mosquitto;
mod outsiders;
mod presence;
mod redelivery;
mod setup;
mod sharing;
