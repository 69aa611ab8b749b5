//! `blixard vm explain`.

use blixard_proto::v1::ExplainVmRequest;
use blixard_proto::v1::vm_service_client::VmServiceClient;
use blixard_types::VmId;

use super::{ANSWER_MAX, Session, call};
use crate::error::Failure;
use crate::output::explain::{Explanation, explanation};
use crate::output::{Format, json};

pub(super) async fn run(session: &mut Session<'_>, vm: &VmId, stale: bool) -> Result<(), Failure> {
    let mut client = VmServiceClient::new(session.channel.clone()).max_decoding_message_size(ANSWER_MAX);
    let request = ExplainVmRequest { vm: vm.to_string(), stale };
    let answer = Explanation::from(client.explain(call(request)).await?.into_inner());
    match session.format {
        Format::Json => json::write(session.out, &answer),
        Format::Table => Ok(explanation(session.out, &answer)?),
    }
}
