//! `MemoryStore` passes the suite.

use whizbang_storage_conformance::Memory;

whizbang_storage_conformance::conformance! {
    fixture: Memory,
    user_transactions: no,
    damage: no,
    counts_writes: no,
    busy: no,
    disk_full: no,
    schema: no,
    connection: no,
    conflicts: no,
    notifications: yes,
    durable: no,
}
