//! What a host is granted.
