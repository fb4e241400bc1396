//! Floor 5: the verbs on repositories. Each plans, reports to a monitor, and returns what it did; none prints.
