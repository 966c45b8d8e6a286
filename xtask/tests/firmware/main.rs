//! The firmware on emulated machines, with their own network stack, against a real host.

mod counting;
mod crashes;
mod faults;
mod machines;
mod order;
mod rabbitmq;
mod tap;
