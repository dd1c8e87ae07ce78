//! Tasks that run beside the loop, which never waits for them: what it passes on goes in, how things stand comes out.

use std::sync::Arc;

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};

/// Some tasks, by what they are told and what they tell. They end when this is dropped.
pub(crate) struct Beside<Input, State> {
    pub(crate) inputs: watch::Sender<Input>,
    pub(crate) states: watch::Receiver<Arc<State>>,
    pub(crate) tasks: JoinSet<()>,
}

impl<Input, State> Beside<Input, State> {
    /// Passes on what is so now.
    pub(crate) fn send(&self, input: Input) {
        self.inputs.send_replace(input);
    }

    /// The state now.
    pub(crate) fn state(&mut self) -> Arc<State> {
        Arc::clone(&self.states.borrow_and_update())
    }

    /// Waits until the state is another, or a task panicked.
    pub(crate) async fn changed(&mut self) -> Result<(), JoinError> {
        loop {
            tokio::select! {
                Ok(()) = self.states.changed() => return Ok(()),
                Some(ended) = self.tasks.join_next() => ended?,
                else => std::future::pending::<()>().await,
            }
        }
    }
}
