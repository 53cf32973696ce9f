//! A table of text and numbers, for people.

use std::fmt;

/// Rows under headings; printed with every column as wide as it has to be, numbers to the right.
///
/// ```
/// # use whizbang_examples::table::Table;
/// let mut table = Table::new(["event", "deliveries"]);
/// table.row(["push".to_owned(), "12".to_owned()]);
/// assert_eq!(table.to_string(), "event  deliveries\npush           12\n");
/// ```
#[derive(Debug)]
pub struct Table<const N: usize> {
    headings: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    pub fn new(headings: [&'static str; N]) -> Self {
        Self { headings, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, row: [String; N]) {
        self.rows.push(row);
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.headings[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: [usize; N] = std::array::from_fn(width);
        let is_number = |cell: &str| !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
        let to_the_right: [bool; N] = std::array::from_fn(|column| {
            !self.rows.is_empty() && self.rows.iter().all(|row| is_number(&row[column]))
        });
        let mut write = |cells: [&str; N]| {
            let mut line = String::new();
            for (column, cell) in cells.into_iter().enumerate() {
                let (width, gap) = (widths[column], if column == 0 { "" } else { "  " });
                line += gap;
                line +=
                    &if to_the_right[column] { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            }
            writeln!(f, "{}", line.trim_end())
        };
        write(self.headings)?;
        self.rows.iter().try_for_each(|row| write(std::array::from_fn(|column| row[column].as_str())))
    }
}
