//! `SqliteStore` passes the suite, on a file and in memory.

mod fixture;

mod file {
    use crate::fixture::OnFile;

    whizbang_storage_conformance::conformance! {
        fixture: OnFile,
        user_transactions: yes,
        damage: yes,
        counts_writes: yes,
        busy: yes,
        disk_full: no,
        schema: yes,
        connection: no,
        conflicts: no,
        notifications: yes,
        durable: yes,
    }
}

mod memory {
    use crate::fixture::InMemory;

    whizbang_storage_conformance::conformance! {
        fixture: InMemory,
        user_transactions: yes,
        damage: yes,
        counts_writes: no,
        busy: yes,
        disk_full: no,
        schema: yes,
        connection: no,
        conflicts: no,
        notifications: no,
        durable: no,
    }
}
