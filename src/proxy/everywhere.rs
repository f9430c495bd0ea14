//! Commands that are asked of all primaries in words of ours: reports, and SCAN, which goes through them one after
//! the other.

use super::core::Core;
use super::cursor::Cursor;
use super::dispatch::Handled;
use super::error_reply::ErrorReply;
use super::fanout::{Merge, Policy};
use super::flight::Aim;
use super::pipeline::Place;
use super::reports::{self, Report};
use crate::command::CommandIx;
use crate::resp::{Request, write_request};
use crate::telemetry::{Family, Reason};
use crate::topology::Slot;

impl Core {
    /// What all nodes tell of themselves; `nodes`: a slot of each.
    pub fn send_report(
        &mut self,
        ix: usize,
        command: CommandIx,
        report: Report,
        nodes: Vec<Slot>,
        request: &Request,
    ) -> Handled {
        let Some(asked) = reports::Request::new(report, request) else {
            return self.send_any(ix, command, request);
        };
        let (question, extra) = asked.questions(request);
        let first = nodes[0];
        let parts: Vec<(Slot, &[u8])> = nodes
            .iter()
            .map(|slot| (*slot, &*question))
            .chain(extra.as_deref().map(|extra| (first, extra)))
            .collect();
        let version = self.sessions[ix].state.version;
        let merge = Merge::new(Policy::Report(Box::new(asked)), version, parts.len(), false);
        let ticket = self.take_ticket(ix, command, Place::Merging(Box::new(merge)));
        for (part, (slot, frame)) in parts.into_iter().enumerate() {
            let mut tag = self.tag(ix, ticket, command, Aim::Owner(slot));
            tag.part = part as u32;
            self.forward(tag, &[frame]);
        }
        Handled::Done
    }

    pub fn send_scan(&mut self, ix: usize, command: CommandIx, request: &Request) -> Handled {
        let given = request.get(1).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        let Some((cursor, shard)) = given.and_then(|given: u64| Cursor::resume(given, &self.scan_order))
        else {
            self.refuse(ix, Family::Generic, Reason::Other, &ErrorReply::BadCursor);
            return Handled::Done;
        };
        let Some(slot) = self.scan_order.first_slot_of(shard) else {
            return self.send_any(ix, command, request);
        };
        let mut frame = Vec::with_capacity(request.frame.len() + 8);
        let at = cursor.node.to_string();
        write_request(
            &mut frame,
            request
                .args()
                .enumerate()
                .map(|(n, arg)| if n == 1 { at.as_bytes() } else { arg })
                .collect::<Vec<_>>(),
        );
        let merge = Merge::new(Policy::Scan { cursor }, self.sessions[ix].state.version, 1, false);
        let ticket = self.take_ticket(ix, command, Place::Merging(Box::new(merge)));
        let tag = self.tag(ix, ticket, command, Aim::Owner(slot));
        self.forward(tag, &[&frame]);
        Handled::Done
    }
}
