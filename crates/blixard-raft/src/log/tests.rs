//! The log store, by openraft's own suite and by what the suite does not ask.
