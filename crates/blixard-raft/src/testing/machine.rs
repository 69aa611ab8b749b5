//! A replicated machine that keeps every command it was given.

use std::sync::{Arc, Mutex, MutexGuard};

use blixard_core::ports::consensus::{ApplyHalt, Checkpoint, ReplicatedMachine, RestoreError};
use blixard_types::LogPosition;

/// The command that this machine does not understand.
pub(crate) const UNKNOWN: &[u8] = b"from a newer version";

/// Applies a command by remembering it; the outcome is its number and itself.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Vec<Vec<u8>>>);

impl Recorder {
    pub(crate) const UNKNOWN: &[u8] = UNKNOWN;

    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn commands(&self) -> Vec<Vec<u8>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap()
    }
}

impl ReplicatedMachine for Recorder {
    fn apply(&self, position: LogPosition, command: &[u8]) -> Result<Vec<u8>, ApplyHalt> {
        if command == UNKNOWN {
            return Err(ApplyHalt { position, reason: "unknown command".to_owned() });
        }
        let mut commands = self.lock();
        commands.push(command.to_vec());
        Ok([format!("{}:", commands.len()).as_bytes(), command].concat())
    }

    fn checkpoint(&self) -> Checkpoint {
        let captured = self.commands();
        Box::new(move || serde_json::to_vec(&captured).unwrap())
    }

    fn restore(&self, checkpoint: &[u8]) -> Result<(), RestoreError> {
        let commands =
            serde_json::from_slice(checkpoint).map_err(|e| RestoreError { reason: e.to_string() })?;
        *self.lock() = commands;
        Ok(())
    }
}
