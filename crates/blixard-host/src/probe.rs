//! The checks of a spec, asked over the host's network.

use std::time::Duration;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::health::{CheckFailure, HealthProbe};
use blixard_types::spec::Check;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long one check may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Enough of an answer to hold the status line, whatever comes after it.
const STATUS_LINE_MAX: usize = 256;

/// Asks over TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetworkProbe;

impl HealthProbe for NetworkProbe {
    fn check(&self, check: Check) -> BoxFuture<'_, Result<(), CheckFailure>> {
        Box::pin(async move {
            let asked = match &check {
                Check::Tcp { address } => format!("tcp {address}"),
                Check::Http { address, path } => format!("http GET http://{address}{path}"),
            };
            let failed = |reason: String| CheckFailure { check: asked.clone(), reason };
            match tokio::time::timeout(PATIENCE, ask(&check)).await {
                Ok(answer) => answer.map_err(failed),
                Err(_) => Err(failed(format!("no answer within {} s", PATIENCE.as_secs()))),
            }
        })
    }
}

async fn ask(check: &Check) -> Result<(), String> {
    match check {
        Check::Tcp { address } => connect(address).await.map(drop),
        Check::Http { address, path } => {
            let status = get(address, path).await?;
            if (200..400).contains(&status) { Ok(()) } else { Err(format!("status {status}")) }
        }
    }
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| error.to_string())
}

/// The status of a GET. HTTP/1.0, because nothing but the status line is wanted.
async fn get(address: &str, path: &str) -> Result<u16, String> {
    let mut stream = connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nUser-Agent: blixard\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut limited = stream.take(STATUS_LINE_MAX as u64);
    while !answer.contains(&b'\n') {
        if limited.read_buf(&mut answer).await.map_err(|error| error.to_string())? == 0 {
            break;
        }
    }
    status_of(&answer).ok_or_else(|| "the answer is not HTTP".to_owned())
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = String::from_utf8_lossy(answer);
    let mut words = line.lines().next()?.split(' ');
    words.next()?.strip_prefix("HTTP/")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one connection with these bytes and asks it.
    async fn ask_server(answer: &'static [u8]) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            stream.write_all(answer).await.unwrap();
        };
        let check = Check::Http { address, path: "/healthz".into() };
        let (asked, ()) = tokio::join!(NetworkProbe.check(check), serve);
        asked.map_err(|failure| failure.reason)
    }

    #[tokio::test]
    async fn an_http_check_looks_at_the_status_alone() {
        assert_eq!(ask_server(b"HTTP/1.1 204 No Content\r\n\r\n").await, Ok(()));
        assert_eq!(ask_server(b"HTTP/1.1 302 Found\r\n").await, Ok(()));
        assert_eq!(ask_server(b"HTTP/1.1 503 No\r\n\r\n").await, Err("status 503".into()));
        assert_eq!(ask_server(b"SSH-2.0-OpenSSH\r\n").await, Err("the answer is not HTTP".into()));
        assert_eq!(ask_server(b"").await, Err("the answer is not HTTP".into()));
    }

    #[tokio::test]
    async fn a_tcp_check_wants_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let check = Check::Tcp { address };
        assert_eq!(NetworkProbe.check(check.clone()).await, Ok(()));
        drop(listener);
        assert!(NetworkProbe.check(check).await.is_err());
    }
}
