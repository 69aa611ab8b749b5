//! A replicated table of keys and values, in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use blixard_core::ports::consensus::{ApplyHalt, Checkpoint, ReplicatedMachine, RestoreError};
use blixard_types::LogPosition;
use bytes::Bytes;
use prost::Message as _;

use crate::etcd::PutRequest;

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<BTreeMap<Bytes, Bytes>>);

impl Table {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Bytes, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReplicatedMachine for Table {
    fn apply(&self, position: LogPosition, command: &[u8]) -> Result<Vec<u8>, ApplyHalt> {
        match PutRequest::decode(command) {
            Ok(put) => {
                self.lock().insert(put.key, put.value);
                Ok(Vec::new())
            }
            Err(error) => Err(ApplyHalt { position, reason: error.to_string() }),
        }
    }

    fn checkpoint(&self) -> Checkpoint {
        let captured = self.lock().clone();
        Box::new(move || {
            let mut encoded = Vec::new();
            for (key, value) in captured {
                // A vector grows.
                PutRequest { key, value }.encode_length_delimited(&mut encoded).ok();
            }
            encoded
        })
    }

    fn restore(&self, mut checkpoint: &[u8]) -> Result<(), RestoreError> {
        let mut table = BTreeMap::new();
        while !checkpoint.is_empty() {
            let put = PutRequest::decode_length_delimited(&mut checkpoint)
                .map_err(|error| RestoreError { reason: error.to_string() })?;
            table.insert(put.key, put.value);
        }
        *self.lock() = table;
        Ok(())
    }
}
