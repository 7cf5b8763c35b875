//! A receiver of requests over real HTTP, for tests of sinks: it keeps what it gets and answers as it
//! is told, late, wrongly or not at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "not every test looks at all of it")]
pub struct Received {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    /// The value of a header; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    #[allow(dead_code, reason = "the token endpoint gets a form")]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// An answer, or the lack of one.
#[allow(dead_code, reason = "not every test needs every kind")]
pub enum Reply {
    /// Status, headers as lines, body.
    Answer(u16, &'static str, String),
    /// The connection is closed after the request was read.
    Close,
    /// The head says that more bytes come than do.
    Half(u16),
    /// The answer comes after a while.
    Slow(Duration, u16),
}

/// A running receiver; it ends with the process.
pub struct Receiver {
    pub address: SocketAddr,
}

impl Receiver {
    /// Listens on a free port. `reply` decides about each request, one after the other.
    pub fn start(reply: impl FnMut(&Received) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let reply = Arc::new(Mutex::new(reply));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let reply = Arc::clone(&reply);
                std::thread::spawn(move || {
                    // A client that goes away ends its connection only.
                    let _ = serve(&stream, &mut |request| (reply.lock().unwrap())(request));
                });
            }
        });
        Self { address }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn serve(
    stream: &TcpStream,
    reply: &mut dyn FnMut(&Received) -> Reply,
) -> Result<(), std::io::Error> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(request) = read(&mut reader)? {
        let (status, headers, body) = match reply(&request) {
            Reply::Answer(status, headers, body) => (status, headers, body),
            Reply::Close => return stream.shutdown(std::net::Shutdown::Both),
            Reply::Half(status) => {
                write!(
                    writer,
                    "HTTP/1.1 {status} x\r\ncontent-length: 100\r\n\r\n[{{"
                )?;
                return stream.shutdown(std::net::Shutdown::Both);
            }
            Reply::Slow(time, status) => {
                std::thread::sleep(time);
                (status, "", String::new())
            }
        };
        let length = body.len();
        write!(
            writer,
            "HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\n\r\n{body}"
        )?;
    }
    Ok(())
}

fn read(reader: &mut BufReader<TcpStream>) -> Result<Option<Received>, std::io::Error> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut parts = line.split_whitespace().map(str::to_owned);
    let (method, path) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let mut request = Received {
        method,
        path,
        headers,
        body: Vec::new(),
    };
    let length = request.header("content-length").parse().unwrap_or(0);
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body)?;
    Ok(Some(request))
}
