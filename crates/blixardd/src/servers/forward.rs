//! Calls that come to this node's socket and are a server's to answer.
//!
//! They are passed on as they are, with the name of who asks, and so are their answers: what is said in them is between
//! the caller and the server.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::task::{Context, Poll};

use blixard_core::ports::BoxFuture;
use blixard_proto::principal::PRINCIPAL;
use blixard_server::LocalUser;
use blixard_types::NodeId;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;

use super::Servers;

/// A service that servers have, by the name of `S`.
pub(crate) struct Forwarded<S> {
    servers: Servers,
    service: PhantomData<fn() -> S>,
}

impl<S> Forwarded<S> {
    pub(crate) fn to(servers: &Servers) -> Self {
        Self { servers: servers.clone(), service: PhantomData }
    }
}

impl<S> Clone for Forwarded<S> {
    fn clone(&self) -> Self {
        Self::to(&self.servers)
    }
}

impl<S: NamedService> NamedService for Forwarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Forwarded<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        tell_who_asks(self.servers.node, &mut request);
        let servers = self.servers.clone();
        Box::pin(async move { Ok(pass_on(servers, request).await.unwrap_or_else(Status::into_http)) })
    }
}

/// Whatever the caller says of itself, it is who the kernel says.
fn tell_who_asks<B>(here: NodeId, request: &mut Request<B>) {
    request.headers_mut().remove(PRINCIPAL);
    if let Some(&LocalUser(uid)) = request.extensions().get::<LocalUser>()
        && let Ok(user) = format!("{here}/{uid}").parse()
    {
        request.headers_mut().insert(PRINCIPAL, user);
    }
}

/// A call is passed on once: what was under way when its server was lost may have been carried out.
async fn pass_on(servers: Servers, request: Request<Body>) -> Result<Response<Body>, Status> {
    let server = servers.any().await?;
    let mut channel = servers.mesh.channel_to(server);
    let lost =
        |error| Status::unavailable(format!("server {server} was lost: {}", blixard_types::chain(&error)));
    std::future::poll_fn(|context| channel.poll_ready(context)).await.map_err(lost)?;
    channel.call(request).await.map_err(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who that is for a server, if it comes to this node's socket with these claims.
    fn told(user: Option<u32>, claims: &[&str]) -> Vec<String> {
        let mut request = Request::new(());
        for claim in claims {
            request.headers_mut().append(PRINCIPAL, claim.parse().unwrap());
        }
        if let Some(uid) = user {
            request.extensions_mut().insert(LocalUser(uid));
        }
        tell_who_asks(NodeId(3), &mut request);
        let told = request.headers().get_all(PRINCIPAL).iter();
        told.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn whoever_calls_over_this_nodes_socket_is_who_the_kernel_says() {
        assert_eq!(told(Some(1000), &[]), ["3/1000"]);
        assert_eq!(told(Some(1000), &["3/0"]), ["3/1000"], "another user of this node");
        assert_eq!(told(Some(1000), &["1/0", "2/0"]), ["3/1000"], "users of other nodes");
    }

    #[test]
    fn a_claim_is_removed_also_where_it_is_not_known_who_calls() {
        assert_eq!(told(None, &["3/0"]), Vec::<String>::new());
        assert_eq!(told(None, &["1/0", "2/0"]), Vec::<String>::new());
    }
}
