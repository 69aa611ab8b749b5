//! `blixard vm logs` and `vm console`: the guest's lines as they are, each written out before the next is awaited.

use std::io::Write;

use blixard_proto::v1::vm_service_client::VmServiceClient;
use blixard_proto::v1::{LogLine, LogsRequest};

use super::Session;
use crate::args::{LogsArgs, VmArg};
use crate::error::Failure;
use crate::output::{Format, json};

/// Lines that a terminal has.
const SCREEN: u32 = 24;

pub(super) async fn run(session: &mut Session<'_>, args: &LogsArgs) -> Result<(), Failure> {
    let mut client = VmServiceClient::new(session.channel.clone());
    let request = LogsRequest { vm: args.vm.vm.to_string(), tail: args.lines, follow: args.follow };
    let mut lines = client.logs(request).await?.into_inner();
    while let Some(line) = lines.message().await? {
        write(session.out, session.format, &line)?;
        if args.follow {
            session.out.flush()?;
        }
    }
    Ok(())
}

/// The console as it goes on, after the lines that a screen would still show.
pub(super) async fn console(session: &mut Session<'_>, vm: VmArg) -> Result<(), Failure> {
    session.notes.line(format_args!("console of {}, read-only; Ctrl-C ends", vm.vm));
    run(session, &LogsArgs { vm, follow: true, lines: Some(SCREEN) }).await
}

fn write(out: &mut dyn Write, format: Format, line: &LogLine) -> Result<(), Failure> {
    match format {
        Format::Json => json::write_line(out, &json::LogLine { at_ms: line.at_ms, text: &line.text }),
        Format::Table => Ok(writeln!(out, "{}", line.text)?),
    }
}
