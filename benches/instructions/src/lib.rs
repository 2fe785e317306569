//! Empty: beside a benchmark, cargo asks for a library or a program.
