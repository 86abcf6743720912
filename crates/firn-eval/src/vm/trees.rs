//! Trees of files that are known from earlier.

use super::{Vm, host_error};
use crate::error::EvalResult;
use crate::host::{FileStamp, ParsedFiles, TextKey};
use crate::source::{self, Origin, Pos};
use firn_syntax::{Ast, ParseOptions};

/// Shorter texts are parsed as fast as they are found.
const WORTH_KEEPING: usize = 128;

/// What the tree of a text is kept under.
fn text_key(text: &[u8], options: ParseOptions) -> TextKey {
    let mut key = [0; 20];
    key.copy_from_slice(&blake3::hash(text).as_bytes()[..20]);
    key[19] = u8::from(options.pipe_operators);
    TextKey(key)
}

/// Whether a key is of a text that was parsed in this way.
fn fits(key: &TextKey, options: ParseOptions) -> bool {
    key.0[19] == u8::from(options.pipe_operators)
}

impl Vm {
    /// What remembers trees of files, if that is to be asked.
    fn parsed_files(&self) -> Option<&dyn ParsedFiles> {
        self.host.parsed_files().filter(|_| self.settings.lints.are_off())
    }

    /// [`Vm::parse_registered`] for the text of a file, whose tree may be known from earlier.
    fn parse_file(&self, base: Pos, text: &[u8], stamp: Option<FileStamp>) -> EvalResult<Ast> {
        let Some(files) = self.parsed_files().filter(|_| text.len() >= WORTH_KEEPING) else {
            return self.parse_registered(base, text);
        };
        let key = text_key(text, self.parse_options());
        let ast = match files.find(&key) {
            Some(ast) => ast,
            None => {
                let mut warned = false;
                let ast = self.parse_noting(base, text, &mut warned)?;
                // Warnings are repeated each time.
                if warned {
                    return Ok(ast);
                }
                files.keep(&key, &ast);
                ast
            }
        };
        if let Some(stamp) = stamp.filter(|stamp| stamp.size == text.len() as u64) {
            files.keep_key(&stamp, &key);
        }
        Ok(ast)
    }

    /// Registers a file whose tree is known without reading it, since it is as it was. Otherwise its state, for when it is
    /// read.
    pub(super) fn known_tree(&self, file: &[u8]) -> Result<(Pos, Ast), Option<FileStamp>> {
        let files = self.parsed_files().ok_or(None)?;
        let stamp = self.host.file_stamp(file).ok_or(None)?;
        let ast = self.tree_of_stamp(files, &stamp).ok_or(Some(stamp))?;
        Ok((source::register_file(file, stamp.size), ast))
    }

    fn tree_of_stamp(&self, files: &dyn ParsedFiles, stamp: &FileStamp) -> Option<Ast> {
        let key = files.key_of(stamp).filter(|key| fits(key, self.parse_options()))?;
        files.find(&key)
    }

    /// The tree of a file that was registered before, if it is known from earlier.
    pub(super) fn tree_again(&self, pos: Pos) -> Option<Ast> {
        let Some(Origin::Path(file)) = pos.origin() else { return None };
        let stamp = self.host.file_stamp(&file)?;
        self.tree_of_stamp(self.parsed_files()?, &stamp)
    }

    /// Registers a file and gives its tree.
    pub(super) fn file_tree(&self, file: &[u8], dir: &[u8]) -> EvalResult<(Pos, Ast)> {
        let stamp = match self.known_tree(file) {
            Ok(known) => return Ok(known),
            Err(stamp) => stamp,
        };
        let text = self.host.read_file(file).map_err(host_error)?;
        self.tree_of_text(file, &text, dir, stamp)
    }

    pub(super) fn tree_of_text(
        &self,
        file: &[u8],
        text: &[u8],
        dir: &[u8],
        stamp: Option<FileStamp>,
    ) -> EvalResult<(Pos, Ast)> {
        let base = source::register(Origin::Path(file.to_vec()), text, dir);
        Ok((base, self.parse_file(base, text, stamp)?))
    }
}
