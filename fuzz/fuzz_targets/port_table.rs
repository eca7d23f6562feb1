//! A port table as JSON: refused with a place, or read, and then what is printed is read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidecar::ports::PortTable;
use sidecar::table::parse;

fuzz_target!(|text: &[u8]| {
    match parse::<PortTable>("fuzz", text) {
        Ok(table) => {
            assert!(!table.forwards().is_empty());
            let printed = serde_json::to_vec(&table).expect("a table can be printed");
            assert_eq!(parse::<PortTable>("again", &printed).expect("it is read again"), table);
            let again = PortTable::from_rows(table.clone().into_rows());
            assert_eq!(again.expect("its rows are a table"), table);
        }
        Err(error) => assert!(error.to_string().starts_with("fuzz:")),
    }
});
