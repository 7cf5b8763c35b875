//! The epoch machine from bytes to committed records, with ports in memory: no Kafka, no sleeping, every random choice from a printed seed.

mod engine {
    mod bad_input;
    mod broker;
    mod emission;
    mod exactly_once;
    mod market;
    mod rig;
    mod scorer;
    mod stops;
}
