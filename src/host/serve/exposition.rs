//! The text form of Prometheus, version 0.0.4. Knows nothing of what is measured.

use std::collections::BTreeMap;
use std::fmt::Write;

/// What its server calls it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Measurements, all of them gauges, in the order of a catalogue of names and helps.
pub struct Page {
    catalogue: &'static [(&'static str, &'static str)],
    /// By name, then by labels: each is there once.
    samples: BTreeMap<&'static str, BTreeMap<String, f64>>,
}

impl Page {
    pub fn new(catalogue: &'static [(&'static str, &'static str)]) -> Self {
        Self { catalogue, samples: BTreeMap::new() }
    }

    /// Sets what has these labels; a second time it replaces the first.
    pub fn put(&mut self, name: &'static str, labels: &[(&str, &str)], value: f64) {
        debug_assert!(self.catalogue.iter().any(|(known, _)| *known == name), "{name} is in the catalogue");
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.samples.entry(name).or_default().insert(labels, value);
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, help) in self.catalogue {
            let Some(samples) = self.samples.get(name) else { continue };
            let _infallible = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
            for (labels, value) in samples {
                let _infallible = writeln!(text, "{name}{labels} {value}");
            }
        }
        text
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_told_once_with_their_help_and_odd_labels_escaped() {
        let mut page = Page::new(&[("a_bytes", "Room."), ("none", "Not measured."), ("b", "State.")]);
        page.put("b", &[], 1.0);
        page.put("a_bytes", &[("path", "/a\"\\\n")], 5.0);
        page.put("a_bytes", &[("path", "/a\"\\\n")], 1.5);
        assert_eq!(
            page.text(),
            "# HELP a_bytes Room.\n# TYPE a_bytes gauge\na_bytes{path=\"/a\\\"\\\\\\n\"} 1.5\n\
             # HELP b State.\n# TYPE b gauge\nb 1\n"
        );
    }
}
