//! Who waits for the end of which job.
//!
//! Owns: the waiters of one connection. Refuses to know: how jobs are made.
//!
//! systemd may announce the end of a job before the caller has read the job's path from the reply,
//! so a waiter registers for its unit before it calls, keeps what it hears, and looks for its path
//! afterwards.
//!
//! ```text
//! expect(unit) ──call──▶ path known ──▶ Ended(result) │ Doubt (ask whether it still exists) │ closed
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

/// What a waiter hears.
#[derive(Debug, Clone, PartialEq, Eq)]
enum News {
    Ended { job: String, result: String },
    Doubt,
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobNews {
    /// It has ended with this result.
    Ended(String),
    /// Signals may have been lost: it may have ended unheard.
    Doubt,
    /// The connection is gone: nothing more will be heard.
    Closed,
}

/// A place in the queue of a unit; giving it up is dropping it.
#[derive(Debug)]
pub(crate) struct Ticket {
    // Unbounded: it holds the jobs of one unit that end while one call is under way.
    news: mpsc::UnboundedReceiver<News>,
}

impl Ticket {
    /// Waits for news of the job at this path.
    pub(crate) async fn news_of(&mut self, path: &str) -> JobNews {
        loop {
            match self.news.recv().await {
                Some(News::Ended { job, result }) if job == path => return JobNews::Ended(result),
                Some(News::Ended { .. }) => {}
                Some(News::Doubt) => return JobNews::Doubt,
                None => return JobNews::Closed,
            }
        }
    }
}

#[derive(Debug)]
struct Waiter {
    unit: String,
    news: mpsc::UnboundedSender<News>,
}

/// All waiters of one connection; `None` once it is closed.
#[derive(Debug)]
pub(crate) struct Jobs(Mutex<Option<Vec<Waiter>>>);

impl Jobs {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }

    /// Registers for the ends of this unit's jobs. To be called before the call that makes the job.
    pub(crate) fn expect(&self, unit: &str) -> Ticket {
        let (sender, news) = mpsc::unbounded_channel();
        if let Some(waiters) = self.waiters().as_mut() {
            waiters.push(Waiter { unit: unit.to_owned(), news: sender });
        }
        Ticket { news }
    }

    /// A job has ended.
    pub(crate) fn ended(&self, unit: &str, job: &str, result: &str) {
        self.tell(
            |waiter| waiter.unit == unit,
            &News::Ended { job: job.to_owned(), result: result.to_owned() },
        );
    }

    /// Signals may have been lost.
    pub(crate) fn doubt(&self) {
        self.tell(|_| true, &News::Doubt);
    }

    /// The connection is gone.
    pub(crate) fn close(&self) {
        *self.waiters() = None;
    }

    fn tell(&self, concerns: impl Fn(&Waiter) -> bool, news: &News) {
        if let Some(waiters) = self.waiters().as_mut() {
            waiters.retain(|waiter| {
                let is_there = !waiter.news.is_closed();
                is_there && (!concerns(waiter) || waiter.news.send(news.clone()).is_ok())
            });
        }
    }

    /// A panic cannot leave the list half changed: each change is one push, retain or assignment.
    fn waiters(&self) -> MutexGuard<'_, Option<Vec<Waiter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done() -> JobNews {
        JobNews::Ended("done".to_owned())
    }

    #[tokio::test]
    async fn an_end_that_comes_before_the_path_is_known_is_kept() {
        let jobs = Jobs::new();
        let mut ticket = jobs.expect("a.service");
        jobs.ended("a.service", "/job/1", "done");
        assert_eq!(ticket.news_of("/job/1").await, done());
    }

    #[tokio::test]
    async fn another_job_of_the_same_unit_is_not_mistaken_for_it() {
        let jobs = Jobs::new();
        let mut ticket = jobs.expect("a.service");
        jobs.ended("a.service", "/job/1", "canceled");
        jobs.ended("b.service", "/job/2", "failed");
        jobs.ended("a.service", "/job/2", "done");
        assert_eq!(ticket.news_of("/job/2").await, done());
    }

    #[tokio::test]
    async fn everyone_who_waits_for_a_job_hears_of_its_end() {
        let jobs = Jobs::new();
        let (mut one, mut other) = (jobs.expect("a.service"), jobs.expect("a.service"));
        jobs.ended("a.service", "/job/1", "done");
        assert_eq!(one.news_of("/job/1").await, done());
        assert_eq!(other.news_of("/job/1").await, done());
    }

    #[tokio::test]
    async fn a_doubt_reaches_all_and_the_end_still_comes_after_it() {
        let jobs = Jobs::new();
        let mut ticket = jobs.expect("a.service");
        jobs.doubt();
        assert_eq!(ticket.news_of("/job/1").await, JobNews::Doubt);
        jobs.ended("a.service", "/job/1", "done");
        assert_eq!(ticket.news_of("/job/1").await, done());
    }

    #[tokio::test]
    async fn nobody_waits_on_a_closed_connection() {
        let jobs = Jobs::new();
        let mut before = jobs.expect("a.service");
        jobs.close();
        let mut after = jobs.expect("a.service");
        assert_eq!(before.news_of("/job/1").await, JobNews::Closed);
        assert_eq!(after.news_of("/job/1").await, JobNews::Closed);
    }

    #[test]
    fn a_waiter_that_has_gone_is_forgotten() {
        let jobs = Jobs::new();
        drop(jobs.expect("a.service"));
        jobs.ended("b.service", "/job/1", "done");
        assert!(jobs.waiters().as_ref().unwrap().is_empty());
    }
}
