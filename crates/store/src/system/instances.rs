//! Runs of ingress processes and their lanes (PROTOCOLS I2 to I4).

use ravenpost_core::ids::{EventId, InstanceId};

use super::System;
use crate::Result;
use crate::lease::bounded;

impl System {
    /// Registers a run of ingress with its lanes; only then may it commit through them.
    pub async fn register_instance(&self, instance: InstanceId, lanes: i32) -> Result<()> {
        bounded!(
            self,
            sqlx::query!(
                "with instance as (insert into ingress_instances (id) values ($1) returning id)
             insert into ingress_lanes (instance_id, lane)
             select id, generate_series(0, $2 - 1) from instance",
                instance.0,
                lanes
            ),
            execute
        );
        Ok(())
    }

    /// Says that the instance lives and how far it has published. `false`: it has been adopted by a peer.
    pub async fn heartbeat(&self, instance: InstanceId, published_through: Option<EventId>) -> Result<bool> {
        let done = bounded!(
            self,
            sqlx::query!(
                "update ingress_instances i
             set heartbeat = heartbeat + 1, published_through = greatest(published_through, $2)
             where id = $1 and exists (select from ingress_lanes l where l.instance_id = i.id)",
                instance.0,
                published_through.map(|id| id.0)
            ),
            execute
        );
        Ok(done.rows_affected() == 1)
    }

    /// Takes an instance that has published everything it committed off the books.
    pub async fn retire_instance(&self, instance: InstanceId) -> Result<()> {
        bounded!(self, sqlx::query!("delete from ingress_instances where id = $1", instance.0), execute);
        Ok(())
    }
}
