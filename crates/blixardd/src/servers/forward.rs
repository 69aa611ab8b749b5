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
        // Whatever the caller says of itself, it is who the kernel says.
        request.headers_mut().remove(PRINCIPAL);
        if let Some(&LocalUser(uid)) = request.extensions().get::<LocalUser>()
            && let Ok(user) = format!("{}/{uid}", self.servers.node).parse()
        {
            request.headers_mut().insert(PRINCIPAL, user);
        }
        let servers = self.servers.clone();
        Box::pin(async move { Ok(pass_on(servers, request).await.unwrap_or_else(Status::into_http)) })
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
