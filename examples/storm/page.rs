//! The page of the matrix: the table, between the page's markers.

use std::error::Error;
use std::fs;
use std::path::Path;

use crate::cells::Matrix;
use crate::table;

const BEGIN: &str = "<!-- The matrix begins. Generated: do not edit. -->\n";
const END: &str = "<!-- The matrix ends. -->\n";

pub fn update(matrix: &Matrix, path: &Path) -> Result<(), Box<dyn Error>> {
    let page = fs::read_to_string(path)?;
    let missing = || format!("{}: the markers of the matrix are missing", path.display());
    let (head, rest) = page.split_once(BEGIN).ok_or_else(missing)?;
    let (_, tail) = rest.split_once(END).ok_or_else(missing)?;
    let text = format!("{head}{BEGIN}\nSeed {}.\n\n{}\n{END}{tail}", matrix.seed, table::markdown(matrix));
    fs::write(path, text)?;
    Ok(())
}
