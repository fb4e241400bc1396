//! What a restore tells of itself: steps, problems, and the sums of both, from the walk and from the workers' reports.

use super::attributes::is_hopeless;
use super::walk::{Trouble, Walker};
use super::work::{IN_THE_WAY, Mode, Report, describe};
use super::{Action, Step};
use crate::base::{Counter, Problem};
use crate::ops::OpError;
use crate::tree::{Body, Node};

impl Walker<'_, '_> {
    /// Takes what the workers have reported so far.
    pub(super) fn take_reports(&mut self) -> Result<(), OpError> {
        while let Ok(report) = self.reports.try_recv() {
            self.take_report(report)?;
        }
        Ok(())
    }

    /// Waits for the jobs that were handed out.
    pub(super) fn wait(&mut self) -> Result<(), OpError> {
        self.hand_over()?;
        // Without a sender, the workers end when the queue is empty, and then there are no more reports.
        self.jobs = crossbeam_channel::bounded(0).0;
        while let Ok(report) = self.reports.recv() {
            self.take_report(report)?;
        }
        Ok(())
    }

    fn take_report(&mut self, report: Report) -> Result<(), OpError> {
        match report {
            Report::Done { action, path, node, written } => {
                self.count_met(&node);
                self.summary.bytes_written += written;
                if self.shared.mode == Mode::Run && written > 0 {
                    self.monitor.count(Counter::FilesWritten, 1);
                }
                self.step_at(action, &path, Some(&node))
            }
            Report::Problem(problem) => {
                self.tell(problem);
                Ok(())
            }
            Report::Fatal(error) => Err(error),
        }
    }

    pub(super) fn count_met(&mut self, node: &Node) {
        self.monitor.count(Counter::Files, 1);
        if matches!(node.body, Body::File(_)) {
            self.summary.bytes = self.summary.bytes.saturating_add(node.meta.size);
            self.monitor.count(Counter::Bytes, node.meta.size);
        }
    }

    pub(super) fn step(&mut self, action: Action, node: Option<&Node>) -> Result<(), OpError> {
        let path = self.path.clone();
        self.step_at(action, &path, node)
    }

    pub(super) fn step_at(&mut self, action: Action, path: &[u8], node: Option<&Node>) -> Result<(), OpError> {
        if node.is_some_and(Node::is_dir) {
            self.monitor.count(Counter::Dirs, 1);
            if self.shared.mode == Mode::Verify && action != Action::Keep {
                self.tell(Problem { path: path.to_vec(), message: describe(action).to_owned() });
            }
        }
        let counter = match action {
            Action::Create => &mut self.summary.created,
            Action::Update => &mut self.summary.updated,
            Action::Attributes => &mut self.summary.attributes,
            Action::Replace => &mut self.summary.replaced,
            Action::Delete => &mut self.summary.deleted,
            Action::Keep => &mut self.summary.kept,
        };
        *counter += 1;
        (self.each)(&Step { action, path, node })
    }

    pub(super) fn trouble(&mut self, trouble: Trouble) -> Result<(), OpError> {
        match trouble {
            Trouble::Io(source) if is_hopeless(&source) => {
                return Err(OpError::Target { path: self.path.clone(), source });
            }
            Trouble::Io(source) => self.problem(source.to_string()),
            Trouble::InTheWay => self.problem(IN_THE_WAY.to_owned()),
        }
        Ok(())
    }

    pub(super) fn problem(&mut self, message: String) {
        self.tell(Problem { path: self.path.clone(), message });
    }

    pub(super) fn tell(&mut self, problem: Problem) {
        self.summary.problems += 1;
        self.monitor.problem(problem);
    }
}
