//! `SqliteStore` passes the suite, on a file and in memory.
//!
//! What is `no` here: a file has no connection to cut (scenario 82), one writer at a time meets no deadlock (83), and nobody is told
//! of another process's writes. A full disk (84) is shown by `faults.rs`, in a process of its own whose writes fail with ENOSPC.

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
