//! The connection that batches go through, polled on the runtime that sends them.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client};
use whizbang_storage::Hint;

use crate::error::Stop;
use crate::tls::Connector;

/// A connection, and the task that moves its bytes.
pub(crate) struct Link {
    pub(crate) client: Client,
    task: JoinHandle<()>,
}

impl Link {
    /// Connects, and listens on a channel if there is one.
    pub(crate) async fn make(
        connector: &Connector,
        channel: Option<&str>,
        hint: &Arc<Mutex<Option<Hint>>>,
    ) -> Result<Self, Stop> {
        let (client, mut connection) = connector.connect().await.map_err(Stop::Connect)?;
        let hint = Arc::clone(hint);
        let own: Arc<OnceLock<i32>> = Arc::default();
        let backend = Arc::clone(&own);
        let task = tokio::spawn(async move {
            // Ends with the connection; whoever uses the client is told why.
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                let AsyncMessage::Notification(notification) = message else {
                    continue;
                };
                if backend.get() != Some(&notification.process_id()) {
                    let hint = hint.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    if let Some(hint) = hint {
                        hint();
                    }
                }
            }
        });
        let link = Self { client, task };
        if let Some(channel) = channel {
            // A pooler may refuse it: notifications are hints, everything works without.
            let listen = format!("LISTEN \"{channel}\"");
            let listening = link.client.batch_execute(&listen);
            let asking = link.client.query_typed("SELECT pg_backend_pid()", &[]);
            let (listening, backend) = futures_util::future::join(listening, asking).await;
            if let Err(error) = listening {
                tracing::debug!(%error, "no notifications");
                if link.client.is_closed() {
                    return Err(error.into());
                }
            }
            // What it says itself is no news to it.
            if let Some(row) = backend?.first() {
                own.get_or_init(|| row.get(0));
            }
        }
        Ok(link)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}
