//! The forms in which a page can be had.
//!
//! OpenMetrics differs from the text format in little: a counter's family goes without the `_total` of its samples, a help escapes
//! quotation marks as well, bounds of histograms are written as floats, and the page has an end.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use super::families::Family;

/// What is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// OpenMetrics 1.0 in place of the text format 0.0.4.
    pub(crate) is_open: bool,
    /// Compressed.
    pub(crate) is_gzip: bool,
    /// What is not on the page.
    pub(crate) without: Without,
}

/// What makes a page long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Without {
    /// The page is whole.
    #[default]
    Nothing,
    /// Series of each real server.
    RealServers,
    /// Series of each virtual server, and so those of real servers, too.
    VirtualServers,
}

impl Wanted {
    /// How many kinds of pages there are, as far as their length goes.
    pub(super) const LENGTHS: usize = 6;

    /// Which of them this is.
    pub(super) fn length(self) -> usize {
        self.without as usize * 2 + usize::from(self.is_gzip)
    }

    /// Whether such a family is left out.
    pub(super) fn leaves_out(self, family: &Family) -> bool {
        match self.without {
            Without::Nothing => false,
            Without::RealServers => family.labels.contains(&"real_server"),
            Without::VirtualServers => family.labels.contains(&"virtual_server"),
        }
    }

    /// A page of these families. One at a time is in memory as samples, and, of a compressed page, as text.
    ///
    /// # Errors
    /// What the encoder says, which has no reason to.
    pub(super) fn page(
        self,
        families: impl Iterator<Item = MetricFamily>,
        room: usize,
    ) -> prometheus::Result<Vec<u8>> {
        let mut page = Vec::with_capacity(room);
        if !self.is_gzip {
            for family in families {
                self.write(&family, &mut page)?;
            }
            page.extend_from_slice(self.end());
            return Ok(page);
        }
        // It is read once, and made beside others: what is quickly made is best.
        let mut packed = GzEncoder::new(page, Compression::fast());
        let mut text = Vec::new();
        for family in families {
            text.clear();
            self.write(&family, &mut text)?;
            packed.write_all(&text)?;
        }
        packed.write_all(self.end())?;
        Ok(packed.finish()?)
    }

    fn end(self) -> &'static [u8] {
        if self.is_open { b"# EOF\n" } else { b"" }
    }

    fn write(self, family: &MetricFamily, page: &mut Vec<u8>) -> prometheus::Result<()> {
        let begin = page.len();
        TextEncoder::new().encode(std::slice::from_ref(family), page)?;
        if !self.is_open {
            return Ok(());
        }
        let text = page.split_off(begin);
        let kind = family.get_field_type();
        let name = match kind {
            MetricType::COUNTER => family.name().strip_suffix("_total").unwrap_or(family.name()),
            _ => family.name(),
        };
        let help = family.help().replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
        writeln!(page, "# TYPE {name} {}", format!("{kind:?}").to_lowercase())?;
        writeln!(page, "# HELP {name} {help}")?;
        let samples = behind_lines(&text, 2);
        match kind {
            MetricType::HISTOGRAM => {
                samples.split_inclusive(|&octet| octet == b'\n').for_each(|line| bound(line, page))
            }
            _ => page.extend_from_slice(samples),
        }
        Ok(())
    }
}

/// What stands behind so many lines.
fn behind_lines(text: &[u8], lines: usize) -> &[u8] {
    let ends = text.iter().enumerate().filter(|(_, octet)| **octet == b'\n').map(|(place, _)| place);
    ends.take(lines).last().map_or(text, |place| &text[place + 1..])
}

/// A line of a histogram, with the bound of a bucket, its last label, as a float.
fn bound(line: &[u8], page: &mut Vec<u8>) {
    const LAST_LABEL: &[u8] = b"le=\"";
    let begin =
        line.windows(LAST_LABEL.len()).rposition(|part| part == LAST_LABEL).map(|at| at + LAST_LABEL.len());
    let whole =
        begin.map(|begin| begin + line[begin..].iter().take_while(|octet| octet.is_ascii_digit()).count());
    match whole {
        Some(end) if line[end] == b'"' => {
            page.extend_from_slice(&line[..end]);
            page.extend_from_slice(b".0");
            page.extend_from_slice(&line[end..]);
        }
        _ => page.extend_from_slice(line),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use prometheus::proto::{Bucket, Histogram, LabelPair, Metric};

    use super::*;
    use crate::metrics::families::FAMILIES;
    use crate::metrics::tests::Director;

    const OPEN: Wanted = Wanted { is_open: true, is_gzip: false, without: Without::Nothing };

    fn page(director: &Director, wanted: Wanted) -> String {
        let page = director.metrics.page(wanted).unwrap();
        if !wanted.is_gzip {
            return String::from_utf8(page).unwrap();
        }
        let mut text = String::new();
        GzDecoder::new(&*page).read_to_string(&mut text).unwrap();
        text
    }

    /// Samples without their values, which go on between two pages.
    fn series(page: &str) -> Vec<String> {
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| line.rsplit_once(' ').unwrap().0.replace(".0\"", "\"")).collect()
    }

    #[test]
    fn every_form_has_the_same_series_in_the_same_order() {
        let director = Director::usual();
        let plain = series(&page(&director, Wanted::default()));
        assert!(plain.len() > 200, "{plain:?}");
        for (is_open, is_gzip) in [(false, true), (true, false), (true, true)] {
            let other = page(&director, Wanted { is_open, is_gzip, ..Wanted::default() });
            assert_eq!(series(&other), plain, "{is_open} {is_gzip}");
            assert_eq!(other.ends_with("\n# EOF\n"), is_open);
            assert_eq!(other.matches("# EOF").count(), usize::from(is_open));
        }
    }

    #[test]
    fn open_metrics_name_counters_without_total_and_nothing_else_ends_as_a_sample_may() {
        let director = Director::usual();
        let text = page(&director, OPEN);
        assert!(
            text.contains(
                "# TYPE weir_drops counter\n# HELP weir_drops Frames that went nowhere.\nweir_drops_total{"
            ),
            "{text}"
        );
        assert!(text.contains("(idle = \\\"sleep\\\")."), "quotation marks are escaped");
        for family in FAMILIES {
            let is_counter = family.kind == MetricType::COUNTER;
            assert_eq!(family.name.ends_with("_total"), is_counter, "{}", family.name);
            for suffix in ["_created", "_count", "_sum", "_bucket", "_gcount", "_gsum"] {
                assert!(!family.name.ends_with(suffix), "{}", family.name);
            }
        }
    }

    #[test]
    fn bounds_of_buckets_are_floats() {
        let mut pair = LabelPair::default();
        pair.set_name("of".to_owned());
        pair.set_value("le=\"3\"".to_owned());
        let mut histogram = Histogram::default();
        histogram.set_bucket(
            [0.5, 1.0, 10.0]
                .map(|limit| {
                    let mut bucket = Bucket::default();
                    bucket.set_upper_bound(limit);
                    bucket
                })
                .to_vec(),
        );
        let mut metric = Metric::from_label(vec![pair]);
        metric.set_histogram(histogram);
        let mut family = MetricFamily::default();
        family.set_name("took_seconds".to_owned());
        family.set_help("How long.".to_owned());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        let text = String::from_utf8(OPEN.page([family].into_iter(), 0).unwrap()).unwrap();
        let bounds: Vec<_> = text.lines().filter(|line| line.contains("_bucket")).collect();
        let line = |bound| format!("took_seconds_bucket{{of=\"le=\\\"3\\\"\",le=\"{bound}\"}} 0");
        assert_eq!(bounds, ["0.5", "1.0", "10.0", "+Inf"].map(line));
        assert!(text.contains("\ntook_seconds_count{of=\"le=\\\"3\\\"\"} 0\n"), "{text}");
    }

    #[test]
    fn real_and_virtual_servers_can_be_left_out_and_all_else_stays() {
        let director = Director::usual();
        let whole = series(&page(&director, Wanted::default()));
        for (without, label) in
            [(Without::RealServers, "real_server="), (Without::VirtualServers, "virtual_server=")]
        {
            let left: Vec<_> = whole.iter().filter(|series| !series.contains(label)).cloned().collect();
            assert!(left.len() < whole.len());
            for is_gzip in [false, true] {
                assert_eq!(series(&page(&director, Wanted { without, is_gzip, ..OPEN })), left);
            }
        }
    }
}
