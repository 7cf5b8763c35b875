//! The engine's ports on a real cluster.

mod behind_proxy;
mod harness;
mod late_requests;
mod lost_answers;
mod ports_on_kafka;
mod proxy;
mod two_owners;
