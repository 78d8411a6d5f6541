//! Region selection.
