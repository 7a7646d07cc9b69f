//! A key of an event, and what its value has to be.

use crate::pg_copy::ColumnType;

/// A key that a shape has, and what its value has to be. `path` is a JSON path without `$.`.
#[derive(Debug)]
pub struct Field {
    pub path: String,
    pub nullable: bool,
    pub kind: ColumnType,
}

/// A field with the place of its value among an event's tokens.
#[derive(Debug)]
pub struct Placed {
    pub place: usize,
    pub nullable: bool,
    pub kind: ColumnType,
}
