use leadpulse_engine::read_model::ReadModel;

use super::*;

#[test]
fn health_fails_when_the_loop_stands_still() {
    let read_model = Arc::new(ReadModel::new());
    let state = ServerState {
        read_model: read_model.clone(),
        registry: prometheus::Registry::new(),
        tasks: vec![].into(),
        tables: vec![],
        catalog: None,
        operations: None,
        explanations: None,
        questions: None,
        history: None,
        archive: None,
        queries: None,
        schemas: None,
        version: String::new(),
    };
    let long_ago = Instant::now()
        .checked_sub(Duration::from_secs(5))
        .expect("the machine has been up for five seconds");
    let guard = Guard::new(ServerOptions::default().checked().unwrap());
    let app = Arc::new(ServerShared {
        state,
        guard,
        newest: watch::Sender::new(Some(0)),
        heartbeat: Heartbeat::new(0, long_ago),
        heartbeat_timeout_ms: 4_000,
        process: 0,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let probe = || {
        runtime
            .block_on(api::process::healthz(axum::extract::State(app.clone())))
            .status()
            .as_u16()
    };
    assert_eq!(probe(), 503);
    read_model.beat();
    assert_eq!(probe(), 200);
}
