//! `[schedulers]`

use toml::Spanned;

use super::table::Table;
use crate::model::Schedulers;
use crate::report::Problem;
use crate::schema::{self, Field, Integer, LongInteger, OneTable, Tabular};

/// Seconds of an expiration: a month, as for persistence.
const EXPIRATION_SECS: std::ops::RangeInclusive<i64> = 1..=2_678_400;

pub(crate) fn schedulers(field: &OneTable<schema::Schedulers>, table: &mut Table<'_>) -> Schedulers {
    let default = Schedulers::default();
    let Some((Tabular(written), at)) = table.value(field) else { return default };
    let mut table = table.inner(at);
    let schema::Schedulers { mh_table_size, mh_seed, lblc_expiration, lblcr_expiration } = written;
    let mut secs = |field: &Field<Integer>, key: &str, default: u32| {
        table.integer(field, key, EXPIRATION_SECS, default).into_inner()
    };
    Schedulers {
        lblc_expiration: secs(lblc_expiration, "lblc_expiration", default.lblc_expiration),
        lblcr_expiration: secs(lblcr_expiration, "lblcr_expiration", default.lblcr_expiration),
        mh_table_size: table_size(mh_table_size, &mut table).unwrap_or(default.mh_table_size),
        mh_seed: seed(mh_seed, &mut table).unwrap_or(default.mh_seed),
    }
}

fn table_size(field: &Field<Integer>, table: &mut Table<'_>) -> Option<u32> {
    let (written, span) = table.value(field)?;
    let size = Schedulers::MH_TABLE_SIZES.into_iter().find(|size| i64::from(*size) == written.0);
    if size.is_none() {
        let known = Schedulers::MH_TABLE_SIZES.map(|size| size.to_string()).join(", ");
        let next = Schedulers::MH_TABLE_SIZES.into_iter().find(|size| i64::from(*size) > written.0);
        let problem = Problem::error("not a table size of mh").at(span, format!("known: {known}"));
        table.report(match next {
            Some(next) => problem.help(format!("the next larger one is {next}")),
            None => problem,
        });
    }
    size
}

fn seed(field: &Field<LongInteger>, table: &mut Table<'_>) -> Option<u64> {
    let seed = table.value(field).map(|(seed, span)| Spanned::new(span, seed.0))?;
    let fits = u64::try_from(*seed.get_ref()).ok();
    if fits.is_none() {
        let label = format!("must be 0 to {}", u64::MAX);
        table.report(Problem::error("`mh_seed` is out of range").at(seed.span(), label));
    }
    fits
}
