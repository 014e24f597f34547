//! The engine against a fake world whose every part can be told to fail, hang or panic.

mod caching;
mod caching_limits;
mod cancelling;
mod cleaning;
mod events_reference;
mod failing;
mod fakes;
mod graph;
mod harness;
mod keeper;
mod keeping;
mod needing;
mod planning;
mod preparing;
mod publishing;
mod registry;
mod running;
mod trying;
mod visiting;
