//! The signals of the bus that say something about run units.
//!
//! Owns: decoding, and the match rules that bring these signals and no others. Pure. Refuses to
//! know: who waits for them. Anybody on the bus may send a signal to anybody, so a signal counts
//! only with its sender, which the bus itself vouches for.

use zbus::Message;
use zbus::message::Type;
use zbus::zvariant::OwnedObjectPath;

use crate::unit_path;

/// The name of systemd on the bus.
pub(crate) const SYSTEMD: &str = "org.freedesktop.systemd1";
/// The name of the bus itself.
pub(crate) const BUS: &str = "org.freedesktop.DBus";

/// The interface of systemd itself.
pub(crate) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// The interface of everything that has properties.
pub(crate) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// What to ask the bus for. The first comes from the bus itself; the others from systemd.
pub(crate) const RULES: [&str; 6] = [
    "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',\
     member='NameOwnerChanged',arg0='org.freedesktop.systemd1'",
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',\
     member='JobRemoved'",
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',\
     member='UnitNew'",
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',\
     member='UnitRemoved'",
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',\
     member='Reloading'",
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.DBus.Properties',\
     member='PropertiesChanged',path_namespace='/org/freedesktop/systemd1/unit'",
];

/// One signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signal {
    /// systemd has another connection to the bus, or none.
    Owner {
        /// The unique name of the new one.
        now: Option<String>,
    },
    /// A job has ended.
    JobRemoved {
        /// Its object path.
        job: String,
        /// The unit it was for.
        unit: String,
        /// `done`, `failed`, `timeout`, `canceled` …
        result: String,
    },
    /// Something about a unit is different.
    Unit {
        /// The unit.
        name: String,
    },
    /// systemd has read its unit files again.
    Reloaded,
}

impl Signal {
    /// The signal in this message, if it is one of these and comes from the bus or from `systemd`,
    /// the unique name of systemd's connection.
    pub(crate) fn in_message(message: &Message, systemd: Option<&str>) -> Option<Self> {
        if message.message_type() != Type::Signal {
            return None;
        }
        let header = message.header();
        let sender = header.sender()?.as_str();
        let interface = header.interface()?.as_str();
        let member = header.member()?.as_str();
        if sender == BUS {
            return Self::of_bus(message, interface, member);
        }
        if systemd != Some(sender) {
            return None;
        }
        match (interface, member) {
            (PROPERTIES, "PropertiesChanged") => {
                unit_path::unit_at(header.path()?).map(|name| Self::Unit { name })
            }
            (MANAGER, member) => Self::of_manager(message, member),
            _ => None,
        }
    }

    fn of_bus(message: &Message, interface: &str, member: &str) -> Option<Self> {
        if (interface, member) != (BUS, "NameOwnerChanged") {
            return None;
        }
        let (name, _, now): (String, String, String) = message.body().deserialize().ok()?;
        (name == SYSTEMD).then(|| Self::Owner { now: Some(now).filter(|owner| !owner.is_empty()) })
    }

    fn of_manager(message: &Message, member: &str) -> Option<Self> {
        let body = message.body();
        match member {
            "JobRemoved" => {
                let (_, job, unit, result): (u32, OwnedObjectPath, String, String) =
                    body.deserialize().ok()?;
                let job = job.to_string();
                Some(Self::JobRemoved { job, unit, result })
            }
            "UnitNew" | "UnitRemoved" => {
                let (name, _): (String, OwnedObjectPath) = body.deserialize().ok()?;
                Some(Self::Unit { name })
            }
            // `true` is sent before it reads them.
            "Reloading" => (!body.deserialize::<bool>().ok()?).then_some(Self::Reloaded),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use zbus::zvariant::{DynamicType, ObjectPath};

    use super::*;

    const OWNER: &str = ":1.2";

    fn signal<B: Serialize + DynamicType>(
        sender: &str,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> Message {
        let signal = Message::signal(path, interface, member).unwrap();
        signal.sender(sender).unwrap().build(body).unwrap()
    }

    fn of_manager<B: Serialize + DynamicType>(member: &str, body: &B) -> Option<Signal> {
        let message = signal(OWNER, "/org/freedesktop/systemd1", MANAGER, member, body);
        Signal::in_message(&message, Some(OWNER))
    }

    fn job() -> (u32, ObjectPath<'static>, &'static str, &'static str) {
        let path = ObjectPath::try_from("/org/freedesktop/systemd1/job/9").unwrap();
        (9, path, "a.service", "done")
    }

    #[test]
    fn the_end_of_a_job_is_read_with_its_result() {
        assert_eq!(
            of_manager("JobRemoved", &job()),
            Some(Signal::JobRemoved {
                job: "/org/freedesktop/systemd1/job/9".to_owned(),
                unit: "a.service".to_owned(),
                result: "done".to_owned(),
            })
        );
    }

    #[test]
    fn a_signal_that_systemd_has_not_sent_is_ignored() {
        let forged = signal(":1.66", "/org/freedesktop/systemd1", MANAGER, "JobRemoved", &job());
        assert_eq!(Signal::in_message(&forged, Some(OWNER)), None);
        assert_eq!(Signal::in_message(&forged, None), None);
        let owner = (SYSTEMD, "", ":1.66");
        let forged = signal(":1.66", "/org/freedesktop/DBus", BUS, "NameOwnerChanged", &owner);
        assert_eq!(Signal::in_message(&forged, Some(OWNER)), None);
    }

    #[test]
    fn changed_properties_name_their_unit_by_path() {
        let path = "/org/freedesktop/systemd1/unit/a_2eservice";
        let message = signal(OWNER, path, PROPERTIES, "PropertiesChanged", &());
        assert_eq!(
            Signal::in_message(&message, Some(OWNER)),
            Some(Signal::Unit { name: "a.service".to_owned() })
        );
    }

    #[test]
    fn only_the_end_of_a_reload_counts() {
        assert_eq!(of_manager("Reloading", &true), None);
        assert_eq!(of_manager("Reloading", &false), Some(Signal::Reloaded));
    }

    #[test]
    fn the_owner_of_systemds_name_comes_from_the_bus() {
        let owner = |now: &str| {
            let body = (SYSTEMD, OWNER, now);
            let message = signal(BUS, "/org/freedesktop/DBus", BUS, "NameOwnerChanged", &body);
            Signal::in_message(&message, Some(OWNER))
        };
        assert_eq!(owner(""), Some(Signal::Owner { now: None }));
        assert_eq!(owner(":1.9"), Some(Signal::Owner { now: Some(":1.9".to_owned()) }));
    }
}
