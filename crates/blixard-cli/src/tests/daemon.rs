//! A daemon that answers from a script and remembers what it was asked.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use blixard_proto::v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use blixard_proto::v1::deploy_service_server::{DeployService, DeployServiceServer};
use blixard_proto::v1::placement_service_server::{PlacementService, PlacementServiceServer};
use blixard_proto::v1::vm_service_server::{VmService, VmServiceServer};
use blixard_proto::v1::volume_service_server::{VolumeService, VolumeServiceServer};
use blixard_proto::v1::{
    CreateTokenRequest, CreateTokenResponse, DeclareLostRequest, DeclareLostResponse, DeleteVmRequest,
    DeleteVmResponse, DeployEvent, DeployRequest, ExplainVmRequest, ExplainVmResponse, GetVmRequest,
    InitRequest, InitResponse, ListNodesRequest, ListNodesResponse, ListVmsRequest, ListVmsResponse, LogLine,
    LogsRequest, RemoveNodeRequest, RemoveNodeResponse, RestartVmRequest, SetAdmissionRequest,
    SetAdmissionResponse, SetDesiredRequest, StatusRequest, StatusResponse, UploadRequest, UploadResponse,
    Vm, WatchRequest, WatchResponse, upload_request, upload_response,
};
use blixard_proto::v1::{
    DeleteVolumeRequest, DeleteVolumeResponse, ForgetVolumesRequest, ForgetVolumesResponse,
};
use blixard_proto::v1::{ForgottenVolume, ListVolumesRequest, ListVolumesResponse, Volume};
use blixard_proto::v1::{RebalanceRequest, RebalanceResponse, SetPreemptionRequest, SetPreemptionResponse};
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// What the daemon answers; what is not said is an empty answer.
#[derive(Default)]
pub(super) struct Script {
    pub(super) vms: Vec<Vm>,
    pub(super) volumes: Vec<Volume>,
    pub(super) forgotten: Vec<ForgottenVolume>,
    /// To start and stop.
    pub(super) changed: Option<Result<Vm, Status>>,
    pub(super) gone: bool,
    pub(super) log: Vec<Result<LogLine, Status>>,
    /// Lines go on for ever after those.
    pub(super) endless: bool,
    pub(super) nodes: ListNodesResponse,
    pub(super) status: StatusResponse,
    pub(super) removed: RemoveNodeResponse,
    pub(super) admitted: SetAdmissionResponse,
    pub(super) rebalanced: RebalanceResponse,
    pub(super) explained: ExplainVmResponse,
    pub(super) watched: Vec<WatchResponse>,
    pub(super) events: Vec<Result<DeployEvent, Status>>,
    /// Sources that the store lacks.
    pub(super) wanted: Vec<String>,
    /// What becomes of an upload, once its first piece has come.
    pub(super) refused: Option<Status>,
    /// After the events nothing comes, not even the end.
    pub(super) hang: bool,
}

/// A running daemon.
pub(super) struct Daemon {
    folder: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
    _server: JoinSet<Result<(), tonic::transport::Error>>,
}

impl Daemon {
    /// Starts a daemon with a script.
    pub(super) fn start(script: Script) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let asked = Arc::default();
        let services = Services { script: Arc::new(script), asked: Arc::clone(&asked) };
        let socket = UnixListener::bind(folder.path().join("socket")).unwrap();
        let router = tonic::transport::Server::builder()
            .add_service(VmServiceServer::new(services.clone()))
            .add_service(VolumeServiceServer::new(services.clone()))
            .add_service(PlacementServiceServer::new(services.clone()))
            .add_service(ClusterServiceServer::new(services.clone()))
            .add_service(DeployServiceServer::new(services));
        let mut server = JoinSet::new();
        server.spawn(router.serve_with_incoming(UnixListenerStream::new(socket)));
        Self { folder, asked, _server: server }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Every call so far, a line each.
    pub(super) fn asked(&self) -> String {
        self.asked.lock().unwrap().join("\n")
    }
}

#[derive(Clone)]
struct Services {
    script: Arc<Script>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Services {
    fn note(&self, call: String) {
        self.asked.lock().unwrap().push(call);
    }

    fn vm(&self, name: &str) -> Result<Vm, Status> {
        let vm = self.script.vms.iter().find(|vm| vm.vm == name);
        let unknown = || {
            let status = Status::not_found(format!("no vm {name}"));
            blixard_proto::hint::with_hint(status, "`blixard vm list` shows the vms there are")
        };
        vm.cloned().ok_or_else(unknown)
    }
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl VmService for Services {
    async fn list(&self, request: Request<ListVmsRequest>) -> Result<Response<ListVmsResponse>, Status> {
        let tenant = request.into_inner().tenant;
        self.note(format!("list {tenant:?}"));
        let mut vms = self.script.vms.clone();
        vms.retain(|vm| tenant.is_empty() || vm.vm.starts_with(&format!("{tenant}/")));
        Ok(Response::new(ListVmsResponse { vms, revision: 42 }))
    }

    async fn get(&self, request: Request<GetVmRequest>) -> Result<Response<Vm>, Status> {
        let vm = request.into_inner().vm;
        self.note(format!("get {vm}"));
        self.vm(&vm).map(Response::new)
    }

    async fn explain(
        &self,
        request: Request<ExplainVmRequest>,
    ) -> Result<Response<ExplainVmResponse>, Status> {
        self.note(format!("explain {}", request.into_inner().vm));
        Ok(Response::new(self.script.explained.clone()))
    }

    async fn set_desired(&self, request: Request<SetDesiredRequest>) -> Result<Response<Vm>, Status> {
        let request = request.into_inner();
        let desired = request.desired();
        let id = request.request_id.len();
        self.note(format!("set {} {desired:?} wait {} ms, id of {id} bytes", request.vm, request.wait_ms));
        match &self.script.changed {
            Some(answer) => answer.clone().map(Response::new),
            None => self.vm(&request.vm).map(Response::new),
        }
    }

    async fn restart(&self, request: Request<RestartVmRequest>) -> Result<Response<Vm>, Status> {
        let request = request.into_inner();
        let id = request.request_id.len();
        self.note(format!("restart {} wait {} ms, id of {id} bytes", request.vm, request.wait_ms));
        match &self.script.changed {
            Some(answer) => answer.clone().map(Response::new),
            None => self.vm(&request.vm).map(Response::new),
        }
    }

    async fn delete(&self, request: Request<DeleteVmRequest>) -> Result<Response<DeleteVmResponse>, Status> {
        let request = request.into_inner();
        let id = request.request_id.len();
        let files = if request.discard_files { "with its files " } else { "" };
        self.note(format!("delete {} {files}wait {} ms, id of {id} bytes", request.vm, request.wait_ms));
        let host = self.vm(&request.vm)?.node;
        let kept_on = if request.discard_files { String::new() } else { host };
        Ok(Response::new(DeleteVmResponse { gone: self.script.gone, kept_on }))
    }

    type LogsStream = Streamed<LogLine>;

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        self.note(format!("logs {} tail {:?} follow {}", request.vm, request.tail, request.follow));
        let lines = stream::iter(self.script.log.clone());
        if !self.script.endless {
            return Ok(Response::new(lines.boxed()));
        }
        let more = stream::repeat_with(|| Ok(LogLine { at_ms: 0, text: "tick".to_owned() }));
        Ok(Response::new(lines.chain(more).boxed()))
    }
}

#[tonic::async_trait]
impl VolumeService for Services {
    async fn list(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let tenant = request.into_inner().tenant;
        let mut volumes = self.script.volumes.clone();
        volumes.retain(|volume| tenant.is_empty() || volume.volume.starts_with(&format!("{tenant}/")));
        Ok(Response::new(ListVolumesResponse { volumes, revision: 42 }))
    }

    async fn delete(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let DeleteVolumeRequest { request_id, volume: id, wait_ms, dry_run } = request.into_inner();
        self.note(format!(
            "delete {id} wait {wait_ms} ms, dry run {dry_run}, id of {} bytes",
            request_id.len()
        ));
        let volume = self.script.volumes.iter().find(|volume| volume.volume == id).cloned();
        let volume = Some(volume.ok_or_else(|| Status::not_found(format!("there is no volume {id}")))?);
        Ok(Response::new(DeleteVolumeResponse { volume, gone: self.script.gone && !dry_run }))
    }

    async fn forget(
        &self,
        request: Request<ForgetVolumesRequest>,
    ) -> Result<Response<ForgetVolumesResponse>, Status> {
        let ForgetVolumesRequest { request_id, vm, name, dry_run } = request.into_inner();
        self.note(format!("forget {vm} {name:?}, dry run {dry_run}, id of {} bytes", request_id.len()));
        Ok(Response::new(ForgetVolumesResponse { volumes: self.script.forgotten.clone() }))
    }
}

#[tonic::async_trait]
impl ClusterService for Services {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.script.status.clone()))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        Ok(Response::new(self.script.nodes.clone()))
    }

    async fn init(&self, _: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        let authority = vec![0xab; 32].into();
        Ok(Response::new(InitResponse { authority, address: "a:7440".to_owned() }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let CreateTokenRequest { request_id, roles, ttl_ms } = request.into_inner();
        self.note(format!("token {roles:?} for {ttl_ms} ms, id of {} bytes", request_id.len()));
        Ok(Response::new(CreateTokenResponse { token: "blixard1.x".to_owned(), roles, expires_at_ms: 1000 }))
    }

    async fn remove_node(
        &self,
        request: Request<RemoveNodeRequest>,
    ) -> Result<Response<RemoveNodeResponse>, Status> {
        let request = request.into_inner();
        self.note(format!("remove {} wait {} ms", request.node, request.wait_ms));
        Ok(Response::new(self.script.removed.clone()))
    }

    async fn set_admission(
        &self,
        request: Request<SetAdmissionRequest>,
    ) -> Result<Response<SetAdmissionResponse>, Status> {
        let SetAdmissionRequest { node, max_parallel, deadline_in_ms, wait_ms, .. } = request.get_ref();
        let admission = request.get_ref().admission();
        let how = format!("{max_parallel} at a time, until {deadline_in_ms:?} ms, wait {wait_ms} ms");
        self.note(format!("{node} {admission:?}, {how}"));
        Ok(Response::new(self.script.admitted.clone()))
    }

    async fn declare_lost(
        &self,
        request: Request<DeclareLostRequest>,
    ) -> Result<Response<DeclareLostResponse>, Status> {
        let DeclareLostRequest { node, force, .. } = request.into_inner();
        self.note(format!("lost {node}{}", if force { " by force" } else { "" }));
        let warnings = if force { vec!["its daemon\nanswers".to_owned()] } else { Vec::new() };
        Ok(Response::new(DeclareLostResponse { node, vms: 2, warnings }))
    }

    type WatchStream = Streamed<WatchResponse>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        self.note(format!("watch after {:?} known only {}", request.after_revision, request.known_only));
        Ok(Response::new(stream::iter(self.script.watched.clone()).map(Ok).boxed()))
    }
}

#[tonic::async_trait]
impl PlacementService for Services {
    async fn rebalance(
        &self,
        request: Request<RebalanceRequest>,
    ) -> Result<Response<RebalanceResponse>, Status> {
        let RebalanceRequest { request_id, dry_run, max_parallel, wait_ms, stop } = request.into_inner();
        let how = format!("{max_parallel} at a time, wait {wait_ms} ms, id of {} bytes", request_id.len());
        self.note(format!("rebalance dry {dry_run} stop {stop}, {how}"));
        Ok(Response::new(self.script.rebalanced.clone()))
    }

    async fn set_preemption(
        &self,
        request: Request<SetPreemptionRequest>,
    ) -> Result<Response<SetPreemptionResponse>, Status> {
        let on = request.into_inner().on;
        self.note(format!("preemption {on}"));
        Ok(Response::new(SetPreemptionResponse { on, revision: 42 }))
    }
}

#[tonic::async_trait]
impl DeployService for Services {
    type DeployStream = Streamed<DeployEvent>;

    async fn deploy(&self, request: Request<DeployRequest>) -> Result<Response<Self::DeployStream>, Status> {
        let request = request.into_inner();
        let (source, id) = (request.source.unwrap_or_default(), request.request_id.len());
        self.note(format!(
            "deploy {:?} take over {}, id of {id} bytes\n{source:#?}",
            request.attributes, request.take_over
        ));
        let events = stream::iter(self.script.events.clone());
        if self.script.hang {
            return Ok(Response::new(events.chain(stream::pending()).boxed()));
        }
        Ok(Response::new(events.boxed()))
    }

    type UploadStream = Streamed<UploadResponse>;

    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        let (own, parts) = (self.clone(), request.into_inner());
        let (answers, queue) = mpsc::channel(1);
        let work = async move { own.take(parts, answers).await.err().map(Err) };
        let refusal = work.into_stream().filter_map(std::future::ready);
        Ok(Response::new(stream::select(ReceiverStream::new(queue), refusal).boxed()))
    }
}

impl Services {
    /// Takes what is wanted, then waits for the end of the call.
    async fn take(
        &self,
        mut parts: Streaming<UploadRequest>,
        answers: mpsc::Sender<Result<UploadResponse, Status>>,
    ) -> Result<(), Status> {
        use upload_request::Part;
        let answer = |event| answers.send(Ok(UploadResponse { event: Some(event) }));
        if let Some(UploadRequest { part: Some(Part::Offer(offer)) }) = parts.message().await? {
            let offered: Vec<String> = offer.sources.into_iter().map(|source| source.path).collect();
            self.note(format!("upload of {}", offered.join(" ")));
        }
        let paths = self.script.wanted.clone();
        let _ = answer(upload_response::Event::Wanted(upload_response::Wanted { paths })).await;
        for path in self.script.wanted.clone() {
            let mut size = 0;
            while let Some(UploadRequest { part: Some(Part::Nar(bytes)) }) = parts.message().await? {
                if let Some(refused) = &self.script.refused {
                    return Err(refused.clone());
                }
                size += bytes.len();
            }
            self.note(format!("took {path} of {size} bytes"));
            let _ = answer(upload_response::Event::Taken(upload_response::Taken { path })).await;
        }
        parts.message().await.map(drop)
    }
}
