//! `Link` headers (RFC 8288 §3): where a list goes on.

/// Where the next page is, if this header says so; `None` for what is no such header.
pub fn next(header: &str) -> Option<Option<String>> {
    let mut rest = header;
    let mut next = None;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        if rest.is_empty() {
            return Some(next);
        }
        let (target, behind) = rest.strip_prefix('<')?.split_once('>')?;
        let (relations, behind) = relations(behind)?;
        let is_next = relations.split_ascii_whitespace().any(|one| one.eq_ignore_ascii_case("next"));
        if is_next && next.is_none() {
            next = Some(target.to_owned());
        }
        rest = behind;
    }
}

/// The first `rel` of one link, and what follows the link.
fn relations(mut rest: &str) -> Option<(String, &str)> {
    let mut relations = None;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if rest.is_empty() || rest.starts_with(',') {
            return Some((relations.unwrap_or_default(), rest));
        }
        rest = rest.strip_prefix(';')?.trim_start_matches([' ', '\t', ';']);
        let end = rest.find(['=', ';', ',', ' ', '\t']).unwrap_or(rest.len());
        let (name, behind) = rest.split_at_checked(end)?;
        let behind = behind.trim_start_matches([' ', '\t']);
        let (value, behind) = match behind.strip_prefix('=') {
            Some(value) => value_of(value.trim_start_matches([' ', '\t']))?,
            None => (String::new(), behind),
        };
        if name.eq_ignore_ascii_case("rel") && relations.is_none() {
            relations = Some(value);
        }
        rest = behind;
    }
}

/// A token or a quoted string, and what follows it.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',', ' ', '\t']).unwrap_or(text.len());
        return text.split_at_checked(end).map(|(token, behind)| (token.to_owned(), behind));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at.saturating_add(1)..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_list_goes_on_is_read_as_the_rfc_says_it() {
        for header in [
            "</next>; rel=\"next\"",
            "</next>;rel=next",
            "</next>; Rel=\"NEXT\"",
            "</next>; rel = \"next\"",
            "</next>; rel=\"last next\"",
            "</next>; title=\"a, b; c\\\"d\"; rel=\"next\"",
            "</other>; rel=\"first\", </next>; rel=next",
            "</next>; rel=next; rel=last",
            ", </next>; a; rel=next ,",
        ] {
            assert_eq!(next(header), Some(Some("/next".to_owned())), "{header}");
        }
        assert_eq!(next("</a?n=1&filter=a,b>; rel=\"next\""), Some(Some("/a?n=1&filter=a,b".to_owned())));
        for header in
            ["", "</next>", "</next>; rel=last", "</next>; rel=last; rel=next", "</next>; rel=nexts"]
        {
            assert_eq!(next(header), Some(None), "{header}");
        }
        for header in ["/next; rel=next", "</next; rel=next", "</next> rel=next", "</next>; rel=\"next"] {
            assert_eq!(next(header), None, "{header}");
        }
    }
}
