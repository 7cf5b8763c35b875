//! The engine's ports on a real cluster.

mod behind_proxy;
mod harness;
mod late_requests;
mod lost_answers;
mod owners_on_kafka;
mod ports_on_kafka;
#[allow(dead_code, reason = "the tests of the program use more of it")]
mod proxy;
mod standby_on_kafka;
mod two_owners;
