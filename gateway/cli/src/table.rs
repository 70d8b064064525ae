//! Tables for people.

/// Groups digits by threes.
pub(crate) fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        let left = digits.len().saturating_sub(index);
        if index > 0 && left % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// One line per row under the names of its columns; a name that begins with `>` is of a column
/// that ends at the right.
pub(crate) fn lines(names: &[&str], rows: &[Vec<String>]) -> String {
    let title = |name: &str| name.trim_start_matches('>').to_owned();
    let head: Vec<String> = names.iter().map(|name| title(name)).collect();
    let width = |column: usize| {
        let cells = std::iter::once(&head).chain(rows);
        let widths = cells.filter_map(|row| row.get(column).map(|cell| cell.chars().count()));
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let mut out = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for ((cell, width), name) in row.iter().zip(&widths).zip(names) {
            let padded = if name.starts_with('>') {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:<width$}  ")
            };
            line.push_str(&padded);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["udp".to_owned(), "1".to_owned(), "yes".to_owned()],
            vec!["packet".to_owned(), grouped("1234567"), "no".to_owned()],
        ];

        let text = lines(&["name", ">bytes", "why"], &rows);

        let expected = "name        bytes  why\n\
                        udp             1  yes\n\
                        packet  1,234,567  no\n";
        assert_eq!(text, expected);
    }
}
