//! The engine against a fake world whose every part can be told to fail, hang or panic.

mod cancelling;
mod cleaning;
mod events_reference;
mod failing;
mod fakes;
mod harness;
mod keeping;
mod preparing;
mod running;
