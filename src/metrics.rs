//! Numbers for operators.
