//! What is counted: one slot for each event type, for each value of a closed list, and for each text dimension.

use crate::field::PlacedField;
use crate::pg_copy::ColumnType;

/// How events of a shape are counted, by field numbers: `CountedFields` of `collector/parse/native_schema.py`.
#[derive(Debug)]
pub struct Counted {
    pub event_type: usize,
    pub purchase: String,
    pub amount: Option<usize>,
    pub dimensions: Vec<Dimension>,
}

#[derive(Debug)]
pub struct Dimension {
    pub name: String,
    pub field: usize,
    pub bands: Vec<(i64, String)>,
}

/// The names of the slots of a quarter-hour, over all shapes.
#[derive(Debug, Default)]
pub struct Slots {
    /// Stage and type.
    pub types: Vec<(String, String)>,
    /// Dimension and value, for closed lists of values.
    pub values: Vec<(String, String)>,
    /// Dimensions whose values are texts.
    pub texts: Vec<String>,
}

/// How one shape is counted: the field of its type with the slots of its labels, and the label that has revenue.
#[derive(Debug)]
pub struct CountedShape {
    pub event_type: usize,
    pub types: Vec<usize>,
    pub revenue: Option<(usize, usize)>,
    pub dimensions: Vec<(usize, By)>,
    /// The slot and the token index of the counted text.
    pub text: Option<(usize, usize)>,
}

#[derive(Debug)]
pub enum By {
    /// A slot for each label.
    Labels(Vec<usize>),
    /// The first number of each band, and its slot.
    Bands(Vec<i64>, Vec<usize>),
}

impl Slots {
    /// Returns an error that says what does not match the fields.
    pub fn plan(&mut self, stage: &str, counted: Counted, fields: &[PlacedField]) -> Result<CountedShape, String> {
        let column_type_of =
            |number: usize| fields.get(number).filter(|field| !field.nullable).map(|field| &field.column_type);
        let labels = |number: usize| match column_type_of(number) {
            Some(ColumnType::Label(labels)) => {
                Ok(labels.iter().map(|label| String::from_utf8_lossy(label).into_owned()))
            }
            _ => Err(format!("{stage} has no labels in field {number}")),
        };
        let types: Vec<_> = labels(counted.event_type)?.collect();
        let purchase = types.iter().position(|label| *label == counted.purchase);
        let types = types.into_iter().map(|label| slot(&mut self.types, (stage.to_owned(), label))).collect();
        let (mut dimensions, mut text) = (Vec::new(), None);
        for Dimension { name, field, bands } in counted.dimensions {
            let mut of = |value| slot(&mut self.values, (name.clone(), value));
            match column_type_of(field) {
                Some(ColumnType::Label(_)) if bands.is_empty() => {
                    dimensions.push((field, By::Labels(labels(field)?.map(of).collect())));
                }
                Some(ColumnType::Text { .. }) if bands.is_empty() && text.is_none() => {
                    text = Some((slot(&mut self.texts, name), fields[field].place));
                }
                Some(
                    ColumnType::Smallint { minimum: 0, .. }
                    | ColumnType::Integer { minimum: 0, .. }
                    | ColumnType::Bigint { minimum: 0, .. },
                ) if bands.first().is_some_and(|band| band.0 == 0) => {
                    let (bounds, names): (Vec<_>, Vec<_>) = bands.into_iter().unzip();
                    dimensions.push((field, By::Bands(bounds, names.into_iter().map(&mut of).collect())));
                }
                _ => return Err(format!("{name} of {stage} cannot be counted by field {field}")),
            }
        }
        let revenue = purchase.zip(counted.amount);
        if revenue.is_some_and(|(_, amount)| {
            !matches!(fields.get(amount).map(|field| &field.column_type), Some(ColumnType::Amount))
        }) {
            return Err(format!("{stage} has no amount to count"));
        }
        Ok(CountedShape { event_type: counted.event_type, types, revenue, dimensions, text })
    }
}

/// The index of an item in the list; it is added if it is missing.
fn slot<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|other| *other == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_counted_is_rejected() {
        let fields = |column_type| vec![PlacedField { place: 0, nullable: false, column_type }];
        let nullable = |column_type| vec![PlacedField { place: 0, nullable: true, column_type }];
        let counted = |dimensions| Counted { event_type: 0, purchase: String::new(), amount: None, dimensions };
        let labels = ColumnType::Label(vec![b"a".to_vec()]);
        let banded = Dimension { name: "a".into(), field: 0, bands: vec![(0, "b".into())] };
        assert!(Slots::default().plan("top", counted(vec![]), &fields(ColumnType::Amount)).is_err());
        assert!(Slots::default().plan("top", counted(vec![]), &nullable(ColumnType::Label(vec![]))).is_err());
        let sold = Counted { event_type: 0, purchase: "a".into(), amount: Some(0), dimensions: vec![] };
        assert!(Slots::default().plan("top", sold, &fields(ColumnType::Label(vec![b"a".to_vec()]))).is_err());
        assert!(Slots::default().plan("top", counted(vec![banded]), &fields(labels)).is_err());
    }
}
