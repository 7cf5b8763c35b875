//! Simulations of alerts.

use std::sync::{Arc, Barrier};
use std::thread;

use leadpulse_server::{AlertSimulator, SimulationError, SimulationRequest, SimulatorDesk};
use serde_json::{Value, json};

use crate::support::Server;

/// Answers at once, refuses zero days, fails with one, and waits for its partner with two.
struct FakeSimulator(Barrier);

impl AlertSimulator for FakeSimulator {
    fn simulate(&self, request: &SimulationRequest) -> Result<Value, SimulationError> {
        match request.days {
            Some(0) => Err(SimulationError::Refused("days is 0".into())),
            Some(1) => Err(SimulationError::Failed("the disk is gone".into())),
            Some(2) => {
                self.0.wait();
                self.0.wait();
                Ok(json!({}))
            }
            _ => Ok(json!({"policies": [{"days": request.days}]})),
        }
    }
}

#[test]
fn simulations_run_one_at_a_time() {
    let simulator = Arc::new(FakeSimulator(Barrier::new(2)));
    let server = Server::start_for(None, Some(SimulatorDesk::new(simulator.clone())));
    let path = "/api/v1/alerts/simulate";
    let found = server.post(path, &json!({"days": 60}));
    assert_eq!(
        (found.code, found.json()),
        (200, json!({"policies": [{"days": 60}]}))
    );
    for (body, code, words) in [
        (json!({"days": 0}), 400, "days is 0"),
        (json!({"days": 1}), 500, "the disk is gone"),
        (json!({"horizon": 1}), 400, "unknown field `horizon`"),
    ] {
        let answer = server.post(path, &body);
        let told = answer.json()["detail"].as_str().unwrap().to_owned();
        assert_eq!(answer.code, code, "{body}: {told}");
        assert!(told.contains(words), "{body}: {told}");
    }
    thread::scope(|scope| {
        let first = scope.spawn(|| server.post(path, &json!({"days": 2})).code);
        simulator.0.wait();
        assert_eq!(server.post(path, &json!({})).code, 503, "one is under way");
        simulator.0.wait();
        assert_eq!(first.join().unwrap(), 200);
    });
    assert_eq!(server.post(path, &json!({})).code, 200);
    assert_eq!(server.get(path).code, 405);
    assert_eq!(Server::start().post(path, &json!({})).code, 503);
}
