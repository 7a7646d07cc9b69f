//! A key of an event and the rule for its value.

use crate::pg_copy::ColumnType;

/// A key of a shape and the rule for its value. `path` is a JSON path without `$.`.
#[derive(Debug)]
pub struct Field {
    pub path: String,
    pub nullable: bool,
    pub column_type: ColumnType,
}

/// A field, with the index of its value among an event's tokens.
#[derive(Debug)]
pub struct PlacedField {
    pub place: usize,
    pub nullable: bool,
    pub column_type: ColumnType,
}
