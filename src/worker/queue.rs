//! The commands that wait for the drawing thread. It may look at them while it loads a model that
//! nobody draws with yet: whoever cancels a job that waits, or chooses another model, does not wait for
//! that one.

use std::cell::RefCell;
use std::collections::VecDeque;

use crossbeam_channel::Receiver;

use super::handle::Cancelled;
use super::message::{Command, JobId, ModelChoice};

/// In their order.
pub(super) struct Queue {
    commands: Receiver<Command>,
    cancelled: Cancelled,
    /// Those that were looked at.
    seen: RefCell<VecDeque<Command>>,
}

impl Queue {
    pub fn new(commands: Receiver<Command>, cancelled: Cancelled) -> Self {
        Self {
            commands,
            cancelled,
            seen: RefCell::default(),
        }
    }

    /// The next command; waits for it. `None`: none will come any more.
    pub fn next(&self) -> Option<Command> {
        let seen = self.seen.borrow_mut().pop_front();
        seen.or_else(|| self.commands.recv().ok())
    }

    /// Takes out the jobs that were cancelled.
    pub fn take_cancelled(&self) -> Vec<JobId> {
        let mut seen = self.look();
        let mut taken = Vec::new();
        seen.retain(|command| {
            let job = job_of(command).filter(|job| self.cancelled.contains(*job));
            taken.extend(job);
            job.is_none()
        });
        taken
    }

    /// Whether what comes next takes another model than this.
    pub fn wants_other(&self, loading: &ModelChoice) -> bool {
        let seen = self.look();
        let next = seen.iter().find_map(|command| match command {
            Command::Generate(job) => Some(ModelChoice::from(&job.request)),
            Command::LoadModel(choice) => Some(choice.clone()),
            Command::Enlarge { .. } => None,
        });
        next.is_some_and(|next| next != *loading)
    }

    fn look(&self) -> std::cell::RefMut<'_, VecDeque<Command>> {
        let mut seen = self.seen.borrow_mut();
        seen.extend(self.commands.try_iter());
        seen
    }
}

fn job_of(command: &Command) -> Option<JobId> {
    match command {
        Command::Generate(job) => Some(job.id),
        Command::Enlarge { job, .. } => Some(*job),
        Command::LoadModel(_) => None,
    }
}
