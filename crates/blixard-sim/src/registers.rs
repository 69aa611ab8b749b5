//! The replicated machine of a simulated node: registers, and every entry that made them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blixard_core::ports::consensus::{ApplyHalt, Checkpoint, ReplicatedMachine, RestoreError};
use blixard_types::{LogPosition, NodeId};
use serde::{Deserialize, Serialize};

use crate::audit::Audit;

/// Sets a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// Which.
    pub register: u64,
    /// To what.
    pub value: u64,
}

/// What the log has made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    registers: BTreeMap<u64, u64>,
    /// Index, term and value of every entry.
    entries: Vec<(u64, u64, u64)>,
}

impl State {
    /// Whether this value was ever written.
    pub fn has(&self, value: u64) -> bool {
        self.entries.iter().any(|entry| entry.2 == value)
    }

    /// How many writes there were.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The machine of one node, from one start to the next.
#[derive(Debug)]
pub struct Registers {
    node: NodeId,
    audit: Audit,
    state: Mutex<State>,
}

impl Registers {
    /// An empty machine.
    pub fn new(node: NodeId, audit: Audit) -> Arc<Self> {
        Arc::new(Self { node, audit, state: Mutex::default() })
    }

    /// What is in a register.
    pub fn get(&self, register: u64) -> Option<u64> {
        self.lock().registers.get(&register).copied()
    }

    /// A copy of the state.
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReplicatedMachine for Registers {
    fn apply(&self, position: LogPosition, command: &[u8]) -> Result<Vec<u8>, ApplyHalt> {
        let set: Set = serde_json::from_slice(command)
            .map_err(|error| ApplyHalt { position, reason: error.to_string() })?;
        let mut state = self.lock();
        let last = state.entries.last().map_or(0, |entry| entry.0);
        self.audit.applied(self.node, last, position, set.value);
        state.registers.insert(set.register, set.value);
        state.entries.push((position.index, position.term, set.value));
        Ok(Vec::new())
    }

    fn checkpoint(&self) -> Checkpoint {
        let state = self.state();
        Box::new(move || serde_json::to_vec(&state).unwrap_or_default())
    }

    fn restore(&self, checkpoint: &[u8]) -> Result<(), RestoreError> {
        let state: State =
            serde_json::from_slice(checkpoint).map_err(|error| RestoreError { reason: error.to_string() })?;
        self.audit.restored(self.node, &state.entries);
        *self.lock() = state;
        Ok(())
    }
}
