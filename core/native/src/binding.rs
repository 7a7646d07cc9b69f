//! The Python classes `Parser`, `Counts` and `BatchReader`, described in `core/_native.pyi`.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::batch_reader::{self, Bounds, SourceDescription};
use crate::counts::{Quarter, total};
use crate::field::Field;
use crate::native_schema::{NativeSchema, Part, Shape};
use crate::pg_copy::ColumnType;
use crate::rows::{Request, Rows, lines};
use crate::slots::{Counted, Dimension, Slots};

#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::{BatchReader, Counts, Parser};
}

#[pyclass(frozen, module = "core._native")]
struct Parser {
    schema: Arc<NativeSchema>,
    names: Arc<Names>,
}

/// The names of the slots as Python strings, created once: a batch has hundreds of counts.
struct Names {
    types: Vec<(Py<PyString>, Py<PyString>)>,
    values: Vec<(Py<PyString>, Py<PyString>)>,
    texts: Vec<Py<PyString>>,
}

impl Names {
    fn new(py: Python, slots: &Slots) -> Self {
        let name = |name: &String| PyString::new(py, name).unbind();
        let pairs = |pairs: &[(String, String)]| pairs.iter().map(|(a, b)| (name(a), name(b))).collect();
        Self { types: pairs(&slots.types), values: pairs(&slots.values), texts: slots.texts.iter().map(name).collect() }
    }
}

#[pymethods]
impl Parser {
    #[new]
    fn new(py: Python, tag: &str, instant: &str, max_bytes: usize, shapes: Vec<ShapeInput>) -> PyResult<Self> {
        let shapes = shapes.into_iter().map(Shape::try_from).collect::<Result<_, _>>();
        let schema = shapes.and_then(|shapes| NativeSchema::new(tag, instant, max_bytes, shapes));
        let parser =
            schema.map(|schema| Self { names: Arc::new(Names::new(py, &schema.slots)), schema: Arc::new(schema) });
        parser.map_err(PyValueError::new_err)
    }

    #[expect(clippy::needless_pass_by_value, reason = "PyO3 hands over what it made of the arguments")]
    fn rows<'py>(
        &self,
        py: Python<'py>,
        message: &Bound<'py, PyBytes>,
        start: usize,
        requests: Vec<RequestInput<'py>>,
        otherwise: Py<PyAny>,
    ) -> PyResult<(Bound<'py, PyDict>, Counts)> {
        let body = message.as_bytes().get(start..);
        let requests: Vec<_> = requests.iter().map(RequestInput::request).collect();
        let (days, quarters) = py.detach(|| {
            let mut rows = Rows::new(&self.schema, body.map_or(0, <[u8]>::len));
            let mut lines = lines(body).enumerate();
            for (number, (events, request)) in requests.iter().enumerate() {
                for _ in 0..*events {
                    let (position, line) = lines.next().ok_or_else(|| PyValueError::new_err("too few lines"))?;
                    if !rows.take(line, request)
                        && let Some((day, row)) = call_reference(&otherwise, position, number, line)?
                    {
                        rows.add(day, &row);
                    }
                }
            }
            match lines.next() {
                None => {
                    let (days, counts) = rows.finish();
                    Ok((days, counts.keep()))
                }
                Some(_) => Err(PyValueError::new_err("too many lines")),
            }
        })?;
        let rows_by_day = PyDict::new(py);
        for day in days {
            rows_by_day.set_item(day.number, (day.count, PyBytes::new(py, &day.copy)))?;
        }
        Ok((rows_by_day, Counts { schema: Arc::clone(&self.schema), names: Arc::clone(&self.names), quarters }))
    }
}

/// The rollup counts of one message's rows. Only `total` creates Python objects, for a whole batch.
#[pyclass(frozen, module = "core._native")]
struct Counts {
    schema: Arc<NativeSchema>,
    names: Arc<Names>,
    quarters: Vec<Quarter<'static>>,
}

#[pymethods]
impl Counts {
    #[staticmethod]
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 hands over what it made of the arguments")]
    fn total<'py>(py: Python<'py>, many: Vec<Bound<'py, Self>>) -> PyResult<Sums<'py>> {
        let many: Vec<_> = many.iter().map(Bound::get).collect();
        let Some(first) = many.first() else {
            return Ok((PyDict::new(py), PyDict::new(py)));
        };
        if many.iter().any(|counts| !Arc::ptr_eq(&counts.schema, &first.schema)) {
            return Err(PyValueError::new_err("counts of two parsers"));
        }
        sums(py, &total(&first.schema.slots, many.iter().map(|counts| counts.quarters.as_slice())), &first.names)
    }
}

#[pyclass(frozen, module = "core._native")]
struct BatchReader {
    reader: batch_reader::BatchReader,
}

#[pymethods]
impl BatchReader {
    #[new]
    fn new(instant: &str, max_bytes: usize, sources: Vec<SourceInput>) -> PyResult<Self> {
        let sources = sources.into_iter().map(SourceDescription::try_from).collect::<Result<_, _>>();
        let reader = sources.and_then(|sources| batch_reader::BatchReader::new(instant, max_bytes, sources));
        reader.map(|reader| Self { reader }).map_err(PyValueError::new_err)
    }

    /// The body is neither copied nor changed, because Python bytes are immutable.
    fn read<'py>(
        &self,
        py: Python<'py>,
        body: &Bound<'py, PyBytes>,
        start: usize,
        enough: usize,
        earliest: i64,
        latest: i64,
    ) -> PyResult<(Option<usize>, Bound<'py, PyDict>)> {
        let content = body.as_bytes();
        let run = py.detach(|| self.reader.read(content, start, Bounds { earliest, latest, enough }));
        let blocks = PyDict::new(py);
        for block in run.blocks {
            blocks.set_item(block.source, (block.events, PyBytes::new(py, &block.lines)))?;
        }
        Ok((run.resume_at, blocks))
    }
}

/// The counts of events and audience: `Counts` of `collector/parse/rollup.py`.
type Sums<'py> = (Bound<'py, PyDict>, Bound<'py, PyDict>);

fn sums<'py>(py: Python<'py>, quarters: &[Quarter], names: &Names) -> PyResult<Sums<'py>> {
    let (events, audience) = (PyDict::new(py), PyDict::new(py));
    for quarter in quarters {
        let number = quarter.number.into_pyobject(py)?;
        for ((stage, event_type), (count, cents)) in quarter.events(&names.types) {
            events.set_item((&number, stage, event_type), (count, cents))?;
        }
        for ((dimension, value), count) in quarter.values(&names.values) {
            audience.set_item((&number, dimension, value), count)?;
        }
        for (dimension, value, count) in quarter.texts(&names.texts) {
            audience.set_item((&number, dimension, value), count)?;
        }
    }
    Ok((events, audience))
}

/// Call the Python reference for a line. Returns its day and its row, or `None`.
fn call_reference(
    otherwise: &Py<PyAny>,
    position: usize,
    request: usize,
    line: &[u8],
) -> PyResult<Option<(i64, Vec<u8>)>> {
    Python::attach(|py| otherwise.call1(py, (position, request, PyBytes::new(py, line)))?.extract(py))
}

/// The number of events of the request, its first and last instant, and the end of its rows.
#[derive(FromPyObject)]
struct RequestInput<'py>(usize, i64, i64, Bound<'py, PyBytes>);

impl RequestInput<'_> {
    fn request(&self) -> (usize, Request<'_>) {
        let Self(events, earliest, latest, closing) = self;
        (*events, Request { earliest: *earliest, latest: *latest, closing: closing.as_bytes() })
    }
}

/// A source's name, and the key that selects the shape of its events.
#[derive(FromPyObject)]
struct SourceInput {
    name: String,
    tag: String,
    shapes: Vec<EventInput>,
}

/// The label and the fields of a shape.
#[derive(FromPyObject)]
struct EventInput {
    label: String,
    fields: Vec<FieldInput>,
}

impl TryFrom<SourceInput> for SourceDescription {
    type Error = String;

    fn try_from(input: SourceInput) -> Result<Self, String> {
        let fields = |fields: Vec<FieldInput>| fields.into_iter().map(Field::try_from).collect::<Result<_, _>>();
        let shape = |shape: EventInput| Ok((shape.label, fields(shape.fields)?));
        let shapes = input.shapes.into_iter().map(shape).collect::<Result<_, String>>()?;
        Ok(Self { name: input.name, tag: input.tag, shapes })
    }
}

#[derive(FromPyObject)]
struct ShapeInput {
    label: String,
    fields: Vec<FieldInput>,
    row: Vec<PartInput>,
    counted: CountedInput,
}

#[derive(FromPyObject)]
struct CountedInput {
    r#type: usize,
    purchase: String,
    amount: Option<usize>,
    dimensions: Vec<(String, usize, BandsInput)>,
}

type BandsInput = Vec<(i64, String)>;

#[derive(FromPyObject)]
struct FieldInput {
    path: String,
    r#type: String,
    nullable: bool,
    minimum: i64,
    maximum: i64,
    labels: Vec<String>,
}

#[derive(FromPyObject)]
enum PartInput {
    Field(usize),
    Constant(Vec<u8>),
}

impl TryFrom<ShapeInput> for Shape {
    type Error = String;

    fn try_from(input: ShapeInput) -> Result<Self, String> {
        let fields = input.fields.into_iter().map(Field::try_from).collect::<Result<_, _>>()?;
        let row = input.row.into_iter().map(|part| match part {
            PartInput::Field(number) => Part::Field(number),
            PartInput::Constant(bytes) => Part::Constant(bytes),
        });
        Ok(Self { label: input.label, fields, row: row.collect(), counted: input.counted.into() })
    }
}

impl From<CountedInput> for Counted {
    fn from(input: CountedInput) -> Self {
        let CountedInput { r#type: event_type, purchase, amount, dimensions } = input;
        let dimensions = dimensions.into_iter().map(|(name, field, bands)| Dimension { name, field, bands });
        Self { event_type, purchase, amount, dimensions: dimensions.collect() }
    }
}

impl TryFrom<FieldInput> for Field {
    type Error = String;

    fn try_from(input: FieldInput) -> Result<Self, String> {
        let FieldInput { path, r#type: column_type, nullable, minimum, maximum, labels } = input;
        let column_type = match column_type.as_str() {
            "text" => ColumnType::Text { minimum, maximum },
            "label" => ColumnType::Label(labels.into_iter().map(String::into_bytes).collect()),
            "smallint" => ColumnType::Smallint { minimum, maximum },
            "integer" => ColumnType::Integer { minimum, maximum },
            "bigint" => ColumnType::Bigint { minimum, maximum },
            "timestamp" => ColumnType::Timestamp,
            "amount" => ColumnType::Amount,
            _ => return Err(format!("{path} is of the type {column_type}, which is left to Python")),
        };
        Ok(Self { path, nullable, column_type })
    }
}
