//! The ledger's file as columns by name: what people added to it stays, rows and columns alike.
//!
//! Leaves out what the columns mean.

/// A CSV file with a header.
#[derive(Debug, Default)]
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Reads a file; an empty one is an empty table. The reason where it is not a table that has the columns
    /// `needed`, or where rewriting it would lose something.
    pub(super) fn parse(bytes: &[u8], needed: &[&str]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let line = 1 + bytes[..e.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            format!("line {line} is not UTF-8")
        })?;
        // Spreadsheets put a mark of byte order in front.
        let text = text.trim_start_matches('\u{feff}');
        if text.bytes().filter(|byte| *byte == b'"').count() % 2 == 1 {
            return Err("it has a quotation mark that is not closed".to_owned());
        }
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
        let mut table = Self::default();
        for (number, record) in reader.records().enumerate() {
            let record = record.map_err(|e| e.to_string())?;
            let cells: Vec<String> = record.iter().map(str::to_owned).collect();
            if number == 0 {
                table.header = cells;
                let missing = needed.iter().find(|name| !table.header.iter().any(|known| known == *name));
                if let Some(name) = missing {
                    return Err(format!("its first line has no column `{name}`"));
                }
                continue;
            }
            if cells.len() > table.header.len() {
                let line = record.position().map_or(0, csv::Position::line);
                return Err(format!(
                    "line {line} has {} fields and the first line {}",
                    cells.len(),
                    table.header.len()
                ));
            }
            table.rows.push(cells);
        }
        Ok(table)
    }

    /// The file that [`parse`](Self::parse) reads back.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        for row in std::iter::once(&self.header).chain(&self.rows) {
            writer.write_record(row).map_err(|e| e.to_string())?;
        }
        writer.into_inner().map_err(|e| e.to_string())
    }

    /// The names of the columns.
    pub(super) fn header(&self) -> &[String] {
        &self.header
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// A cell; empty where the row or the column is missing.
    pub(super) fn get(&self, row: usize, column: &str) -> &str {
        let place = self.header.iter().position(|name| name == column);
        place.and_then(|place| self.rows.get(row)?.get(place)).map_or("", String::as_str)
    }

    /// Sets a cell of a row that is there; a column that is missing is added at the end.
    pub(super) fn set(&mut self, row: usize, column: &str, value: &str) {
        self.add_column(column);
        let width = self.header.len();
        let place = self.header.iter().position(|name| name == column);
        if let (Some(place), Some(cells)) = (place, self.rows.get_mut(row)) {
            cells.resize(width, String::new());
            value.clone_into(&mut cells[place]);
        }
    }

    /// Adds a column at the end unless it is there.
    pub(super) fn add_column(&mut self, column: &str) {
        if !self.header.iter().any(|name| name == column) {
            self.header.push(column.to_owned());
        }
    }

    /// Adds an empty row; its number.
    pub(super) fn push(&mut self) -> usize {
        self.rows.push(vec![String::new(); self.header.len()]);
        self.rows.len() - 1
    }

    /// The last row whose cell is `value`.
    pub(super) fn find_last(&self, column: &str, value: &str) -> Option<usize> {
        (0..self.len()).rev().find(|row| self.get(*row, column) == value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_added_is_kept() {
        let text =
            "\u{feff}id,mine,name,notes\r\n1,kept,a,\"with, a comma and \"\"marks\"\"\"\r\n\r\n2,,b\r\n";
        let mut table = Table::parse(text.as_bytes(), &["id", "name"]).unwrap();
        let row = table.find_last("name", "b").unwrap();
        table.set(row, "loss", "0.5");
        let row = table.push();
        table.set(row, "id", "3");
        let again = Table::parse(&table.to_bytes().unwrap(), &["id"]).unwrap();
        assert_eq!(again.header(), ["id", "mine", "name", "notes", "loss"]);
        assert_eq!((again.get(0, "mine"), again.get(0, "notes")), ("kept", "with, a comma and \"marks\""));
        assert_eq!((again.get(1, "loss"), again.get(0, "loss"), again.get(2, "id")), ("0.5", "", "3"));
        assert_eq!((again.get(9, "id"), again.get(0, "none"), again.len()), ("", "", 3));
    }

    #[test]
    fn a_file_that_would_lose_something_is_refused_with_the_line() {
        let cases: [(&[u8], &str); 4] = [
            (b"id;name\n1;a\n", "no column `id`"),
            (b"id,name\n1,a\n2,b,c\n", "line 3 has 3 fields"),
            (b"id,name\n1,\"a\n2,b\n", "not closed"),
            (b"id,name\n1,\xe4\n", "line 2 is not UTF-8"),
        ];
        for (bytes, expected) in cases {
            let reason = Table::parse(bytes, &["id", "name"]).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
        assert_eq!(Table::parse(b"", &[]).unwrap().len(), 0);
    }
}
