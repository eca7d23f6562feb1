//! A row as it is typed behind `--forward`, several of them one a line: refused, or a table.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidecar::ports::{PortTable, Row};

fuzz_target!(|text: &str| {
    let rows: Vec<Row> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for row in &rows {
        assert!(row.upstream.port != 0);
        let host = row.upstream.to_string();
        assert_eq!(host.parse().as_ref(), Ok(&row.upstream), "{host}");
    }
    if let Ok(table) = PortTable::from_rows(rows) {
        let printed = serde_json::to_vec(&table).expect("a table can be printed");
        assert_eq!(serde_json::from_slice::<PortTable>(&printed).expect("it is read again"), table);
    }
});
