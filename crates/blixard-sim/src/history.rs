//! What clients asked and what they were told: a history of operations on registers.
//!
//! Owns the order of their beginnings and ends. All nodes are in one thread, so that a counter is a
//! clock that everybody agrees on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What was asked.
    pub action: Action,
    /// When it was asked.
    pub begun: u64,
    /// When it was answered; none if it never was, so that it may have happened at any time since.
    pub ended: Option<u64>,
}

/// What is done to a register. Every value is written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Sets it.
    Write(u64),
    /// Finds this in it; nothing was ever written otherwise.
    Read(Option<u64>),
}

/// A history; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    now: u64,
    registers: BTreeMap<u64, Vec<Operation>>,
}

/// A write that was begun.
#[derive(Debug)]
pub struct Begun {
    register: u64,
    at: usize,
}

impl History {
    /// The time, which passes.
    pub fn now(&self) -> u64 {
        let mut inner = self.lock();
        inner.now += 1;
        inner.now
    }

    /// Notes that a write is asked for.
    pub fn begin(&self, register: u64, value: u64) -> Begun {
        let begun = self.now();
        let mut inner = self.lock();
        let operations = inner.registers.entry(register).or_default();
        operations.push(Operation { action: Action::Write(value), begun, ended: None });
        Begun { register, at: operations.len() - 1 }
    }

    /// Notes that it was acknowledged.
    pub fn acknowledge(&self, write: &Begun) {
        let now = self.now();
        let mut inner = self.lock();
        let operations = inner.registers.get_mut(&write.register);
        if let Some(operation) = operations.and_then(|operations| operations.get_mut(write.at)) {
            operation.ended = Some(now);
        }
    }

    /// Notes a read that was answered.
    pub fn read(&self, register: u64, found: Option<u64>, begun: u64) {
        let ended = Some(self.now());
        let operation = Operation { action: Action::Read(found), begun, ended };
        self.lock().registers.entry(register).or_default().push(operation);
    }

    /// The operations on each register.
    pub fn registers(&self) -> BTreeMap<u64, Vec<Operation>> {
        self.lock().registers.clone()
    }

    /// The values whose writes were acknowledged.
    pub fn acknowledged(&self) -> Vec<u64> {
        let written = |operation: &Operation| match operation.action {
            Action::Write(value) if operation.ended.is_some() => Some(value),
            _ => None,
        };
        self.lock().registers.values().flatten().filter_map(written).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
