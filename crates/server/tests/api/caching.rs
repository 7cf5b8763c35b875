//! Entity tags.

use crate::support::Server;

#[test]
fn a_client_that_has_the_newest_version_is_told_so() {
    let server = Server::start();
    server.publish(1, &[("A", 0.1)], &["A"]);
    for path in ["/api/v1/scores", "/api/v1/alerts", "/", "/main.js"] {
        let tag = server.get(path).header("etag").to_owned();
        let again = server.send("GET", path, &[("if-none-match", &tag)]);
        assert_eq!(
            (again.code, again.body.as_str(), again.header("etag")),
            (304, "", tag.as_str()),
            "{path}"
        );
        server.publish(2, &[("A", 0.2)], &["A"]);
        let changes = path.starts_with("/api");
        assert_eq!(
            server.send("GET", path, &[("if-none-match", &tag)]).code,
            if changes { 200 } else { 304 },
            "{path}"
        );
    }
}
