//! `PostgresStore` passes the suite.

mod fixture;

use fixture::OnServer;

whizbang_storage_conformance::conformance! {
    fixture: OnServer,
    user_transactions: yes,
    damage: yes,
    counts_writes: yes,
    busy: yes,
    disk_full: no,
    schema: yes,
    connection: yes,
    conflicts: yes,
    notifications: yes,
    durable: yes,
}
