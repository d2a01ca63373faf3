//! What larder shows to the outside, file by file. The list of modules is the table of contents.

mod harness;
mod support;
