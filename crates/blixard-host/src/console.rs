//! `ConsoleService`: the consoles of this host's vms, from its journal.

use std::pin::Pin;
use std::sync::Arc;

use blixard_core::ports::journal::{Journal, LogQuery};
use blixard_proto::v1::console_service_server::{ConsoleService, ConsoleServiceServer};
use blixard_proto::v1::{LogLine, LogsRequest};
use blixard_proto::vm_id;
use blixard_types::unit::RunUnitName;
use futures_util::{Stream, StreamExt};
use tonic::{Request, Response, Status};

/// The service over a journal.
#[must_use]
pub fn service(journal: Arc<dyn Journal>) -> ConsoleServiceServer<ConsoleApi> {
    ConsoleServiceServer::new(ConsoleApi { journal })
}

/// Serves consoles.
pub struct ConsoleApi {
    journal: Arc<dyn Journal>,
}

#[tonic::async_trait]
impl ConsoleService for ConsoleApi {
    type LinesStream = Pin<Box<dyn Stream<Item = Result<LogLine, Status>> + Send>>;

    async fn lines(&self, request: Request<LogsRequest>) -> Result<Response<Self::LinesStream>, Status> {
        let request = request.into_inner();
        let unit = RunUnitName::of(&vm_id(&request.vm)?);
        let query = LogQuery { tail: request.tail, follow: request.follow };
        let lines = self.journal.lines(unit, query).await;
        let lines = lines.map_err(|error| Status::unavailable(error.to_string()))?;
        let lines = lines.map(|line| match line {
            Ok(line) => Ok(LogLine { at_ms: line.at.0, text: line.text }),
            Err(error) => Err(Status::unavailable(error.to_string())),
        });
        Ok(Response::new(Box::pin(lines)))
    }
}
