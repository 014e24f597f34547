//! What goes over the wire, and what is made of the answers: against a service of the tests' own.

mod access;
mod calls;
mod data;
mod faults;
mod support;
