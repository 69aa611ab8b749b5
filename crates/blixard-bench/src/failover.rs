//! How long it takes until somebody accepts a write again.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::etcd::PutRequest;
use crate::etcd::kv_client::KvClient;
use crate::load::endpoint;

/// How often each endpoint is asked anew. What was asked before goes on: an answer to it counts too.
const EVERY: Duration = Duration::from_millis(5);
/// When there is nothing to wait for any more.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) async fn run(endpoints: &[String]) -> anyhow::Result<()> {
    let mut clients = Vec::new();
    for address in endpoints {
        clients.push(KvClient::new(endpoint(address)?.connect().await.context("cannot connect")?));
    }
    println!("ready");
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    let begun = Instant::now();
    tokio::time::timeout(LIMIT, first_write(&clients)).await.context("no write was accepted")??;
    println!("{}", begun.elapsed().as_micros());
    Ok(())
}

async fn first_write(clients: &[KvClient<Channel>]) -> anyhow::Result<()> {
    let mut asked = JoinSet::new();
    let mut turns = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = turns.tick() => {
                for client in clients {
                    let mut client = client.clone();
                    let put = PutRequest { key: Bytes::from_static(b"failover"), value: Bytes::from_static(b"1") };
                    asked.spawn(async move { client.put(put).await });
                }
            }
            Some(answer) = asked.join_next() => {
                if answer?.is_ok() {
                    return Ok(());
                }
            }
        }
    }
}
