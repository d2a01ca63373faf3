//! What larder shows to the outside, file by file. The list of modules is the table of contents.

mod harness;
mod review_framing;
mod review_purges;
mod review_sharing;
mod support;
