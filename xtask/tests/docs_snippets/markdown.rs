//! The blocks and the inline code of a page.

/// A Markdown file.
pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) blocks: Vec<Block>,
    /// Inline code, except that of the section "Not implemented yet".
    pub(crate) code: Vec<Code>,
}

/// A fenced block.
pub(crate) struct Block {
    /// The line of its first fence.
    pub(crate) line: usize,
    /// What follows the fence, such as `json manifest`.
    pub(crate) language: String,
    pub(crate) text: String,
}

/// Inline code, on one line.
pub(crate) struct Code {
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn parse(name: &str, text: &str) -> Self {
        let mut page = Self { name: name.to_owned(), blocks: Vec::new(), code: Vec::new() };
        let mut prose = String::new();
        let mut open: Option<Block> = None;
        let mut is_later = false;
        for (index, line) in text.lines().enumerate() {
            let fence = line.trim_start().strip_prefix("```");
            match (open.as_mut(), fence) {
                (None, Some(language)) => {
                    let language = language.trim().to_owned();
                    open = Some(Block { line: index + 1, language, text: String::new() });
                }
                (Some(_), Some(_)) => page.blocks.extend(open.take()),
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {
                    if line.starts_with('#') {
                        is_later = line.contains("Not implemented yet");
                    }
                    if !is_later {
                        prose.push_str(line);
                    }
                }
            }
            // One line of prose for each line of the file, so that lines can be counted.
            prose.push('\n');
        }
        assert!(open.is_none(), "{name}: the last block does not end");
        let mut line = 1;
        for (index, part) in prose.split('`').enumerate() {
            if index % 2 == 1 {
                let text = part.split_whitespace().collect::<Vec<_>>().join(" ").replace("\\|", "|");
                page.code.push(Code { line, text });
            }
            line += part.matches('\n').count();
        }
        page
    }
}
