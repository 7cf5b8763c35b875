//! The console's files.

use crate::support::Server;

#[test]
fn the_console_needs_nothing_from_elsewhere() {
    let server = Server::start();
    for (path, content_type) in [
        ("/", "text/html"),
        ("/console.css", "text/css"),
        ("/console.js", "text/javascript"),
        ("/dead-letters", "text/html"),
        ("/dead-letters.js", "text/javascript"),
        ("/lib/ask.js", "text/javascript"),
        ("/lib/dom.js", "text/javascript"),
        ("/lib/words.js", "text/javascript"),
        ("/icon.svg", "image/svg"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.code, 200);
        assert!(answer.header("content-type").starts_with(content_type));
        assert!(
            answer
                .header("content-security-policy")
                .starts_with("default-src 'self'")
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let elsewhere = answer.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("://"), "{path} names another origin");
        assert!(
            !elsewhere.contains("style=") && !elsewhere.contains("innerHTML"),
            "{path} has what the policy or good sense forbids"
        );
    }
}
