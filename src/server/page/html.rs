//! HTML in which nothing foreign can be markup: what is written as it stands are texts of this
//! program, everything else is escaped.

use std::fmt::Display;

use crate::error::printable;

/// Markup that grows.
#[derive(Default)]
pub struct Html(String);

impl Html {
    /// Markup of this program: a constant, so that nothing of a request or an image can be in it.
    pub fn markup(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// A text, as content or as the value of an attribute. What could reorder a line is shown by its
    /// code, as it is on a terminal.
    pub fn text(&mut self, text: impl Display) {
        self.escaped(&printable(&text.to_string()));
    }

    /// Something to be typed as it stands, made of names that were checked: never cut, and may have lines.
    pub fn code(&mut self, text: &str) {
        self.escaped(text);
    }

    fn escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
    }

    /// All of it.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// Writes markup (literals) and texts (in parentheses) one after the other.
macro_rules! html {
    ($to:expr, $($piece:tt)+) => {{ $( html!(@ $to, $piece); )+ }};
    (@ $to:expr, ($text:expr)) => { $to.text(&$text) };
    (@ $to:expr, $markup:literal) => { $to.markup($markup) };
}

pub(super) use html;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_never_markup() {
        let mut page = Html::default();
        let hostile = "</td><script>alert('1')</script>\" onload=\"x & \u{202e}\u{1b}[2J";
        html!(page, "<td title=\"" (hostile) "\">" (hostile) "</td>");
        let text = page.into_text();
        assert_eq!(text.matches('<').count(), 2, "{text}");
        assert_eq!(text.matches('"').count(), 2, "{text}");
        assert!(text.contains("&lt;script&gt;alert(&#39;1&#39;)"), "{text}");
        assert!(!text.contains('\u{202e}') && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn code_keeps_its_lines_and_its_length() {
        let mut page = Html::default();
        page.code("a: <1>\nb: 2\n");
        page.code(&"x".repeat(2000));
        assert_eq!(page.into_text(), format!("a: &lt;1&gt;\nb: 2\n{}", "x".repeat(2000)));
    }
}
