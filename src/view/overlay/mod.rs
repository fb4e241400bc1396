//! A stage that the kernel's own overlayfs writes: the layers of its mount, and what they amount to as a source of a
//! tree. Decodes the upper layer by itself, so that it takes no mount to commit. Knows nothing of mounting.

mod layers;
mod marks;
mod source;
#[cfg(test)]
mod tests;

pub use layers::OverlayStage;
pub use marks::MarkNames;
pub use source::{OverlayPlace, OverlaySource};
