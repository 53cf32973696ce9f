//! A glance at what others have done, before a large batch is decided: it would be refused because of that, and sent again.

use tokio_postgres::Client;
use tokio_postgres::types::Type;
use whizbang_storage::{InstanceId, Timestamp, WorkBatch};

use crate::error::Stop;
use crate::load::put_arrivals;
use crate::state::State;
use crate::statements::Statements;
use crate::wire::{Arguments, come, written};

/// A batch of so many messages takes longer to send than a glance does.
const WORTH_A_GLANCE: usize = 128;

/// What was seen.
pub(crate) struct Glance {
    /// What is remembered of the service is not what it is now.
    pub(crate) is_changed: bool,
    /// Something had arrived for the sender.
    pub(crate) has_come: bool,
    pub(crate) clock: Timestamp,
}

/// Whether a batch is so large that it is better not sent twice.
pub(crate) fn is_worth_it(batch: &WorkBatch<'_>, state: &State) -> bool {
    let waiting = state.parts.iter().map(|part| part.arrivals.undelayed.len());
    let moved = batch.arrivals.map_or(0, |max| max.min(waiting.sum()));
    batch.units.len() + batch.appends.len() + moved >= WORTH_A_GLANCE
}

/// Takes in what has arrived since the last look.
pub(crate) async fn glance(
    client: &Client,
    sql: &Statements,
    state: &mut State,
    sender: InstanceId,
) -> Result<Glance, Stop> {
    let written = written(state, sender);
    let arguments = Arguments::default()
        .add(&sql.service, Type::INT4)
        .add(&state.seen, Type::TEXT)
        .add(&written, Type::INT4_ARRAY);
    let rows = client.query_typed(&sql.glance, arguments.types()).await?;
    let row = rows.first().ok_or(Stop::Damaged("the service is gone"))?;
    let come = come(row, state.parts.len() as u32)?;
    let glance = Glance {
        is_changed: row.get::<_, i64>("version") != state.shared.version,
        has_come: !come.is_empty(),
        clock: Timestamp::from_micros(row.get("clock")),
    };
    put_arrivals(state, sender, row.get("seen"), come);
    Ok(glance)
}
