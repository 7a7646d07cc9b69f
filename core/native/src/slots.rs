//! What is counted: a slot for each type and each value of a closed list, and for each dimension whose values are texts.

use crate::field::Placed;
use crate::pg_copy::ColumnType;

/// How events of a shape are counted, by the numbers of their fields: `Counted` of `collector/parse/native_schema.py`.
#[derive(Debug)]
pub struct Counted {
    pub kind: usize,
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

/// What each slot of a quarter-hour's counts is about, over all shapes.
#[derive(Debug, Default)]
pub struct Slots {
    /// Stage and type.
    pub types: Vec<(String, String)>,
    /// Dimension and value, where the values are a closed list.
    pub values: Vec<(String, String)>,
    /// Dimensions whose values are texts.
    pub texts: Vec<String>,
}

/// How one shape is counted: the field of its type with the slots of its labels, and the label that has revenue.
#[derive(Debug)]
pub struct CountedShape {
    pub kind: usize,
    pub types: Vec<usize>,
    pub revenue: Option<(usize, usize)>,
    pub dimensions: Vec<(usize, By)>,
    /// The slot and the place of the text that is counted.
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
    /// The error says what does not fit to the fields.
    pub fn plan(&mut self, stage: &str, counted: Counted, fields: &[Placed]) -> Result<CountedShape, String> {
        let kind_of = |number: usize| fields.get(number).filter(|field| !field.nullable).map(|field| &field.kind);
        let labels = |number: usize| match kind_of(number) {
            Some(ColumnType::Label(labels)) => {
                Ok(labels.iter().map(|label| String::from_utf8_lossy(label).into_owned()))
            }
            _ => Err(format!("{stage} has no labels in field {number}")),
        };
        let types: Vec<_> = labels(counted.kind)?.collect();
        let purchase = types.iter().position(|kind| *kind == counted.purchase);
        let types = types.into_iter().map(|kind| slot(&mut self.types, (stage.to_owned(), kind))).collect();
        let (mut dimensions, mut text) = (Vec::new(), None);
        for Dimension { name, field, bands } in counted.dimensions {
            let mut of = |value| slot(&mut self.values, (name.clone(), value));
            match kind_of(field) {
                Some(ColumnType::Label(_)) if bands.is_empty() => {
                    dimensions.push((field, By::Labels(labels(field)?.map(of).collect())));
                }
                Some(ColumnType::Text { .. }) if bands.is_empty() && text.is_none() => {
                    text = Some((slot(&mut self.texts, name), fields[field].place));
                }
                Some(
                    ColumnType::Smallint { least: 0, .. }
                    | ColumnType::Integer { least: 0, .. }
                    | ColumnType::Bigint { least: 0, .. },
                ) if bands.first().is_some_and(|band| band.0 == 0) => {
                    let (bounds, names): (Vec<_>, Vec<_>) = bands.into_iter().unzip();
                    dimensions.push((field, By::Bands(bounds, names.into_iter().map(&mut of).collect())));
                }
                _ => return Err(format!("{name} of {stage} cannot be counted by field {field}")),
            }
        }
        let revenue = purchase.zip(counted.amount);
        if revenue
            .is_some_and(|(_, amount)| !matches!(fields.get(amount).map(|field| &field.kind), Some(ColumnType::Amount)))
        {
            return Err(format!("{stage} has no amount to count"));
        }
        Ok(CountedShape { kind: counted.kind, types, revenue, dimensions, text })
    }
}

/// Where it stands in the list; it is added if need be.
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
        let fields = |kind| vec![Placed { place: 0, nullable: false, kind }];
        let nullable = |kind| vec![Placed { place: 0, nullable: true, kind }];
        let counted = |dimensions| Counted { kind: 0, purchase: String::new(), amount: None, dimensions };
        let labels = ColumnType::Label(vec![b"a".to_vec()]);
        let banded = Dimension { name: "a".into(), field: 0, bands: vec![(0, "b".into())] };
        assert!(Slots::default().plan("top", counted(vec![]), &fields(ColumnType::Amount)).is_err());
        assert!(Slots::default().plan("top", counted(vec![]), &nullable(ColumnType::Label(vec![]))).is_err());
        let sold = Counted { kind: 0, purchase: "a".into(), amount: Some(0), dimensions: vec![] };
        assert!(Slots::default().plan("top", sold, &fields(ColumnType::Label(vec![b"a".to_vec()]))).is_err());
        assert!(Slots::default().plan("top", counted(vec![banded]), &fields(labels)).is_err());
    }
}
