//! Who belongs to the cluster: tokens, joining, certificates, going.
//!
//! ```text
//! token ─ AdmitNode ─▶ member ─ RemoveNode ─▶ leaving ─ ForgetNode ─▶ gone, its certificates with it
//! ```

use std::collections::BTreeMap;

use blixard_types::{CertificateSerial, NodeAddress, NodeId, Sha256Hash};

use super::{Moment, Rejection};
use crate::apply::rejection::MembershipRejection as Refused;
use crate::command::{AdmitNode, MembershipCommand, Outcome};
use crate::ports::UnixMillis;
use crate::state::{
    CERTIFICATES_KEPT, REMOVED_REMEMBERED, TOKEN_REMEMBERED_MS, TOKEN_TTL_MAX_MS, TOKENS_MAX,
};
use crate::state::{ClusterState, Departure, EventKind, Node, RemovedNode, Role, Roles, Token, TokenUse, Vm};

impl ClusterState {
    pub(super) fn change_membership(
        &mut self,
        command: &MembershipCommand,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        match command {
            MembershipCommand::AdoptAuthority { fingerprint } => self.adopt_authority(*fingerprint, moment),
            MembershipCommand::SetAddress { node, address } => self.set_address(*node, address, moment),
            MembershipCommand::CreateToken { token, roles, ttl_ms } => {
                self.create_token(*token, roles, *ttl_ms, moment)
            }
            MembershipCommand::AdmitNode(admit) => self.admit_node(admit, moment),
            MembershipCommand::CertifyNode { node, shown } => self.certify_node(*node, *shown, moment),
            MembershipCommand::RemoveNode { node } => self.remove_node(*node, moment),
            MembershipCommand::ForgetNode { node } => self.forget_node(*node, moment),
        }
    }

    fn adopt_authority(&mut self, fingerprint: Sha256Hash, moment: Moment) -> Result<Outcome, Rejection> {
        match self.registry.authority {
            Some(present) if present == fingerprint => Ok(Outcome::Unchanged),
            Some(_) => Err(Refused::OtherAuthority.into()),
            None => {
                self.registry.authority = Some(fingerprint);
                Ok(moment.changed())
            }
        }
    }

    fn set_address(
        &mut self,
        id: NodeId,
        address: &NodeAddress,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        let node = self.known_node(id)?;
        if node.address.as_ref() == Some(address) {
            return Ok(Outcome::Unchanged);
        }
        node.address = Some(address.clone());
        let name = node.name.clone();
        self.note(moment, EventKind::NodeRegistered { node: id, name });
        Ok(moment.changed())
    }

    fn create_token(
        &mut self,
        token: Sha256Hash,
        roles: &Roles,
        ttl_ms: u64,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        if self.registry.authority.is_none() {
            return Err(Refused::NoAuthority.into());
        }
        if roles.is_empty() {
            return Err(Refused::TokenWithoutRoles.into());
        }
        if !(1..=TOKEN_TTL_MAX_MS).contains(&ttl_ms) {
            return Err(Refused::TokenLifetime { ttl_ms }.into());
        }
        if self.registry.tokens.contains_key(&token) {
            return Err(Refused::TokenKnown.into());
        }
        let kept = |token: &Token| is_kept(token, moment.at);
        if self.registry.tokens.values().filter(|token| kept(token)).count() >= TOKENS_MAX {
            return Err(Refused::TooManyTokens.into());
        }
        self.registry.tokens.retain(|_, token| kept(token));
        let expires = UnixMillis(moment.at.0.saturating_add(ttl_ms));
        self.registry.tokens.insert(token, Token { roles: roles.clone(), expires, used: None });
        self.note(moment, EventKind::TokenCreated { roles: roles.clone(), expires });
        Ok(moment.changed())
    }

    /// A token makes one node. Two machines that race with it are told apart by their keys; the one that
    /// won may ask again, and gets the same node with another certificate.
    fn admit_node(&mut self, admit: &AdmitNode, moment: Moment) -> Result<Outcome, Rejection> {
        let token = self.registry.tokens.get(&admit.token).ok_or(Refused::UnknownToken)?;
        if let Some(used) = token.used {
            if used.key != admit.key || !self.nodes.contains_key(&used.node) {
                return Err(Refused::TokenUsed.into());
            }
            return self.certify_node(used.node, None, moment);
        }
        if moment.at > token.expires {
            return Err(Refused::TokenExpired.into());
        }
        if !admit.roles.is_subset(&token.roles) || admit.roles.is_empty() {
            return Err(
                Refused::TokenRoles { wanted: admit.roles.clone(), allowed: token.roles.clone() }.into()
            );
        }
        if admit.roles.contains(&Role::Server) && admit.address.is_none() {
            return Err(Refused::ServerWithoutAddress.into());
        }
        if let Some((other, _)) = self.node_by_name(&admit.name) {
            return Err(Rejection::NameTaken { name: admit.name.clone(), other });
        }
        let id = self.registry.highest_node.next();
        let fence = self.fence_of(id, admit.roles.contains(&Role::Host));
        let node = Node::new(admit.name.clone(), admit.roles.clone(), fence);
        let node = Node { address: admit.address.clone(), ..node };
        self.nodes.insert(id, node);
        self.registry.highest_node = id;
        self.review_fencing(moment);
        if let Some(token) = self.registry.tokens.get_mut(&admit.token) {
            token.used = Some(TokenUse { node: id, key: admit.key });
        }
        self.note(moment, EventKind::NodeRegistered { node: id, name: admit.name.clone() });
        self.certify_node(id, None, moment)
    }

    /// The newest count, and before them the one that the node has shown: of those that it has not, nobody knows whether
    /// they ever reached it.
    fn certify_node(
        &mut self,
        id: NodeId,
        shown: Option<CertificateSerial>,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        if self.registry.authority.is_none() {
            return Err(Refused::NoAuthority.into());
        }
        let serial = self.registry.highest_serial.next();
        let node = self.known_node(id)?;
        node.certificates.push_back(serial);
        if node.certificates.len() > CERTIFICATES_KEPT {
            let oldest = node.certificates.iter().position(|&kept| Some(kept) != shown);
            node.certificates.remove(oldest.unwrap_or_default());
        }
        self.registry.highest_serial = serial;
        Ok(Outcome::Certified { revision: moment.revision, node: id, serial })
    }

    fn remove_node(&mut self, id: NodeId, moment: Moment) -> Result<Outcome, Rejection> {
        let stays = |(&other, node): (&NodeId, &Node)| {
            other != id && node.roles.contains(&Role::Server) && node.departure == Departure::Stays
        };
        let servers_left = self.nodes.iter().any(stays);
        let vms = self.vms.values().filter(|vm| vm.run.host() == Some(id)).count();
        let on_it = self.volumes.values().flat_map(BTreeMap::values).filter(|volume| volume.node == id);
        let volumes = on_it.count();
        let node = self.known_node(id)?;
        if node.departure == Departure::Requested {
            return Ok(Outcome::Unchanged);
        }
        if !servers_left {
            return Err(Refused::LastServer { name: node.name.clone() }.into());
        }
        if vms > 0 {
            return Err(Refused::HostsVms { name: node.name.clone(), vms }.into());
        }
        if volumes > 0 {
            return Err(Refused::HasVolumes { name: node.name.clone(), volumes }.into());
        }
        node.departure = Departure::Requested;
        let name = node.name.clone();
        self.note(moment, EventKind::NodeLeaving { node: id, name });
        Ok(moment.changed())
    }

    fn forget_node(&mut self, id: NodeId, moment: Moment) -> Result<Outcome, Rejection> {
        let node = self.known_node(id)?;
        if node.departure == Departure::Stays {
            return Err(Refused::NotLeaving { name: node.name.clone() }.into());
        }
        let name = node.name.clone();
        self.nodes.remove(&id);
        self.leave_files_of(id, moment);
        self.review_fencing(moment);
        self.review_rules();
        self.registry.removed.push_back(RemovedNode { node: id, name: name.clone(), at: moment.at });
        if self.registry.removed.len() > REMOVED_REMEMBERED {
            self.registry.removed.pop_front();
        }
        self.note(moment, EventKind::NodeRemoved { node: id, name });
        Ok(moment.changed())
    }

    /// Nobody is left who could remove what is on a node that is gone: what waits for that waits no longer.
    fn leave_files_of(&mut self, gone: NodeId, moment: Moment) {
        let waits = |vm: &Vm| vm.discards() == Some(gone);
        let waiting: Vec<_> = self.vms.iter().filter(|(_, vm)| waits(vm)).map(|(id, _)| id.clone()).collect();
        for vm in &waiting {
            self.forget(vm, moment);
        }
        for vm in self.vms.values_mut() {
            vm.last_host = vm.last_host.filter(|&host| host != gone);
            vm.came_from = vm.came_from.filter(|&host| host != gone);
        }
    }
}

fn is_kept(token: &Token, now: UnixMillis) -> bool {
    let grace = if token.used.is_some() { TOKEN_REMEMBERED_MS } else { 0 };
    now.0 <= token.expires.0.saturating_add(grace)
}
