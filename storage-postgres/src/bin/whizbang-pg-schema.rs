//! Prints the SQL that sets the schema up, for an administrator to run: services then need no right but to read and write in it.
//!
//! ```text
//! whizbang-pg-schema --schema whizbang --service orders --role orders | psql -v ON_ERROR_STOP=1 …
//! ```

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use whizbang_storage_postgres::{Service, schema_sql};

const EXAMPLES: &str = "\
Examples:
  whizbang-pg-schema --service orders --role orders | psql -v ON_ERROR_STOP=1 postgres://admin@db.example/shop
  whizbang-pg-schema --from 4 --role orders > upgrade.sql

What is printed is one transaction, from BEGIN to COMMIT. It looks whether the schema has the version that --from says, and
stops with an error when it has another. Partitions and time to live are those that every instance of the service is
opened with: one with others is refused.";

/// Prints the SQL that sets a Whizbang schema up, or brings it up to date.
#[derive(Parser)]
#[command(after_help = EXAMPLES)]
struct Arguments {
    /// The schema's name.
    #[arg(long, default_value = "whizbang")]
    schema: String,
    /// The version it has now; 0: it is not there.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    from: i32,
    /// A service to make known; without it, services do that when they are first opened.
    #[arg(long)]
    service: Option<String>,
    /// The service's partitions; they cannot be changed later.
    #[arg(long, default_value_t = Service::default().partitions, requires = "service")]
    partitions: u32,
    /// The service's time to live, in seconds.
    #[arg(long, default_value_t = Service::default().time_to_live.as_secs_f64(), requires = "service", allow_negative_numbers = true)]
    time_to_live: f64,
    /// A role that is given what a service needs: to read, write and empty tables, nothing else.
    #[arg(long)]
    role: Option<String>,
}

fn main() -> ExitCode {
    let Arguments { schema, from, service, partitions, time_to_live, role } = Arguments::parse();
    let Ok(time_to_live) = Duration::try_from_secs_f64(time_to_live) else {
        eprintln!("a time to live of {time_to_live} seconds is none");
        return ExitCode::FAILURE;
    };
    let service = service.map(|name| Service { partitions, time_to_live, ..Service::named(name) });
    match schema_sql(&schema, from, service.as_ref(), role.as_deref()) {
        Ok(sql) => {
            print!("{sql}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
