//! The readers of single fields: case by case, against other implementations, as a round trip of generated fields, and
//! against other projects' test vectors (H3, H5, H7, F9).

mod cases {
    mod challenge;
    mod http_date;
    mod structured_field;
}
mod challenge;
mod http_date;
mod structured_field;
mod vectors;
