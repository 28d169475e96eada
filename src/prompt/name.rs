//! The name that is being typed at the cursor, to offer what fits.

use std::ops::Range;

use super::is_word;

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// `<lora:name`
    Lora,
    /// `__name`
    Wildcard,
    /// `embedding:name`, or any word: A1111 finds embeddings by their bare name.
    Embedding,
}

/// A name up to the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedName {
    pub named: Named,
    /// What is typed of it; may be empty after `<lora:` and `__`.
    pub prefix: String,
    /// What a chosen name replaces, in bytes: the name with what is typed of it behind the cursor.
    pub range: Range<usize>,
    /// What belongs behind the name and is not there yet: `:1>`, `__`.
    pub ending: &'static str,
}

/// What is being typed at `cursor` (bytes).
pub fn name_at(prompt: &str, cursor: usize) -> Option<TypedName> {
    let before = prompt.get(..cursor)?;
    let after = prompt.get(cursor..)?;
    lora(before, after)
        .or_else(|| wildcard(before, after))
        .or_else(|| embedding(before, after))
}

fn lora(before: &str, after: &str) -> Option<TypedName> {
    let tag = before.rfind('<')?;
    let (word, name) = before.get(tag + 1..)?.split_once(':')?;
    if !matches!(word, "lora" | "lyco") || name.contains([':', '>', '\n']) {
        return None;
    }
    let rest = after
        .find([':', '>', '<', ',', '\n'])
        .unwrap_or(after.len());
    let closed = after.get(rest..)?.starts_with([':', '>']);
    // Without its end the words behind the cursor are the prompt's.
    let rest = if closed { rest } else { 0 };
    Some(TypedName {
        named: Named::Lora,
        prefix: name.to_owned(),
        range: before.len() - name.len()..before.len() + rest,
        ending: if closed { "" } else { ":1>" },
    })
}

fn wildcard(before: &str, after: &str) -> Option<TypedName> {
    let is_name = |c: char| is_word(c) || "/-*. ".contains(c);
    // An odd count of `__`: the last one opens.
    if before.matches("__").count().is_multiple_of(2) {
        return None;
    }
    let name = before.rsplit("__").next()?;
    if !name.chars().all(is_name) || name.starts_with(' ') {
        return None;
    }
    let rest = after.find(|c| !is_name(c)).unwrap_or(after.len());
    let inside = after.get(..rest)?;
    let closed = inside.find("__");
    Some(TypedName {
        named: Named::Wildcard,
        prefix: name.to_owned(),
        range: before.len() - name.len()..before.len() + closed.unwrap_or(0),
        ending: if closed.is_some() { "" } else { "__" },
    })
}

fn embedding(before: &str, after: &str) -> Option<TypedName> {
    let is_name = |c: char| is_word(c) || "-.".contains(c);
    let start = before.rfind(|c| !is_name(c)).map_or(0, |at| {
        at + before
            .get(at..)
            .and_then(|rest| rest.chars().next())
            .map_or(1, char::len_utf8)
    });
    let prefix = before.get(start..).filter(|prefix| !prefix.is_empty())?;
    let rest = after.find(|c| !is_name(c)).unwrap_or(after.len());
    Some(TypedName {
        named: Named::Embedding,
        prefix: prefix.to_owned(),
        range: start..before.len() + rest,
        ending: "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At the bar: what is named, typed, replaced, and added.
    fn at(marked: &str) -> Option<(Named, String, String, &'static str)> {
        let cursor = marked.find('¦').unwrap();
        let prompt = marked.replace('¦', "");
        let typed = name_at(&prompt, cursor)?;
        let replaced = prompt[typed.range].to_owned();
        Some((typed.named, typed.prefix, replaced, typed.ending))
    }

    #[test]
    fn the_name_at_the_cursor_is_found_with_what_it_lacks() {
        let found = |named, prefix: &str, replaced: &str, ending| {
            Some((named, prefix.to_owned(), replaced.to_owned(), ending))
        };
        assert_eq!(at("a <lora:pi¦ b"), found(Named::Lora, "pi", "pi", ":1>"));
        assert_eq!(
            at("a <lora:pi¦xel:0.5> b"),
            found(Named::Lora, "pi", "pixel", "")
        );
        assert_eq!(at("<lora:¦"), found(Named::Lora, "", "", ":1>"));
        assert_eq!(at("<lora:x:0.¦"), found(Named::Embedding, "0.", "0.", ""));
        assert_eq!(
            at("a __an/bi¦ b"),
            found(Named::Wildcard, "an/bi", "an/bi", "__")
        );
        assert_eq!(
            at("__an¦imal__ b"),
            found(Named::Wildcard, "an", "animal", "")
        );
        assert_eq!(at("__a__ é b¦ad"), found(Named::Embedding, "b", "bad", ""));
        assert_eq!(at("a, ¦"), None);
    }
}
