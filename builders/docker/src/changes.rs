//! `changes`: Dockerfile instructions for the committed image, as far as a commit takes them.

pub(crate) use kiln_image::changes::Changes;
