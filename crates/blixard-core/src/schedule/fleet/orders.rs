//! The orders of the hosts, one for each requirement that was asked for not long ago.

use std::collections::BTreeMap;

use crate::schedule::choose::Order;
use crate::schedule::shape::Requirement;

/// Orders kept. Each is put right whenever something comes to a host or goes; making one anew takes as long as
/// looking at every host.
const ORDERS_KEPT: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Orders {
    orders: BTreeMap<Requirement, (Order, u64)>,
    asked: u64,
}

impl Orders {
    /// The order for a requirement, filled if it is not there.
    pub(super) fn get(&mut self, requirement: &Requirement, fill: impl FnOnce(&mut Order)) -> &Order {
        self.asked += 1;
        if !self.orders.contains_key(requirement) {
            self.make_room();
            let mut order = Order::default();
            fill(&mut order);
            self.orders.insert(requirement.clone(), (order, self.asked));
        }
        let (order, asked) = self.orders.entry(requirement.clone()).or_default();
        *asked = self.asked;
        order
    }

    fn make_room(&mut self) {
        if self.orders.len() < ORDERS_KEPT {
            return;
        }
        let oldest = self.orders.iter().min_by_key(|(_, (_, asked))| *asked).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            self.orders.remove(&oldest);
        }
    }

    pub(super) fn update(&mut self, mut change: impl FnMut(&Requirement, &mut Order)) {
        self.orders.iter_mut().for_each(|(requirement, (order, _))| change(requirement, order));
    }
}
