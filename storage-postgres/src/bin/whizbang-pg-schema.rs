//! Prints the schema.
fn main() {}
