//! The median of some rounds, and how far they lie apart.

use serde::Serialize;

/// A median and the range around it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The median; of an even number of figures the mean of the middle two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many.
    pub count: usize,
}

impl Spread {
    /// Of some figures; none of none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median = if figures.len() % 2 == 1 {
            figures[middle]
        } else {
            (figures[middle - 1] + figures[middle]) / 2.0
        };
        Some(Self { median, min, max, count: figures.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wild_round_does_not_move_the_median() {
        let spread = Spread::of([1.0, 900.0, 2.0, 3.0, 1.5]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max, spread.count), (2.0, 1.0, 900.0, 5));
        assert_eq!(Spread::of([1.0, 3.0]).unwrap().median, 2.0);
        assert_eq!(Spread::of([]), None);
    }
}
