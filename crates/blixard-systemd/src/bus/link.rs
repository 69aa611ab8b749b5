//! One live connection to systemd: the calls that run units need, each a method.
//!
//! Owns: names and shapes of D-Bus methods. Refuses to know: what a sequence of calls is for, and
//! how a connection comes to be.

use std::sync::Arc;

use futures_util::future::try_join_all;
use serde::de::DeserializeOwned;
use serde::ser::Serialize;
use systemd_zbus::{ManagerProxy, Mode};
use tokio::sync::Semaphore;
use zbus::Connection;
use zbus::proxy::CacheProperties;
use zbus::zvariant::{DynamicType, OwnedFd, OwnedObjectPath, OwnedValue, Type};

use super::jobs::{JobNews, Jobs, Ticket};
use super::signal::{BUS, MANAGER, PROPERTIES, RULES, SYSTEMD};
use crate::error::CallError;
use crate::observed::UnitProperties;
use crate::settings::Setting;

/// The interface of services.
const SERVICE: &str = "org.freedesktop.systemd1.Service";

const LOGIND: &str = "org.freedesktop.login1";
const LOGIND_MANAGER: &str = "org.freedesktop.login1.Manager";

const MANAGER_PATH: &str = "/org/freedesktop/systemd1";

/// An entry of `ListUnitsByPatterns`: name, description, load, active and sub state, followed unit,
/// object path, job id, job type, job path. Read as text: a state that a newer systemd invents must
/// not make the whole list unreadable.
type ListedUnit =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// The object path of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobPath(String);

impl JobPath {
    /// systemd ends the path with the job's number.
    fn id(&self) -> Option<u32> {
        self.0.rsplit('/').next()?.parse().ok()
    }
}

/// What the end of a job was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobEnd {
    /// Heard: `done`, `failed` …
    Result(String),
    /// It has ended while nobody could hear it.
    Unheard,
}

/// Calls under way at once. The bus refuses a call beyond 128 pending replies of one connection
/// (`max_replies_per_connection` of dbus-daemon); half of that keeps PID 1 as busy.
const CALLS_AT_ONCE: usize = 64;

/// A connection with its waiters.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    connection: Connection,
    manager: ManagerProxy<'static>,
    calls: Arc<Semaphore>,
    jobs: Arc<Jobs>,
}

impl Link {
    pub(super) async fn new(connection: Connection) -> Result<Self, CallError> {
        let manager =
            ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
        Ok(Self {
            connection,
            manager,
            calls: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
            jobs: Arc::new(Jobs::new()),
        })
    }

    pub(super) fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Asks the bus for the signals of systemd, and says who systemd is on the bus.
    pub(super) async fn listen(&self) -> Result<String, CallError> {
        for rule in RULES {
            let () = self.call(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", &rule).await?;
        }
        self.subscribe().await?;
        self.call(BUS, "/org/freedesktop/DBus", BUS, "GetNameOwner", &SYSTEMD).await
    }

    /// Asks systemd to send signals at all; it sends none while nobody has asked.
    pub(super) async fn subscribe(&self) -> Result<(), CallError> {
        match self.in_turn(self.manager.subscribe()).await {
            Err(CallError::AlreadySubscribed) => Ok(()),
            result => result,
        }
    }

    /// Registers for the end of a job of this unit, before it is made.
    pub(crate) fn expect_job(&self, unit: &str) -> Ticket {
        self.jobs.expect(unit)
    }

    pub(crate) async fn start_transient(
        &self,
        unit: &str,
        settings: &[Setting],
    ) -> Result<JobPath, CallError> {
        // `Mode::Fail`: a job that is queued for the unit already is not replaced.
        let call = self.manager.start_transient_unit(unit, Mode::Fail, settings, &[]);
        Ok(JobPath(self.in_turn(call).await?.to_string()))
    }

    /// Starts a unit that is installed.
    pub(crate) async fn start(&self, unit: &str) -> Result<JobPath, CallError> {
        let call = self.manager.start_unit(unit, Mode::Replace);
        Ok(JobPath(self.in_turn(call).await?.to_string()))
    }

    pub(crate) async fn stop(&self, unit: &str) -> Result<JobPath, CallError> {
        let call = self.manager.stop_unit(unit, Mode::Replace);
        Ok(JobPath(self.in_turn(call).await?.to_string()))
    }

    pub(crate) async fn reset_failed(&self, unit: &str) -> Result<(), CallError> {
        self.in_turn(self.manager.reset_failed_unit(unit)).await
    }

    /// Gives up the reference that a unit was started with (`AddRef`).
    pub(crate) async fn unreference(&self, unit: &str) -> Result<(), CallError> {
        self.call(SYSTEMD, MANAGER_PATH, MANAGER, "UnrefUnit", &unit).await
    }

    /// One property of a loaded service.
    pub(crate) async fn service_property<T>(&self, unit: &str, name: &str) -> Result<T, CallError>
    where
        T: TryFrom<OwnedValue, Error: std::fmt::Display>,
    {
        let path = self.in_turn(self.manager.get_unit(unit)).await?;
        let value: OwnedValue = self.call(SYSTEMD, &path, PROPERTIES, "Get", &(SERVICE, name)).await?;
        T::try_from(value).map_err(|cause| CallError::Refused { reason: format!("{name}: {cause}") })
    }

    /// Has logind refuse to let the machine sleep for as long as the file is open.
    pub(crate) async fn inhibit_sleep(&self, who: &str, why: &str) -> Result<OwnedFd, CallError> {
        self.call(LOGIND, "/org/freedesktop/login1", LOGIND_MANAGER, "Inhibit", &("sleep", who, why, "block"))
            .await
    }

    /// Waits for the end of a job, heard or not.
    pub(crate) async fn job_end(&self, ticket: &mut Ticket, job: &JobPath) -> Result<JobEnd, CallError> {
        loop {
            match ticket.news_of(&job.0).await {
                JobNews::Ended(result) => return Ok(JobEnd::Result(result)),
                JobNews::Doubt if self.has_job(job).await? => {}
                JobNews::Doubt => return Ok(JobEnd::Unheard),
                JobNews::Closed => {
                    let reason = "the connection was lost while a job ran".to_owned();
                    return Err(CallError::Unreachable { reason });
                }
            }
        }
    }

    async fn has_job(&self, job: &JobPath) -> Result<bool, CallError> {
        let Some(id) = job.id() else { return Ok(false) };
        match self.in_turn(self.manager.get_job(id)).await {
            Ok(_) => Ok(true),
            Err(CallError::NoSuchJob) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The properties of a unit; `None` if it is not loaded.
    pub(crate) async fn unit(&self, name: &str) -> Result<Option<UnitProperties>, CallError> {
        match self.in_turn(self.manager.get_unit(name)).await {
            Ok(path) => self.properties(&path).await,
            Err(CallError::NoSuchUnit) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a unit of that name is loaded.
    pub(crate) async fn is_loaded(&self, name: &str) -> Result<bool, CallError> {
        match self.in_turn(self.manager.get_unit(name)).await {
            Ok(_) => Ok(true),
            Err(CallError::NoSuchUnit) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Name and object path of the loaded units that match a shell pattern.
    pub(crate) async fn units(&self, pattern: &str) -> Result<Vec<(String, OwnedObjectPath)>, CallError> {
        let arguments = (Vec::<&str>::new(), vec![pattern]);
        let listed: Vec<ListedUnit> =
            self.call(SYSTEMD, MANAGER_PATH, MANAGER, "ListUnitsByPatterns", &arguments).await?;
        Ok(listed.into_iter().map(|unit| (unit.0, unit.6)).collect())
    }

    /// The properties of the unit at this path; `None` if there is none.
    ///
    /// Each is a call of its own, all under way together: to gather all that it knows of a unit
    /// (`GetAll`), PID 1 reads a dozen cgroup files, which takes it five times as long. What changes
    /// between two reads is announced after both.
    pub(crate) async fn properties(
        &self,
        path: &OwnedObjectPath,
    ) -> Result<Option<UnitProperties>, CallError> {
        let read = |(interface, name): (&'static str, &'static str)| async move {
            let value: OwnedValue = self.call(SYSTEMD, path, PROPERTIES, "Get", &(interface, name)).await?;
            Ok::<_, CallError>((name, value))
        };
        Ok(UnitProperties::new(try_join_all(UnitProperties::READ.map(read)).await?))
    }

    async fn call<B, R>(
        &self,
        destination: &str,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<R, CallError>
    where
        B: Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        let call = self.connection.call_method(Some(destination), path, Some(interface), method, body);
        let reply = self.in_turn(call).await?;
        Ok(reply.body().deserialize()?)
    }

    /// Makes a call when fewer than [`CALLS_AT_ONCE`] are under way.
    async fn in_turn<T>(&self, call: impl Future<Output = zbus::Result<T>>) -> Result<T, CallError> {
        // The semaphore is never closed; if it were, the call would just not wait.
        let _turn = self.calls.acquire().await;
        Ok(call.await?)
    }
}
